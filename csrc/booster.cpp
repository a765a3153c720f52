#include "booster.h"

#include <algorithm>
#include <optional>

#include "dropout.h"
#include "feature_choice.h"
#include "fixed_point.h"
#include "leaf_quantiles.h"
#include "leaf_rows.h"
#include "leaf_values.h"
#include "linear_leaf.h"
#include "objective.h"
#include "row_sampling.h"
#include "support/bytes.h"
#include "support/check.h"
#include "support/crc32.h"

namespace qgbdt {
namespace {

// Of what has to be the same on all workers.
int64_t digest_of(std::span<const double> facts, std::span<const CategorySet> sets = {}) {
  Bytes bytes;
  append(facts, &bytes);
  append(sets, &bytes);
  return crc32(bytes);
}

int64_t digest_of(const Tree& tree, const Quantization& q) {
  std::vector<double> facts{q.gradient.step, q.hessian.step};
  for (const Node& n : tree)
    facts.insert(facts.end(), {double(n.feature), double(n.left), double(n.missing_left),
                               n.threshold, n.value, n.gain, double(n.count), n.sum_hessian});
  return digest_of(facts, tree.category_sets);
}

// A random forest: of n iterations' trees each counts for one part in n, so that they add up like
// those of any model.
class Average {
 public:
  explicit Average(const Model& start)
      : first_tree_(start.trees.size()), first_iteration_(start.n_iterations()) {}

  // After each iteration.
  void take_latest(Model* model) {
    const auto trees = std::span(model->trees).subspan(first_tree_);
    for (const Tree& tree : trees.subspan(whole_values_.size())) {
      std::vector<double>& values = whole_values_.emplace_back();
      for (const Node& node : tree) values.push_back(node.value);
    }
    const double n = double(model->n_iterations() - first_iteration_);
    for (size_t t = 0; t < trees.size(); ++t)
      for (size_t i = 0; i < trees[t].size(); ++i) trees[t][i].value = whole_values_[t][i] / n;
  }

 private:
  const size_t first_tree_;
  const int64_t first_iteration_;
  std::vector<std::vector<double>> whole_values_;  // of each tree's nodes
};

class Booster {
 public:
  Booster(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
          TrainingReport& report)
      : backend_(backend),
        comm_(comm),
        bins_(bins),
        params_(params),
        report_(report),
        n_samples_(bins.rows().n_samples_of_all()),
        row_sampling_(backend, comm, params, n_samples_) {
    check(max_levels(kByteBits, n_samples_) >= 1,
          "too many rows: a 32-bit sum of gradients could overflow");
    visit_objective(params.objective, [&]<class Objective>(Objective) {
      may_be_constant_ = Objective::kConstantHessian && !backend.has_sample_weight();
      if constexpr (Objective::kQuantileLeaves) quantile_level_ = Objective::level(params.args);
    });
  }

  Model train(Model model, const IterationHooks& hooks) {
    if (quantile_level_) weight_exponent_ = fixed_exponent(max_weight_of_all(), n_samples_);
    if (model.base_score.empty()) {
      model.base_score = quantile_level_ ? start_quantiles() : start_scores();
      backend_.set_start_scores(model.base_score);
    }
    last_digest_ = digest_of(model.base_score);
    std::vector<GradientRange> ranges(params_.n_outputs);
    const int64_t first = model.n_iterations();
    std::optional<Dropout> dropout;
    if (params_.dropout) dropout.emplace(backend_, bins_, params_, first);
    Average average(model);
    for (int64_t iteration = first; iteration < first + params_.n_estimators; ++iteration) {
      hooks.before();
      comm_.begin_phase("growing tree " + std::to_string(model.trees.size()));
      const double rate = dropout             ? dropout->drop(model)
                          : params_.is_forest ? 1.0
                                              : params_.learning_rate;
      compute_gradients(iteration, ranges);
      for (int output = 0; output < params_.n_outputs; ++output)
        model.trees.push_back(grow(iteration, output, ranges[output], rate));
      if (dropout) dropout->put_back(&model);
      if (params_.is_forest) average.take_latest(&model);
      if (!hooks.after(model)) break;
    }
    int64_t sum = last_digest_;
    comm_.allreduce_sum({&sum, 1});
    check_same_on_all(sum);
    return model;
  }

