#include "shap.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "support/buffer.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowBlock = 32;
constexpr int64_t kTreesTogether = 16;    // whose factors are in memory at once
constexpr int64_t kTreesPerThread = 128;  // rows x trees that outweigh waking a thread

constexpr int kLanes = 4;
using Lanes = double __attribute__((vector_size(kLanes * sizeof(double))));

double sum_of(Lanes x) { return (x[0] + x[1]) + (x[2] + x[3]); }

// ---- Gauss-Legendre quadrature on (0, 1)

struct Points {
  std::vector<Lanes> at, weight;
};

// The Legendre polynomial of degree n and its derivative, at x in (-1, 1).
std::pair<double, double> legendre(int n, double x) {
  double before = 1, value = x;
  for (int k = 2; k <= n; ++k) {
    const double next = ((2 * k - 1) * x * value - (k - 1) * before) / k;
    before = value;
    value = next;
  }
  return {value, n * (x * value - before) / (x * x - 1)};
}

// The polynomial's roots by Newton's method, from a series for the cosine: a library's may differ
// between machines.
Points quadrature(int n_vectors) {
  constexpr int kSteps = 8;  // for 36 points three are enough
  const int n = n_vectors * kLanes;
  Points points{std::vector<Lanes>(n_vectors), std::vector<Lanes>(n_vectors)};
  for (int i = 0; i < n / 2; ++i) {
    const double angle = 3.141592653589793 * (i + 0.75) / (n + 0.5), a2 = angle * angle;
    double x = 1 - a2 / 2 * (1 - a2 / 12 * (1 - a2 / 30 * (1 - a2 / 56)));
    for (int step = 0; step < kSteps; ++step) {
      const auto [value, slope] = legendre(n, x);
      x -= value / slope;
    }
    const double slope = legendre(n, x).second, weight = 1 / ((1 - x * x) * slope * slope);
    const int mirrored = n - 1 - i;
    points.at[i / kLanes][i % kLanes] = (1 - x) / 2;
    points.at[mirrored / kLanes][mirrored % kLanes] = (1 + x) / 2;
    points.weight[i / kLanes][i % kLanes] = weight;
    points.weight[mirrored / kLanes][mirrored % kLanes] = weight;
  }
  return points;
}

// ---- A tree

// A feature's factor at the points t, and its derivative as a share of it.
Lanes factor(double z, bool is_hot, Lanes t) { return (1 - t) * z + (is_hot ? t : 0 * t); }
Lanes gain(double z, bool is_hot, Lanes t) {
  return is_hot ? (1 - z) / factor(z, true, t) : -1 / (1 - t);
}

// An edge is known by the node that it leads to. Edge 0, to the root, is as if of every feature.
class ShapTree {
 public:
  ShapTree(const Tree& tree, int32_t n_features)
      : tree_(tree), edges_(tree.size()), above_(tree.size(), 0) {
    find_edges(n_features);
    find_factors();
  }

  struct Scratch {
    std::vector<uint8_t> is_hot;    // [n_nodes]: whether the row stays on the path, for the edge's
                                    // feature
    std::vector<Lanes> products;    // [n_nodes][n_vectors]
    std::vector<Lanes> gains;       // [features of a path][n_vectors]
    std::vector<int32_t> features;  // of a path
    std::vector<int32_t> met_by;    // [n_features]: the last leaf on whose path it was met
  };

  double expected() const { return expected_; }

  template <class T>
  void find_hot(const T* row, int64_t column_stride, Scratch& s) const {
    s.is_hot.resize(tree_.size());
    s.products.resize(tree_.size() * n_vectors_);
    s.is_hot[0] = true;
    for (size_t i = 0; i < tree_.size(); ++i) {
      const Node& node = tree_[i];
      if (node.feature < 0) continue;
      const bool left = tree_.goes_left(node, double(row[node.feature * column_stride]));
      s.is_hot[node.left] = s.is_hot[above_[i]] & left;
      s.is_hot[node.right] = s.is_hot[above_[i]] & !left;
    }
  }

  // Adds what each feature gets to out[n_features].
  void add_values(Scratch& s, double* out) const {
    switch (n_vectors_) {
      case 1: return add_values_at<1>(s, out);
      case 2: return add_values_at<2>(s, out);
      default: return add_values_at<0>(s, out);
    }
  }

  // Adds twice what two features get together to out[larger feature][smaller feature].
  void add_pairs(Scratch& s, int64_t out_stride, double* out) const {
    find_products<0>(s);
    std::fill(s.met_by.begin(), s.met_by.end(), 0);
    for (size_t leaf = 1; leaf < tree_.size(); ++leaf) {
      if (tree_[leaf].feature >= 0) continue;
      find_gains(int32_t(leaf), s);
      const Lanes* weights = &s.products[leaf * n_vectors_];
      for (size_t a = 0; a < s.features.size(); ++a)
        for (size_t b = 0; b < a; ++b) {
          const Lanes *gains_a = &s.gains[a * n_vectors_], *gains_b = &s.gains[b * n_vectors_];
          Lanes got{};
          for (int v = 0; v < n_vectors_; ++v)
            got += points_.weight[v] * weights[v] * gains_a[v] * gains_b[v];
          const auto [smaller, larger] = std::minmax(s.features[a], s.features[b]);
          out[larger * out_stride + smaller] += sum_of(got) * tree_[leaf].value;
        }
    }
  }

