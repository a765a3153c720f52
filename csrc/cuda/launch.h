// How kernels run. A kernel is a struct of plain data with
//
//   kThreads  of a block
//   Shared    what a block's threads share, plain data
//   Steps     the member functions step(at, shared) that each thread runs, with a barrier between
//
// A step does one thread's work and hands nothing to the next but through Shared. nvcc makes a
// launch of it; without nvcc the host runs it block by block, step by step, thread by thread. What
// holds on the host for any order of blocks and threads holds on a GPU but for races within a step.
#pragma once

#include <stdint.h>

#include "../support/check.h"
#include "../support/inline.h"
#include "../support/rng.h"
#include "gpu.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <cstring>
#include <numeric>
#endif

namespace qgbdt {

struct At {
  int64_t block;
  int thread;
};

template <auto... kSteps>
struct StepList {};

struct NothingShared {};

#if defined(__CUDACC__)

void check_cuda(cudaError_t error);

template <class Kernel, auto kFirst, auto... kRest>
__device__ __forceinline__ void run_steps(StepList<kFirst, kRest...>, const Kernel& kernel,
                                          const At& at, typename Kernel::Shared& shared) {
  (kernel.*kFirst)(at, shared);
  (((void)__syncthreads(), (kernel.*kRest)(at, shared)), ...);
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) kernel_of(const Kernel kernel) {
  extern __shared__ __align__(16) unsigned char storage[];
  run_steps(typename Kernel::Steps{}, kernel, At{int64_t(blockIdx.x), int(threadIdx.x)},
            *reinterpret_cast<typename Kernel::Shared*>(storage));
}

template <class Kernel>
void Gpu::launch(const Kernel& kernel, int64_t n_blocks) {
  if (n_blocks > INT32_MAX) throw DeviceFailure("The data is too large for a GPU.");
  constexpr int kBytes = sizeof(typename Kernel::Shared), kBytesAtOnce = 48 << 10;
  if constexpr (kBytes > kBytesAtOnce)
    check_cuda(cudaFuncSetAttribute(kernel_of<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    kBytes));
  kernel_of<Kernel><<<unsigned(n_blocks), Kernel::kThreads, kBytes>>>(kernel);
  check_cuda(cudaGetLastError());
}

#else

// The numbers below n, each once.
class ShuffledNumbers {
 public:
  ShuffledNumbers(int64_t n, uint64_t seed) : n_(n) {
    if (seed == 0) return;
    factor_ = int64_t(mix64(seed) % uint64_t(n)) | 1;
    while (std::gcd(factor_, n) != 1) ++factor_;
    first_ = int64_t(mix64(seed + 1) % uint64_t(n));
  }
  int64_t at(int64_t i) const { return (first_ + i * factor_) % n_; }

 private:
  int64_t n_, factor_ = 1, first_ = 0;
};

template <class Kernel>
void Gpu::launch(const Kernel& kernel, int64_t n_blocks) {
  const auto run_step = [&](auto step, int64_t block, uint64_t seed, auto& shared) {
    const ShuffledNumbers threads(Kernel::kThreads, seed);
    for (int i = 0; i < Kernel::kThreads; ++i)
      (kernel.*step)(At{block, int(threads.at(i))}, shared);
  };
  const auto run_steps = [&]<auto... kSteps>(StepList<kSteps...>, int64_t block, uint64_t seed,
                                             auto& shared) {
    (run_step(kSteps, block, seed, shared), ...);
  };
  const uint64_t seed = order_seed_ == 0 ? 0 : order_seed_ + uint64_t(n_blocks);
  const ShuffledNumbers blocks(n_blocks, seed);
  typename Kernel::Shared shared;
  for (int64_t i = 0; i < n_blocks; ++i) {
    std::memset(static_cast<void*>(&shared), 0xa5, sizeof shared);  // as a block finds it: anything
    run_steps(typename Kernel::Steps{}, blocks.at(i), seed, shared);
  }
}

#endif

}  // namespace qgbdt