  Model refit(Model model, double decay_rate, const LeavesOfRows& leaves,
              const std::function<void()>& before) {
    if (quantile_level_) weight_exponent_ = fixed_exponent(max_weight_of_all(), n_samples_);
    const int64_t n = backend_.n_samples();
    std::vector<GradientRange> ranges(params_.n_outputs);
    for (int64_t iteration = 0; iteration < model.n_iterations(); ++iteration) {
      before();
      comm_.begin_phase("refitting iteration " + std::to_string(iteration));
      const std::span<const int32_t> of_iteration = leaves(iteration);
      compute_gradients(iteration, ranges);
      for (int output = 0; output < params_.n_outputs; ++output) {
        Tree& tree = model.trees[iteration * params_.n_outputs + output];
        refit_tree(&tree, output, ranges[output], decay_rate,
                   params_.is_forest ? 1.0 / model.n_iterations() : params_.learning_rate,
                   of_iteration.subspan(output * n, n));
      }
    }
    return model;
  }

 private:
  void refit_tree(Tree* tree, int output, const GradientRange& range, double decay_rate,
                  double rate, std::span<const int32_t> leaf_of_row) {
    GrownTree grown;
    for (size_t node = 0; node < tree->size(); ++node)
      if ((*tree)[node].feature < 0) grown.leaf_nodes.push_back(int32_t(node));
    const int64_t n_leaves = int64_t(grown.leaf_nodes.size());
    grown.leaf_rows = rows_of_leaves(backend_, leaf_of_row, n_leaves);
    grown.nodes = *tree;
    for (int64_t i = 0; i < n_leaves; ++i)
      grown.nodes[grown.leaf_nodes[i]].count = grown.leaf_rows[i].size();
    for (size_t node = tree->size(); node-- > 0;) {  // children come after their parent
      Node& n = grown.nodes[node];
      if (n.feature >= 0) n.count = grown.nodes[n.left].count + grown.nodes[n.right].count;
    }
    backend_.set_leaves(grown.leaf_rows, std::vector<RowRange>(n_leaves));
    std::vector<double> values =
        quantile_level_
            ? residual_quantiles(output, grown.leaf_rows)
            : renewed_leaf_values(grown, output, range,
                                  split_params(quantization(0, output, range, kByteBits)));
    for (int64_t i = 0; i < n_leaves; ++i) {
      double& value = (*tree)[grown.leaf_nodes[i]].value;
      value = decay_rate * value + (1.0 - decay_rate) * (rate * values[i]);
      values[i] = value;
    }
    add_leaf_values(output, values);
  }

  // The trees of a forest do not see each other.
  void add_leaf_values(int output, std::span<const double> values) {
    if (!params_.is_forest) backend_.add_leaf_values(output, values);
  }

  // Of the last tree's digest on all workers.
  void check_same_on_all(int64_t sum_of_digests) const {
    if (sum_of_digests != last_digest_ * comm_.world_size())
      throw WorkersDiffer(
          "The workers have grown different trees: memory or a network has changed what one of "
          "them computed. Train again.");
  }

  double max_weight_of_all() {
    double max_weight = backend_.max_weight();
    comm_.allreduce_max({&max_weight, 1});
    return max_weight;
  }

  std::vector<double> start_quantiles() {
    const RowRange all{0, uint32_t(backend_.n_samples())};
    backend_.set_start_scores(std::vector<double>(params_.n_outputs, 0.0));
    std::vector<double> scores;
    for (int output = 0; output < params_.n_outputs; ++output)
      scores.push_back(residual_quantiles(output, {&all, 1}).front());
    return scores;
  }

  std::vector<double> residual_quantiles(int output, std::span<const RowRange> leaves) {
    backend_.take_residuals(output, weight_exponent_);
    return leaf_quantiles(backend_, comm_, leaves, *quantile_level_);
  }

  std::vector<double> start_scores() {
    double max_abs[2] = {backend_.max_weighted_target(), backend_.max_weight()};
    comm_.allreduce_max(max_abs);
    const int target_exponent = fixed_exponent(max_abs[0], n_samples_);
    const int weight_exponent = fixed_exponent(max_abs[1], n_samples_);
    std::vector<double> scores;
    for (int output = 0; output < params_.n_outputs; ++output) {
      const StartSums local = backend_.start_sums(output, target_exponent, weight_exponent);
      int64_t sums[2] = {local.weighted_target, local.weight};
      comm_.allreduce_sum(sums);
      const double mean =
          from_fixed(sums[0], target_exponent) / from_fixed(sums[1], weight_exponent);
      scores.push_back(visit_objective(params_.objective, [&](auto objective) {
        return decltype(objective)::start_score(mean);
      }));
    }
    return scores;
  }

