// A finished tree and the finished model.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "bin_order.h"
#include "objective.h"
#include "params.h"
#include "types.h"

namespace qgbdt {

inline bool contains(const CategorySet& set, double code) {  // which may be anything
  return code >= 0 && code < kBinPlaces && set.contains(int32_t(code));
}

struct LinearTerm {
  int32_t feature;
  double coefficient;
  bool operator==(const LinearTerm&) const = default;
};

// What a leaf may have beside its value; without terms it has that value only.
struct LinearLeaf {
  double constant = 0;
  std::vector<LinearTerm> terms = {};  // features ascend
};

// What a leaf gives a row: constant + sum of coefficient x, added in this order; where that is not
// finite, as with missing values, the leaf's own value.
template <class T>
double linear_value(double constant, std::span<const LinearTerm> terms, const T* row,
                    int64_t column_stride, double value) {
  for (const LinearTerm& term : terms)
    constant += term.coefficient * double(row[term.feature * column_stride]);
  return std::isfinite(constant) ? constant : value;
}

// Those of some nodes, added one after the other.
struct LinearLeaves {
  std::vector<double> constants;  // of each node
  std::vector<size_t> ends;       // of each node's terms, which begin where those before it end
  std::vector<LinearTerm> terms;

  bool empty() const { return terms.empty(); }
  void add(double constant, std::span<const LinearTerm> more) {
    constants.push_back(constant);
    terms.insert(terms.end(), more.begin(), more.end());
    ends.push_back(terms.size());
  }
  void add(const LinearLeaves& from, size_t node) {
    add(from.constants[node], from.terms_of(node));
  }
  std::span<const LinearTerm> terms_of(size_t node) const {
    const size_t begin = node == 0 ? 0 : ends[node - 1];
    return {terms.data() + begin, ends[node] - begin};
  }

  // See linear_value.
  template <class T>
  double value(size_t node, const T* row, int64_t column_stride, double value) const {
    const std::span<const LinearTerm> own = terms_of(node);
    return own.empty() ? value : linear_value(constants[node], own, row, column_stride, value);
  }
};

// Node 0 is the root; children come after their parent.
struct Tree : std::vector<Node> {
  std::vector<CategorySet> category_sets;  // of the codes that go left, in the order of the nodes
  LinearLeaves linear;                     // of all nodes; or empty: all leaves are constant

  const CategorySet& categories(const Node& split) const {
    return category_sets[size_t(split.threshold)];
  }

  bool goes_left(const Node& split, double x) const {
    if (x != x) return split.missing_left;
    if (!split.is_categorical) return x <= split.threshold;
    return contains(categories(split), x);
  }
};

// The values of a categorical feature, ascending: a value's code is its place. A numerical feature
// has none.
using Categories = std::variant<std::monostate, std::vector<double>, std::vector<std::string>>;
inline bool is_categorical(const Categories& values) { return values.index() > 0; }
inline int32_t n_categories(const Categories& values) {
  return std::visit(
      []<class Values>(const Values& some) {
        if constexpr (std::is_same_v<Values, std::monostate>) return int32_t(0);
        else return int32_t(some.size());
      },
      values);
}

inline Link link_of(ObjectiveKind objective, const std::optional<CustomObjective>& custom) {
  if (custom) return custom->link;
  return visit_objective(objective, [](auto o) { return decltype(o)::kLink; });
}

struct Model {
  ObjectiveKind objective;
  int32_t n_outputs;
  std::vector<std::string> feature_names;
  std::vector<double> base_score;           // per output, in link space
  std::vector<Tree> trees;                  // tree i belongs to output i % n_outputs
  std::vector<Categories> categories = {};  // per feature, or empty: all are numerical
  bool refuses_unseen = false;              // categories that training has not seen
  std::optional<CustomObjective> custom = {};
  bool zero_is_missing = false;  // of numerical features

  Link link() const { return link_of(objective, custom); }
  int32_t n_features() const { return int32_t(feature_names.size()); }
  bool is_categorical(int32_t feature) const {
    return !categories.empty() && qgbdt::is_categorical(categories[feature]);
  }
  bool has_categories() const {
    return std::any_of(categories.begin(), categories.end(), qgbdt::is_categorical);
  }
  bool has_linear_leaves() const {
    return std::any_of(trees.begin(), trees.end(), [](const Tree& t) { return !t.linear.empty(); });
  }
  int64_t n_iterations() const { return int64_t(trees.size()) / n_outputs; }

  // Whether trees of one mean the same in the other.
  bool is_alike(const Model& other) const {
    return objective == other.objective && custom == other.custom && n_outputs == other.n_outputs &&
           feature_names == other.feature_names && categories == other.categories &&
           refuses_unseen == other.refuses_unseen && zero_is_missing == other.zero_is_missing;
  }

  Model iterations(int64_t begin, int64_t end) const {
    return {objective,
            n_outputs,
            feature_names,
            base_score,
            {trees.begin() + begin * n_outputs, trees.begin() + end * n_outputs},
            categories,
            refuses_unseen,
            custom,
            zero_is_missing};
  }
};

}  // namespace qgbdt
