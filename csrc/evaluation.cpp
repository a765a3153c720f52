#include "evaluation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "dense_blocks.h"
#include "fixed_point.h"
#include "support/bytes.h"
#include "support/check.h"
#include "walked_forest.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowBlock = 256;         // rows whose predictions stay in cache
constexpr int64_t kRowsPerThread = 2048;   // rows that outweigh waking a thread
constexpr int64_t kRowsPerSort = 1 << 14;  // rows of which a thread sorts a part

// ---- The table

template <class M>
void losses(const ScoredRows& rows, const ObjectiveArgs& args, int64_t n, double* out) {
  const int64_t step = rows.stride;
  for (int64_t i = 0; i < n; ++i)
    out[i] = M::loss(
        {rows.raw + i * step, rows.predicted + i * step, rows.n_outputs, rows.target[i]}, args);
}

template <class M>
double of_mean(double mean, double of_constant) {
  return M::value(mean, of_constant);
}

template <class M>
double of_query(const RankedQuery& query, int64_t k) {
  return M::value(query, k);
}

template <class M>
double area(ClassWeights group, ClassWeights before) {
  return M::area(group, before);
}

template <class M>
double of_area(double sum, ClassWeights total) {
  return M::value(sum, total);
}

// Weights by score, of which some are added and then summed up to a score (a Fenwick tree).
class WeightsByScore {
 public:
  explicit WeightsByScore(std::span<const TimedRow> rows) {
    for (const TimedRow& row : rows) scores_.push_back(row.score);
    std::sort(scores_.begin(), scores_.end());
    scores_.erase(std::unique(scores_.begin(), scores_.end()), scores_.end());
    sums_.resize(scores_.size() + 1);
  }

  void add(double score, int64_t weight) {
    for (size_t i = place(score) + 1; i < sums_.size(); i += i & -i) sums_[i] += weight;
    total_ += weight;
  }

  LaterWeights around(double score) const {
    const size_t at = place(score);
    const int64_t lower = sum(at), not_higher = sum(at + 1);
    return {lower, not_higher - lower, total_ - not_higher};
  }

 private:
  size_t place(double score) const {
    return size_t(std::lower_bound(scores_.begin(), scores_.end(), score) - scores_.begin());
  }
  int64_t sum(size_t n) const {  // of the n lowest scores
    int64_t sum = 0;
    for (; n > 0; n -= n & -n) sum += sums_[n];
    return sum;
  }

  std::vector<double> scores_;  // distinct
  std::vector<int64_t> sums_;
  int64_t total_ = 0;
};

// From the latest time to the earliest; who is censored at the time of an event had none then.
template <bool kHigherIsLater>
double concordance(std::span<const TimedRow> rows) {
  using Pairs = Concordance<kHigherIsLater>;
  double max_weight = 0, in_order = 0, all = 0;
  for (const TimedRow& row : rows) max_weight = std::max(max_weight, row.weight);
  const double scale = power_of_two(fixed_exponent(max_weight, int64_t(rows.size())));
  const auto weight = [&](size_t i) { return to_fixed(rows[i].weight, scale); };
  WeightsByScore later(rows);
  for (size_t end = rows.size(), begin; end > 0; end = begin) {
    begin = end - 1;
    while (begin > 0 && rows[begin - 1].time() == rows[begin].time()) --begin;
    for (size_t i = begin; i < end; ++i)
      if (!rows[i].is_event()) later.add(rows[i].score, weight(i));
    for (size_t i = begin; i < end;) {
      const LaterWeights around = later.around(rows[i].score);
      int64_t own = 0;
      for (const double score = rows[i].score; i < end && rows[i].score == score; ++i)
        own += rows[i].is_event() ? weight(i) : 0;
      in_order += double(own) * Pairs::in_order(around);
      all += double(own) * Pairs::all(around);
    }
    for (size_t i = begin; i < end; ++i)
      if (rows[i].is_event()) later.add(rows[i].score, weight(i));
  }
  return Pairs::value(in_order, all);
}

double cox_loss(std::span<const TimedRow> rows) {
  return CoxLoss::value(rows.data(), int64_t(rows.size()));
}

template <class M>
constexpr Metric row_metric(const char* name, Problem problem) {
  Metric metric{name, problem, M::kHigherIsBetter};
  metric.needs_constant = M::kNeedsConstant;
  metric.row_losses = &losses<M>;
  metric.of_mean = &of_mean<M>;
  return metric;
}

template <class M>
constexpr Metric query_metric(const char* name) {
  Metric metric{name, Problem::ranking, true};
  metric.of_mean = &of_mean<MeanLoss>;
  metric.of_query = &of_query<M>;
  return metric;
}

