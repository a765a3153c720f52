// Metrics: what a row, a query or a group of equal scores counts, and what is made of the sums.
// Adding one: a struct here, a row in evaluation.cpp's table, a row in tests/reference.py's.
#pragma once

#include <stdint.h>

#include "elementary.h"
#include "objective.h"

namespace qgbdt {

// ---- The mean of a loss over rows: loss(row, args), and value(mean, mean of the best constant).

struct ScoredRow {
  const double* raw;        // [n_outputs]
  const double* predicted;  // through the link
  int n_outputs;
  double target;
};

constexpr double kLeastMean = 1e-10;  // a positive mean that is predicted counts as no less

QGBDT_FN double predicted_mean(const ScoredRow& row) {
  return row.predicted[0] > kLeastMean ? row.predicted[0] : kLeastMean;
}

struct MeanLoss {
  static constexpr bool kHigherIsBetter = false, kNeedsConstant = false;
  static QGBDT_FN double value(double mean, double) { return mean; }
};

struct L2 : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double error = row.predicted[0] - row.target;
    return error * error;
  }
};

struct Rmse : L2 {
  static QGBDT_FN double value(double mean, double) { return __builtin_sqrt(mean); }
};

struct R2 : L2 {
  static constexpr bool kHigherIsBetter = true, kNeedsConstant = true;
  static QGBDT_FN double value(double mean, double of_constant) {
    if (!(of_constant > 0)) return mean == 0 ? 1.0 : 0.0;
    return 1.0 - mean / of_constant;
  }
};

struct L1 : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    return __builtin_fabs(row.predicted[0] - row.target);
  }
};

struct Mape : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    return __builtin_fabs(row.predicted[0] - row.target) / at_least_1(row.target);
  }
};

struct HuberLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs& args) {
    const double d = __builtin_fabs(row.predicted[0] - row.target), alpha = args.alpha;
    return d <= alpha ? 0.5 * d * d : alpha * (d - 0.5 * alpha);
  }
};

struct FairLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs& args) {
    const double c = args.fair_c;
    double x = __builtin_fabs(row.predicted[0] - row.target) / c;
    x = x < 1e300 ? x : 1e300;
    return c * c * (x - log(1.0 + x));
  }
};

struct QuantileLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs& args) {
    const double d = row.target - row.predicted[0];
    return d < 0 ? (args.alpha - 1.0) * d : args.alpha * d;
  }
};

struct CrossEntropyLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double p = clamp_probability(row.predicted[0]), y = row.target;
    return -(y * log(p) + (1.0 - y) * log(1.0 - p));
  }
};

// The negative log-likelihoods, without what depends on the target alone.

struct PoissonLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double mean = predicted_mean(row);
    return mean - row.target * finite_log(mean);
  }
};

struct GammaLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double mean = predicted_mean(row);
    return row.target / mean + finite_log(mean);
  }
};

struct TweedieLoss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs& args) {
    const double a = 1.0 - args.tweedie_variance_power, b = 2.0 - args.tweedie_variance_power;
    const double log_mean = finite_log(predicted_mean(row));
    return exp(b * log_mean) / b - row.target * exp(a * log_mean) / a;
  }
};

// Twice the log-likelihood that a perfect prediction would have more.

struct PoissonDeviance : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double mean = predicted_mean(row);
    return 2.0 * (row.target * finite_log(row.target / mean) - row.target + mean);
  }
};

struct GammaDeviance : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double ratio = row.target / predicted_mean(row);
    return 2.0 * (ratio - finite_log(ratio) - 1.0);
  }
};

struct TweedieDeviance : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs& args) {
    const double a = 1.0 - args.tweedie_variance_power, b = 2.0 - args.tweedie_variance_power;
    const double best = row.target > 0 ? exp(b * finite_log(row.target)) / (a * b) : 0.0;
    return 2.0 * (best + TweedieLoss::loss(row, args));
  }
};

struct AftLoss : MeanLoss {  // XGBoost's, with its bound
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs& args) {
    const double likelihood = Aft::likelihood(row.raw[0], row.target, args);
    return -log(likelihood > 1e-12 ? likelihood : 1e-12);
  }
};

struct BinaryLogloss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double p = clamp_probability(row.predicted[0]);
    return -log(row.target > 0 ? p : 1.0 - p);
  }
};

struct BinaryError : MeanLoss {  // of the class that predict chooses
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    return (row.raw[0] > 0) != (row.target > 0);
  }
};

struct MultiLogloss : MeanLoss {
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    const double p = row.predicted[int64_t(row.target)];
    return -log(p > 1e-15 ? p : 1e-15);
  }
};

