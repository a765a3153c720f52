// Gradients of the objective cox: sums over all who are at risk when an event happens, so of all
// rows at once, in the order of their times.
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

namespace qgbdt {

// As GivenGradients::of_all. The target and the weight (or null) outlive it. One thread adds, so
// each sum has one order.
class CoxGradients {
 public:
  CoxGradients(std::span<const double> target, const double* weight);

  void operator()(std::span<const double> raw_prediction, std::span<float> gradient,
                  std::span<float> hessian) const;

 private:
  double weight_of(int64_t row) const { return weight_ ? weight_[row] : 1.0; }

  const std::span<const double> target_;
  const double* const weight_;
  std::vector<uint32_t> order_;      // rows, the earliest first; of one time, in their own order
  std::vector<int64_t> time_begin_;  // of each distinct time its first place in it, and the end
};

}  // namespace qgbdt
