// Objectives: gradient and hessian of the loss in link space, the link, the start score.
// Adding one: a struct here, a row in visit_objective, a row in the tests' table.
#pragma once

#include <stdint.h>

#include "elementary.h"
#include "types.h"

namespace qgbdt {

struct Gradient {
  double g, h;
};

constexpr double kMaxGradient = 3e38;

QGBDT_FN float to_gradient(double x) {  // always finite, even for infinity times a weight of zero
  x = x > -kMaxGradient ? x : -kMaxGradient;
  return float(x < kMaxGradient ? x : kMaxGradient);
}

QGBDT_FN double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

QGBDT_FN double clamp_probability(double p) {
  p = p < 1e-15 ? 1e-15 : p;
  return p > 1 - 1e-15 ? 1 - 1e-15 : p;
}

// Newton steps on a logarithmic scale overshoot where a few rows among many settled ones are wrong:
// G / H is then in the hundreds. A factor of e^5 is more than any leaf needs at once.
QGBDT_FN double max_step(Link link) { return link == Link::identity ? __builtin_huge_val() : 5.0; }

// Each struct: gradient(raw score, target, args), and what those of its link share: the link;
// start_score(weighted mean of start_target(target)).

struct Objective {
  static constexpr bool kConstantHessian = false;  // 1, of rows without weights
  static constexpr bool kQuantileLeaves = false;   // see leaf_quantiles.h
  static constexpr bool kPerClass = false;         // an output a class
  static constexpr bool kGivenGradients = false;   // by TrainingData::given, not by the struct
  static QGBDT_FN double start_target(double y) { return y; }
};

struct Identity : Objective {
  static constexpr Link kLink = Link::identity;
  static constexpr bool kConstantHessian = true;
  static QGBDT_FN double start_score(double mean) { return mean; }
};

struct Logistic : Objective {
  static constexpr Link kLink = Link::logistic;
  static QGBDT_FN double start_score(double mean) {
    const double p = clamp_probability(mean);
    return log(p / (1.0 - p));
  }
};

struct Exponential : Objective {
  static constexpr Link kLink = Link::exponential;
  static QGBDT_FN double start_score(double mean) { return finite_log(mean); }
};

// Of absolute residuals: leaves and the start score are quantiles of residuals with these weights.
struct Quantiles : Identity {
  static constexpr bool kQuantileLeaves = true;
  static QGBDT_FN double level(const ObjectiveArgs&) { return 0.5; }
  static QGBDT_FN double weight(double w, double) { return w; }
};

QGBDT_FN double sign(double x) { return double(x > 0) - double(x < 0); }
QGBDT_FN double at_least_1(double y) {
  const double size = __builtin_fabs(y);
  return size > 1.0 ? size : 1.0;
}

struct Regression : Identity {  // (s - y)^2 / 2
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs&) {
    return {s - y, 1.0};
  }
};

struct AbsoluteError : Quantiles {  // |s - y|
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs&) {
    return {sign(s - y), 1.0};
  }
};

struct Huber : Identity {  // (s - y)^2 / 2 up to alpha, then as steep as there
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs& args) {
    double d = s - y;
    d = d < -args.alpha ? -args.alpha : d;
    return {d > args.alpha ? args.alpha : d, 1.0};
  }
};

struct Fair : Identity {  // c^2 (x - log(1 + x)), x = |s - y| / c
  static constexpr bool kConstantHessian = false;
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs& args) {
    const double c = args.fair_c, d = s - y, a = __builtin_fabs(d) + c;
    return {c * d / a, c * c / (a * a)};
  }
};

struct Quantile : Quantiles {  // alpha (y - s) where s < y, else (1 - alpha) (s - y)
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs& args) {
    return {s >= y ? 1.0 - args.alpha : -args.alpha, 1.0};
  }
  static QGBDT_FN double level(const ObjectiveArgs& args) { return args.alpha; }
};

struct RelativeError : Quantiles {  // |s - y| / max(|y|, 1)
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs&) {
    return {sign(s - y) / at_least_1(y), 1.0};
  }
  static QGBDT_FN double weight(double w, double y) { return w / at_least_1(y); }
};

struct Binary : Logistic {  // log loss, y in {0, 1}
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs&) {
    const double p = sigmoid(s);
    return {p - y, p * (1.0 - p)};
  }
};

struct CrossEntropy : Binary {};  // y in [0, 1]

struct OneVsAll : Binary {  // of each class, y = [class is k]
  static constexpr bool kPerClass = true;
};