template <class M>
constexpr Metric order_metric(const char* name) {
  Metric metric{name, Problem::binary, true};
  metric.area = &area<M>;
  metric.of_area = &of_area<M>;
  return metric;
}

constexpr Metric time_metric(const char* name, Problem problem, bool higher_is_better,
                             double (*of_times)(std::span<const TimedRow>)) {
  Metric metric{name, problem, higher_is_better};
  metric.of_times = of_times;
  return metric;
}

constexpr Metric kMetrics[] = {
    row_metric<L2>("l2", Problem::regression),
    row_metric<Rmse>("rmse", Problem::regression),
    row_metric<L1>("l1", Problem::regression),
    row_metric<R2>("r2", Problem::regression),
    row_metric<Mape>("mape", Problem::regression),
    row_metric<HuberLoss>("huber", Problem::regression),
    row_metric<FairLoss>("fair", Problem::regression),
    row_metric<QuantileLoss>("quantile", Problem::regression),
    row_metric<CrossEntropyLoss>("cross_entropy", Problem::regression),
    row_metric<PoissonLoss>("poisson", Problem::regression),
    row_metric<GammaLoss>("gamma", Problem::regression),
    row_metric<TweedieLoss>("tweedie", Problem::regression),
    row_metric<PoissonDeviance>("poisson_deviance", Problem::regression),
    row_metric<GammaDeviance>("gamma_deviance", Problem::regression),
    row_metric<TweedieDeviance>("tweedie_deviance", Problem::regression),
    row_metric<AftLoss>("aft_nloglik", Problem::aft),
    time_metric("cox_nloglik", Problem::cox, false, &cox_loss),
    time_metric("c_index", Problem::aft, true, &concordance<true>),
    time_metric("c_index", Problem::cox, true, &concordance<false>),
    row_metric<BinaryLogloss>("binary_logloss", Problem::binary),
    row_metric<BinaryError>("binary_error", Problem::binary),
    order_metric<Auc>("auc"),
    order_metric<AveragePrecision>("average_precision"),
    row_metric<MultiLogloss>("multi_logloss", Problem::multiclass),
    row_metric<MultiError>("multi_error", Problem::multiclass),
    query_metric<Ndcg>("ndcg"),
    query_metric<MeanAveragePrecision>("map"),
};

// ---- The order of scores

struct ScoredWeight {
  double score;
  int64_t signed_weight;
};

// In any order of those that are equal.
template <class Row, class IsBefore>
void sort_rows(std::vector<Row>& rows, const IsBefore& is_before, Team& team) {
  const auto at = [&](int64_t i) { return rows.begin() + i; };
  const int64_t n = int64_t(rows.size());
  const int threads = team.threads_for(n, kRowsPerSort);
  int64_t sorted = std::max<int64_t>((n + threads - 1) / threads, 1);
  team.run_blocks(threads, n, sorted, [&](int64_t begin, int64_t end, int) {
    std::sort(at(begin), at(end), is_before);
  });
  for (; sorted < n; sorted *= 2)
    team.run_blocks(threads, n, 2 * sorted, [&](int64_t begin, int64_t end, int) {
      std::inplace_merge(at(begin), at(std::min(begin + sorted, end)), at(end), is_before);
    });
}

// Calls visit(group, before) for each group of equal scores, the best first; returns the total.
template <class Visit>
ClassWeights for_groups(const std::vector<ScoredWeight>& rows, const Visit& visit) {
  ClassWeights before;
  for (size_t i = 0; i < rows.size();) {
    ClassWeights group;
    const double score = rows[i].score;
    for (; i < rows.size() && rows[i].score == score; ++i) {
      const int64_t weight = rows[i].signed_weight;
      (weight < 0 ? group.negative : group.positive) += std::abs(weight);
    }
    visit(group, before);
    before.positive += group.positive;
    before.negative += group.negative;
  }
  return before;
}

// ---- All workers' rows

template <class T>
std::vector<T> gather(std::span<const T> own, Comm& comm) {
  Bytes message;
  append(own, &message);
  std::vector<T> all;
  for (const Bytes& bytes : comm.allgather(std::move(message))) {
    const std::vector<T> part = ByteReader(bytes).take<T>(int64_t(bytes.size() / sizeof(T)));
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

double weighted(double value, double weight) { return weight > 0 ? value * weight : 0.0; }

// Infinite unless all values are finite.
double largest_magnitude(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values)
    if (!(std::abs(value) <= largest)) largest = std::isfinite(value) ? std::abs(value) : HUGE_VAL;
  return largest;
}

}  // namespace

