#include "base/error.h"
#include "target/cpu/kernel_text.h"

namespace tilewright::cpu {

bool emit_contract(const KernelText&, const pattern::Nest&, Writer&) { return false; }

}  // namespace tilewright::cpu
