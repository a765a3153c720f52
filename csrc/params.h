// What a fit is told. No defaults here: they live in Python, once.
#pragma once

#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

#include "types.h"

namespace qgbdt {

enum class Rounding { stochastic, nearest };

constexpr int kAutoBits = 0;  // the trainer chooses, tree by tree

// What a model knows of an objective of the user's.
struct CustomObjective {
  std::string name;
  Link link;
  std::string source, parameters;  // a hash; as text
  bool operator==(const CustomObjective&) const = default;
};

// Of trees that are left out while others grow (dropout.h).
struct DropoutParams {
  double drop_rate, skip_drop;
  int64_t max_drop;  // <= 0: no limit
  bool uniform_drop, as_xgboost;
};

// A split that trees begin with, and those of its sides: places among all, or -1. The first is the
// root's.
struct ForcedSplit {
  int32_t feature;
  double threshold;
  int32_t left, right;
};

struct TrainParams {
  ObjectiveKind objective;
  std::optional<CustomObjective> custom;
  int n_outputs;  // raw predictions per row: of classes or targets
  int n_estimators;
  int num_leaves;
  int max_depth;  // <= 0: no limit
  bool by_depth;  // the nodes of a depth are split before deeper ones
  double learning_rate;
  int64_t min_child_samples;
  double min_child_weight;
  double min_split_gain;
  double reg_alpha;
  double reg_lambda;
  double path_smooth;
  int grad_bits;
  Rounding rounding;
  bool renew_leaves;
  uint64_t seed;
  ObjectiveArgs args;
  double subsample;
  int64_t subsample_freq;
  bool goss;  // rows are sampled by gradient, not in bags
  double top_rate, other_rate;
  double colsample_bytree, colsample_bynode;
  bool extra_trees;                          // of each feature a node looks at one cut, drawn
  std::vector<int8_t> monotone_constraints;  // of each feature -1, 0 or 1; or empty
  std::vector<uint8_t> interaction_sets;     // [n_sets][n_features]; empty: all interact
  int most_interacting;                      // features on a path from the root; 0: any number
  int lambdarank_truncation_level;
  std::vector<double> label_gain;
  CategoryParams category;
  std::vector<ForcedSplit> forced_splits;
  std::optional<DropoutParams> dropout;
  bool is_forest;  // trees grow as if each were the first, and are averaged
  bool linear_tree;
  double linear_lambda;  // of the coefficients of linear leaves

  bool changes_trees() const { return dropout || is_forest; }  // of earlier iterations
  bool limits_interactions() const { return !interaction_sets.empty() || most_interacting > 0; }
};

}  // namespace qgbdt
