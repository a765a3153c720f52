#include "leaf_quantiles.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace qgbdt {
namespace {

constexpr size_t kLeavesAtOnce = 1024;  // bounds what is sent, and its memory

using DigitWeights = std::span<const int64_t>;  // [kDigits]

// The search for the first key such that the weight of all up to it is what is wanted.
struct Descent {
  uint32_t prefix = 0;
  int64_t wanted = 0;  // less the weight below the prefix

  void choose_digit(DigitWeights weights) {
    int digit = 0;
    while (digit < kDigits - 1 && weights[digit] < wanted) wanted -= weights[digit++];
    prefix = prefix << kDigitBits | uint32_t(digit);
  }
};

struct LeafSearch {
  RowRange rows;
  int64_t total = 0;
  Descent low, high;  // the ends of the range of best values

  void start(DigitWeights weights, double level) {
    total = std::accumulate(weights.begin(), weights.end(), int64_t(0));
    low.wanted = std::max<int64_t>(std::llrint(level * double(total)), 1);
    high.wanted = std::min(low.wanted + 1, total);
  }
  double middle() const {
    if (total == 0) return 0.0;
    return 0.5 * residual_of_key(low.prefix) + 0.5 * residual_of_key(high.prefix);
  }
};

// The weights of a digit for the searches of each leaf: where both ends are alike so far, once.
void choose_digits(Backend& backend, Comm& comm, int digit, double level,
                   std::vector<LeafSearch>& leaves) {
  std::vector<DigitTask> tasks;
  for (const LeafSearch& leaf : leaves) {
    tasks.push_back({leaf.rows, leaf.low.prefix});
    if (leaf.high.prefix != leaf.low.prefix) tasks.push_back({leaf.rows, leaf.high.prefix});
  }
  std::vector<int64_t> weights(tasks.size() * kDigits);
  backend.weigh_digits(tasks, digit, weights);
  comm.allreduce_sum(weights);
  const int64_t* next = weights.data();
  for (LeafSearch& leaf : leaves) {
    const bool is_one = leaf.high.prefix == leaf.low.prefix;
    const DigitWeights of_low(next, kDigits), of_high(is_one ? next : next + kDigits, kDigits);
    next += is_one ? kDigits : 2 * kDigits;
    if (digit == 0) leaf.start(of_low, level);
    leaf.low.choose_digit(of_low);
    leaf.high.choose_digit(of_high);
  }
}

}  // namespace

std::vector<double> leaf_quantiles(Backend& backend, Comm& comm, std::span<const RowRange> leaves,
                                   double level) {
  std::vector<double> values;
  for (size_t first = 0; first < leaves.size(); first += kLeavesAtOnce) {
    std::vector<LeafSearch> some;
    for (const RowRange& rows :
         leaves.subspan(first, std::min(kLeavesAtOnce, leaves.size() - first)))
      some.push_back({rows, 0, {}, {}});
    for (int digit = 0; digit < kDigitsOfKey; ++digit)
      choose_digits(backend, comm, digit, level, some);
    for (const LeafSearch& leaf : some) values.push_back(leaf.middle());
  }
  return values;
}

}  // namespace qgbdt
