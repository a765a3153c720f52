#include "gpu.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "../support/check.h"
#include "launch.h"

namespace qgbdt {
namespace {

constexpr const char* kCpu = "the CPU (device='cpu', arrays on the host), which gives the same.";

std::string megabytes(int64_t n_bytes) {
  return std::to_string((n_bytes + (1 << 20) - 1) >> 20) + " MB";
}

[[noreturn]] void throw_no_room(int64_t n_bytes, int64_t used_bytes) {
  throw DeviceFailure("The GPU has no room for " + megabytes(n_bytes) + " beside the " +
                      megabytes(used_bytes) +
                      " that qgbdt has there. Use fewer rows, features or num_leaves, or " + kCpu);
}

}  // namespace

#if defined(__CUDACC__)

namespace {

constexpr int kLeastMajor = 8;  // of the compute capability

}  // namespace

void check_cuda(cudaError_t error) {
  if (error != cudaSuccess)
    throw DeviceFailure(std::string("The GPU failed: ") + cudaGetErrorString(error) +
                        ". Try again, or use " + kCpu);
}

std::string gpu_state() {
  int version = 0, n_gpus = 0, major = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0) return "no driver";
  const cudaError_t error = cudaGetDeviceCount(&n_gpus);
  if (error == cudaErrorInsufficientDriver) return "old driver";
  if (error != cudaSuccess || n_gpus == 0) return "no gpu";
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  return major < kLeastMajor ? "old gpu" : "ready";
}

OnGpuOf::OnGpuOf(const void* memory) {
  cudaPointerAttributes where;
  check_cuda(cudaGetDevice(&before_));
  check_cuda(cudaPointerGetAttributes(&where, memory));
  check_cuda(cudaSetDevice(where.device));
  check_cuda(cudaDeviceSynchronize());
}
OnGpuOf::~OnGpuOf() { (void)cudaSetDevice(before_); }

namespace {

void* take_memory(int64_t n_bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, size_t(n_bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // it is told below
    return nullptr;
  }
  check_cuda(error);
  return memory;
}

}  // namespace

void Gpu::free(void* memory, int64_t n_bytes) noexcept {
  (void)cudaFree(memory);
  used_bytes_ -= n_bytes;
}
void Gpu::copy_in(const void* from, int64_t n_bytes, void* to) {
  check_cuda(cudaMemcpy(to, from, size_t(n_bytes), cudaMemcpyHostToDevice));
}
void Gpu::copy_out(const void* from, int64_t n_bytes, void* to) {
  check_cuda(cudaMemcpy(to, from, size_t(n_bytes), cudaMemcpyDeviceToHost));
}
void Gpu::clear(void* memory, int64_t n_bytes) {
  check_cuda(cudaMemset(memory, 0, size_t(n_bytes)));
}
void Gpu::wait() { check_cuda(cudaDeviceSynchronize()); }

#else

std::string gpu_state() { return "ready"; }

OnGpuOf::OnGpuOf(const void*) {}
OnGpuOf::~OnGpuOf() = default;

namespace {

constexpr int kGarbage = 0xa5;  // what nobody has written yet must not matter

void* take_memory(int64_t n_bytes) {
  void* memory = std::malloc(size_t(n_bytes));
  if (memory) std::memset(memory, kGarbage, size_t(n_bytes));
  return memory;
}

}  // namespace

void Gpu::free(void* memory, int64_t n_bytes) noexcept {
  std::free(memory);
  used_bytes_ -= n_bytes;
}
void Gpu::copy_in(const void* from, int64_t n_bytes, void* to) {
  std::memcpy(to, from, size_t(n_bytes));
}
void Gpu::copy_out(const void* from, int64_t n_bytes, void* to) {
  std::memcpy(to, from, size_t(n_bytes));
}
void Gpu::clear(void* memory, int64_t n_bytes) { std::memset(memory, 0, size_t(n_bytes)); }
void Gpu::wait() {}

#endif

void* Gpu::allocate(int64_t n_bytes) {
  void* memory = n_bytes > most_bytes_ - used_bytes_ ? nullptr : take_memory(n_bytes);
  if (!memory) throw_no_room(n_bytes, used_bytes_);
  used_bytes_ += n_bytes;
  return memory;
}

}  // namespace qgbdt