ChosenMetric mean_of(RowLoss loss) {
  static constexpr Metric kMean = [] {
    Metric metric{"", Problem::regression, false};
    metric.of_mean = &of_mean<MeanLoss>;
    return metric;
  }();
  return {&kMean, 0, loss};
}

std::span<const Metric> all_metrics() { return kMetrics; }

Evaluation::Evaluation(std::vector<EvaluationData> data, std::vector<ChosenMetric> metrics,
                       Link link, const ObjectiveArgs& args, int n_outputs, int n_targets,
                       std::vector<double> label_gain, Comm& comm, Team& team)
    : metrics_(std::move(metrics)),
      link_(link),
      args_(args),
      n_outputs_(n_outputs),
      n_targets_(n_targets),
      label_gain_(std::move(label_gain)),
      comm_(comm),
      team_(team) {
  for (EvaluationData& some : data) {
    sets_.push_back({std::move(some), {}, {}, {}, {}, 0, 0, 0});
    if (sets_.back().is_ranking()) prepare_queries(sets_.back());
  }
  prepare_weights();
  const bool needs_constant = any_metric([](const Metric& m) { return m.needs_constant; });
  const bool needs_order = any_metric([](const Metric& m) { return m.area != nullptr; });
  const bool needs_times = any_metric([](const Metric& m) { return m.of_times != nullptr; });
  check(n_targets_ == 1 || !(needs_constant || needs_order || needs_times),
        "a metric of one target");
  if (needs_constant) prepare_constants();
  if (needs_order)
    for (Set& set : sets_) prepare_order(set);
  if (needs_times)
    for (Set& set : sets_) prepare_times(set);
}

bool Evaluation::any_metric(bool (*holds)(const Metric&)) const {
  return std::any_of(metrics_.begin(), metrics_.end(),
                     [&](const ChosenMetric& chosen) { return holds(*chosen.metric); });
}

// ---- Before training

void Evaluation::prepare_queries(Set& set) const {
  const std::vector<int64_t>& begin = set.data.query_begin;
  set.ideal.assign(set.data.target, set.data.target + set.data.n_samples());
  for (size_t q = 0; q + 1 < begin.size(); ++q) {
    double sum = 0;
    for (int64_t i = begin[q]; i < begin[q + 1]; ++i)
      sum += set.data.weight ? set.data.weight[i] : 1.0;
    set.query_weight.push_back(sum / double(begin[q + 1] - begin[q]));
    std::sort(set.ideal.begin() + begin[q], set.ideal.begin() + begin[q + 1], std::greater<>());
  }
}

void Evaluation::prepare_weights() {
  std::vector<int64_t> sizes;
  std::vector<Column> weights;
  for (const Set& set : sets_) {
    sizes.push_back(set.size());
    weights.emplace_back(set.size());
    for (int64_t i = 0; i < set.size(); ++i) weights.back()[i] = set.weight(i);
  }
  comm_.allreduce_sum(sizes);
  for (size_t s = 0; s < sets_.size(); ++s) sets_[s].n_of_all = sizes[s];
  const std::vector<double> sums = sums_of_all(weights);
  for (size_t s = 0; s < sets_.size(); ++s) sets_[s].sum_weight = sums[s];
}

void Evaluation::prepare_constants() {
  const std::vector<double> means =
      means_of_all([](const Set& set, int64_t i) { return set.data.target[i]; });
  const std::vector<double> errors = means_of_all([&](const Set& set, int64_t i) {
    const double error = means[&set - sets_.data()] - set.data.target[i];
    return error * error;
  });
  for (size_t s = 0; s < sets_.size(); ++s) sets_[s].of_constant = errors[s];
}

// The weights stay where their workers' scores will be.
void Evaluation::prepare_order(Set& set) {
  double max_weight = 0;
  for (int64_t i = 0; i < set.size(); ++i) max_weight = std::max(max_weight, set.weight(i));
  comm_.allreduce_max({&max_weight, 1});
  const double scale = power_of_two(fixed_exponent(max_weight, set.n_of_all));
  std::vector<int64_t> own;
  for (int64_t i = 0; i < set.size(); ++i) {
    const int64_t weight = to_fixed(set.weight(i), scale);
    own.push_back(set.data.target[i] > 0 ? weight : -weight);
  }
  set.signed_weight = gather(std::span<const int64_t>(own), comm_);
}

void Evaluation::prepare_times(Set& set) {
  std::vector<TimedRow> own;
  for (int64_t i = 0; i < set.size(); ++i) own.push_back({set.data.target[i], 0, set.weight(i)});
  set.timed = gather(std::span<const TimedRow>(own), comm_);
}

