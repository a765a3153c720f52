// Predictions of a model for raw data.
#pragma once

#include <stdint.h>

#include <memory>
#include <mutex>

#include "backend.h"
#include "binning.h"
#include "objective.h"
#include "sliced_forest.h"
#include "tree.h"
#include "walked_forest.h"

namespace qgbdt {

constexpr int64_t kTreesPerThread = 1 << 15;  // rows x trees that outweigh waking a thread

// A model with the forms of its trees that prediction reads. Each is made when it is first needed,
// and kept; any number of threads may predict at once.
class Predictor {
 public:
  explicit Predictor(Model model);
  const Model& model() const { return model_; }
  bool is_linear() const { return is_linear_; }  // some leaves

  // As many of n_threads as predicting this many rows can feed.
  int useful_threads(int64_t n_samples, int64_t n_iterations, int n_threads) const {
    return threads_for(n_samples * n_iterations * model_.n_outputs, kTreesPerThread, n_threads);
  }

  // out: [n_samples][n_outputs], row-major. Sums the trees of iterations [begin, end) in order onto
  // the base scores, to which init_score [n_samples][n_outputs] is added; unless `raw`, maps
  // through the objective's link. Walked or sliced, a row gets the same bits.
  void predict(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration, bool raw,
               const PredictKernels& kernels, Team& team, double* out,
               const double* init_score = nullptr) const;
  void predict(const SparseView& X, int64_t begin_iteration, int64_t end_iteration, bool raw,
               const PredictKernels& kernels, Team& team, double* out,
               const double* init_score = nullptr) const;

  // The same of an X whose data is the device's: walked there.
  void predict(Device& device, const MatrixView& X, int64_t begin_iteration, int64_t end_iteration,
               bool raw, Team& team, double* out, const double* init_score = nullptr) const;

  // out: [n_samples][trees of iterations [begin, end)]. The leaves of a tree are numbered from 0 in
  // the order of its nodes.
  void leaf_numbers(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration, Team& team,
                    int32_t* out) const;

  // Likewise what the leaves add.
  void leaf_values(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration, Team& team,
                   double* out) const;

 private:
  // Of rows [begin, end) of out: what the trees are added to, and what becomes of their sums.
  void set_start(int64_t begin, int64_t end, const double* init_score, double* out) const;
  void link(int64_t begin, int64_t end, bool raw, double* out) const;

  template <class Visit>
  void visit_leaves(const MatrixView& X, int64_t begin_iteration, int64_t end_iteration, Team& team,
                    const Visit& visit) const;

  const WalkedForest& walked() const;
  const SlicedForest* sliced_if_it_pays(int64_t n_rows, int64_t n_trees) const;

  const Model model_;
  const Link link_;
  const bool is_linear_;
  mutable std::once_flag walked_once_, sliced_once_;
  mutable std::unique_ptr<const WalkedForest> walked_;
  mutable std::unique_ptr<const SlicedForest> sliced_;
};

}  // namespace qgbdt
