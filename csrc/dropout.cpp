#include "dropout.h"

#include <algorithm>
#include <numeric>

#include "leaf_rows.h"
#include "support/rng.h"

namespace qgbdt {
namespace {

constexpr uint64_t kDropStream = uint64_t(4) << 32;  // beside those of row_sample.h

double uniform(uint64_t key, int64_t number) {
  return double(row_hash(key, uint64_t(number))) * 0x1p-32;
}

}  // namespace

// The hash of 0 says whether any is dropped, that of i + 1 whether the i-th is.
void Dropout::draw(int64_t iteration) {
  const DropoutParams& p = *params_.dropout;
  dropped_.clear();
  const int64_t n = int64_t(weights_.size());
  const uint64_t key = stream_key(params_.seed, uint64_t(iteration), kDropStream);
  if (n == 0 || uniform(key, 0) < p.skip_drop) return;
  const double mean = std::accumulate(weights_.begin(), weights_.end(), 0.0) / double(n);
  double rate = p.drop_rate;
  if (p.max_drop > 0) rate = std::min(rate, double(p.max_drop) / double(n));
  for (int64_t i = 0; i < n; ++i) {
    if (p.max_drop > 0 && int64_t(dropped_.size()) == p.max_drop) break;
    const double weight = p.uniform_drop ? 1.0 : weights_[i] / mean;
    if (uniform(key, i + 1) < rate * weight) dropped_.push_back(i);
  }
}

double Dropout::drop(const Model& model) {
  draw(model.n_iterations());
  for (int64_t i : dropped_) add_trees(model, first_iteration_ + i, -1.0);
  const double rate = params_.learning_rate, k = double(dropped_.size());
  weights_.push_back(rate / ((params_.dropout->as_xgboost && k > 0 ? rate : 1.0) + k));
  return weights_.back();
}

void Dropout::put_back(Model* model) {
  const double k = double(dropped_.size());
  const double factor = k / (k + (params_.dropout->as_xgboost ? params_.learning_rate : 1.0));
  for (int64_t i : dropped_) {
    weights_[i] *= factor;
    for (int output = 0; output < model->n_outputs; ++output)
      for (Node& node : model->trees[(first_iteration_ + i) * model->n_outputs + output])
        node.value *= factor;
    add_trees(*model, first_iteration_ + i, 1.0);
  }
}

void Dropout::add_trees(const Model& model, int64_t iteration, double sign) {
  for (int output = 0; output < model.n_outputs; ++output) {
    const Tree& tree = model.trees[iteration * model.n_outputs + output];
    const RowRange all{0, uint32_t(backend_.n_samples())};
    const std::vector<RowRange> of_nodes = rows_of_nodes(backend_, bins_, tree, all);
    std::vector<RowRange> leaves;
    std::vector<double> values;
    for (size_t node = 0; node < tree.size(); ++node) {
      if (tree[node].feature >= 0) continue;
      leaves.push_back(of_nodes[node]);
      values.push_back(sign * tree[node].value);
    }
    backend_.set_leaves(leaves, std::vector<RowRange>(leaves.size()));
    backend_.add_leaf_values(output, values);
  }
}

}  // namespace qgbdt
