// A large uninitialized array. Gathers by row touch pages at random, and the address translations
// of 4 kB pages outgrow the CPU's tables: on huge pages a fit of a million rows takes a quarter
// less.
#pragma once

#include <stdint.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace qgbdt {

constexpr int64_t kCacheLine = 64;  // bytes

template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(int64_t n) : size_(n) {
    const size_t bytes = size_t(n) * sizeof(T);
    const size_t alignment = bytes >= kHugePage ? kHugePage : size_t(kCacheLine);
    const size_t padded = (bytes + alignment) / alignment * alignment;
    memory_.reset(static_cast<T*>(std::aligned_alloc(alignment, padded)));
    if (!memory_) throw std::bad_alloc();
#ifdef __linux__
    if (alignment == kHugePage) madvise(memory_.get(), padded, MADV_HUGEPAGE);  // a wish
#endif
  }
  T* data() { return memory_.get(); }
  const T* data() const { return memory_.get(); }
  int64_t size() const { return size_; }

 private:
  static constexpr size_t kHugePage = size_t(2) << 20;
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> memory_;
  int64_t size_ = 0;
};

}  // namespace qgbdt