  void compute_gradients(int64_t iteration, std::vector<GradientRange>& ranges) {
    // a stream of its own: that of an output which no tree has
    backend_.compute_gradients(stream_key(params_.seed, uint64_t(iteration), ranges.size()),
                               ranges);
    const RowsInUse rows = row_sampling_.sample(iteration, ranges);
    n_rows_ = rows.count;
    constant_hessian_ = may_be_constant_ && !rows.is_amplified;
    std::vector<Magnitudes*> magnitudes;
    for (GradientRange& range : ranges) {
      magnitudes.push_back(&range.gradient);
      magnitudes.push_back(&range.hessian);
    }
    std::vector<double> largest;
    std::vector<int64_t> counts;
    for (const Magnitudes* m : magnitudes) {
      largest.push_back(m->max);
      counts.insert(counts.end(), std::begin(m->counts), std::end(m->counts));
    }
    comm_.allreduce(largest, counts);
    for (size_t i = 0; i < magnitudes.size(); ++i) {
      magnitudes[i]->max = largest[i];
      std::copy_n(&counts[i * std::size(magnitudes[i]->counts)], std::size(magnitudes[i]->counts),
                  magnitudes[i]->counts);
    }
  }

  Quantization quantization(int64_t iteration, int output, const GradientRange& range,
                            int bits) const {
    Quantization q;
    q.gradient = gradient_scale(range, n_rows_, bits);
    q.hessian = constant_hessian_ ? Scale{1.0, 1.0, 1} : hessian_scale(range, n_rows_, bits);
    q.constant_hessian = constant_hessian_;
    q.stochastic = params_.rounding == Rounding::stochastic;
    q.key = stream_key(params_.seed, uint64_t(iteration), uint64_t(output));
    return q;
  }

  // Whether all of them are.
  bool is_one(const Magnitudes& magnitudes) const {
    constexpr int kExponent = 127;  // of [1, 2)
    return magnitudes.max == 1 && magnitudes.counts[kExponent] == n_rows_;
  }

  SplitParams split_params(const Quantization& q) const {
    SplitParams p;
    p.gradient_scale = q.gradient.step;
    p.hessian_scale = q.hessian.step;
    p.reg_alpha = params_.reg_alpha;
    p.reg_lambda = params_.reg_lambda;
    p.min_child_weight = params_.min_child_weight;
    p.min_split_gain = params_.min_split_gain;
    p.max_step = max_step(link_of(params_.objective, params_.custom));
    p.min_child_samples = int32_t(std::clamp<int64_t>(params_.min_child_samples, 1, kMaxCellSum));
    p.hessian_levels = q.hessian.levels;
    p.constant_hessian = q.constant_hessian;
    p.category = params_.category;
    const std::vector<int8_t>& signs = params_.monotone_constraints;
    p.path_smooth = params_.path_smooth;
    p.limits_values = p.path_smooth > 0 || std::any_of(signs.begin(), signs.end(),
                                                       [](int8_t sign) { return sign != 0; });
    return p;
  }

  // rate: what leaf values are multiplied by.
  Tree grow(int64_t iteration, int output, const GradientRange& range, double rate) {
    const int bits =
        params_.grad_bits == kAutoBits ? choose_bits(range, n_rows_) : params_.grad_bits;
    if (params_.custom) constant_hessian_ = is_one(range.hessian);
    const Quantization q = quantization(iteration, output, range, bits);
    report_.quantization.push_back(
        {bits, q, rounding_noise(range.gradient, q.gradient),
         constant_hessian_ ? 0 : rounding_noise(range.hessian, q.hessian)});
    const SplitParams split = split_params(q);
    int64_t sums[2] = {backend_.quantize(output, q), last_digest_};
    comm_.allreduce_sum(sums);
    check_same_on_all(sums[1]);
    const FeatureChoice features(bins_, params_, iteration, output);
    if (comm_.world_size() == 1) backend_.set_features(features.of_tree());
    GrownTree grown = grow_tree(backend_, comm_, bins_, params_, split, features, sums[0], n_rows_,
                                report_.growth);
    backend_.set_leaves(grown.leaf_rows, grown.other_rows);
    std::vector<double> values = quantile_level_ ? residual_quantiles(output, grown.leaf_rows)
                                 : params_.renew_leaves
                                     ? renewed_leaf_values(grown, output, range, split)
                                     : quantized_leaf_values(grown, split);
    for (double& value : values) value *= rate;
    for (size_t i = 0; i < values.size(); ++i) grown.nodes[grown.leaf_nodes[i]].value = values[i];
    if (params_.linear_tree) fit_linear_leaves(output, split.max_step, rate, values, &grown);
    else add_leaf_values(output, values);
    if (comm_.world_size() > 1) last_digest_ = digest_of(grown.nodes, q);
    return std::move(grown.nodes);
  }

