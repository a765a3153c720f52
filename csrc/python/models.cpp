// Models: what they predict and why, and their files.
#include <climits>

#include "../cpu/kernels.h"
#include "../missing_zeros.h"
#include "../model_io.h"
#include "../predictor.h"
#include "../shap.h"
#include "../support/parallel.h"
#include "border.h"

namespace qgbdt {
namespace {

template <class View>
void check_prediction(const Model& model, const View& X, int64_t begin, int64_t end) {
  check(X.n_features == model.n_features(), "X has another number of features than the model");
  check(0 <= begin && begin <= end && end <= model.n_iterations(), "iterations out of range");
}

// predict(team, out, init_score)
template <class View, class Predict>
py::array_t<double> predictions(const Predictor& predictor, const View& X, int64_t begin,
                                int64_t end, int n_threads,
                                const std::optional<DoubleArray>& init_score,
                                const Predict& predict) {
  check_prediction(predictor.model(), X, begin, end);
  py::array_t<double> out({X.n_samples, int64_t(predictor.model().n_outputs)});
  double* to = out.mutable_data();
  const double* const from = init_score ? init_score->data() : nullptr;
  check(!from || init_score->size() == out.size(), "init_score must have a value an output");
  const py::gil_scoped_release release;
  with_team(predictor.useful_threads(X.n_samples, end - begin, n_threads),
            [&](Team& team) { predict(team, to, from); });
  return out;
}

py::array_t<double> predict_matrix(const Predictor& predictor, const Matrix& X, int64_t begin,
                                   int64_t end, bool raw, int n_threads,
                                   const std::optional<DoubleArray>& init_score) {
  const PredictKernels& kernels = choose_kernels().prediction;
  return std::visit(
      [&](const auto& view) {
        return predictions(predictor, view, begin, end, n_threads, init_score,
                           [&](Team& team, double* to, const double* from) {
                             Buffer<uint8_t> values;
                             predictor.predict(as_read(predictor.model(), view, team, &values),
                                               begin, end, raw, kernels, team, to, from);
                           });
      },
      view_of(X));
}

py::array_t<double> predict_on_device(const Predictor& predictor, const DeviceMatrix& X,
                                      int64_t begin, int64_t end, bool raw, int n_threads,
                                      const std::optional<DoubleArray>& init_score) {
  const MatrixView view = X.view();
  return predictions(predictor, view, begin, end, n_threads, init_score,
                     [&](Team& team, double* to, const double* from) {
                       predictor.predict(*X.device, view, begin, end, raw, team, to, from);
                     });
}

// SHAP values [n_samples][n_outputs][n_features + 1], or interactions with one more such dimension.
py::array_t<double> explain(const Predictor& predictor, const py::array& X, int64_t begin,
                            int64_t end, int n_threads, bool pairs) {
  const Model& model = predictor.model();
  const MatrixView view = matrix_view(X);
  check_prediction(model, view, begin, end);
  check(!predictor.is_linear(), "only constant leaves are explained");
  const int64_t places = model.n_features() + 1;
  std::vector<int64_t> shape{view.n_samples, model.n_outputs, places};
  if (pairs) shape.push_back(places);
  py::array_t<double> out(shape);
  double* to = out.mutable_data();
  const py::gil_scoped_release release;
  with_team(n_threads, [&](Team& team) {
    Buffer<uint8_t> values;
    const MatrixView rows = as_read(model, view, team, &values);
    (pairs ? shap_interactions : shap_values)(model, rows, begin, end, team, to);
  });
  return out;
}

// [n_samples][n_trees]: numbers of leaves, or what they add.
template <class T, auto kQuestion>
py::array_t<T> of_leaves(const Predictor& predictor, const py::array& X, int64_t begin, int64_t end,
                         int n_threads) {
  const MatrixView view = matrix_view(X);
  check_prediction(predictor.model(), view, begin, end);
  py::array_t<T> out({view.n_samples, (end - begin) * predictor.model().n_outputs});
  T* to = out.mutable_data();
  const py::gil_scoped_release release;
  with_team(predictor.useful_threads(view.n_samples, end - begin, n_threads), [&](Team& team) {
    Buffer<uint8_t> values;
    (predictor.*kQuestion)(as_read(predictor.model(), view, team, &values), begin, end, team, to);
  });
  return out;
}

// The trees of all models, in their order, on the base scores of the first.
std::unique_ptr<Predictor> joined(const std::vector<const Predictor*>& models) {
  check(!models.empty(), "at least one model");
  Model all = models[0]->model();
  for (size_t i = 1; i < models.size(); ++i) {
    const Model& next = models[i]->model();
    check(next.is_alike(all), "the models are of different kinds");
    all.trees.insert(all.trees.end(), next.trees.begin(), next.trees.end());
  }
  return std::make_unique<Predictor>(std::move(all));
}

// What a file cannot say wrongly: which set a categorical split has, and which codes a set.
void check_sets(const Model& model) {
  check(model.categories.empty() || int32_t(model.categories.size()) == model.n_features(),
        "categories must have an entry for each feature");
  for (const Tree& tree : model.trees)
    for (const Node& node : tree)
      check(!node.is_categorical || (0 <= node.feature && node.feature < model.n_features() &&
                                     model.is_categorical(node.feature) && 0 <= node.threshold &&
                                     node.threshold < double(tree.category_sets.size())),
            "a categorical split has a feature that has categories, and a set");
}

// A leaf's constant, and the coefficients of features; without these it is constant.
using LinearFields = std::pair<double, std::vector<std::pair<int32_t, double>>>;

// Of all leaves of a tree, or of none.
void set_linear(const std::vector<LinearFields>& leaves, Tree* tree) {
  if (leaves.empty()) return;
  size_t n_leaves = 0;
  for (const Node& node : *tree) {
    std::vector<LinearTerm> terms;
    if (node.feature >= 0) {
      tree->linear.add(0, terms);
      continue;
    }
    check(n_leaves < leaves.size(), "a linear model for each leaf");
    const auto& [constant, coefficients] = leaves[n_leaves++];
    for (const auto& [feature, coefficient] : coefficients) terms.push_back({feature, coefficient});
    tree->linear.add(constant, terms);
  }
  check(n_leaves == leaves.size(), "a linear model for each leaf");
  if (tree->linear.empty()) tree->linear = {};
}

// Likewise; empty if all leaves are constant.
std::vector<LinearFields> linear_leaves(const Predictor& predictor, int64_t index) {
  check(0 <= index && index < int64_t(predictor.model().trees.size()), "tree out of range");
  const Tree& tree = predictor.model().trees[index];
  std::vector<LinearFields> leaves;
  for (size_t i = 0; i < tree.size() && !tree.linear.empty(); ++i) {
    if (tree[i].feature >= 0) continue;
    leaves.emplace_back(tree.linear.constants[i], std::vector<std::pair<int32_t, double>>());
    for (const LinearTerm& term : tree.linear.terms_of(i))
      leaves.back().second.emplace_back(term.feature, term.coefficient);
  }
  return leaves;
}

// A model of trees from elsewhere, proved as that of a file is.
std::unique_ptr<Predictor> of_trees(
    const std::string& objective, int32_t n_outputs, std::vector<double> base_score,
    std::vector<std::string> feature_names,
    const std::vector<py::array_t<Node, py::array::c_style>>& trees,
    std::vector<Categories> categories,
    const std::vector<std::vector<std::vector<int32_t>>>& category_sets,
    const std::vector<std::vector<LinearFields>>& linear_leaves, bool zero_is_missing) {
  Model model{
      {}, n_outputs, std::move(feature_names), std::move(base_score), {}, std::move(categories)};
  check(objective_from_name(objective, &model.objective), "unknown objective");
  if (!model.has_categories()) model.categories.clear();
  model.zero_is_missing = zero_is_missing;
  for (const auto& nodes : trees)
    model.trees.emplace_back().assign(nodes.data(), nodes.data() + nodes.size());
  check(category_sets.empty() || category_sets.size() == trees.size(), "sets for each tree");
  for (size_t i = 0; i < category_sets.size(); ++i)
    for (const std::vector<int32_t>& codes : category_sets[i]) {
      CategorySet& set = model.trees[i].category_sets.emplace_back();
      for (int32_t code : codes) {
        check(0 <= code && code < kMaxValueBins, "a code that is none");
        set.insert(code);
      }
    }
  check_sets(model);
  check(linear_leaves.empty() || linear_leaves.size() == trees.size(),
        "linear leaves of each tree");
  for (size_t i = 0; i < linear_leaves.size(); ++i) set_linear(linear_leaves[i], &model.trees[i]);
  return std::make_unique<Predictor>(model_from_text(model_to_text(model)));
}

// The codes that go left in each categorical split of a tree.
std::vector<std::vector<int32_t>> category_sets(const Predictor& predictor, int64_t tree) {
  const Model& model = predictor.model();
  check(0 <= tree && tree < int64_t(model.trees.size()), "tree out of range");
  std::vector<std::vector<int32_t>> sets;
  for (const CategorySet& set : model.trees[tree].category_sets) {
    sets.emplace_back();
    for (int32_t code = 0; code < kMaxValueBins; ++code)
      if (set.contains(code)) sets.back().push_back(code);
  }
  return sets;
}

}  // namespace

void bind_models(py::module_& m) {
  PYBIND11_NUMPY_DTYPE(Node, feature, left, right, missing_left, is_categorical, threshold, value,
                       gain, count, sum_hessian);
  py::class_<Predictor>(m, "Model")
      .def_property_readonly("objective",
                             [](const Predictor& p) { return objective_name(p.model().objective); })
      .def_property_readonly("custom",
                             [](const Predictor& p) -> std::optional<CustomFields> {
                               const auto& custom = p.model().custom;
                               if (!custom) return {};
                               return CustomFields{custom->name, link_name(custom->link),
                                                   custom->source, custom->parameters};
                             })
      .def_property_readonly("n_features",
                             [](const Predictor& p) { return p.model().n_features(); })
      .def_property_readonly("n_outputs", [](const Predictor& p) { return p.model().n_outputs; })
      .def_property_readonly("n_trees", [](const Predictor& p) { return p.model().trees.size(); })
      .def_property_readonly("feature_names",
                             [](const Predictor& p) { return p.model().feature_names; })
      .def_property_readonly("categories", [](const Predictor& p) { return p.model().categories; })
      .def_property_readonly("refuses_unseen",
                             [](const Predictor& p) { return p.model().refuses_unseen; })
      .def_property_readonly("has_linear_leaves", &Predictor::is_linear)
      .def_property_readonly("zero_is_missing",
                             [](const Predictor& p) { return p.model().zero_is_missing; })
      .def("category_sets", &category_sets, py::arg("tree"))
      .def("linear_leaves", &linear_leaves, py::arg("tree"))
      .def_property_readonly("base_score",
                             [](const Predictor& p) { return array_of(p.model().base_score); })
      .def("tree",
           [](const Predictor& p, int64_t i) {
             check(0 <= i && i < int64_t(p.model().trees.size()), "tree out of range");
             return array_of(p.model().trees[i]);
           })
      .def("predict", &predict_matrix, py::arg("X"), py::arg("start_iteration"),
           py::arg("end_iteration"), py::arg("raw"), py::arg("n_threads"),
           py::arg("init_score") = py::none())
      .def("predict", &predict_on_device, py::arg("X"), py::arg("start_iteration"),
           py::arg("end_iteration"), py::arg("raw"), py::arg("n_threads"),
           py::arg("init_score") = py::none())
      .def("explain", &explain, py::arg("X"), py::arg("start_iteration"), py::arg("end_iteration"),
           py::arg("n_threads"), py::arg("pairs"))
      .def("leaf_numbers", &of_leaves<int32_t, &Predictor::leaf_numbers>, py::arg("X"),
           py::arg("start_iteration"), py::arg("end_iteration"), py::arg("n_threads"))
      .def("leaf_values", &of_leaves<double, &Predictor::leaf_values>, py::arg("X"),
           py::arg("start_iteration"), py::arg("end_iteration"), py::arg("n_threads"))
      .def(
          "useful_threads",
          [](const Predictor& p, int64_t n_samples, int64_t begin, int64_t end) {
            return p.useful_threads(n_samples, end - begin, INT_MAX);
          },
          py::arg("n_samples"), py::arg("start_iteration"), py::arg("end_iteration"))
      .def("to_bytes", [](const Predictor& p) { return py::bytes(model_to_text(p.model())); })
      .def_static("from_bytes",
                  [](const py::bytes& data) {
                    return std::make_unique<Predictor>(model_from_text(std::string_view(data)));
                  })
      .def(
          "iterations",
          [](const Predictor& p, int64_t begin, int64_t end) {
            check(0 <= begin && begin <= end && end <= p.model().n_iterations(),
                  "iterations out of range");
            return std::make_unique<Predictor>(p.model().iterations(begin, end));
          },
          py::arg("begin"), py::arg("end"))
      .def_static("joined", &joined)
      .def_static("of_trees", &of_trees, py::arg("objective"), py::arg("n_outputs"),
                  py::arg("base_score"), py::arg("feature_names"), py::arg("trees"),
                  py::arg("categories") = std::vector<Categories>(),
                  py::arg("category_sets") = std::vector<std::vector<std::vector<int32_t>>>(),
                  py::arg("linear_leaves") = std::vector<std::vector<LinearFields>>(),
                  py::arg("zero_is_missing") = false)
      .def_property_readonly_static("node_dtype",
                                    [](const py::object&) { return py::dtype::of<Node>(); });
}

}  // namespace qgbdt