 private:
  struct Edge {
    int32_t parent = 0;
    double share = 1;       // of the parent's training rows
    double path_share = 1;  // the product of the shares of this feature's edges, down to this one
  };
  struct Factors {   // at a vector of points, if the edge is cold and if it is hot
    Lanes step[2];   // what the product of the path is multiplied by
    Lanes share[2];  // what of the leaves below the feature gets
  };

  void find_edges(int32_t n_features) {
    std::vector<int32_t> n_above(tree_.size(), 0);  // features on the path to a node
    std::vector<int32_t> last(n_features, 0);       // each one's last edge on the path
    std::vector<int32_t> todo{0};                   // depth first; ~i: what is below i is done
    while (!todo.empty()) {
      const int32_t i = todo.back();
      todo.pop_back();
      const int32_t parent = edges_[i < 0 ? ~i : i].parent;
      if (i < 0) {
        last[tree_[parent].feature] = above_[parent];
        continue;
      }
      if (i > 0) {
        last[tree_[parent].feature] = i;
        todo.push_back(~i);
      }
      const Node& node = tree_[i];
      if (node.feature < 0) continue;
      above_[i] = last[node.feature];
      const double n_left = double(tree_[node.left].count),
                   n_right = double(tree_[node.right].count);
      const double share = n_left + n_right > 0 ? n_left / (n_left + n_right) : 0.5;
      const double above_share = edges_[above_[i]].path_share;
      edges_[node.left] = {i, share, share * above_share};
      edges_[node.right] = {i, 1 - share, (1 - share) * above_share};
      n_above[node.left] = n_above[node.right] = n_above[i] + (above_[i] == 0);
      todo.insert(todo.end(), {node.left, node.right});
    }
    const int most = *std::max_element(n_above.begin(), n_above.end());
    n_vectors_ = std::max(1, (most + 2 * kLanes - 1) / (2 * kLanes));
  }

  void find_factors() {
    points_ = quadrature(n_vectors_);
    factors_ = Buffer<Factors>(int64_t(tree_.size()) * n_vectors_);
    std::vector<double> expected(tree_.size());
    for (size_t i = tree_.size(); i-- > 0;) {
      const Node& node = tree_[i];
      expected[i] = node.feature < 0 ? node.value
                                     : expected[node.left] * edges_[node.left].share +
                                           expected[node.right] * edges_[node.right].share;
      if (i == 0) break;
      const double z = edges_[i].path_share;
      const double z_above = edges_[above_[edges_[i].parent]].path_share;
      for (int v = 0; v < n_vectors_; ++v) {
        const Lanes t = points_.at[v];
        Factors& to = factors_.data()[i * n_vectors_ + v];
        for (const bool is_hot : {false, true}) {
          to.step[is_hot] = factor(z, is_hot, t) / factor(z_above, true, t);
          to.share[is_hot] = points_.weight[v] * (gain(z, is_hot, t) - gain(z_above, true, t));
        }
      }
    }
    expected_ = expected[0];
  }

  // Of the factors of the features on the path to each node.
  template <int kVectors>
  void find_products(Scratch& s) const {
    const int n = kVectors ? kVectors : n_vectors_;
    std::fill_n(s.products.begin(), n, Lanes{} + 1);
    for (size_t i = 0; i < tree_.size(); ++i) {
      const Node& node = tree_[i];
      if (node.feature < 0) continue;
      const Lanes* from = &s.products[i * n];
      for (const int32_t child : {node.left, node.right}) {
        Lanes* to = &s.products[size_t(child) * n];
        const Factors* factors = factors_.data() + int64_t(child) * n;
        if (s.is_hot[above_[i]])
          for (int v = 0; v < n; ++v) to[v] = from[v] * factors[v].step[s.is_hot[child]];
        else
          for (int v = 0; v < n; ++v) to[v] = from[v] * edges_[child].share;
      }
    }
  }

  // The products become sums over the leaves below.
  template <int kVectors>
  void add_values_at(Scratch& s, double* out) const {
    const int n = kVectors ? kVectors : n_vectors_;
    find_products<kVectors>(s);
    for (size_t i = tree_.size(); i-- > 0;) {
      const Node& node = tree_[i];
      Lanes* sums = &s.products[i * n];
      if (node.feature < 0) {
        for (int v = 0; v < n; ++v) sums[v] *= node.value;
        continue;
      }
      const Lanes* left = &s.products[size_t(node.left) * n];
      const Lanes* right = &s.products[size_t(node.right) * n];
      for (int v = 0; v < n; ++v) sums[v] = left[v] + right[v];
      if (!s.is_hot[above_[i]]) continue;  // what it gets below a cold edge, it has got there
      const Factors* of_left = factors_.data() + int64_t(node.left) * n;
      const Factors* of_right = factors_.data() + int64_t(node.right) * n;
      const bool left_hot = s.is_hot[node.left], right_hot = s.is_hot[node.right];
      Lanes got{};
      for (int v = 0; v < n; ++v)
        got += of_left[v].share[left_hot] * left[v] + of_right[v].share[right_hot] * right[v];
      out[node.feature] += sum_of(got);
    }
  }