struct Poisson
    : Exponential {  // exp(s) - y s; the hessian is enlarged by exp(0.7) to bound the first steps
  static constexpr double kHessianFactor = 2.0137527074704766;
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs&) {
    const double e = exp(s);
    return {e - y, e * kHessianFactor};
  }
};

struct Gamma : Exponential {  // y exp(-s) + s
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs&) {
    const double r = y * exp(-s);
    return {1.0 - r, r};
  }
};

struct Tweedie : Exponential {  // -y exp((1 - rho) s) / (1 - rho) + exp((2 - rho) s) / (2 - rho)
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs& args) {
    const double rho = args.tweedie_variance_power;
    const double a = y * exp((1.0 - rho) * s);
    const double b = exp((2.0 - rho) * s);
    return {b - a, a * (rho - 1.0) + b * (2.0 - rho)};
  }
};

// ---- Times: y > 0 is that of an event, y < 0 says that there was none until |y| (right
// censoring).

// Of a z of a distribution: derivatives of -log likelihood, of z or, of the censored, of a larger
// one; and the likelihood.

struct NormalNoise {
  static QGBDT_FN Gradient derivatives(double z, bool is_event) {
    const double hazard = normal_hazard(z);
    return {is_event ? z : hazard, is_event ? 1.0 : hazard * (hazard - z)};
  }
  static QGBDT_FN double likelihood(double z, bool is_event) {
    return is_event ? normal_density(z) : normal_survival(z);
  }
};

struct LogisticNoise {
  static QGBDT_FN Gradient derivatives(double z, bool is_event) {
    const double p = sigmoid(z), h = p * (1.0 - p);
    return {is_event ? 2.0 * p - 1.0 : p, is_event ? 2.0 * h : h};
  }
  static QGBDT_FN double likelihood(double z, bool is_event) {
    const double survival = sigmoid(-z);
    return is_event ? sigmoid(z) * survival : survival;
  }
};

struct ExtremeNoise {  // the logarithm of an exponential time
  static QGBDT_FN Gradient derivatives(double z, bool is_event) {
    const double w = exp(z);
    return {is_event ? w - 1.0 : w, w};
  }
  static QGBDT_FN double likelihood(double z, bool is_event) {
    const double w = exp(z), survival = exp(-w);
    return is_event ? w * survival : survival;
  }
};

QGBDT_FN double between(double x, double low, double high) {  // NaN is low
  x = x > low ? x : low;
  return x < high ? x : high;
}

// Accelerated failure time: the logarithm of the time is s + scale * noise (Barnwal, Cho and
// Hocking, "Survival Regression with Accelerated Failure Time Model in XGBoost", 2022). The bounds
// are XGBoost's.
template <class Noise>
struct AftOf : Exponential {
  static constexpr double kMostGradient = 15.0, kLeastHessian = 1e-16, kMostHessian = 15.0;

  static QGBDT_FN double z(double s, double y, double scale) {
    return (finite_log(__builtin_fabs(y)) - s) / scale;
  }
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs& args) {
    const double scale = args.aft_scale;
    const Gradient of_z = Noise::derivatives(z(s, y, scale), y > 0);
    return {between(-of_z.g / scale, -kMostGradient, kMostGradient),
            between(of_z.h / (scale * scale), kLeastHessian, kMostHessian)};
  }
  // Of the time.
  static QGBDT_FN double likelihood(double s, double y, const ObjectiveArgs& args) {
    const double scale = args.aft_scale, of_z = Noise::likelihood(z(s, y, scale), y > 0);
    return y > 0 ? of_z / (scale * y) : of_z;
  }
};

// Of the noise that is asked for. The start is the best one of normal noise where no row is
// censored.
struct Aft : Exponential {
  static QGBDT_FN double start_target(double y) { return finite_log(__builtin_fabs(y)); }
  static QGBDT_FN double start_score(double mean) { return mean; }

  // Calls f(AftOf<...>{}).
  template <class F>
  static QGBDT_FN auto visit_noise(const ObjectiveArgs& args, const F& f) {
    switch (args.aft_noise) {
      case Noise::logistic: return f(AftOf<LogisticNoise>{});
      case Noise::extreme: return f(AftOf<ExtremeNoise>{});
      default: return f(AftOf<NormalNoise>{});
    }
  }
  static QGBDT_FN Gradient gradient(double s, double y, const ObjectiveArgs& args) {
    return visit_noise(args, [&](auto aft) { return decltype(aft)::gradient(s, y, args); });
  }
  static QGBDT_FN double likelihood(double s, double y, const ObjectiveArgs& args) {
    return visit_noise(args, [&](auto aft) { return decltype(aft)::likelihood(s, y, args); });
  }
};

