// Training and evaluation: parameters, callbacks, reports.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "../binned_matrix.h"
#include "../booster.h"
#include "../cox.h"
#include "../cpu/cpu_backend.h"
#include "../evaluation.h"
#include "../histogram_exchange.h"
#include "../missing_zeros.h"
#include "../model_io.h"
#include "../predictor.h"
#include "../support/parallel.h"
#include "border.h"

namespace qgbdt {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A dict with exactly the fields of TrainParams.
class ParamsReader {
 public:
  explicit ParamsReader(const py::dict& dict) : dict_(dict) {}
  template <class T>
  T get(const char* key) {
    ++used_;
    if (!dict_.contains(key)) throw std::invalid_argument(std::string("missing parameter ") + key);
    return dict_[key].cast<T>();
  }
  void finish() const { check(used_ == dict_.size(), "unknown parameters"); }

 private:
  const py::dict& dict_;
  size_t used_ = 0;
};

CustomObjective custom_objective(const CustomFields& given) {
  const auto& [name, link_name, source, parameters] = given;
  Link link;
  check(link_from_name(link_name, &link), "unknown link");
  return {name, link, source, parameters};
}

TrainParams train_params(const py::dict& dict) {
  ParamsReader in(dict);
  TrainParams p;
  check(objective_from_name(in.get<std::string>("objective"), &p.objective), "unknown objective");
  if (const auto custom = in.get<std::optional<CustomFields>>("custom"))
    p.custom = custom_objective(*custom);
  p.n_outputs = in.get<int>("n_outputs");
  p.n_estimators = in.get<int>("n_estimators");
  p.num_leaves = in.get<int>("num_leaves");
  p.max_depth = in.get<int>("max_depth");
  const auto policy = in.get<std::string>("grow_policy");
  check(policy == "lossguide" || policy == "depthwise", "unknown grow_policy");
  p.by_depth = policy == "depthwise";
  p.learning_rate = in.get<double>("learning_rate");
  p.min_child_samples = in.get<int64_t>("min_child_samples");
  p.min_child_weight = in.get<double>("min_child_weight");
  p.min_split_gain = in.get<double>("min_split_gain");
  p.reg_alpha = in.get<double>("reg_alpha");
  p.reg_lambda = in.get<double>("reg_lambda");
  p.path_smooth = in.get<double>("path_smooth");
  const auto bits = in.get<std::variant<int, std::string>>("grad_bits");
  p.grad_bits = bits == std::variant<int, std::string>("auto") ? kAutoBits : std::get<int>(bits);
  const auto rounding = in.get<std::string>("rounding");
  check(rounding == "stochastic" || rounding == "nearest", "unknown rounding");
  p.rounding = rounding == "nearest" ? Rounding::nearest : Rounding::stochastic;
  p.renew_leaves = in.get<bool>("renew_leaves");
  p.seed = in.get<uint64_t>("seed");
  const auto noise = in.get<std::string>("aft_loss_distribution");
  check(noise == "normal" || noise == "logistic" || noise == "extreme",
        "unknown aft_loss_distribution");
  p.args = {in.get<double>("tweedie_variance_power"), in.get<double>("alpha"),
            in.get<double>("fair_c"),
            noise == "normal"     ? Noise::normal
            : noise == "logistic" ? Noise::logistic
                                  : Noise::extreme,
            in.get<double>("aft_loss_distribution_scale")};
  p.subsample = in.get<double>("subsample");
  p.subsample_freq = in.get<int64_t>("subsample_freq");
  const auto strategy = in.get<std::string>("data_sample_strategy");
  check(strategy == "bagging" || strategy == "goss", "unknown data_sample_strategy");
  p.goss = strategy == "goss";
  p.top_rate = in.get<double>("top_rate");
  p.other_rate = in.get<double>("other_rate");
  p.colsample_bytree = in.get<double>("colsample_bytree");
  p.colsample_bynode = in.get<double>("colsample_bynode");
  p.extra_trees = in.get<bool>("extra_trees");
  const auto signs = in.get<py::array_t<int8_t, py::array::c_style>>("monotone_constraints");
  p.monotone_constraints.assign(signs.data(), signs.data() + signs.size());
  const auto sets = in.get<py::array_t<uint8_t, py::array::c_style>>("interaction_sets");
  p.interaction_sets.assign(sets.data(), sets.data() + sets.size());
  p.most_interacting = in.get<int>("most_interacting");
  p.lambdarank_truncation_level = in.get<int>("lambdarank_truncation_level");
  const auto gains = in.get<DoubleArray>("label_gain");
  p.label_gain.assign(gains.data(), gains.data() + gains.size());
  p.category.smooth = in.get<double>("cat_smooth");
  p.category.l2 = in.get<double>("cat_l2");
  p.category.max_threshold = in.get<int32_t>("max_cat_threshold");
  p.category.max_to_onehot = in.get<int32_t>("max_cat_to_onehot");
  p.category.min_data_per_group = in.get<double>("min_data_per_group");
  for (const auto& [feature, threshold, left, right] :
       in.get<std::vector<std::tuple<int32_t, double, int32_t, int32_t>>>("forced_splits"))
    p.forced_splits.push_back({feature, threshold, left, right});
  const auto boosting = in.get<std::string>("boosting_type");
  check(boosting == "gbdt" || boosting == "dart" || boosting == "rf", "unknown boosting_type");
  const DropoutParams dropout{in.get<double>("drop_rate"), in.get<double>("skip_drop"),
                              in.get<int64_t>("max_drop"), in.get<bool>("uniform_drop"),
                              in.get<bool>("xgboost_dart_mode")};
  if (boosting == "dart") p.dropout = dropout;
  p.is_forest = boosting == "rf";
  p.linear_tree = in.get<bool>("linear_tree");
  p.linear_lambda = in.get<double>("linear_lambda");
  in.finish();
  check(fits_outputs(p.objective, p.n_outputs), "n_outputs does not fit the objective");
  check((p.objective == ObjectiveKind::custom) == p.custom.has_value(), "what is custom differs");
  check(p.n_estimators >= 0 && p.num_leaves >= 1, "n_estimators or num_leaves out of range");
  check(p.grad_bits == kAutoBits || (2 <= p.grad_bits && p.grad_bits <= 8) || p.grad_bits == 16,
        "grad_bits out of range");
  return p;
}

std::vector<int64_t> query_begins(const std::optional<py::array_t<int64_t>>& sizes, int64_t n) {
  check(sizes && sizes->ndim() == 1, "a ranker needs query_sizes");
  std::vector<int64_t> begin{0};
  for (py::ssize_t q = 0; q < sizes->shape(0); ++q) {
    check(sizes->at(q) >= 0 && sizes->at(q) <= n - begin.back(),
          "query_sizes must sum to n_samples");
    begin.push_back(begin.back() + sizes->at(q));
  }
  check(begin.back() == n, "query_sizes must sum to n_samples");
  return begin;
}

// [n_targets][n_samples].
const double* targets_of(const DoubleArray& y, int64_t n, const TrainParams& p) {
  check(y.size() == n * n_targets(p.objective, p.n_outputs),
        "y must have n_samples values a target");
  return y.data();
}

void check_targets(const TrainParams& p, const double* y, int64_t n, bool has_queries) {
  const int targets = n_targets(p.objective, p.n_outputs);
  const bool classes = p.n_outputs > targets, labels = classes || has_queries;
  const bool times = is_of_times(p.objective);
  const double n_labels = classes ? double(p.n_outputs) : double(p.label_gain.size());
  for (int64_t i = 0; i < targets * n; ++i) {
    check(std::isfinite(y[i]), "y must be finite");
    check(!times || y[i] != 0, "y must hold times");
    check(!labels || (y[i] >= 0 && y[i] < n_labels && y[i] == std::floor(y[i])),
          "y must hold label numbers");
  }
}

// Hands the trees of an iteration, as the bytes of a model, to Python.
void tell(const std::function<void(py::bytes)>& on_iteration, const Model& model) {
  if (!on_iteration) return;
  const int64_t n = model.n_iterations();
  const std::string trees = model_to_text(model.iterations(n - 1, n));
  const py::gil_scoped_acquire acquire;
  on_iteration(trees);
}

// Arrays with a value a tree.
py::dict quantization_report(const std::vector<QuantizationReport>& trees) {
  const auto array = [&](auto value_of) {
    py::array_t<decltype(value_of(trees[0]))> out(py::ssize_t(trees.size()));
    std::transform(trees.begin(), trees.end(), out.mutable_data(), value_of);
    return out;
  };
  using Report = const QuantizationReport&;
  py::dict out;
  out["bits"] = array([](Report r) { return r.bits; });
  out["gradient_step"] = array([](Report r) { return r.quantization.gradient.step; });
  out["hessian_step"] = array([](Report r) { return r.quantization.hessian.step; });
  out["gradient_levels"] = array([](Report r) { return r.quantization.gradient.levels; });
  out["hessian_levels"] = array([](Report r) { return r.quantization.hessian.levels; });
  out["gradient_noise"] = array([](Report r) { return r.gradient_noise; });
  out["hessian_noise"] = array([](Report r) { return r.hessian_noise; });
  return out;
}

// ---- Evaluation: (name, k) of each metric; (X, y, weights, sizes of queries, raw predictions to
// fill) of each set.

using Metrics = std::vector<std::pair<std::string, int64_t>>;
using EvaluationSet =
    std::tuple<Matrix, DoubleArray, std::optional<DoubleArray>, std::optional<py::array_t<int64_t>>,
               py::array_t<double, py::array::c_style>>;

const char* problem_name(Problem problem) {
  constexpr const char* kNames[] = {"regression", "aft", "cox", "binary", "multiclass", "ranking"};
  return kNames[int(problem)];
}

Problem problem_of(ObjectiveKind objective) {
  switch (objective) {
    case ObjectiveKind::aft: return Problem::aft;
    case ObjectiveKind::cox: return Problem::cox;
    case ObjectiveKind::binary: return Problem::binary;
    case ObjectiveKind::multiclass:
    case ObjectiveKind::multiclassova: return Problem::multiclass;
    case ObjectiveKind::lambdarank:
    case ObjectiveKind::rank_xendcg: return Problem::ranking;
    default: return Problem::regression;
  }
}

std::vector<ChosenMetric> chosen_metrics(const Metrics& metrics, ObjectiveKind objective) {
  std::vector<ChosenMetric> chosen;
  for (const auto& [name, at] : metrics) {
    const std::span<const Metric> all = all_metrics();
    const auto found = std::find_if(all.begin(), all.end(), [&](const Metric& metric) {
      return name == metric.name &&
             (objective == ObjectiveKind::custom || metric.problem == problem_of(objective));
    });
    check(found != all.end(), "no metric of the objective");
    check(!found->of_query || at >= 1, "a metric of queries is of the first k, from 1");
    chosen.push_back({&*found, at});
  }
  return chosen;
}

EvaluationData evaluation_data(EvaluationSet& set, const TrainParams& params) {
  auto& [X, y, weight, query_sizes, raw_prediction] = set;
  EvaluationData data{view_of(X), nullptr, nullptr, {}, raw_prediction.mutable_data()};
  const int64_t n = data.n_samples();
  data.target = targets_of(y, n, params);
  const bool has_queries = is_ranking(params.objective) || query_sizes.has_value();
  check_targets(params, data.target, n, has_queries);
  if (weight)
    data.weight = column_of(*weight, n, "sample_weight must be 1-D with n_samples values");
  if (has_queries) data.query_begin = query_begins(query_sizes, n);
  check(raw_prediction.size() == n * params.n_outputs, "n_samples raw predictions an output");
  return data;
}

Evaluation evaluation_of(std::vector<EvaluationData> data, const Metrics& metrics,
                         const TrainParams& params, Comm& comm, Team& team,
                         const std::vector<uintptr_t>& losses = {}) {
  std::vector<ChosenMetric> chosen = chosen_metrics(metrics, params.objective);
  check(losses.empty() || params.n_outputs == 1, "losses of the user's are of one output");
  for (const uintptr_t loss : losses) chosen.push_back(mean_of(reinterpret_cast<RowLoss>(loss)));
  return Evaluation(std::move(data), std::move(chosen), link_of(params.objective, params.custom),
                    params.args, params.n_outputs, n_targets(params.objective, params.n_outputs),
                    params.label_gain, comm, team);
}

// Raw predictions [n_samples][n_outputs] through the link.
py::array_t<double> predictions(const std::string& objective, const DoubleArray& raw_prediction,
                                const std::optional<CustomFields>& custom) {
  ObjectiveKind kind;
  check(objective_from_name(objective, &kind), "unknown objective");
  check(raw_prediction.ndim() == 2, "raw_prediction must be 2-D");
  const Link link =
      custom ? custom_objective(*custom).link : link_of(kind, std::optional<CustomObjective>());
  const int n_outputs = int(raw_prediction.shape(1));
  py::array_t<double> out({raw_prediction.shape(0), raw_prediction.shape(1)});
  std::copy_n(raw_prediction.data(), raw_prediction.size(), out.mutable_data());
  for (py::ssize_t i = 0; i < out.shape(0); ++i)
    apply_link(link, out.mutable_data() + i * n_outputs, n_outputs);
  return out;
}

// Metrics of raw predictions, as train finds them.
py::array_t<double> evaluate(EvaluationSet set, const Metrics& metrics, const py::dict& params_dict,
                             int n_threads, const std::optional<SharedComm>& shared_comm) {
  const TrainParams params = train_params(params_dict);
  EvaluationData data = evaluation_data(set, params);
  std::vector<double> values;
  with_comm(shared_comm, [&](Comm& comm) {
    with_team(n_threads, [&](Team& team) {
      values = evaluation_of({std::move(data)}, metrics, params, comm, team).values();
    });
  });
  return array_of(values);
}

// What each iteration took of this worker.
class Stopwatch {
 public:
  explicit Stopwatch(const Comm& comm) : comm_(comm), report_(comm.report()) {}