  // Gives the leaves linear models, and the rows what these say. Not of a forest, nor of workers.
  void fit_linear_leaves(int output, double max_step, double rate, std::span<const double> values,
                         GrownTree* grown) {
    Tree& tree = grown->nodes;
    const auto features = features_of_leaves(tree, grown->leaf_nodes);
    std::vector<LinearTask> tasks;
    for (size_t i = 0; i < features.size(); ++i)
      tasks.push_back({grown->leaf_rows[i], features[i]});
    std::vector<LinearLeaf> leaves =
        backend_.fit_linear_leaves(output, tasks, {params_.linear_lambda, max_step});
    std::vector<LinearLeaf> of_nodes(tree.size());
    for (size_t i = 0; i < leaves.size(); ++i) {
      leaves[i].constant *= rate;
      for (LinearTerm& term : leaves[i].terms) term.coefficient *= rate;
      of_nodes[grown->leaf_nodes[i]] = leaves[i];
    }
    backend_.add_linear_leaves(output, values, leaves);
    for (const LinearLeaf& leaf : of_nodes) tree.linear.add(leaf.constant, leaf.terms);
    if (tree.linear.empty()) tree.linear = {};
  }

  std::vector<double> quantized_leaf_values(const GrownTree& grown, const SplitParams& p) const {
    std::vector<LeafSums> leaves;
    for (HistCell total : grown.leaf_totals)
      leaves.push_back({cell_gradient(total), cell_hessian(total)});
    return leaf_values(grown.nodes, grown.leaf_nodes, leaves, p.gradient_scale, p.hessian_scale,
                       params_.monotone_constraints, p);
  }

  // From the unquantized gradients (section 4.3 of the paper): rounding noise is kept out of
  // leaves.
  std::vector<double> renewed_leaf_values(const GrownTree& grown, int output,
                                          const GradientRange& range, const SplitParams& p) {
    const int gradient_exponent = fixed_exponent(range.gradient.max, n_rows_);
    const int hessian_exponent = fixed_exponent(range.hessian.max, n_rows_);
    std::vector<LeafSums> leaves(grown.leaf_rows.size());
    backend_.leaf_sums(output, gradient_exponent, hessian_exponent, leaves);
    std::vector<int64_t> sums;
    for (const LeafSums& s : leaves) sums.insert(sums.end(), {s.gradient, s.hessian});
    comm_.allreduce_sum(sums);
    for (size_t i = 0; i < leaves.size(); ++i) leaves[i] = {sums[2 * i], sums[2 * i + 1]};
    return leaf_values(grown.nodes, grown.leaf_nodes, leaves, power_of_two(-gradient_exponent),
                       power_of_two(-hessian_exponent), params_.monotone_constraints, p);
  }

  Backend& backend_;
  Comm& comm_;
  const BinnedMatrix& bins_;
  const TrainParams& params_;
  TrainingReport& report_;
  const int64_t n_samples_;
  RowSampling row_sampling_;
  int64_t n_rows_ = 0;                    // in use in this iteration, over all workers
  bool may_be_constant_ = false;          // the hessian, unless rows are amplified
  bool constant_hessian_ = false;         // of the rows in use
  std::optional<double> quantile_level_;  // where leaves are quantiles
  int weight_exponent_ = 0;               // of their weights
  int64_t last_digest_ = 0;  // of the last tree of several workers; at first of the start
};

}  // namespace

Model train(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
            Model model, const IterationHooks& hooks, TrainingReport& report) {
  Booster booster(backend, comm, bins, params, report);
  return booster.train(std::move(model), hooks);
}

Model refit(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
            Model model, double decay_rate, const LeavesOfRows& leaves,
            const std::function<void()>& before) {
  TrainingReport report;
  Booster booster(backend, comm, bins, params, report);
  return booster.refit(std::move(model), decay_rate, leaves, before);
}

}  // namespace qgbdt
