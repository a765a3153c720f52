#include "histogram_codec.h"

#include <bit>
#include <cstring>

#include "support/check.h"

namespace qgbdt {
namespace {

constexpr uint8_t kSparse = 128;
constexpr int kMaxBits = 32;

// Small numbers one after the other, the first in the lowest bits.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* bytes) : bytes_(bytes) {}
  void put(uint32_t number, int bits) {
    waiting_ |= (uint64_t(number) & ((uint64_t(1) << bits) - 1)) << n_waiting_;
    for (n_waiting_ += bits; n_waiting_ >= 8; n_waiting_ -= 8, waiting_ >>= 8)
      *bytes_++ = uint8_t(waiting_);
  }
  void finish() {
    if (n_waiting_ > 0) *bytes_ = uint8_t(waiting_);
  }

 private:
  uint8_t* bytes_;
  uint64_t waiting_ = 0;
  int n_waiting_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::span<const uint8_t> bytes) : next_(bytes.data()) {}
  uint32_t take(int bits) {
    for (; n_waiting_ < bits; n_waiting_ += 8) waiting_ |= uint64_t(*next_++) << n_waiting_;
    const auto number = uint32_t(waiting_ & ((uint64_t(1) << bits) - 1));
    waiting_ >>= bits;
    n_waiting_ -= bits;
    return number;
  }

 private:
  const uint8_t* next_;
  uint64_t waiting_ = 0;
  int n_waiting_ = 0;
};

int64_t whole_bytes(int64_t bits) { return (bits + 7) / 8; }

}  // namespace

void pack_cells(const HistCell* cells, int32_t n_places, Bytes* bytes) {
  uint32_t gradients = 0, hessians = 0;  // all their bits; of negative ones, those of -g - 1
  bool has_gradients = false;
  int32_t n_filled = 0;
  for (int32_t i = 0; i < n_places; ++i) {
    const int32_t g = cell_gradient(cells[i]);
    gradients |= uint32_t(g ^ (g >> 31));
    hessians |= uint32_t(cell_hessian(cells[i]));
    has_gradients |= g != 0;
    n_filled += cells[i] != 0;
  }
  const int gradient_bits = has_gradients ? int(std::bit_width(gradients)) + 1 : 0;
  const int hessian_bits = int(std::bit_width(hessians));
  const int64_t bits = gradient_bits + hessian_bits;
  const bool sparse = n_places + n_filled * bits < n_places * bits;

  const size_t begin = bytes->size();
  const size_t first_cell = begin + 2 + (sparse ? n_places / 8 : 0);
  bytes->resize(first_cell + whole_bytes((sparse ? n_filled : n_places) * bits));
  uint8_t* const head = bytes->data() + begin;
  head[0] = uint8_t(gradient_bits + (sparse ? kSparse : 0));
  head[1] = uint8_t(hessian_bits);
  BitWriter places(head + 2), numbers(bytes->data() + first_cell);
  for (int32_t i = 0; i < n_places; ++i) {
    if (sparse) places.put(cells[i] != 0, 1);
    if (sparse && cells[i] == 0) continue;
    numbers.put(uint32_t(cell_gradient(cells[i])), gradient_bits);
    numbers.put(uint32_t(cell_hessian(cells[i])), hessian_bits);
  }
  numbers.finish();
}

std::span<const uint8_t> CellReader::take(int64_t n) {
  check(n <= int64_t(rest_.size()), "a histogram ends early");
  const auto taken = rest_.first(n);
  rest_ = rest_.subspan(n);
  return taken;
}

void CellReader::add_to(HistCell* cells, int32_t n_places) {
  const auto head = take(2);
  const bool sparse = head[0] & kSparse;
  const int gradient_bits = head[0] & ~kSparse, hessian_bits = head[1];
  check(gradient_bits <= kMaxBits && hessian_bits < kMaxBits, "a histogram has too many bits");
  const auto places = take(sparse ? n_places / 8 : 0);
  int64_t n_filled = sparse ? 0 : n_places;
  for (uint8_t byte : places) n_filled += std::popcount(byte);
  BitReader numbers(take(whole_bytes(n_filled * (gradient_bits + hessian_bits))));
  const uint32_t sign = gradient_bits > 0 ? uint32_t(1) << (gradient_bits - 1) : 0;
  for (int32_t i = 0; i < n_places; ++i) {
    if (sparse && !(places[i / 8] >> (i % 8) & 1)) continue;
    const uint32_t gradient = (numbers.take(gradient_bits) ^ sign) - sign;
    const uint32_t hessian = numbers.take(hessian_bits);
    // Unsigned: sums of a fit cannot overflow, those of what a peer has made up can.
    cells[i] =
        HistCell(uint64_t(cells[i]) + uint64_t(make_cell(int32_t(gradient), int32_t(hessian))));
  }
}

}  // namespace qgbdt
