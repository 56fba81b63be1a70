#include "schedule/uses.h"

#include "schedule/fuse.h"

namespace tilewright::schedule {

Uses::Uses(const pattern::Program& program) : writers(program.tensors.size()), readers(program.tensors.size()), result(program.tensors.size(), false) {
  for (size_t i = 0; i < program.patterns.size(); ++i) {
    for (const pattern::TensorId id : pattern::reads(program.patterns[i])) readers[static_cast<size_t>(id)].push_back(static_cast<int>(i));
    for (const pattern::TensorId id : pattern::writes(program.patterns[i])) writers[static_cast<size_t>(id)].push_back(static_cast<int>(i));
  }
  for (const pattern::TensorId id : program.outputs) result[static_cast<size_t>(id)] = true;
}

void remove_dead(pattern::Program& program) {
  std::vector<bool> live(program.tensors.size(), false);
  for (const pattern::TensorId id : program.outputs) live[static_cast<size_t>(id)] = true;
  std::vector<pattern::Pattern> kept;
  for (size_t i = program.patterns.size(); i-- > 0;) {
    pattern::Pattern& one = program.patterns[i];
    const std::vector<pattern::TensorId> written = pattern::writes(one);
    bool needed = written.empty() || std::holds_alternative<pattern::If>(one) || std::holds_alternative<pattern::Loop>(one);
    for (const pattern::TensorId id : written) needed = needed || live[static_cast<size_t>(id)];
    if (!needed) continue;
    for (const pattern::TensorId id : pattern::reads(one)) live[static_cast<size_t>(id)] = true;
    kept.push_back(std::move(one));
  }
  program.patterns.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
}

}  // namespace tilewright::schedule