// ---- Sums

template <class Value>
std::vector<double> Evaluation::means_of_all(const Value& value) {
  std::vector<Column> columns;
  for (const Set& set : sets_) {
    columns.emplace_back(set.size());
    for (int64_t i = 0; i < set.size(); ++i)
      columns.back()[i] = weighted(value(set, i), set.weight(i));
  }
  std::vector<double> means = sums_of_all(columns);
  for (size_t s = 0; s < sets_.size(); ++s) means[s] /= sets_[s].sum_weight;
  return means;
}

// Of as many columns a set.
std::vector<double> Evaluation::sums_of_all(const std::vector<Column>& columns) {
  const int64_t n = int64_t(columns.size());
  const int64_t per_set = n / int64_t(sets_.size());
  std::vector<double> largest(n);
  team_.run(team_.n_threads(), n,
            [&](int64_t c, int) { largest[c] = largest_magnitude(columns[c]); });
  comm_.allreduce_max(largest);
  std::vector<int64_t> sums(n);
  std::vector<int> exponents(n);
  team_.run(team_.n_threads(), n, [&](int64_t c, int) {
    if (!std::isfinite(largest[c])) return;
    exponents[c] = fixed_exponent(largest[c], sets_[c / per_set].n_of_all);
    const double scale = power_of_two(exponents[c]);
    for (const double value : columns[c]) sums[c] += to_fixed(value, scale);
  });
  comm_.allreduce_sum(sums);
  std::vector<double> out;
  for (int64_t c = 0; c < n; ++c)
    out.push_back(std::isfinite(largest[c]) ? from_fixed(sums[c], exponents[c]) : HUGE_VAL);
  return out;
}

// ---- While training

void Evaluation::score(const Model& model, int64_t n_iterations) {
  const int K = n_outputs_;
  const bool is_new = n_scored_ < 0;
  const int64_t first = std::max<int64_t>(n_scored_, 0);
  const std::vector<Tree> trees(model.trees.begin() + first * K,
                                model.trees.begin() + n_iterations * K);
  for (const Set& set : sets_) {
    double* const scores = set.data.raw_prediction;
    const double* const init = set.data.init_score;
    for (int64_t i = 0; is_new && i < set.data.n_samples() * K; ++i)
      scores[i] = init ? init[i] + model.base_score[i % K] : model.base_score[i % K];
    if (const auto* X = std::get_if<SparseView>(&set.data.X)) {
      const std::vector<int32_t> features = features_of(trees);
      const std::vector<Tree> of_features = renumbered(trees, features);
      for_dense_blocks(*X, features, team_, [&](int64_t first_row, const MatrixView& block) {
        add_trees(of_features, block, scores + first_row * K);
      });
    } else {
      add_trees(trees, std::get<MatrixView>(set.data.X), scores);
    }
  }
  n_scored_ = n_iterations;
}

void Evaluation::add_trees(const std::vector<Tree>& trees, const MatrixView& X, double* scores) {
  const WalkedForest forest(trees);
  const int K = n_outputs_;
  const int threads = team_.threads_for(X.n_samples * int64_t(trees.size()), kRowsPerThread);
  team_.run_blocks(threads, X.n_samples, kRowBlock, [&](int64_t begin, int64_t end, int) {
    visit_elements(X, [&](const auto* values) {
      forest.add(X, values, begin, end - begin, 0, int64_t(trees.size()), K, scores + begin * K);
    });
  });
}

std::vector<double> Evaluation::values() {
  const size_t per_set = metrics_.size();
  std::vector<Column> columns(sets_.size() * per_set);
  for (size_t s = 0; s < sets_.size(); ++s) {
    const std::span<Column> own = std::span(columns).subspan(s * per_set, per_set);
    sets_[s].is_ranking() ? weigh_queries(sets_[s], own) : weigh_rows(sets_[s], own);
  }
  std::vector<double> values = sums_of_all(columns);
  for (size_t s = 0; s < sets_.size(); ++s) {
    const Set& set = sets_[s];
    for (size_t m = 0; m < per_set; ++m)
      if (const auto of_mean = metrics_[m].metric->of_mean)
        values[s * per_set + m] =
            of_mean(values[s * per_set + m] / set.sum_weight, set.of_constant);
    if (!set.signed_weight.empty())
      find_order_metrics(set, std::span(values).subspan(s * per_set, per_set));
    if (!set.timed.empty()) find_time_metrics(set, std::span(values).subspan(s * per_set, per_set));
  }
  return values;
}

