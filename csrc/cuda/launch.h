// How kernels run. A kernel is a struct of plain data with
//
//   kThreads  of a block
//   Shared    what a block's threads share, plain data
//   Steps     the member functions step(at, shared) that each thread runs, with a barrier between
//
// A step does one thread's work and hands nothing to the next but through Shared. nvcc makes a
// launch of it; without nvcc the host runs it block by block, step by step, thread by thread. What
// holds on the host for any order of blocks and threads holds on a GPU but for races within a step;
// for these a build for ThreadSanitizer runs all threads of a block at once.
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
#if defined(__SANITIZE_THREAD__)
#include <barrier>
#include <thread>
#include <vector>
#endif
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

// One after the other, step by step.
template <class Kernel, auto... kSteps>
void run_threads(StepList<kSteps...>, const Kernel& kernel, int64_t block,
                 const ShuffledNumbers& threads, typename Kernel::Shared& shared) {
  const auto run_step = [&](auto step) {
    for (int i = 0; i < Kernel::kThreads; ++i)
      (kernel.*step)(At{block, int(threads.at(i))}, shared);
  };
  (run_step(kSteps), ...);
}

#if defined(__SANITIZE_THREAD__)

// At once, so that the sanitizer sees what two threads of a step do to one word.
template <class Kernel, auto... kSteps>
void race_threads(StepList<kSteps...>, const Kernel& kernel, int64_t block,
                  typename Kernel::Shared& shared) {
  std::barrier<> barrier(Kernel::kThreads);
  std::vector<std::jthread> threads;
  for (int i = 0; i < Kernel::kThreads; ++i)
    threads.emplace_back([&, at = At{block, i}] {
      (((kernel.*kSteps)(at, shared), barrier.arrive_and_wait()), ...);
    });
}

#endif

template <class Kernel>
void Gpu::launch(const Kernel& kernel, int64_t n_blocks) {
  const uint64_t seed = order_seed_ == 0 ? 0 : order_seed_ + uint64_t(n_blocks);
  const ShuffledNumbers blocks(n_blocks, seed), threads(Kernel::kThreads, seed);
  typename Kernel::Shared shared;
  for (int64_t i = 0; i < n_blocks; ++i) {
    std::memset(static_cast<void*>(&shared), 0xa5, sizeof shared);  // as a block finds it: anything
#if defined(__SANITIZE_THREAD__)
    race_threads(typename Kernel::Steps{}, kernel, blocks.at(i), shared);
#else
    run_threads(typename Kernel::Steps{}, kernel, blocks.at(i), threads, shared);
#endif
  }
}

#endif

}  // namespace qgbdt