struct MultiError : MeanLoss {  // of the class that predict chooses
  static QGBDT_FN double loss(const ScoredRow& row, const ObjectiveArgs&) {
    int best = 0;
    for (int k = 1; k < row.n_outputs; ++k)
      if (row.raw[k] > row.raw[best]) best = k;
    return double(best) != row.target;
  }
};

// ---- The mean over queries of the value of their first k documents.

struct RankedQuery {
  const double* labels;  // in the order of scores, the first ones
  const double* ideal;   // in their own order, the largest first
  const double* gain;    // of each label
  int64_t n_documents, n_relevant;
};

struct Ndcg {
  static QGBDT_FN double dcg(const double* labels, const double* gain, int64_t n) {
    double sum = 0;
    for (int64_t rank = 0; rank < n; ++rank)
      sum += gain[int64_t(labels[rank])] * LambdaRank::discount(rank);
    return sum;
  }
  static QGBDT_FN double value(const RankedQuery& query, int64_t k) {
    const int64_t n = k < query.n_documents ? k : query.n_documents;
    const double best = dcg(query.ideal, query.gain, n);
    return best > 0 ? dcg(query.labels, query.gain, n) / best : 1.0;
  }
};

struct MeanAveragePrecision {  // a document is relevant unless its label is 0
  static QGBDT_FN double value(const RankedQuery& query, int64_t k) {
    const int64_t n = k < query.n_documents ? k : query.n_documents;
    const int64_t most = n < query.n_relevant ? n : query.n_relevant;
    double sum = 0, found = 0;
    for (int64_t rank = 0; rank < n; ++rank) {
      if (!(query.labels[rank] > 0)) continue;
      found = found + 1;
      sum += found / double(rank + 1);
    }
    return most > 0 ? sum / double(most) : 1.0;
  }
};

// ---- Of the order of scores: the sum of area(group, before) over groups of equal scores, the best
// first, and value(sum, total). Weights are integers, in fixed point.

struct ClassWeights {
  int64_t positive = 0, negative = 0;
};

struct Auc {
  static QGBDT_FN double area(ClassWeights group, ClassWeights before) {
    return double(group.negative) * (0.5 * double(group.positive) + double(before.positive));
  }
  static QGBDT_FN double value(double sum, ClassWeights total) {
    return sum / (double(total.positive) * double(total.negative));
  }
};

struct AveragePrecision {
  static QGBDT_FN double area(ClassWeights group, ClassWeights before) {
    if (group.positive == 0) return 0.0;
    const int64_t found = before.positive + group.positive;
    const int64_t seen = found + before.negative + group.negative;
    return double(group.positive) * (double(found) / double(seen));
  }
  static QGBDT_FN double value(double sum, ClassWeights total) {
    return sum / double(total.positive);
  }
};

// ---- Of rows with times, the earliest first. Those of one time are in the order of scores, then
// of weights, so that what is equal in all of these may lie in any order.

struct TimedRow {
  double target, score, weight;
  QGBDT_FN double time() const { return __builtin_fabs(target); }
  QGBDT_FN bool is_event() const { return target > 0; }
};

// The mean over events of -log of Cox's partial likelihood.
struct CoxLoss {
  static QGBDT_FN double value(const TimedRow* rows, int64_t n) {
    double largest = rows[0].score, at_risk = 0, sum = 0, events = 0;
    for (int64_t i = 1; i < n; ++i) largest = rows[i].score > largest ? rows[i].score : largest;
    for (int64_t end = n, begin; end > 0; end = begin) {
      for (begin = end; begin > 0 && rows[begin - 1].time() == rows[end - 1].time();) {
        --begin;
        at_risk += rows[begin].weight * exp(rows[begin].score - largest);
      }
      for (int64_t i = end - 1; i >= begin; --i) {
        if (!rows[i].is_event()) continue;
        sum += rows[i].weight * (finite_log(at_risk) + largest - rows[i].score);
        events += rows[i].weight;
      }
    }
    return sum / events;
  }
};

// Harrell's c: of the pairs of which is known whose event was earlier, the share whose scores say
// so; equal scores count half. Weights are integers, in fixed point.

struct LaterWeights {  // of the rows whose time is later than that of an event, by their scores
  int64_t lower, equal, higher;
};

template <bool kHigherIsLater>
struct Concordance {
  static QGBDT_FN double in_order(const LaterWeights& rows) {
    return double(kHigherIsLater ? rows.higher : rows.lower) + 0.5 * double(rows.equal);
  }
  static QGBDT_FN double all(const LaterWeights& rows) {
    return double(rows.lower + rows.equal + rows.higher);
  }
  static QGBDT_FN double value(double in_order, double all) {
    return all > 0 ? in_order / all : 0.5;
  }
};

}  // namespace qgbdt
