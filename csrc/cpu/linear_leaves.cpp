#include <algorithm>

#include "../support/check.h"
#include "cpu_backend.h"

namespace qgbdt {

// A thread a leaf, whose rows it adds up in the order of their numbers: in a leaf that was split in
// vain, and in blocks of rows out of order, they lie in another.
std::vector<LinearLeaf> CpuBackend::fit_linear_leaves(int output,
                                                      std::span<const LinearTask> leaves,
                                                      const LinearRules& rules) {
  check(data_.X.has_value(), "linear leaves need X");
  const float* const g = rows_.gradient + output * n_samples_;
  const float* const h = rows_.hessian + output * n_samples_;
  std::vector<LinearLeaf> found(leaves.size());
  team_.run(team_.threads_for(n_samples_, kRowsPerThread), int64_t(leaves.size()),
            [&](int64_t i, int) {
              uint32_t* const rows = row_order_.data() + leaves[i].rows.begin;
              const size_t n = size_t(leaves[i].rows.size());
              const auto is_before = [&](uint32_t a, uint32_t b) {
                return row_numbers_[a] < row_numbers_[b];
              };
              if (!std::is_sorted(rows, rows + n, is_before)) std::sort(rows, rows + n, is_before);
              found[i] = fit_linear_leaf(*data_.X, {rows, n}, leaves[i].features, g, h, rules);
            });
  return found;
}

void CpuBackend::add_linear_leaves(int output, std::span<const double> values,
                                   std::span<const LinearLeaf> leaves) {
  const MatrixView& X = *data_.X;
  double* const raw_prediction = rows_.raw_prediction + output * n_samples_;
  team_.run_blocks(team_.threads_for(n_samples_, kRowsPerThread), n_samples_, kRowsPerThread,
                   [&](int64_t begin, int64_t end, int) {
                     visit_elements(X, [&](const auto* data) {
                       for (int64_t i = begin; i < end; ++i) {
                         const uint32_t number = scratch_rows_.data()[i];
                         const LinearLeaf& leaf = leaves[number];
                         raw_prediction[i] +=
                             leaf.terms.empty()
                                 ? values[number]
                                 : linear_value(leaf.constant, leaf.terms, data + i * X.row_stride,
                                                X.column_stride, values[number]);
                       }
                     });
                   });
}

}  // namespace qgbdt
