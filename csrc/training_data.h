// What a fit trains on, as its caller holds it, and what a machine's backend needs of it once.
#pragma once

#include <stdint.h>

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "binned_matrix.h"
#include "objective.h"
#include "types.h"

namespace qgbdt {

// Gradients of an objective of the user's, one of the two; or of cox, of all rows.
struct GivenGradients {
  // Of any n rows, called by any thread.
  void (*of_rows)(int64_t n, const double* score, const double* target, double* g,
                  double* h) = nullptr;
  // Of all rows and outputs, weighted.
  std::function<void(std::span<const double> raw_prediction, std::span<float> gradient,
                     std::span<float> hessian)>
      of_all;
};

// Every pointer outlives the fit.
struct TrainingData {
  const BinnedMatrix* bins;
  ObjectiveKind objective;
  ObjectiveArgs args;
  int n_outputs;
  const double* target;              // [n_targets][n_samples]
  const double* weight;              // or null
  const double* raw_prediction;      // to start from, [n_outputs][n_samples], or null
  std::vector<int64_t> query_begin;  // [n_queries + 1] for a ranker, else empty
  std::vector<double> label_gain;
  int truncation_level;
  std::vector<int8_t> signs;  // as TrainParams::monotone_constraints
  FeatureRange searched;      // the features whose histograms this worker gets whole
  GivenGradients given = {};
  std::optional<MatrixView> X = {};  // where leaves are linear

  int32_t sign_of(int32_t feature) const { return signs.empty() ? 0 : signs[feature]; }
  double weight_of(int64_t row) const { return weight ? weight[row] : 1.0; }
  double target_of(int64_t row, int output) const {
    if (is_per_class(objective)) return target[row] == output ? 1.0 : 0.0;
    return target[output * bins->n_samples() + row];
  }
};

// Weighted gradients of rows [begin, end), by of_rows.
void given_row_gradients(const TrainingData& data, int64_t begin, int64_t end,
                         const double* raw_prediction, float* gradient, float* hessian);

struct StartSums {  // fixed point, of the target and the weight
  int64_t weighted_target = 0, weight = 0;
};

double max_weighted_target(const TrainingData& data);
double max_weight(const TrainingData& data);
StartSums start_sums(const TrainingData& data, int output, int target_exponent,
                     int weight_exponent);

// What a ranker looks up.
struct RankingTables {
  int64_t longest_query = 0;
  std::vector<double> discount;         // [longest_query], by rank
  std::vector<double> inverse_max_dcg;  // [n_queries]
};
RankingTables ranking_tables(const TrainingData& data);

}  // namespace qgbdt
