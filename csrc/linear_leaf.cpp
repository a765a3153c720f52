#include "linear_leaf.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace qgbdt {
namespace {

// What is left of a column's square once the columns before it have explained what they can: a
// smaller share is rounding noise, and the column is left out.
constexpr double kLeastPivot = 1e-8;

// A feature about its mean, in units of its range: so neither offsets nor units cost digits.
struct Column {
  int32_t feature;
  double mean, range;
};

struct NormalEquations {
  size_t n;
  std::vector<double> left;  // [n][n], of which the lower triangle is used
  std::vector<double> right;

  explicit NormalEquations(size_t size) : n(size), left(n * n), right(n) {}
  double& at(size_t i, size_t j) { return left[i * n + j]; }

  // By L D L^T, in place. What is left out gets 0.
  std::vector<double> solve() {
    std::vector<double> d(n), x(n);
    for (size_t j = 0; j < n; ++j) {
      double pivot = at(j, j);
      for (size_t k = 0; k < j; ++k) {
        double sum = at(j, k);
        for (size_t i = 0; i < k; ++i) sum -= at(j, i) * d[i] * at(k, i);
        at(j, k) = d[k] > 0 ? sum / d[k] : 0;
        pivot -= at(j, k) * d[k] * at(j, k);
      }
      d[j] = pivot > kLeastPivot * at(j, j) ? pivot : 0;
    }
    for (size_t j = 0; j < n; ++j)
      for (size_t k = 0; k < j; ++k) right[j] -= at(j, k) * right[k];
    for (size_t j = n; j-- > 0;) {
      if (d[j] == 0) continue;
      x[j] = right[j] / d[j];
      for (size_t i = j + 1; i < n; ++i) x[j] -= at(i, j) * x[i];
    }
    return x;
  }
};

template <class T>
LinearLeaf fit(const MatrixView& X, const T* data, std::span<const uint32_t> all_rows,
               std::span<const int32_t> features, const float* gradient, const float* hessian,
               const LinearRules& rules) {
  const auto x = [&](uint32_t row, int32_t feature) {
    return double(data[row * X.row_stride + feature * X.column_stride]);
  };
  std::vector<uint32_t> rows;
  for (const uint32_t row : all_rows)
    if (std::all_of(features.begin(), features.end(),
                    [&](int32_t feature) { return std::isfinite(x(row, feature)); }))
      rows.push_back(row);
  if (rows.size() <= features.size()) return {};

  double weight = 0;
  std::vector<double> sum(features.size()), low(features.size(), HUGE_VAL),
      high(features.size(), -HUGE_VAL);
  for (const uint32_t row : rows) {
    const double h = hessian[row];
    weight += h;
    for (size_t j = 0; j < features.size(); ++j) {
      const double value = x(row, features[j]);
      sum[j] += h * value;
      low[j] = std::min(low[j], value);
      high[j] = std::max(high[j], value);
    }
  }
  std::vector<Column> columns;
  for (size_t j = 0; j < features.size(); ++j) {
    const double mean = sum[j] / weight, range = high[j] - low[j];
    if (range > 0 && std::isfinite(range) && std::isfinite(mean))
      columns.push_back({features[j], mean, range});
  }
  if (columns.empty()) return {};

  NormalEquations equations(columns.size() + 1);
  std::vector<double> z(equations.n, 1.0);  // the first is of the constant
  for (const uint32_t row : rows) {
    const double g = gradient[row], h = hessian[row];
    for (size_t j = 0; j < columns.size(); ++j)
      z[j + 1] = (x(row, columns[j].feature) - columns[j].mean) / columns[j].range;
    for (size_t j = 0; j < z.size(); ++j) {
      const double hz = h * z[j];
      double* const line = &equations.at(j, 0);
      for (size_t k = 0; k <= j; ++k) line[k] += hz * z[k];
      equations.right[j] -= g * z[j];
    }
  }
  for (size_t j = 0; j < columns.size(); ++j)
    equations.at(j + 1, j + 1) += rules.linear_lambda / columns[j].range / columns[j].range;

  const std::vector<double> solution = equations.solve();
  LinearLeaf leaf{solution[0]};
  for (size_t j = 0; j < columns.size(); ++j) {
    const double coefficient = solution[j + 1] / columns[j].range;
    if (coefficient == 0) continue;
    leaf.constant -= coefficient * columns[j].mean;
    leaf.terms.push_back({columns[j].feature, coefficient});
  }
  const double most = std::min(rules.max_step, std::numeric_limits<double>::max());
  for (const uint32_t row : rows) {
    const double value = linear_value(leaf.constant, leaf.terms, data + row * X.row_stride,
                                      X.column_stride, HUGE_VAL);
    if (std::abs(value) > most) return {};
  }
  return leaf;
}

}  // namespace

LinearLeaf fit_linear_leaf(const MatrixView& X, std::span<const uint32_t> rows,
                           std::span<const int32_t> features, const float* gradient,
                           const float* hessian, const LinearRules& rules) {
  return visit_elements(
      X, [&](const auto* data) { return fit(X, data, rows, features, gradient, hessian, rules); });
}

std::vector<std::vector<int32_t>> features_of_leaves(const Tree& tree,
                                                     std::span<const int32_t> leaf_nodes) {
  std::vector<int32_t> parent(tree.size(), -1);
  for (size_t i = 0; i < tree.size(); ++i)
    if (tree[i].feature >= 0) parent[tree[i].left] = parent[tree[i].right] = int32_t(i);
  std::vector<std::vector<int32_t>> of_leaves;
  for (const int32_t leaf : leaf_nodes) {
    std::vector<int32_t>& features = of_leaves.emplace_back();
    for (int32_t node = parent[leaf]; node >= 0; node = parent[node])
      if (!tree[node].is_categorical) features.push_back(tree[node].feature);
    std::sort(features.begin(), features.end());
    features.erase(std::unique(features.begin(), features.end()), features.end());
  }
  return of_leaves;
}

}  // namespace qgbdt