// Proportional hazards: the partial likelihood of Cox (1972), ties as Breslow (1974), that of all
// who are at risk at the time of an event it is the row which has it. cox.h has the sums.
struct Cox : Exponential {
  static constexpr bool kGivenGradients = true;
  static QGBDT_FN double start_score(double) { return 0; }  // any is as good

  // Of a row of this weight and hazard; sums over events until its time, of weights over those at
  // risk and over their squares. Weighted; the hessian is the diagonal.
  static QGBDT_FN Gradient gradient(double hazard, double weight, bool is_event, double rate,
                                    double rate_of_squares) {
    const double part = weight * hazard, h = part * (rate - part * rate_of_squares);
    return {weight * (hazard * rate - (is_event ? 1.0 : 0.0)), h > 0 ? h : 0.0};
  }
};

// Softmax cross entropy. Its gradient couples the classes of a row, so the kernel works on
// probabilities; the factor K / (K - 1) makes the diagonal hessian an upper bound for K = 2.
struct Multiclass : Objective {
  static constexpr Link kLink = Link::softmax;
  static constexpr bool kPerClass = true;
  static QGBDT_FN double hessian_factor(int n_classes) {
    return double(n_classes) / double(n_classes - 1);
  }
  static QGBDT_FN Gradient gradient(double p, bool is_class, double factor) {
    return {p - (is_class ? 1.0 : 0.0), factor * (p * (1.0 - p))};
  }
  static QGBDT_FN double start_score(double mean) { return log(mean < 1e-15 ? 1e-15 : mean); }
};

// LambdaRank (Burges, "From RankNet to LambdaRank to LambdaMART", 2010): the pair of documents of
// rank r_hi (better label) and r_lo costs |delta NDCG| log(1 + exp(s_lo - s_hi)).
struct LambdaRank : Identity {
  static constexpr bool kConstantHessian = false;
  static QGBDT_FN double discount(int64_t rank) { return 1.0 / log2(2.0 + double(rank)); }
  // By how much exchanging two documents changes NDCG; the first has the larger discount.
  static QGBDT_FN double delta_ndcg(double gain, double other_gain, double discount,
                                    double other_discount, double inverse_max_dcg) {
    return __builtin_fabs(gain - other_gain) * (discount - other_discount) * inverse_max_dcg;
  }
  // Pairs of nearly equal scores matter more: as LightGBM's lambdarank_norm.
  static QGBDT_FN double normalize_by_distance(double delta_ndcg, double delta_score) {
    return delta_ndcg / (0.01 + __builtin_fabs(delta_score));
  }
  static QGBDT_FN double misorder_probability(double delta_score) {
    return 1.0 / (1.0 + exp(delta_score));
  }
  static QGBDT_FN Gradient pair(double misorder_probability, double delta_ndcg) {
    const double rho = misorder_probability;
    return {rho * delta_ndcg, rho * (1.0 - rho) * delta_ndcg};
  }
  static QGBDT_FN double query_norm(double sum_lambda) {
    return log2(1.0 + sum_lambda) / sum_lambda;
  }
  static QGBDT_FN double start_score(double) { return 0; }
};

// Bruch, "An Alternative Cross Entropy Loss for Learning-to-Rank", 2021: the cross entropy of the
// softmax of a query's scores and of shares that its labels have, less a random part of a gain.
struct RankXendcg : Identity {
  static constexpr bool kConstantHessian = false;
  static constexpr double kLeast = 1e-15;  // divisor
  static QGBDT_FN double start_score(double) { return 0; }

  static QGBDT_FN double relevance(double gain, uint32_t random) {
    return gain + (1.0 - double(random) * 0x1p-32);
  }

