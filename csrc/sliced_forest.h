// A forest prepared for bit_slices.h: the conditions of all trees, and each tree's selects.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "binning.h"
#include "bit_slices.h"
#include "support/buffer.h"
#include "tree.h"

namespace qgbdt {

class SlicedForest {
 public:
  // Null if a tree has too many leaves or the conditions are too many for an address.
  static std::unique_ptr<const SlicedForest> prepare(const std::vector<Tree>& trees);

  int64_t n_columns() const { return int64_t(columns_.size()); }

  class Scratch {  // of one thread
   public:
    explicit Scratch(const SlicedForest& forest);

   private:
    friend class SlicedForest;
    Buffer<Slice> slices_;
    Buffer<uint8_t> bins_;  // [n_columns][kSliceRows]
  };

  // scores[t % n_outputs][i] += the leaf of row first_row + i in tree t, for t in [begin_tree,
  // end_tree) in this order; scores is [n_outputs][kSliceRows], beyond n_rows it gets anything.
  template <class T>
  void add(const MatrixView& X, const T* data, int64_t first_row, int64_t n_rows,
           int64_t begin_tree, int64_t end_tree, int n_outputs, const PredictKernels& kernels,
           Scratch& scratch, double* scores) const;

 private:
  // Up to kColumnThresholds conditions of a feature; they own the slots from first_slot on.
  struct Column {
    int32_t feature;
    int32_t n_conditions;
    uint32_t first_slot;
    std::vector<CategorySet> sets;  // of a categorical feature
    BinTable<float> floats;
    BinTable<double> doubles;
  };
  static const BinTable<float>& table_of(const Column& column, const float*) {
    return column.floats;
  }
  static const BinTable<double>& table_of(const Column& column, const double*) {
    return column.doubles;
  }
  struct Program {  // of one tree
    int64_t first_select, first_leaf;
    int32_t n_selects;
    uint32_t planes[kIndexPlanes];
  };

  struct Condition {
    int32_t feature;
    bool is_categorical;
    double threshold;        // of a number
    CategorySet categories;  // of a categorical feature
    bool operator==(const Condition&) const = default;
    bool operator<(const Condition& other) const {
      if (feature != other.feature) return feature < other.feature;
      if (threshold != other.threshold) return threshold < other.threshold;
      return std::lexicographical_compare(categories.words, categories.words + 4,
                                          other.categories.words, other.categories.words + 4);
    }
  };
  static Condition condition_of(const Tree& tree, const Node& split);

  static std::vector<Condition> conditions_of(const std::vector<Tree>& trees);
  SlicedForest(const std::vector<Tree>& trees, const std::vector<Condition>& conditions);
  void add_columns(const std::vector<Condition>& conditions);
  void add_program(const Tree& tree, const std::vector<Condition>& conditions);
  bool is_result(uint32_t slot) const { return first_result_ <= slot && slot < left_side_; }

  uint32_t first_result_;  // slot
  uint32_t left_side_;     // the power of two between the slots of the two sides
  uint32_t n_results_ = 0;
  std::vector<Column> columns_;
  std::vector<Program> programs_;
  std::vector<Select> selects_;
  std::vector<uint16_t> results_;
  std::vector<double> leaf_values_;
};

}  // namespace qgbdt
