#include "sliced_forest.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

namespace qgbdt {
namespace {

constexpr uint32_t kZeros = 0, kOnes = 1, kFirstCondition = 2;  // slots
constexpr uint32_t kMaxNodes = 2 * kMaxSlicedLeaves - 1;
constexpr uint32_t kMaxResults = kMaxSlicedLeaves * kIndexPlanes;  // a split has at most 8 selects
constexpr uint32_t kMaxSlots = 1u << (kAddressBits - 1 - std::countr_zero(kStepsPerSlot));

// The number of the leaf furthest left below each node, the leaves being numbered left to right.
std::vector<int32_t> first_leaves(const Tree& tree) {
  std::vector<int32_t> n_leaves(tree.size(), 1), first(tree.size(), 0);
  for (size_t i = tree.size(); i-- > 0;)
    if (tree[i].feature >= 0) n_leaves[i] = n_leaves[tree[i].left] + n_leaves[tree[i].right];
  for (size_t i = 0; i < tree.size(); ++i) {
    if (tree[i].feature < 0) continue;
    first[tree[i].left] = first[i];
    first[tree[i].right] = first[i] + n_leaves[tree[i].left];
  }
  return first;
}

}  // namespace

SlicedForest::Condition SlicedForest::condition_of(const Tree& tree, const Node& split) {
  if (split.is_categorical) return {split.feature, true, 0, tree.categories(split)};
  return {split.feature, false, split.threshold, {}};
}

std::vector<SlicedForest::Condition> SlicedForest::conditions_of(const std::vector<Tree>& trees) {
  std::vector<Condition> conditions;
  for (const Tree& tree : trees)
    for (const Node& node : tree)
      if (node.feature >= 0) conditions.push_back(condition_of(tree, node));
  std::sort(conditions.begin(), conditions.end());
  conditions.erase(std::unique(conditions.begin(), conditions.end()), conditions.end());
  return conditions;
}

std::unique_ptr<const SlicedForest> SlicedForest::prepare(const std::vector<Tree>& trees) {
  for (const Tree& tree : trees)
    if (tree.size() > kMaxNodes) return nullptr;
  const std::vector<Condition> conditions = conditions_of(trees);
  if (kFirstCondition + conditions.size() + kMaxResults > kMaxSlots) return nullptr;
  return std::unique_ptr<const SlicedForest>(new SlicedForest(trees, conditions));
}

SlicedForest::SlicedForest(const std::vector<Tree>& trees, const std::vector<Condition>& conditions)
    : first_result_(kFirstCondition + uint32_t(conditions.size())),
      left_side_(std::bit_ceil(first_result_ + kMaxResults)) {
  add_columns(conditions);
  for (const Tree& tree : trees) add_program(tree, conditions);
}

void SlicedForest::add_columns(const std::vector<Condition>& conditions) {
  for (size_t first = 0, i = 0; i < conditions.size(); first = i) {
    std::vector<double> thresholds;
    std::vector<CategorySet> sets;
    for (; i < conditions.size() && conditions[i].feature == conditions[first].feature &&
           i - first < kColumnThresholds;
         ++i) {
      if (conditions[i].is_categorical) sets.push_back(conditions[i].categories);
      else thresholds.push_back(conditions[i].threshold);
    }
    if (!sets.empty()) thresholds = code_thresholds(kColumnThresholds + 1);
    columns_.push_back({conditions[first].feature, int32_t(i - first),
                        kFirstCondition + uint32_t(first), std::move(sets),
                        bin_table<float>(thresholds), bin_table<double>(thresholds)});
  }
}

void SlicedForest::add_program(const Tree& tree, const std::vector<Condition>& conditions) {
  const std::vector<int32_t> first_leaf = first_leaves(tree);
  Program program{int64_t(selects_.size()), int64_t(leaf_values_.size()), 0, {}};
  leaf_values_.resize(leaf_values_.size() + (tree.size() + 1) / 2);
  std::vector<std::array<uint32_t, kIndexPlanes>> planes(tree.size());  // slots
  std::vector<uint16_t> free_results;
  uint32_t n_results = 0;

  const auto select = [&](uint32_t condition, uint32_t left, uint32_t right) {
    for (const uint32_t slot : {left, right})
      if (is_result(slot)) free_results.push_back(uint16_t(slot - first_result_));
    if (free_results.empty()) free_results.push_back(uint16_t(n_results++));
    const uint16_t result = free_results.back();
    free_results.pop_back();
    selects_.push_back(Select(condition) * kStepsPerSlot |
                       Select(left) * kStepsPerSlot << kAddressBits |
                       Select(right) * kStepsPerSlot << 2 * kAddressBits);
    results_.push_back(result);
    return first_result_ + result;
  };

  for (size_t i = tree.size(); i-- > 0;) {  // children come after their parent
    const Node& node = tree[i];
    if (node.feature < 0) {
      leaf_values_[program.first_leaf + first_leaf[i]] = node.value;
      for (int p = 0; p < kIndexPlanes; ++p) planes[i][p] = first_leaf[i] >> p & 1 ? kOnes : kZeros;
      continue;
    }
    const auto found =
        std::lower_bound(conditions.begin(), conditions.end(), condition_of(tree, node));
    const uint32_t condition = kFirstCondition + uint32_t(found - conditions.begin()) +
                               (node.missing_left ? left_side_ : 0);
    for (int p = 0; p < kIndexPlanes; ++p) {
      const uint32_t left = planes[node.left][p], right = planes[node.right][p];
      if (left == right) planes[i][p] = left;
      else if (left == kZeros && right == kOnes) planes[i][p] = condition;
      else planes[i][p] = select(condition, left, right);
    }
  }
  for (int p = 0; p < kIndexPlanes; ++p) program.planes[p] = planes[0][p] * kStepsPerSlot;
  program.n_selects = int32_t(int64_t(selects_.size()) - program.first_select);
  n_results_ = std::max(n_results_, n_results);
  programs_.push_back(program);
}

SlicedForest::Scratch::Scratch(const SlicedForest& forest)
    : slices_(int64_t(forest.left_side_) + forest.first_result_ + forest.n_results_),
      bins_(forest.n_columns() * kSliceRows) {
  for (const uint32_t side : {0u, forest.left_side_}) {
    std::memset(&slices_.data()[side + kZeros], 0, sizeof(Slice));
    std::memset(&slices_.data()[side + kOnes], 0xff, sizeof(Slice));
  }
  std::memset(bins_.data(), 0, bins_.size());
}

template <class T>
void SlicedForest::add(const MatrixView& X, const T* data, int64_t first_row, int64_t n_rows,
                       int64_t begin_tree, int64_t end_tree, int n_outputs,
                       const PredictKernels& kernels, Scratch& scratch, double* scores) const {
  const BinColumn<T> bin_column = kernel_for(kernels.binning, data);
  bool any_missing = false;
  for (int64_t c = 0; c < n_columns(); ++c) {
    const T* x = data + first_row * X.row_stride + columns_[c].feature * X.column_stride;
    T copy[kSliceRows];
    if (X.row_stride != 1) {
      for (int64_t row = 0; row < n_rows; ++row) copy[row] = x[row * X.row_stride];
      x = copy;
    }
    any_missing |= bin_column(table_of(columns_[c], data), x, n_rows, kMissingBin,
                              scratch.bins_.data() + c * kSliceRows);
  }
  Slice* slices = scratch.slices_.data();
  for (int64_t c = 0; c < n_columns(); ++c) {
    Slice* right = slices + columns_[c].first_slot;
    Slice* left = any_missing ? right + left_side_ : nullptr;
    const uint8_t* bins = scratch.bins_.data() + c * kSliceRows;
    const std::vector<CategorySet>& sets = columns_[c].sets;
    if (sets.empty()) kernels.slice_bins(bins, columns_[c].n_conditions, right, left);
    else kernels.slice_sets(bins, sets.data(), columns_[c].n_conditions, right, left);
  }
  // Without missing values both sides' slots are those of the right side.
  const uint32_t address_mask = (any_missing ? 2 * left_side_ : left_side_) * kStepsPerSlot - 1;
  for (int64_t t = begin_tree; t < end_tree; ++t) {
    const Program& program = programs_[t];
    SlicedTree tree{selects_.data() + program.first_select,
                    results_.data() + program.first_select,
                    program.n_selects,
                    first_result_,
                    {},
                    leaf_values_.data() + program.first_leaf};
    std::copy(program.planes, program.planes + kIndexPlanes, tree.planes);
    kernels.add_tree(tree, slices, address_mask, scores + t % n_outputs * kSliceRows);
  }
}

template void SlicedForest::add(const MatrixView&, const float*, int64_t, int64_t, int64_t, int64_t,
                                int, const PredictKernels&, Scratch&, double*) const;
template void SlicedForest::add(const MatrixView&, const double*, int64_t, int64_t, int64_t,
                                int64_t, int, const PredictKernels&, Scratch&, double*) const;

}  // namespace qgbdt
