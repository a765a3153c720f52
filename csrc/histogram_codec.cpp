#include "histogram_codec.h"

#include <bit>

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

// Unsigned: sums of a fit cannot overflow, those of what a peer has made up can.
void add(HistCell some, HistCell* cell) { *cell = HistCell(uint64_t(*cell) + uint64_t(some)); }

template <class Pair>
void append_pairs(std::span<const Pair> pairs, Bytes* bytes) {
  const auto n = int64_t(pairs.size());
  append(std::span(&n, 1), bytes);
  append(pairs, bytes);
}

template <class Pair>
std::vector<HistCell> take_pairs(ByteReader* reader) {
  std::vector<HistCell> cells;
  const int64_t n = reader->take<int64_t>(1)[0];
  for (Pair pair : reader->take<Pair>(n)) cells.push_back(lane_cell(pair_lane(pair)));
  return cells;
}

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

void CellReader::add_to(HistCell* cells, int32_t n_places) {
  const auto head = rest_.view(2);
  const bool sparse = head[0] & kSparse;
  const int gradient_bits = head[0] & ~kSparse, hessian_bits = head[1];
  check(gradient_bits <= kMaxBits && hessian_bits < kMaxBits,
        "a message of another worker has too many bits");
  const auto places = rest_.view(sparse ? n_places / 8 : 0);
  int64_t n_filled = sparse ? 0 : n_places;
  for (uint8_t byte : places) n_filled += std::popcount(byte);
  BitReader numbers(rest_.view(whole_bytes(n_filled * (gradient_bits + hessian_bits))));
  const uint32_t sign = gradient_bits > 0 ? uint32_t(1) << (gradient_bits - 1) : 0;
  for (int32_t i = 0; i < n_places; ++i) {
    if (sparse && !(places[i / 8] >> (i % 8) & 1)) continue;
    const uint32_t gradient = (numbers.take(gradient_bits) ^ sign) - sign;
    const uint32_t hessian = numbers.take(hessian_bits);
    add(make_cell(int32_t(gradient), int32_t(hessian)), &cells[i]);
  }
}

void pack_pairs(std::span<const Pair8> pairs, Bytes* bytes) { append_pairs(pairs, bytes); }
void pack_pairs(std::span<const Pair16> pairs, Bytes* bytes) { append_pairs(pairs, bytes); }

RowReader::RowReader(std::span<const uint8_t> bytes, bool wide)
    : rest_(bytes), pairs_(wide ? take_pairs<Pair16>(&rest_) : take_pairs<Pair8>(&rest_)) {}

void RowReader::add_to(HistCell* cells, int32_t n_places) {
  const auto places = rest_.view(int64_t(pairs_.size()));
  const int32_t last_place = n_places - 1;  // 2^k - 1: no place lies beyond
  for (size_t i = 0; i < places.size(); ++i) add(pairs_[i], &cells[places[i] & last_place]);
}

}  // namespace qgbdt
