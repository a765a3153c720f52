// A finished tree and the finished model.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "objective.h"
#include "params.h"
#include "types.h"

namespace qgbdt {

using Tree = std::vector<Node>;  // node 0 is the root; children come after their parent

inline Link link_of(ObjectiveKind objective, const std::optional<CustomObjective>& custom) {
  if (custom) return custom->link;
  return visit_objective(objective, [](auto o) { return decltype(o)::kLink; });
}

struct Model {
  ObjectiveKind objective;
  int32_t n_outputs;
  std::vector<std::string> feature_names;
  std::vector<double> base_score;  // per output, in link space
  std::vector<Tree> trees;         // tree i belongs to output i % n_outputs
  std::optional<CustomObjective> custom = {};

  Link link() const { return link_of(objective, custom); }
  int32_t n_features() const { return int32_t(feature_names.size()); }
  int64_t n_iterations() const { return int64_t(trees.size()) / n_outputs; }

  // Whether trees of one mean the same in the other.
  bool is_alike(const Model& other) const {
    return objective == other.objective && custom == other.custom && n_outputs == other.n_outputs &&
           feature_names == other.feature_names;
  }

  Model iterations(int64_t begin, int64_t end) const {
    return {objective,
            n_outputs,
            feature_names,
            base_score,
            {trees.begin() + begin * n_outputs, trees.begin() + end * n_outputs},
            custom};
  }
};

}  // namespace qgbdt
