#include "cox.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "objective.h"

namespace qgbdt {

CoxGradients::CoxGradients(std::span<const double> target, const double* weight)
    : target_(target), weight_(weight), order_(target.size()) {
  const auto time = [&](uint32_t row) { return std::abs(target[row]); };
  std::iota(order_.begin(), order_.end(), 0u);
  std::stable_sort(order_.begin(), order_.end(),
                   [&](uint32_t a, uint32_t b) { return time(a) < time(b); });
  for (size_t i = 0; i < order_.size(); ++i)
    if (i == 0 || time(order_[i - 1]) < time(order_[i])) time_begin_.push_back(int64_t(i));
  time_begin_.push_back(int64_t(order_.size()));
}

void CoxGradients::operator()(std::span<const double> raw_prediction, std::span<float> gradient,
                              std::span<float> hessian) const {
  const int64_t n = int64_t(order_.size()), n_times = int64_t(time_begin_.size()) - 1;
  if (n == 0) return;
  // Only ratios of hazards matter: the largest is 1, so that none overflows.
  const double largest = *std::max_element(raw_prediction.begin(), raw_prediction.end());
  std::vector<double> hazard(n), at_risk(n_times);
  double sum = 0;
  for (int64_t time = n_times - 1; time >= 0; --time) {
    for (int64_t i = time_begin_[time + 1] - 1; i >= time_begin_[time]; --i) {
      hazard[i] = exp(raw_prediction[order_[i]] - largest);
      sum += weight_of(order_[i]) * hazard[i];
    }
    at_risk[time] = sum;
  }
  double rate = 0, rate_of_squares = 0;
  for (int64_t time = 0; time < n_times; ++time) {
    double events = 0;
    for (int64_t i = time_begin_[time]; i < time_begin_[time + 1]; ++i)
      if (target_[order_[i]] > 0) events += weight_of(order_[i]);
    if (events > 0) {
      const double share = events / at_risk[time];
      rate += share;
      rate_of_squares += share / at_risk[time];
    }
    for (int64_t i = time_begin_[time]; i < time_begin_[time + 1]; ++i) {
      const uint32_t row = order_[i];
      const Gradient x =
          Cox::gradient(hazard[i], weight_of(row), target_[row] > 0, rate, rate_of_squares);
      gradient[row] = to_gradient(x.g);
      hessian[row] = to_gradient(x.h);
    }
  }
}

}  // namespace qgbdt
