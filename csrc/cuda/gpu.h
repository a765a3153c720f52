// A GPU: its memory, and running kernels on it (launch.h). Compiled without nvcc it is the host in
// a GPU's place, which runs the same kernels, for tests.
#pragma once

#include <stdint.h>

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "../backend.h"

namespace qgbdt {

// "ready", or why no GPU can be used: "no driver", "old driver", "no gpu", "old gpu".
std::string gpu_state();

// While it lives, the GPU in use is the one where this memory lies; what others had it do is done.
class OnGpuOf {
 public:
  explicit OnGpuOf(const void* memory);
  OnGpuOf(const OnGpuOf&) = delete;
  ~OnGpuOf();

 private:
  int before_ = 0;
};

class Gpu {
 public:
  // most_bytes: as if it had no more memory. The host runs blocks and threads in an order that
  // depends on order_seed, one after the other if that is 0. timed: each kernel is waited for, and
  // its seconds are noted.
  explicit Gpu(int64_t most_bytes = INT64_MAX, uint64_t order_seed = 0, bool timed = false)
      : most_bytes_(most_bytes), order_seed_(order_seed), timed_(timed) {}

  // All throw DeviceFailure.
  void* allocate(int64_t n_bytes);
  void free(void* memory, int64_t n_bytes) noexcept;
  void copy_in(const void* from, int64_t n_bytes, void* to);
  void copy_out(const void* from, int64_t n_bytes, void* to);
  void clear(void* memory, int64_t n_bytes);

  // Runs a kernel; its blocks are done before anything later begins. work: see KernelTime.
  template <class Kernel>
  void run(const Kernel& kernel, int64_t n_blocks, int64_t work = 0) {
    if (n_blocks == 0) return;
    KernelTime& time = times_[typeid(Kernel).name()];
    ++time.n_launches;
    time.work += work;
    const auto start = std::chrono::steady_clock::now();
    launch(kernel, n_blocks);
    if (!timed_) return;
    wait();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    time.seconds += seconds.count();
  }

  const std::map<std::string, KernelTime>& times() const { return times_; }

 private:
  template <class Kernel>
  void launch(const Kernel& kernel, int64_t n_blocks);
  void wait();

  const int64_t most_bytes_;
  const uint64_t order_seed_;
  const bool timed_;
  int64_t used_bytes_ = 0;
  std::map<std::string, KernelTime> times_;
};

// An array in the GPU's memory.
template <class T>
class GpuArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit GpuArray(Gpu& gpu, int64_t n = 0) : gpu_(&gpu) { reserve(n); }
  GpuArray(GpuArray&& other) noexcept
      : gpu_(other.gpu_), data_(std::exchange(other.data_, nullptr)), room_(other.room_) {}
  GpuArray& operator=(GpuArray&&) = delete;
  ~GpuArray() { release(); }

  T* data() const { return data_; }

  // Room for n; what was in it is lost where it grows.
  void reserve(int64_t n) {
    if (n <= room_) return;
    release();
    room_ = 0;
    data_ = static_cast<T*>(gpu_->allocate(n * int64_t(sizeof(T))));
    room_ = n;
  }
  void assign(std::span<const T> values) {
    reserve(int64_t(values.size()));
    if (!values.empty()) gpu_->copy_in(values.data(), int64_t(values.size_bytes()), data_);
  }
  void read(std::span<T> to, int64_t from = 0) const {
    if (!to.empty()) gpu_->copy_out(data_ + from, int64_t(to.size_bytes()), to.data());
  }
  void clear(int64_t n) {
    reserve(n);
    if (n > 0) gpu_->clear(data_, n * int64_t(sizeof(T)));
  }

 private:
  void release() {
    if (data_) gpu_->free(std::exchange(data_, nullptr), room_ * int64_t(sizeof(T)));
  }

  Gpu* gpu_;
  T* data_ = nullptr;
  int64_t room_ = 0;
};

}  // namespace qgbdt
