#include "training_data.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "fixed_point.h"

namespace qgbdt {

namespace {

// That of which the start score takes the mean.
double start_target_of(const TrainingData& data, int64_t row, int output) {
  return visit_objective(data.objective, [&](auto objective) {
    return decltype(objective)::start_target(data.target_of(row, output));
  });
}

}  // namespace

double max_weighted_target(const TrainingData& data) {
  if (is_per_class(data.objective)) return max_weight(data);
  double m = 0;
  for (int output = 0; output < data.n_outputs; ++output)
    for (int64_t i = 0; i < data.bins->n_samples(); ++i)
      m = std::max(m, std::abs(data.weight_of(i) * start_target_of(data, i, output)));
  return m;
}

double max_weight(const TrainingData& data) {
  if (!data.weight) return 1.0;
  return std::accumulate(data.weight, data.weight + data.bins->n_samples(), 0.0,
                         [](double a, double b) { return std::max(a, b); });
}

StartSums start_sums(const TrainingData& data, int output, int target_exponent,
                     int weight_exponent) {
  const double target_scale = power_of_two(target_exponent);
  const double weight_scale = power_of_two(weight_exponent);
  StartSums sums;
  for (int64_t i = 0; i < data.bins->n_samples(); ++i) {
    const double weight = data.weight_of(i);
    sums.weighted_target += to_fixed(weight * start_target_of(data, i, output), target_scale);
    sums.weight += to_fixed(weight, weight_scale);
  }
  return sums;
}

void given_row_gradients(const TrainingData& data, int64_t begin, int64_t end,
                         const double* raw_prediction, float* gradient, float* hessian) {
  constexpr int64_t kBlock = 4096;
  double g[kBlock], h[kBlock];
  for (int64_t from = begin; from < end; from += kBlock) {
    const int64_t to = std::min(from + kBlock, end);
    data.given.of_rows(to - from, raw_prediction + from, data.target + from, g, h);
    for (int64_t i = from; i < to; ++i) {
      gradient[i] = to_gradient(g[i - from] * data.weight_of(i));
      hessian[i] = to_gradient((h[i - from] > 0 ? h[i - from] : 0.0) * data.weight_of(i));
    }
  }
}

RankingTables ranking_tables(const TrainingData& data) {
  const std::vector<int64_t>& begin = data.query_begin;
  const int64_t n_queries = int64_t(begin.size()) - 1;
  RankingTables tables;
  for (int64_t q = 0; q < n_queries; ++q)
    tables.longest_query = std::max(tables.longest_query, begin[q + 1] - begin[q]);
  for (int64_t rank = 0; rank < tables.longest_query; ++rank)
    tables.discount.push_back(LambdaRank::discount(rank));
  for (int64_t q = 0; q < n_queries; ++q) {
    std::vector<double> labels(data.target + begin[q], data.target + begin[q + 1]);
    std::sort(labels.begin(), labels.end(), std::greater<>());
    double max_dcg = 0;
    for (int64_t r = 0; r < std::min<int64_t>(data.truncation_level, int64_t(labels.size())); ++r)
      max_dcg += data.label_gain[int64_t(labels[r])] * tables.discount[r];
    tables.inverse_max_dcg.push_back(max_dcg > 0 ? 1.0 / max_dcg : 0.0);
  }
  return tables;
}

}  // namespace qgbdt
