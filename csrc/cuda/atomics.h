// Additions and maxima of integers from many threads at once: their order does not matter. On the
// host a device's threads run one after the other.
#pragma once

#include <stdint.h>

#include "../support/inline.h"

namespace qgbdt {

QGBDT_FN void atomic_add(uint32_t* to, uint32_t x) {
#if defined(__CUDA_ARCH__)
  atomicAdd(to, x);
#else
  *to += x;
#endif
}

QGBDT_FN void atomic_add(int64_t* to, int64_t x) {
#if defined(__CUDA_ARCH__)
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(x));
#else
  *to = int64_t(uint64_t(*to) + uint64_t(x));
#endif
}

QGBDT_FN void atomic_max(uint32_t* to, uint32_t x) {
#if defined(__CUDA_ARCH__)
  atomicMax(to, x);
#else
  if (x > *to) *to = x;
#endif
}

}  // namespace qgbdt
