#include "sliced_forest.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace qgbdt {
namespace {

constexpr uint32_t kZeros = 0, kOnes = 1, kFirstCondition = 2;  // slots
constexpr uint32_t kMaxSlots = 1u << (kAddressBits - 1 - std::countr_zero(kStepsPerSlot));

struct Condition {
  int32_t feature;
  double threshold;
  auto operator<=>(const Condition&) const = default;
};

std::vector<Condition> conditions_of(const std::vector<Tree>& trees) {
  std::vector<Condition> conditions;
  for (const Tree& tree : trees)
    for (const Node& node : tree)
      if (node.feature >= 0) conditions.push_back({node.feature, node.threshold});
  std::sort(conditions.begin(), conditions.end(),
            [](const Condition& a, const Condition& b) { return a < b; });
  conditions.erase(std::unique(conditions.begin(), conditions.end()), conditions.end());
  return conditions;
}

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

std::unique_ptr<const SlicedForest> SlicedForest::prepare(const std::vector<Tree>& trees) {
  size_t most_nodes = 1;
  for (const Tree& tree : trees) most_nodes = std::max(most_nodes, tree.size());
  if (most_nodes > 2 * kMaxSlicedLeaves - 1) return nullptr;
  const std::vector<Condition> conditions = conditions_of(trees);
  // a split takes at most one select for each digit
  if (conditions.size() + kMaxSlicedLeaves * kIndexPlanes + kFirstCondition > kMaxSlots)
    return nullptr;

  auto forest = std::make_unique<SlicedForest>();
  for (size_t i = 0; i < conditions.size();) {
    std::vector<double> thresholds;
    const size_t first = i;
    for (; i < conditions.size() && conditions[i].feature == conditions[first].feature &&
           thresholds.size() < size_t(kColumnThresholds);
         ++i)
      thresholds.push_back(conditions[i].threshold);
    forest->columns_.push_back({conditions[first].feature, int32_t(thresholds.size()),
                                kFirstCondition + uint32_t(first), bin_table<float>(thresholds),
                                bin_table<double>(thresholds)});
  }
  forest->first_result_ = kFirstCondition + uint32_t(conditions.size());

  uint32_t most_results = 0;
  const auto slot_of = [&](const Node& node) {
    const auto found = std::lower_bound(conditions.begin(), conditions.end(),
                                        Condition{node.feature, node.threshold},
                                        [](const Condition& a, const Condition& b) { return a < b; });
    return kFirstCondition + uint32_t(found - conditions.begin());
  };
  forest->left_side_ = std::bit_ceil(forest->first_result_ + kMaxSlicedLeaves * kIndexPlanes);
  std::vector<std::array<uint32_t, kIndexPlanes>> planes;  // slots, by node
  for (const Tree& tree : trees) {
    const std::vector<int32_t> first_leaf = first_leaves(tree);
    Program program{int64_t(forest->selects_.size()), int64_t(forest->leaf_values_.size()), 0, {}};
    planes.resize(tree.size());
    std::vector<uint16_t> free_results;
    uint32_t n_results = 0;
    forest->leaf_values_.resize(forest->leaf_values_.size() + (tree.size() + 1) / 2);
    for (size_t i = tree.size(); i-- > 0;) {
      const Node& node = tree[i];
      if (node.feature < 0) {
        forest->leaf_values_[program.first_leaf + first_leaf[i]] = node.value;
        for (int p = 0; p < kIndexPlanes; ++p)
          planes[i][p] = first_leaf[i] >> p & 1 ? kOnes : kZeros;
        continue;
      }
      const uint32_t condition =
          slot_of(node) + (node.missing_left ? forest->left_side_ : 0);
      for (int p = 0; p < kIndexPlanes; ++p) {
        const uint32_t left = planes[node.left][p], right = planes[node.right][p];
        if (left == right) {
          planes[i][p] = left;
        } else if (left == kZeros && right == kOnes) {
          planes[i][p] = condition;
        } else {
          for (const uint32_t slot : {left, right})
            if (slot >= forest->first_result_ && slot < forest->left_side_)
              free_results.push_back(uint16_t(slot - forest->first_result_));
          if (free_results.empty()) free_results.push_back(uint16_t(n_results++));
          forest->results_.push_back(free_results.back());
          planes[i][p] = forest->first_result_ + free_results.back();
          free_results.pop_back();
          ++program.n_selects;
          forest->selects_.push_back(Select(condition) * kStepsPerSlot |
                                     Select(left) * kStepsPerSlot << kAddressBits |
                                     Select(right) * kStepsPerSlot << 2 * kAddressBits);
        }
      }
    }
    for (int p = 0; p < kIndexPlanes; ++p) program.planes[p] = planes[0][p] * kStepsPerSlot;
    most_results = std::max(most_results, n_results);
    forest->programs_.push_back(program);
  }
  forest->n_slots_ = forest->first_result_ + most_results;
  return forest;
}

SlicedForest::Scratch::Scratch(const SlicedForest& forest)
    : slices_(int64_t(forest.left_side_) + forest.n_slots_),
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
                       const PredictKernels& kernels, Scratch& scratch,
                       double* scores) const {
  bool any_missing = false;
  for (int64_t c = 0; c < n_columns(); ++c) {
    const T* x = data + first_row * X.row_stride + columns_[c].feature * X.column_stride;
    any_missing |=
        kernel_for(kernels.binning, data)(table_of(columns_[c], data), x, X.row_stride, n_rows,
                                  kMissingBin, scratch.bins_.data() + c * kSliceRows);
  }
  Slice* slices = scratch.slices_.data();
  for (int64_t c = 0; c < n_columns(); ++c) {
    Slice* right = slices + columns_[c].first_slot;
    kernels.slice_bins(scratch.bins_.data() + c * kSliceRows, columns_[c].n_thresholds, right,
                       any_missing ? right + left_side_ : nullptr);
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
                                int, const PredictKernels&, Scratch&,
                                double*) const;
template void SlicedForest::add(const MatrixView&, const double*, int64_t, int64_t, int64_t,
                                int64_t, int, const PredictKernels&, Scratch&,
                                double*) const;

}  // namespace qgbdt
