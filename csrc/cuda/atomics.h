// Additions and maxima of integers from many threads at once: their order does not matter.
#pragma once

#include <stdint.h>

#include "../support/inline.h"

namespace qgbdt {

QGBDT_FN void atomic_add(uint32_t* to, uint32_t x) {
#if defined(__CUDA_ARCH__)
  atomicAdd(to, x);
#else
  __atomic_fetch_add(to, x, __ATOMIC_RELAXED);
#endif
}

QGBDT_FN void atomic_add(int64_t* to, int64_t x) {
#if defined(__CUDA_ARCH__)
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(x));
#else
  __atomic_fetch_add(to, x, __ATOMIC_RELAXED);
#endif
}

QGBDT_FN void atomic_max(uint32_t* to, uint32_t x) {
#if defined(__CUDA_ARCH__)
  atomicMax(to, x);
#else
  uint32_t most = __atomic_load_n(to, __ATOMIC_RELAXED);
  while (x > most &&
         !__atomic_compare_exchange_n(to, &most, x, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}

}  // namespace qgbdt
