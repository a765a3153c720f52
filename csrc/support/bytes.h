// Plain values in and out of byte strings, in this machine's byte order.
#pragma once

#include <stdint.h>

#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "check.h"

namespace qgbdt {

using Bytes = std::vector<uint8_t>;

template <class T>
void append(std::span<const T> values, Bytes* bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto* first = reinterpret_cast<const uint8_t*>(values.data());
  bytes->insert(bytes->end(), first, first + values.size_bytes());
}

// What append wrote, in the same order.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : rest_(bytes) {}

  template <class T>
  std::vector<T> take(int64_t n) {
    check(n >= 0 && n <= int64_t(rest_.size() / sizeof(T)),
          "a message of another worker is too short");
    std::vector<T> values(n);
    if (n > 0) std::memcpy(values.data(), rest_.data(), n * sizeof(T));
    rest_ = rest_.subspan(n * sizeof(T));
    return values;
  }

  // Bytes where they are.
  std::span<const uint8_t> view(int64_t n) {
    check(n >= 0 && n <= int64_t(rest_.size()), "a message of another worker is too short");
    const auto viewed = rest_.first(n);
    rest_ = rest_.subspan(n);
    return viewed;
  }

  bool is_done() const { return rest_.empty(); }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace qgbdt
