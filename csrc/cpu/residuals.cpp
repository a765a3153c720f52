// The CPU's side of the search for quantiles of residuals.

#include <atomic>

#include "../fixed_point.h"
#include "cpu_backend.h"

namespace qgbdt {
namespace {

constexpr int64_t kChunkRows = 16384;  // counted by a thread before it adds to the others' sums

}  // namespace

void CpuBackend::take_residuals(int output, int weight_exponent) {
  if (!residual_keys_.size()) {
    residual_keys_ = Buffer<uint32_t>(n_samples_);
    residual_weights_ = Buffer<int64_t>(n_samples_);
  }
  const double scale = power_of_two(weight_exponent);
  const double* const raw_prediction = rows_.raw_prediction + output * n_samples_;
  visit_objective(data_.objective, [&](auto objective) {
    if constexpr (decltype(objective)::kQuantileLeaves)
      team_.run_blocks(team_.threads_for(n_samples_, kRowsPerThread), n_samples_, kChunkRows,
                       [&](int64_t begin, int64_t end, int) {
                         for (int64_t i = begin; i < end; ++i) {
                           const uint32_t row = row_order_.data()[i];
                           const double y = data_.target_of(row, output);
                           const double residual = y - raw_prediction[row];
                           const double weight = objective.weight(data_.weight_of(row), y);
                           residual_keys_.data()[i] = residual_key(residual);
                           residual_weights_.data()[i] = to_fixed(weight, scale);
                         }
                       });
  });
}

void CpuBackend::weigh_digits(std::span<const DigitTask> tasks, int digit,
                              std::span<int64_t> weights) {
  std::vector<RowRange> ranges;
  for (const DigitTask& task : tasks) ranges.push_back(task.rows);
  const std::vector<RowChunk> chunks = cut(ranges, kChunkRows);
  const uint32_t* const keys = residual_keys_.data();
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  team_.run(threads, int64_t(chunks.size()), [&](int64_t c, int) {
    const uint32_t prefix = tasks[chunks[c].task].prefix;
    int64_t sums[kDigits] = {};
    for (uint32_t i = chunks[c].rows.begin; i < chunks[c].rows.end; ++i)
      if (digits_before(keys[i], digit) == prefix)
        sums[digit_of(keys[i], digit)] += residual_weights_.data()[i];
    for (int d = 0; d < kDigits; ++d)
      if (sums[d] != 0)
        std::atomic_ref(weights[chunks[c].task * kDigits + d])
            .fetch_add(sums[d], std::memory_order_relaxed);
  });
}

}  // namespace qgbdt