  void end_iteration() {
    const auto now = Clock::now();
    const CommReport report = comm_.report();
    seconds_.push_back(seconds_since(start_));
    wait_seconds_.push_back(report.wait_seconds - report_.wait_seconds);
    n_exchanges_.push_back(report.n_exchanges - report_.n_exchanges);
    bytes_sent_.push_back(report.bytes_sent - report_.bytes_sent);
    bytes_received_.push_back(report.bytes_received - report_.bytes_received);
    start_ = now;
    report_ = report;
  }

  py::dict profile() const {
    py::dict out;
    out["seconds"] = array_of(seconds_);
    out["wait_seconds"] = array_of(wait_seconds_);
    out["exchanges"] = array_of(n_exchanges_);
    out["bytes_sent"] = array_of(bytes_sent_);
    out["bytes_received"] = array_of(bytes_received_);
    return out;
  }

 private:
  const Comm& comm_;
  Clock::time_point start_ = Clock::now();
  CommReport report_;
  std::vector<double> seconds_, wait_seconds_;
  std::vector<int64_t> n_exchanges_, bytes_sent_, bytes_received_;
};

// Their codes are the bins.
void check_categories(const Model& model, const BinnedMatrix& matrix) {
  check(!matrix.has_categories() || int64_t(model.categories.size()) == matrix.n_features(),
        "categories must have an entry for each feature");
  for (int32_t f = 0; f < matrix.n_features(); ++f) {
    check(matrix.is_categorical(f) == model.is_categorical(f), "categories differ from the bins");
    check(!matrix.is_categorical(f) ||
              std::max(n_categories(model.categories[f]), 1) == matrix.n_value_bins(f),
          "categories differ from the bins");
  }
}

// g and h, [n_outputs][n_samples] each, of raw predictions of that shape.
using GradientFunction =
    std::function<std::pair<DoubleArray, DoubleArray>(const py::array_t<double>&)>;

// Each is of a numerical feature, and those of its sides come after it.
void check_forced_splits(const std::vector<ForcedSplit>& splits, const BinnedMatrix& matrix) {
  const auto is_later = [&](int32_t side, size_t place) {
    return side == kNone || (int64_t(place) < side && side < int64_t(splits.size()));
  };
  for (size_t i = 0; i < splits.size(); ++i) {
    const ForcedSplit& split = splits[i];
    check(0 <= split.feature && split.feature < matrix.n_features() &&
              !matrix.is_categorical(split.feature),
          "a forced split is of a numerical feature");
    check(is_later(split.left, i) && is_later(split.right, i),
          "forced splits of sides come after those of their nodes");
  }
}

// What linear leaves know nothing of.
void check_linear_tree(const TrainParams& p) {
  const bool has_quantiles = visit_objective(
      p.objective, [](auto objective) { return decltype(objective)::kQuantileLeaves; });
  check(!has_quantiles && p.renew_leaves, "linear leaves are fitted to gradients");
  check(p.path_smooth == 0 && p.monotone_constraints.empty(), "linear leaves have no bounds");
  check(!p.changes_trees(), "linear leaves stay as they are");
}

GivenGradients custom_gradients(const GradientFunction& of_all, uintptr_t of_rows, int64_t n,
                                int n_outputs) {
  GivenGradients custom;
  custom.of_rows = reinterpret_cast<decltype(custom.of_rows)>(of_rows);
  if (of_all)
    custom.of_all = [of_all, n, n_outputs](std::span<const double> raw, std::span<float> gradient,
                                           std::span<float> hessian) {
      const py::gil_scoped_acquire acquire;
      const auto [g, h] =
          of_all(py::array_t<double>(std::vector<py::ssize_t>{n_outputs, n}, raw.data()));
      check(g.size() == py::ssize_t(raw.size()) && h.size() == g.size(), "gradients of all rows");
      std::transform(g.data(), g.data() + g.size(), gradient.data(), to_gradient);
      std::transform(h.data(), h.data() + h.size(), hessian.data(), to_gradient);
    };
  return custom;
}

TrainingData training_data(const BinnedMatrix& matrix, const TrainParams& params,
                           const DoubleArray& y, const std::optional<DoubleArray>& sample_weight,
                           const std::optional<py::array_t<int64_t>>& query_sizes,
                           const GradientFunction& gradients_of_all, uintptr_t gradients_of_rows) {
  const int64_t n = matrix.n_samples();
  TrainingData data{&matrix,
                    params.objective,
                    params.args,
                    params.n_outputs,
                    targets_of(y, n, params),
                    nullptr,
                    nullptr,
                    {},
                    params.label_gain,
                    params.lambdarank_truncation_level,
                    params.monotone_constraints,
                    {}};
  if (sample_weight)
    data.weight = column_of(*sample_weight, n, "sample_weight must be 1-D with n_samples values");
  const bool has_queries = is_ranking(params.objective) || query_sizes.has_value();
  if (has_queries) data.query_begin = query_begins(query_sizes, n);
  check_targets(params, data.target, n, has_queries);
  data.given = custom_gradients(gradients_of_all, gradients_of_rows, n, params.n_outputs);
  check(bool(data.given.of_all) + bool(data.given.of_rows) == params.custom.has_value(),
        "an objective of the user's has one function");
  if (params.objective == ObjectiveKind::cox)
    data.given.of_all = CoxGradients({data.target, size_t(n)}, data.weight);
  return data;
}

py::tuple train_model(const BinnedMatrix& matrix, const DoubleArray& y,
                      const std::optional<DoubleArray>& sample_weight,
                      const std::optional<py::array_t<int64_t>>& query_sizes,
                      std::vector<std::string> feature_names, const py::dict& params_dict,
                      int n_threads, std::optional<SharedComm> shared_comm,
                      const Predictor* initial, const std::optional<DoubleArray>& raw_prediction,
                      const std::function<void(py::bytes)>& on_iteration, int64_t n_resumed,
                      std::vector<EvaluationSet> eval_sets, const Metrics& metrics,
                      const std::function<bool(py::array_t<double>)>& on_evaluation, Device* device,
                      std::vector<Categories> categories, bool refuses_unseen,
                      const GradientFunction& gradients_of_all, uintptr_t gradients_of_rows,
                      const std::vector<std::optional<DoubleArray>>& eval_init_scores,
                      const std::vector<uintptr_t>& losses, const std::optional<py::array>& X,
                      bool zero_is_missing) {
  const TrainParams params = train_params(params_dict);
  const int64_t n = matrix.n_samples();
  TrainingData data = training_data(matrix, params, y, sample_weight, query_sizes, gradients_of_all,
                                    gradients_of_rows);
  check(int64_t(feature_names.size()) == matrix.n_features(), "one name per feature");
  check(data.signs.empty() || int64_t(data.signs.size()) == matrix.n_features(),
        "a monotone constraint per feature");
  check(params.interaction_sets.size() % matrix.n_features() == 0,
        "interaction_sets are of all features");
  check(n_threads >= 1, "n_threads must be at least 1");
  check_forced_splits(params.forced_splits, matrix);
  check(!device || matrix.listed_features().empty(), "a device reads no lists: may_list=False");
  check(X.has_value() == params.linear_tree, "linear leaves need X, others do not");
  if (X) {
    data.X = matrix_view(*X);
    check(data.X->n_samples == n && data.X->n_features == matrix.n_features(),
          "X and the bins differ");
    check(!device, "a device has no linear leaves");
    check(!zero_is_missing, "linear leaves are of numbers, zero among them");
    check_linear_tree(params);
  }

  Model model{
      params.objective, params.n_outputs, std::move(feature_names), {}, {}, std::move(categories),
      refuses_unseen,   params.custom,    zero_is_missing};
  if (!model.has_categories()) model.categories.clear();
  check_categories(model, matrix);
  check(raw_prediction || !initial, "an initial model needs raw_prediction");
  if (raw_prediction) {
    check(raw_prediction->size() == n * params.n_outputs,
          "raw_prediction must have n_samples values an output");
    data.raw_prediction = raw_prediction->data();
    model.base_score.assign(params.n_outputs, 0.0);
  }
  if (initial) {
    check(initial->model().is_alike(model), "the initial model is of another kind");
    model = initial->model();
  }
  check(0 <= n_resumed && n_resumed <= model.n_iterations(), "n_resumed out of range");
  std::vector<EvaluationData> eval_data;
  std::vector<Buffer<uint8_t>> eval_values(eval_sets.size());
  for (EvaluationSet& set : eval_sets) {
    eval_data.push_back(evaluation_data(set, params));
    EvaluationData& data = eval_data.back();
    std::visit(
        [&](const auto& X) {
          check(X.n_features == matrix.n_features(), "as many features to evaluate");
        },
        data.X);
    const size_t i = eval_data.size() - 1;
    if (i >= eval_init_scores.size() || !eval_init_scores[i]) continue;
    check(eval_init_scores[i]->size() == data.n_samples() * params.n_outputs,
          "init_score must have n_samples values an output");
    data.init_score = eval_init_scores[i]->data();
  }
  TrainingReport report;
  double evaluation_seconds = 0;
  std::optional<Stopwatch> stopwatch;
  with_comm(shared_comm, [&](Comm& comm) {
    check(params.objective != ObjectiveKind::cox || comm.world_size() == 1, "cox is of all rows");
    check(!X || comm.world_size() == 1, "a linear leaf is of all rows");
    stopwatch.emplace(comm);
    int64_t n_rows = n;
    for (const EvaluationData& some : eval_data) n_rows += some.n_samples();
    const int useful = threads_for(n_rows * matrix.n_features(), kValuesPerThread, n_threads);
    data.searched = searched_features(matrix, comm.rank(), comm.world_size());
    with_team(useful, [&](Team& team) {
      std::optional<Evaluation> evaluation;
      // Of the first iterations of a model, also of one whose trees come from a checkpoint: what is
      // told of them is what was told when they grew.
      const auto evaluate = [&](const Model& trained, int64_t n_iterations) {
        if (!on_evaluation) return true;
        const auto start = Clock::now();
        std::vector<double> values;
        if (!eval_sets.empty()) {
          comm.begin_phase("evaluating");
          if (!evaluation) {
            for (size_t i = 0; i < eval_data.size(); ++i)
              std::visit([&](auto& X) { X = as_read(model, X, team, &eval_values[i]); },
                         eval_data[i].X);
            evaluation.emplace(
                evaluation_of(std::move(eval_data), metrics, params, comm, team, losses));
          }
          if (params.changes_trees()) evaluation->forget();
          evaluation->score(trained, n_iterations);
          values = evaluation->values();
        }
        const py::gil_scoped_acquire acquire;
        const bool goes_on = on_evaluation(array_of(values));
        evaluation_seconds += seconds_since(start);
        return goes_on;
      };
      const IterationHooks hooks{check_signals, [&](const Model& trained) {
                                   tell(on_iteration, trained);
                                   const bool goes_on = evaluate(trained, trained.n_iterations());
                                   stopwatch->end_iteration();
                                   return goes_on;
                                 }};
      bool goes_on = true;
      for (int64_t n = model.n_iterations() - n_resumed; goes_on && n < model.n_iterations(); ++n)
        goes_on = evaluate(model, n + 1);
      if (!goes_on) return;
      const std::unique_ptr<Backend> backend =
          device ? device->make_backend(std::move(data), team)
                 : std::make_unique<CpuBackend>(std::move(data), team);
      model = train(*backend, comm, matrix, params, std::move(model), hooks, report);
    });
  });
  py::dict cost;
  cost["evaluation_seconds"] = evaluation_seconds;
  cost["growth_rounds"] = report.growth.rounds;
  cost["growth_splits"] = report.growth.splits;
  cost["growth_expansions"] = report.growth.expansions;
  return py::make_tuple(std::make_unique<Predictor>(std::move(model)), cost,
                        quantization_report(report.quantization), stopwatch->profile());
}

// Leaf numbers of an iteration's trees, [n_outputs][n_samples].
using LeafFunction =
    std::function<py::array_t<int32_t, py::array::c_style | py::array::forcecast>(int64_t)>;

std::unique_ptr<Predictor> refit_model(const BinnedMatrix& matrix, const DoubleArray& y,
                                       const std::optional<DoubleArray>& sample_weight,
                                       const std::optional<py::array_t<int64_t>>& query_sizes,
                                       const py::dict& params_dict, const Predictor& predictor,
                                       double decay_rate, const LeafFunction& leaves_of,
                                       const DoubleArray& raw_prediction, int n_threads,
                                       const GradientFunction& gradients_of_all,
                                       uintptr_t gradients_of_rows) {
  const TrainParams params = train_params(params_dict);
  const Model& model = predictor.model();
  const int64_t n = matrix.n_samples();
  TrainingData data = training_data(matrix, params, y, sample_weight, query_sizes, gradients_of_all,
                                    gradients_of_rows);
  check(model.objective == params.objective && model.n_outputs == params.n_outputs,
        "the model is of another kind");
  check(raw_prediction.size() == n * params.n_outputs,
        "raw_prediction must have n_samples values an output");
  check(0 <= decay_rate && decay_rate <= 1, "decay_rate out of range");
  check(!predictor.is_linear(), "a constant cannot be refitted for linear leaves");
  data.raw_prediction = raw_prediction.data();
  std::vector<int32_t> leaves;
  const auto leaves_of_rows = [&](int64_t iteration) {
    const py::gil_scoped_acquire acquire;
    const auto found = leaves_of(iteration);
    check(found.size() == n * params.n_outputs, "a leaf of each row and output");
    leaves.assign(found.data(), found.data() + found.size());
    for (int64_t i = 0; i < int64_t(leaves.size()); ++i) {
      const size_t n_nodes = model.trees[iteration * params.n_outputs + i / n].size();
      check(0 <= leaves[i] && size_t(leaves[i]) < (n_nodes + 1) / 2, "a leaf that is none");
    }
    return std::span<const int32_t>(leaves);
  };
  Model refitted = model;
  AloneComm comm;
  data.searched = searched_features(matrix, 0, 1);
  with_team(n_threads, [&](Team& team) {
    CpuBackend backend(std::move(data), team);
    refitted =
        refit(backend, comm, matrix, params, model, decay_rate, leaves_of_rows, check_signals);
  });
  return std::make_unique<Predictor>(std::move(refitted));
}

}  // namespace

