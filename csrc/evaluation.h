// Metrics of rows apart from those of training, while it runs. Their raw predictions are kept, and
// each iteration adds the leaves of its trees.
//
// Every sum is of integers, or of reals in fixed point, or runs in an order of its own, so a metric
// does not depend on how rows are spread over threads and workers.
#pragma once

#include <stdint.h>

#include <span>
#include <variant>
#include <vector>

#include "binning.h"
#include "comm.h"
#include "metric.h"
#include "support/parallel.h"
#include "tree.h"

namespace qgbdt {

enum class Problem { regression, aft, cox, binary, multiclass, ranking };

// Rows that are scored: of each n_outputs scores of one target, `stride` after those of the last.
struct ScoredRows {
  const double *raw, *predicted, *target;
  int n_outputs, stride;
};

// One of four kinds: whoever counts (rows, queries, groups of equal scores, all rows in the order
// of their times) has a function.
struct Metric {
  const char* name;
  Problem problem;
  bool higher_is_better, needs_constant = false;
  void (*row_losses)(const ScoredRows&, const ObjectiveArgs&, int64_t n, double* out) = nullptr;
  double (*of_mean)(double mean, double of_constant) = nullptr;
  double (*of_query)(const RankedQuery&, int64_t k) = nullptr;
  double (*area)(ClassWeights group, ClassWeights before) = nullptr;
  double (*of_area)(double sum, ClassWeights total) = nullptr;
  double (*of_times)(std::span<const TimedRow>) = nullptr;
};

std::span<const Metric> all_metrics();

// A loss of the user's, compiled: of n rows with one output.
using RowLoss = void (*)(int64_t n, const double* predicted, const double* target, double* out);

struct ChosenMetric {
  const Metric* metric;
  int64_t at;              // the k of a query's metric
  RowLoss loss = nullptr;  // of the user's
};

// The mean of a loss of the user's over rows.
ChosenMetric mean_of(RowLoss loss);

// This worker's rows of a set.
struct EvaluationData {
  std::variant<MatrixView, SparseView> X;
  const double* target;                // [n_targets][n_samples]
  const double* weight;                // null: all 1
  std::vector<int64_t> query_begin;    // of ranking: n_queries + 1 row numbers
  double* raw_prediction;              // where they are kept, [n_samples][n_outputs]
  const double* init_score = nullptr;  // what is added to the base scores, likewise, or null

  int64_t n_samples() const {
    return std::visit([](const auto& view) { return view.n_samples; }, X);
  }
};

class Evaluation {
 public:
  Evaluation(std::vector<EvaluationData> data, std::vector<ChosenMetric> metrics, Link link,
             const ObjectiveArgs& args, int n_outputs, int n_targets,
             std::vector<double> label_gain, Comm& comm, Team& team);

  // Brings the raw predictions from where they are to the first n_iterations of the model.
  void score(const Model& model, int64_t n_iterations);

  // Forgets all raw predictions, since trees have changed.
  void forget() { n_scored_ = -1; }

  // [set][metric], of the raw predictions.
  std::vector<double> values();

 private:
  struct Set {
    EvaluationData data;
    std::vector<double> query_weight;    // of ranking: the mean of the rows'
    std::vector<double> ideal;           // of ranking: each query's labels, the largest first
    std::vector<int64_t> signed_weight;  // all workers' rows, in fixed point; negatives below 0
    std::vector<TimedRow> timed;         // all workers' rows, without scores
    int64_t n_of_all;                    // rows, or queries of ranking: whatever is weighed
    double sum_weight;
    double of_constant;  // the mean squared error of the best constant

    bool is_ranking() const { return !data.query_begin.empty(); }
    int64_t size() const { return is_ranking() ? int64_t(query_weight.size()) : data.n_samples(); }
    double weight(int64_t i) const {
      if (is_ranking()) return query_weight[i];
      return data.weight ? data.weight[i] : 1.0;
    }
  };
  using Column = std::vector<double>;  // a weighted value of each row or query

  void add_trees(const std::vector<Tree>& trees, const MatrixView& X, double* scores);
  void prepare_queries(Set& set) const;
  bool any_metric(bool (*holds)(const Metric&)) const;
  void prepare_weights();
  void prepare_constants();
  void prepare_order(Set& set);
  void prepare_times(Set& set);
  template <class Value>
  std::vector<double> means_of_all(const Value& value);
  std::vector<double> sums_of_all(const std::vector<Column>& columns);
  void weigh_rows(const Set& set, std::span<Column> columns);
  void weigh_queries(const Set& set, std::span<Column> columns);
  std::vector<double> scores_of_all(const Set& set);
  void find_order_metrics(const Set& set, std::span<double> values);
  void find_time_metrics(const Set& set, std::span<double> values);

  const std::vector<ChosenMetric> metrics_;
  const Link link_;
  const ObjectiveArgs args_;
  const int n_outputs_, n_targets_;
  const std::vector<double> label_gain_;
  Comm& comm_;
  Team& team_;
  std::vector<Set> sets_;
  int64_t n_scored_ = -1;  // iterations; -1: not even the base scores
};

}  // namespace qgbdt
