// QGBDT_FN marks the shared formulas: they are compiled into every SIMD level and, with nvcc, into
// device code. They must always be inlined: an out-of-line copy compiled for AVX-512 could be kept
// by the linker for the whole program and crash older machines. QGBDT_HOST_FN is for those of them
// that choose between kernels, which device code does not.
#pragma once

#define QGBDT_HOST_FN inline __attribute__((always_inline))

#if defined(__CUDACC__)
#define QGBDT_FN __host__ __device__ __forceinline__
#define QGBDT_UNROLL(n)  // it does so by itself, and knows gcc's pragma not
#else
#define QGBDT_FN QGBDT_HOST_FN
#define QGBDT_UNROLL(n) QGBDT_PRAGMA(GCC unroll n)
#define QGBDT_PRAGMA(words) _Pragma(#words)
#endif