  // Of a query's n documents, whose relevances are in g; probability is [n], for the time being.
  static QGBDT_FN void gradients(const double* score, int64_t n, double* probability, double* g,
                                 double* h) {
    double largest = score[0], sum = 0, sum_relevance = 0;
    for (int64_t i = 1; i < n; ++i) largest = score[i] > largest ? score[i] : largest;
    for (int64_t i = 0; i < n; ++i) probability[i] = exp(score[i] - largest);
    for (int64_t i = 0; i < n; ++i) sum += probability[i];
    for (int64_t i = 0; i < n; ++i) sum_relevance += g[i];
    sum_relevance = sum_relevance > kLeast ? sum_relevance : kLeast;
    double sum_first = 0, sum_second = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double p = probability[i] / sum;
      probability[i] = p;
      g[i] = n > 1 ? p - g[i] / sum_relevance : 0.0;
      h[i] = g[i] / rest(p);
      sum_first += h[i];
    }
    for (int64_t i = 0; i < n; ++i) {
      const double p = probability[i], second = p * (sum_first - h[i]);
      g[i] += second;
      h[i] = second / rest(p);
      sum_second += h[i];
    }
    for (int64_t i = 0; i < n; ++i) {
      const double p = probability[i];
      g[i] += p * (sum_second - h[i]);
      h[i] = p * (1.0 - p);
    }
  }

 private:
  static QGBDT_FN double rest(double p) { return 1.0 - p > kLeast ? 1.0 - p : kLeast; }
};

// The user's: its link is the model's.
struct Custom : Identity {
  static constexpr bool kGivenGradients = true;
  static constexpr bool kConstantHessian = false;
  static QGBDT_FN double start_score(double) { return 0; }
};

// Scores [n_outputs] of a row to its prediction, in place.
QGBDT_FN void apply_link(Link link, double* scores, int n_outputs) {
  switch (link) {
    case Link::identity: break;
    case Link::logistic:
      for (int k = 0; k < n_outputs; ++k) scores[k] = sigmoid(scores[k]);
      break;
    case Link::exponential:
      for (int k = 0; k < n_outputs; ++k) scores[k] = exp(scores[k]);
      break;
    case Link::softmax: {
      double largest = scores[0], sum = 0;
      for (int k = 1; k < n_outputs; ++k) largest = scores[k] > largest ? scores[k] : largest;
      for (int k = 0; k < n_outputs; ++k) sum += scores[k] = exp(scores[k] - largest);
      for (int k = 0; k < n_outputs; ++k) scores[k] /= sum;
      break;
    }
  }
}

// Calls f(Objective{}) with the struct of `kind`.
template <class F>
QGBDT_HOST_FN auto visit_objective(ObjectiveKind kind, F&& f) {
  switch (kind) {
    case ObjectiveKind::l1: return f(AbsoluteError{});
    case ObjectiveKind::huber: return f(Huber{});
    case ObjectiveKind::fair: return f(Fair{});
    case ObjectiveKind::quantile: return f(Quantile{});
    case ObjectiveKind::mape: return f(RelativeError{});
    case ObjectiveKind::cross_entropy: return f(CrossEntropy{});
    case ObjectiveKind::poisson: return f(Poisson{});
    case ObjectiveKind::gamma: return f(Gamma{});
    case ObjectiveKind::tweedie: return f(Tweedie{});
    case ObjectiveKind::aft: return f(Aft{});
    case ObjectiveKind::cox: return f(Cox{});
    case ObjectiveKind::binary: return f(Binary{});
    case ObjectiveKind::multiclass: return f(Multiclass{});
    case ObjectiveKind::multiclassova: return f(OneVsAll{});
    case ObjectiveKind::lambdarank: return f(LambdaRank{});
    case ObjectiveKind::rank_xendcg: return f(RankXendcg{});
    case ObjectiveKind::custom: return f(Custom{});
    default: return f(Regression{});
  }
}

QGBDT_HOST_FN bool is_per_class(ObjectiveKind kind) {
  return visit_objective(kind, [](auto objective) { return decltype(objective)::kPerClass; });
}
QGBDT_HOST_FN bool has_given_gradients(ObjectiveKind kind) {
  return visit_objective(kind, [](auto objective) { return decltype(objective)::kGivenGradients; });
}
QGBDT_HOST_FN bool is_ranking(ObjectiveKind kind) {
  return kind == ObjectiveKind::lambdarank || kind == ObjectiveKind::rank_xendcg;
}
QGBDT_HOST_FN bool is_of_times(ObjectiveKind kind) {
  return kind == ObjectiveKind::aft || kind == ObjectiveKind::cox;
}
// Outputs are classes, or the user's; or each has a target of its own.
QGBDT_HOST_FN int n_targets(ObjectiveKind kind, int n_outputs) {
  return is_per_class(kind) || kind == ObjectiveKind::custom ? 1 : n_outputs;
}
QGBDT_HOST_FN bool fits_outputs(ObjectiveKind kind, int n_outputs) {
  if (is_per_class(kind)) return n_outputs > 1;
  return n_outputs == 1 || (n_outputs > 1 && !is_ranking(kind) && !is_of_times(kind));
}

}  // namespace qgbdt
