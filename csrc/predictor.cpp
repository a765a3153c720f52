#include "predictor.h"

#include <algorithm>
#include <utility>

#include "dense_blocks.h"

namespace qgbdt {
namespace {

constexpr int64_t kWalkBlock = 64;      // rows that stay in cache while every tree passes over them
constexpr int64_t kMinSlicedRows = 12;  // a block costs the same whether it is full or not
constexpr int64_t kColumnsPerTree = 4;  // values to bin that cost as much as walking a tree

}  // namespace

Predictor::Predictor(Model model)
    : model_(std::move(model)), link_(model_.link()), is_linear_(model_.has_linear_leaves()) {}

const WalkedForest& Predictor::walked() const {
  std::call_once(walked_once_,
                 [&] { walked_ = std::make_unique<const WalkedForest>(model_.trees); });
  return *walked_;
}

const SlicedForest* Predictor::sliced_if_it_pays(int64_t n_rows, int64_t n_trees) const {
  if (n_rows < kMinSlicedRows || is_linear_) return nullptr;
  std::call_once(sliced_once_, [&] { sliced_ = SlicedForest::prepare(model_.trees); });
  const bool pays = sliced_ && sliced_->n_columns() <= kColumnsPerTree * n_trees;
  return pays ? sliced_.get() : nullptr;
}

void Predictor::set_start(int64_t begin, int64_t end, const double* init_score, double* out) const {
  const int K = model_.n_outputs;
  for (int64_t i = begin; i < end; ++i)
    for (int k = 0; k < K; ++k) {
      const double base = model_.base_score[k];
      out[i * K + k] = init_score ? init_score[i * K + k] + base : base;
    }
}

void Predictor::link(int64_t begin, int64_t end, bool raw, double* out) const {
  const int K = model_.n_outputs;
  if (!raw)
    for (int64_t i = begin; i < end; ++i) apply_link(link_, out + i * K, K);
}

void Predictor::predict(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration,
                        bool raw, const PredictKernels& kernels, Team& team, double* out,
                        const double* init_score) const {
  const int K = model_.n_outputs;
  const int64_t begin_tree = begin_iteration * K, end_tree = end_iteration * K;
  const int64_t n_trees = end_tree - begin_tree;
  const int threads =
      useful_threads(X.n_samples, end_iteration - begin_iteration, team.n_threads());
  const auto walk = [&](int64_t begin, int64_t end, int) {
    set_start(begin, end, init_score, out);
    visit_elements(X, [&](const auto* data) {
      walked().add(X, data, begin, end - begin, begin_tree, end_tree, K, out + begin * K);
    });
    link(begin, end, raw, out);
  };

  const SlicedForest* sliced = sliced_if_it_pays(X.n_samples, n_trees);
  if (!sliced) return team.run_blocks(threads, X.n_samples, kWalkBlock, walk);

  struct Workplace {
    SlicedForest::Scratch scratch;
    std::vector<double> scores;  // [n_outputs][kSliceRows]
  };
  std::vector<std::unique_ptr<Workplace>> workplaces(threads);
  team.run_blocks(threads, X.n_samples, kSliceRows, [&](int64_t begin, int64_t end, int thread) {
    if (end - begin < kMinSlicedRows) return walk(begin, end, thread);
    auto& place = workplaces[thread];
    if (!place)
      place.reset(
          new Workplace{SlicedForest::Scratch(*sliced), std::vector<double>(K * kSliceRows)});
    double* scores = place->scores.data();
    set_start(begin, end, init_score, out);
    for (int k = 0; k < K; ++k)
      for (int64_t i = begin; i < end; ++i) scores[k * kSliceRows + (i - begin)] = out[i * K + k];
    visit_elements(X, [&](const auto* data) {
      sliced->add(X, data, begin, end - begin, begin_tree, end_tree, K, kernels, place->scratch,
                  scores);
    });
    for (int64_t i = begin; i < end; ++i)
      for (int k = 0; k < K; ++k) out[i * K + k] = scores[k * kSliceRows + (i - begin)];
    link(begin, end, raw, out);
  });
}

void Predictor::predict(Device& device, const MatrixView& X, int64_t begin_iteration,
                        int64_t end_iteration, bool raw, Team& team, double* out,
                        const double* init_score) const {
  const int K = model_.n_outputs;
  check(!model_.has_categories(), "categories become codes on the host");
  check(!is_linear_, "linear leaves are for the host");
  check(!model_.zero_is_missing, "zeros become missing on the host");
  set_start(0, X.n_samples, init_score, out);
  device.add_walks(walked(), X, begin_iteration * K, end_iteration * K, K, out);
  team.run_blocks(team.n_threads(), X.n_samples, kSliceRows,
                  [&](int64_t begin, int64_t end, int) { link(begin, end, raw, out); });
}

// visit(tree) gives what is called of each row: with its leaf, and its place in [n_samples][trees].
template <class Visit>
void Predictor::visit_leaves(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration,
                             Team& team, const Visit& visit) const {
  const int64_t begin_tree = begin_iteration * model_.n_outputs;
  const int64_t n_trees = end_iteration * model_.n_outputs - begin_tree;
  const int threads =
      useful_threads(X.n_samples, end_iteration - begin_iteration, team.n_threads());
  team.run(threads, n_trees, [&](int64_t t, int) {
    const Tree& tree = model_.trees[begin_tree + t];
    const auto visit_leaf = visit(tree);
    visit_elements(X, [&](const auto* data) {
      for (int64_t i = 0; i < X.n_samples; ++i) {
        const auto* row = data + i * X.row_stride;
        int32_t at = 0;
        while (tree[at].feature >= 0) {
          const double x = double(row[tree[at].feature * X.column_stride]);
          at = tree.goes_left(tree[at], x) ? tree[at].left : tree[at].right;
        }
        visit_leaf(at, row, i * n_trees + t);
      }
    });
  });
}

void Predictor::leaf_numbers(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration,
                             Team& team, int32_t* out) const {
  visit_leaves(X, begin_iteration, end_iteration, team, [&](const Tree& tree) {
    std::vector<int32_t> numbers;
    int32_t n_leaves = 0;
    for (const Node& node : tree) numbers.push_back(node.feature < 0 ? n_leaves++ : -1);
    return [=](int32_t leaf, const auto*, int64_t place) { out[place] = numbers[leaf]; };
  });
}

void Predictor::leaf_values(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration,
                            Team& team, double* out) const {
  visit_leaves(X, begin_iteration, end_iteration, team, [&](const Tree& tree) {
    return [&tree, out, stride = X.column_stride](int32_t leaf, const auto* row, int64_t place) {
      const double value = tree[leaf].value;
      out[place] = tree.linear.empty() ? value : tree.linear.value(leaf, row, stride, value);
    };
  });
}

void Predictor::predict(const SparseView& X, int64_t begin_iteration, int64_t end_iteration,
                        bool raw, const PredictKernels& kernels, Team& team, double* out,
                        const double* init_score) const {
  Model model = model_.iterations(begin_iteration, end_iteration);
  const std::vector<int32_t> features = features_of(model.trees);
  model.trees = renumbered(std::move(model.trees), features);
  const Predictor of_features(std::move(model));
  for_dense_blocks(X, features, team, [&](int64_t first_row, const MatrixView& block) {
    const int64_t first = first_row * model_.n_outputs;
    of_features.predict(block, 0, end_iteration - begin_iteration, raw, kernels, team, out + first,
                        init_score ? init_score + first : nullptr);
  });
}

}  // namespace qgbdt