void Evaluation::weigh_rows(const Set& set, std::span<Column> columns) {
  const int K = n_outputs_;
  const int64_t n = set.size();
  for (size_t m = 0; m < columns.size(); ++m)
    if (metrics_[m].metric->row_losses || metrics_[m].loss) columns[m].resize(n);
  const int threads = team_.threads_for(n, kRowsPerThread);
  team_.run_blocks(threads, n, kRowBlock, [&](int64_t begin, int64_t end, int) {
    const double* raw = set.data.raw_prediction + begin * K;
    std::vector<double> predicted(raw, raw + (end - begin) * K), loss(end - begin);
    for (int64_t i = 0; i < end - begin; ++i) apply_link(link_, &predicted[i * K], K);
    for (size_t m = 0; m < columns.size(); ++m) {
      if (columns[m].empty()) continue;
      double* out = &columns[m][begin];
      const double* target = set.data.target + begin;
      for (int t = 0; t < n_targets_; ++t) {
        const ScoredRows scored{raw + t, &predicted[t], target + t * n, K / n_targets_, K};
        if (metrics_[m].loss) metrics_[m].loss(end - begin, scored.predicted, target, loss.data());
        else metrics_[m].metric->row_losses(scored, args_, end - begin, loss.data());
        for (int64_t i = 0; i < end - begin; ++i) out[i] += loss[i];
      }
      for (int64_t i = 0; i < end - begin; ++i)
        out[i] = weighted(out[i] / n_targets_, set.weight(begin + i));
    }
  });
}

void Evaluation::weigh_queries(const Set& set, std::span<Column> columns) {
  const double *scores = set.data.raw_prediction, *labels = set.data.target;
  for (Column& column : columns) column.resize(set.size());
  const int threads = team_.threads_for(set.data.n_samples(), kRowsPerThread);
  team_.run(threads, set.size(), [&](int64_t q, int) {
    const int64_t begin = set.data.query_begin[q], end = set.data.query_begin[q + 1];
    std::vector<int64_t> order(end - begin);  // equal scores keep their places, as in training
    std::iota(order.begin(), order.end(), begin);
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    });
    std::vector<double> ranked;
    for (const int64_t row : order) ranked.push_back(labels[row]);
    const int64_t n_relevant =
        std::count_if(ranked.begin(), ranked.end(), [](double label) { return label > 0; });
    const RankedQuery query{ranked.data(), &set.ideal[begin], label_gain_.data(), end - begin,
                            n_relevant};
    for (size_t m = 0; m < columns.size(); ++m)
      columns[m][q] = weighted(metrics_[m].metric->of_query(query, metrics_[m].at), set.weight(q));
  });
}

std::vector<double> Evaluation::scores_of_all(const Set& set) {
  std::vector<double> scores =
      gather(std::span<const double>(set.data.raw_prediction, set.size()), comm_);
  check(int64_t(scores.size()) == set.n_of_all, "workers have as many rows as before");
  for (double& score : scores) score = std::isnan(score) ? -HUGE_VAL : score;
  return scores;
}

void Evaluation::find_order_metrics(const Set& set, std::span<double> values) {
  const std::vector<double> scores = scores_of_all(set);
  std::vector<ScoredWeight> rows(scores.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = {scores[i], set.signed_weight[i]};
  const auto is_better = [](const ScoredWeight& a, const ScoredWeight& b) {
    return a.score > b.score;
  };
  sort_rows(rows, is_better, team_);
  for (size_t m = 0; m < values.size(); ++m) {
    const Metric& metric = *metrics_[m].metric;
    if (!metric.area) continue;
    double sum = 0;
    const ClassWeights total = for_groups(
        rows, [&](ClassWeights group, ClassWeights before) { sum += metric.area(group, before); });
    values[m] = metric.of_area(sum, total);
  }
}

void Evaluation::find_time_metrics(const Set& set, std::span<double> values) {
  const std::vector<double> scores = scores_of_all(set);
  std::vector<TimedRow> rows = set.timed;
  for (size_t i = 0; i < rows.size(); ++i) rows[i].score = scores[i];
  const auto is_before = [](const TimedRow& a, const TimedRow& b) {
    if (a.time() != b.time()) return a.time() < b.time();
    return a.score != b.score ? a.score < b.score : a.weight < b.weight;
  };
  sort_rows(rows, is_before, team_);
  for (size_t m = 0; m < values.size(); ++m)
    if (const auto of_times = metrics_[m].metric->of_times) values[m] = of_times(rows);
}

}  // namespace qgbdt
