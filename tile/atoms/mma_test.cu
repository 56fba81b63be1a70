// Every matrix instruction once, for scripts/gpu-check: NVIDIA's compiler takes them, and they are in its output.

#include "tile/atoms/mma.h"
#include "tile/exec/gpu.h"

namespace tile::simt {

template <class Atom>
__global__ void multiply(const typename Atom::A* a, const typename Atom::B* b, typename Atom::C* c) {
  GpuThread ex;
  Atom::run(ex, c[ex.lane()], a[ex.lane()], b[ex.lane()]);
}

template __global__ void multiply<Mma<float16>>(const Mma<float16>::A*, const Mma<float16>::B*, Mma<float16>::C*);
template __global__ void multiply<Mma<bfloat16>>(const Mma<bfloat16>::A*, const Mma<bfloat16>::B*, Mma<bfloat16>::C*);
template __global__ void multiply<Mma<float>>(const Mma<float>::A*, const Mma<float>::B*, Mma<float>::C*);
template __global__ void multiply<Mma<int8_t>>(const Mma<int8_t>::A*, const Mma<int8_t>::B*, Mma<int8_t>::C*);
template __global__ void multiply<Mma<int8_t, uint8_t>>(const Mma<int8_t, uint8_t>::A*, const Mma<int8_t, uint8_t>::B*, Mma<int8_t, uint8_t>::C*);
template __global__ void multiply<Mma<uint8_t, int8_t>>(const Mma<uint8_t, int8_t>::A*, const Mma<uint8_t, int8_t>::B*, Mma<uint8_t, int8_t>::C*);
template __global__ void multiply<Mma<uint8_t>>(const Mma<uint8_t>::A*, const Mma<uint8_t>::B*, Mma<uint8_t>::C*);

}  // namespace tile::simt
