#include "row_sampling.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace qgbdt {
namespace {

// A magnitude is found digit by digit.
constexpr int kMagnitudeDigits[] = {11, 11, 10};

}  // namespace

RowsInUse RowSampling::sample(int64_t iteration, std::span<GradientRange> ranges) {
  const bool is_early = double(iteration) < std::floor(1 / params_.learning_rate);
  const bool all = params_.goss ? is_early : !(params_.subsample < 1);
  if (all) return {n_samples_, false};
  const RowSample sample = params_.goss ? by_gradient(iteration) : bag(iteration);
  int64_t count = backend_.sample_rows(sample, ranges);
  comm_.allreduce_sum({&count, 1});
  return {count, sample.amplification != 1};
}

uint64_t RowSampling::key_of_draw(int64_t number) const {
  return row_key(stream_key(params_.seed, uint64_t(number), kRowSampleStream), 0);
}

RowSample RowSampling::bag(int64_t iteration) const {
  const int64_t number = iteration / std::max<int64_t>(params_.subsample_freq, 1);
  return {key_of_draw(number),
          limit_of_share(params_.subsample),
          is_ranking(params_.objective),
          false,
          0,
          1};
}

// The magnitude that n_top rows have at least, and no larger one has: the numbers of rows with each
// first digit say which it has, those of the rows with that one its next. Counts sum exactly over
// workers.
RowSample RowSampling::by_gradient(int64_t iteration) {
  const int64_t n_top = std::max<int64_t>(1, int64_t(params_.top_rate * double(n_samples_)));
  int64_t n_above = 0, n_equal = 0;
  uint32_t magnitude = 0;
  int shift = 32;
  for (const int bits : kMagnitudeDigits) {
    shift -= bits;
    std::vector<int64_t> counts(size_t(1) << bits);
    backend_.count_magnitudes(magnitude, shift, counts);
    comm_.allreduce_sum(counts);
    size_t digit = counts.size() - 1;
    for (; digit > 0 && n_above + counts[digit] < n_top; --digit) n_above += counts[digit];
    n_equal = counts[digit];
    magnitude = magnitude << bits | uint32_t(digit);
  }
  const int64_t n_others = n_samples_ - n_above - n_equal;
  const double wanted = params_.other_rate * double(n_samples_);
  const double share = double(n_others) > wanted ? wanted / double(n_others) : 1;
  return {key_of_draw(iteration), limit_of_share(share), false, true, magnitude, 1 / share};
}

}  // namespace qgbdt