void bind_training(py::module_& m) {
  m.def("train", &train_model, py::arg("matrix"), py::arg("y"), py::arg("sample_weight"),
        py::arg("query_sizes"), py::arg("feature_names"), py::arg("params"), py::arg("n_threads"),
        py::arg("comm") = py::none(), py::arg("initial") = py::none(),
        py::arg("raw_prediction") = py::none(), py::arg("on_iteration") = py::none(),
        py::arg("n_resumed") = 0, py::arg("eval_sets") = std::vector<EvaluationSet>(),
        py::arg("metrics") = Metrics(), py::arg("on_evaluation") = py::none(),
        py::arg("device") = py::none(), py::arg("categories") = std::vector<Categories>(),
        py::arg("refuses_unseen") = false, py::arg("gradients_of_all") = py::none(),
        py::arg("gradients_of_rows") = 0,
        py::arg("eval_init_scores") = std::vector<std::optional<DoubleArray>>(),
        py::arg("losses") = std::vector<uintptr_t>(), py::arg("X") = py::none(),
        py::arg("zero_is_missing") = false);
  m.def("refit", &refit_model, py::arg("matrix"), py::arg("y"), py::arg("sample_weight"),
        py::arg("query_sizes"), py::arg("params"), py::arg("model"), py::arg("decay_rate"),
        py::arg("leaves_of"), py::arg("raw_prediction"), py::arg("n_threads"),
        py::arg("gradients_of_all") = py::none(), py::arg("gradients_of_rows") = 0);
  m.def("evaluate", &evaluate, py::arg("eval_set"), py::arg("metrics"), py::arg("params"),
        py::arg("n_threads") = 1, py::arg("comm") = py::none());
  m.def("predictions", &predictions, py::arg("objective"), py::arg("raw_prediction"),
        py::arg("custom") = py::none());
  m.def("metrics", [] {  // problems and whether higher is better, by name
    py::dict table;
    for (const Metric& metric : all_metrics()) {
      if (!table.contains(metric.name))
        table[metric.name] = py::make_tuple(py::list(), metric.higher_is_better);
      py::list(table[metric.name][py::int_(0)]).append(problem_name(metric.problem));
    }
    return table;
  });
}

}  // namespace qgbdt