  // The features on a leaf's path, by their last edges.
  void find_gains(int32_t leaf, Scratch& s) const {
    s.features.clear();
    s.gains.clear();
    for (int32_t i = leaf; i != 0; i = edges_[i].parent) {
      const int32_t feature = tree_[edges_[i].parent].feature;
      if (std::exchange(s.met_by[feature], leaf) == leaf) continue;
      s.features.push_back(feature);
      for (const Lanes t : points_.at)
        s.gains.push_back(gain(edges_[i].path_share, s.is_hot[i], t));
    }
  }

  const Tree& tree_;
  std::vector<Edge> edges_;
  std::vector<int32_t> above_;  // of a split: the last edge above of the same feature, or 0
  int n_vectors_ = 1;
  Points points_;
  Buffer<Factors> factors_;  // [n_nodes][n_vectors]
  double expected_ = 0;
};

// ---- All trees and rows

// Calls add(tree, scratch, place, what is expected) with the place, of place_size, of each row and
// tree, tree after tree.
template <class Add>
void for_trees(const Model& model, const MatrixView& X, int64_t begin_iteration,
               int64_t end_iteration, Team& team, int64_t place_size, double* out, const Add& add) {
  const int K = model.n_outputs;
  const int64_t end_tree = end_iteration * K;
  for (int64_t first = begin_iteration * K; first < end_tree; first += kTreesTogether) {
    const int64_t n_trees = std::min(kTreesTogether, end_tree - first);
    const int threads = team.threads_for(X.n_samples * n_trees, kTreesPerThread);
    std::vector<std::unique_ptr<ShapTree>> trees(n_trees);
    team.run(threads, n_trees, [&](int64_t i, int) {
      trees[i] = std::make_unique<ShapTree>(model.trees[first + i], model.n_features());
    });
    team.run_blocks(threads, X.n_samples, kRowBlock, [&](int64_t begin, int64_t end, int) {
      ShapTree::Scratch scratch;
      scratch.met_by.resize(model.n_features());
      visit_elements(X, [&](const auto* data) {
        for (int64_t t = 0; t < n_trees; ++t)
          for (int64_t i = begin; i < end; ++i) {
            trees[t]->find_hot(data + i * X.row_stride, X.column_stride, scratch);
            add(*trees[t], scratch, out + (i * K + (first + t) % K) * place_size);
          }
      });
    });
  }
}

}  // namespace

void shap_values(const Model& model, const MatrixView& X, int64_t begin_iteration,
                 int64_t end_iteration, Team& team, double* out) {
  const int64_t K = model.n_outputs, F = model.n_features();
  for (int64_t i = 0; i < X.n_samples * K; ++i) {
    std::fill_n(out + i * (F + 1), F, 0.0);
    out[i * (F + 1) + F] = model.base_score[i % K];
  }
  for_trees(model, X, begin_iteration, end_iteration, team, F + 1, out,
            [&](const ShapTree& tree, ShapTree::Scratch& scratch, double* values) {
              tree.add_values(scratch, values);
              values[F] += tree.expected();
            });
}

void shap_interactions(const Model& model, const MatrixView& X, int64_t begin_iteration,
                       int64_t end_iteration, Team& team, double* out) {
  const int64_t K = model.n_outputs, F = model.n_features(), stride = F + 1;
  std::fill_n(out, X.n_samples * K * stride * stride, 0.0);
  for (int64_t i = 0; i < X.n_samples * K; ++i)
    out[(i + 1) * stride * stride - 1] = model.base_score[i % K];
  for_trees(model, X, begin_iteration, end_iteration, team, stride * stride, out,
            [&](const ShapTree& tree, ShapTree::Scratch& scratch, double* place) {
              tree.add_pairs(scratch, stride, place);
              double* values = place + F * stride;  // they wait in the last line
              tree.add_values(scratch, values);
              values[F] += tree.expected();
            });
  for (int64_t i = 0; i < X.n_samples * K; ++i) {
    double* place = out + i * stride * stride;
    double* values = place + F * stride;
    for (int64_t f = 0; f < F; ++f) place[f * stride + f] = std::exchange(values[f], 0.0);
    for (int64_t a = 0; a < F; ++a)
      for (int64_t b = 0; b < a; ++b) {
        const double half = place[a * stride + b] / 2;
        place[a * stride + b] = place[b * stride + a] = half;
        place[a * stride + a] -= half;
        place[b * stride + b] -= half;
      }
  }
}

}  // namespace qgbdt
