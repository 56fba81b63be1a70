// Every matrix instruction of AMD's wavefronts once, for scripts/gpu-check: the HIP compiler takes them, and they are in its output.

#include "tile/atoms/mfma.h"
#include "tile/exec/gpu.h"

namespace tile::simt {

template <class Atom>
__global__ void multiply(const typename Atom::A* a, const typename Atom::B* b, typename Atom::C* c) {
  GpuThread ex;
  Atom::run(ex, c[ex.lane()], a[ex.lane()], b[ex.lane()]);
}

template __global__ void multiply<Mfma<float16>>(const Mfma<float16>::A*, const Mfma<float16>::B*, Mfma<float16>::C*);
template __global__ void multiply<Mfma<bfloat16>>(const Mfma<bfloat16>::A*, const Mfma<bfloat16>::B*, Mfma<bfloat16>::C*);
template __global__ void multiply<Mfma<int8_t>>(const Mfma<int8_t>::A*, const Mfma<int8_t>::B*, Mfma<int8_t>::C*);

}  // namespace tile::simt
