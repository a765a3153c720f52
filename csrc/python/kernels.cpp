// Single kernels for tests and benchmarks: the submodule qgbdt._core.kernels.
#include "../cpu/kernels.h"

#include <cmath>
#include <numeric>

#include "../binned_matrix.h"
#include "../cox.h"
#include "../histogram_codec.h"
#include "../model_io.h"
#include "border.h"

namespace qgbdt {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// ---- split search

// A split as Python sees it: gain, gradients and hessians on the left, bin, missing_left.
using PlainSplit = std::tuple<double, int32_t, int32_t, int32_t, bool>;

// The sign of the features, and what the values of the nodes lie between.
using ValueLimits = std::tuple<int32_t, double, double, double, double>;

// Features of one number of bins, each with a node of its own.
struct SearchedFeatures {
  int64_t n;
  BinOrder order;
  std::vector<HistCell> cells;  // [n][n_places], as the next two
  std::vector<uint32_t> lanes, counts;
  std::vector<NodeRules> rules;
  std::vector<int32_t> total_counts;
};

// histograms: gradients, hessians and rows of the value bins in order, then of the missing one.
SearchedFeatures lay_out(const Array<int64_t>& histograms, bool as_lanes, const SplitParams& p,
                         const Bounds& bounds) {
  check(histograms.ndim() == 3 && histograms.shape(1) >= 2 && histograms.shape(1) <= kBinPlaces &&
            histograms.shape(2) == 3,
        "histograms must be [n][2 to 256 bins][3]");
  const int64_t n = histograms.shape(0), n_bins = histograms.shape(1);
  const int64_t most[] = {as_lanes ? INT16_MAX : kMaxCellSum, as_lanes ? UINT16_MAX : kMaxCellSum,
                          kMaxCellSum};
  const int32_t missing_bin = int32_t(n_bins) - 1;
  SearchedFeatures f{n, order_of_bins(missing_bin), {}, {}, {}, {}, {}};
  const int64_t n_places = f.order.n_places();
  f.cells.resize(n * n_places);
  f.lanes.resize(n * n_places);
  f.counts.resize(n * n_places);
  const auto bins = histograms.unchecked<3>();
  for (int64_t i = 0; i < n; ++i) {
    HistCell total = 0;
    int64_t magnitudes[3] = {};
    for (int32_t b = 0; b < n_bins; ++b) {
      for (int k = 0; k < 3; ++k) {
        check(bins(i, b, k) <= most[k] && bins(i, b, k) >= (k == 0 ? -most[k] : 0),
              "a bin is out of range");
        magnitudes[k] += bins(i, b, k) < 0 ? -bins(i, b, k) : bins(i, b, k);
      }
      const int64_t at = i * n_places + f.order.place(position_of_bin(b, missing_bin));
      f.cells[at] = make_cell(int32_t(bins(i, b, 0)), int32_t(bins(i, b, 1)));
      if (as_lanes) f.lanes[at] = cell_lane(f.cells[at]);
      f.counts[at] = uint32_t(bins(i, b, 2));
      total += f.cells[at];
    }
    for (int k = 0; k < 3; ++k) check(magnitudes[k] <= most[k], "a sum is out of range");
    check(magnitudes[2] > 0, "a node has rows");
    f.rules.push_back(rules_of_node(p, total, magnitudes[2], bounds));
    f.total_counts.push_back(int32_t(magnitudes[2]));
  }
  return f;
}

// bound_first: as a machine does, only where a split may gain at_least.
std::vector<PlainSplit> find_splits(const Array<int64_t>& histograms, const Array<double>& at_least,
                                    bool bound_first, bool as_lanes, bool check_counts,
                                    double gradient_scale, double hessian_scale, double reg_alpha,
                                    double reg_lambda, double min_split_gain,
                                    double min_child_weight, double max_step,
                                    int32_t min_child_samples, bool constant_hessian,
                                    const std::optional<ValueLimits>& limits, int passes) {
  check(min_child_samples >= 1, "min_child_samples must be at least 1");
  const int32_t any_levels = 1;  // of hessians; the search does not ask
  const auto [sign, lower, upper, above, path_smooth] =
      limits.value_or(ValueLimits{0, -HUGE_VAL, HUGE_VAL, 0, 0});
  const SplitParams params{gradient_scale,
                           hessian_scale,
                           reg_alpha,
                           reg_lambda,
                           min_child_weight,
                           min_split_gain,
                           max_step,
                           min_child_samples,
                           any_levels,
                           constant_hessian,
                           path_smooth,
                           limits.has_value(),
                           {}};
  const SearchedFeatures f = lay_out(histograms, as_lanes, params, {lower, upper, above});
  check(at_least.size() == f.n, "at_least must have a value a histogram");
  const Kernels& kernels = choose_kernels();
  std::vector<PlainSplit> found(f.n);
  for (int pass = 0; pass < passes; ++pass)
    for (int64_t i = 0; i < f.n; ++i) {
      const int64_t at = i * f.order.n_places();
      const FeatureBins bins{&f.cells[at], as_lanes ? &f.lanes[at] : nullptr, f.order, sign};
      found[i] = {};
      if (bound_first &&
          kernels.bound_splits(bins, f.rules[i]) < bound_of_gain(at_least.data()[i], f.rules[i]))
        continue;
      const FeatureSplit s = kernels.find_split(bins, check_counts ? &f.counts[at] : nullptr,
                                                f.total_counts[i], f.rules[i], at_least.data()[i]);
      found[i] = {s.gain, cell_gradient(s.left), cell_hessian(s.left), s.bin, s.missing_left};
    }
  return found;
}

// ---- gradients

void gradients(const std::string& objective, const Array<double>& target,
               const std::optional<Array<double>>& weight, Array<double>& raw_prediction,
               Array<float>& gradient, Array<float>& hessian) {
  ObjectiveKind kind;
  check(objective_from_name(objective, &kind) && !is_ranking(kind) && kind != ObjectiveKind::custom,
        "objective must be a built-in one without queries");
  const int64_t n_outputs = raw_prediction.ndim() == 2 ? raw_prediction.shape(0) : 0;
  check(fits_outputs(kind, int(n_outputs)), "n_outputs and objective differ");
  const int64_t n = target.size() / n_targets(kind, int(n_outputs));
  const int64_t n_values = raw_prediction.size();
  check(n_values == n_outputs * n, "raw_prediction must be [n_outputs][n]");
  check(
      gradient.size() == n_values && hessian.size() == n_values && (!weight || weight->size() == n),
      "arrays differ in size");
  const RowData rows{n,
                     int32_t(n_outputs),
                     target.data(),
                     weight ? weight->data() : nullptr,
                     raw_prediction.mutable_data(),
                     gradient.mutable_data(),
                     hessian.mutable_data()};
  if (kind == ObjectiveKind::cox) {
    const CoxGradients cox({rows.target, size_t(n)}, rows.weight);
    cox({rows.raw_prediction, size_t(n)}, {rows.gradient, size_t(n)}, {rows.hessian, size_t(n)});
    return;
  }
  std::vector<GradientRange> ranges(n_outputs);
  const double tweedie_variance_power = 1.5, alpha = 0.9, fair_c = 1, aft_scale = 0.5;
  choose_kernels().gradients(kind,
                             {tweedie_variance_power, alpha, fair_c, Noise::normal, aft_scale},
                             rows, 0, n, ranges.data());
}

template <class Pair>
std::pair<int32_t, int32_t> quantize(const Array<float>& gradient, const Array<float>& hessian,
                                     double gradient_step, int32_t gradient_levels,
                                     double hessian_step, int32_t hessian_levels,
                                     bool constant_hessian, bool stochastic, uint64_t key,
                                     Array<Pair>& pairs) {
  const int64_t n = gradient.size();
  check(hessian.size() == n && pairs.size() == n, "arrays differ in size");
  const Quantization q{{gradient_step, 1 / gradient_step, gradient_levels},
                       {hessian_step, 1 / hessian_step, hessian_levels},
                       constant_hessian,
                       stochastic,
                       key};
  const Kernels& kernels = choose_kernels();
  HistCell sum;
  if constexpr (sizeof(Pair) == sizeof(Pair8))
    sum = kernels.quantize8(q, gradient.data(), hessian.data(), 0, 0, n, pairs.mutable_data());
  else sum = kernels.quantize16(q, gradient.data(), hessian.data(), 0, 0, n, pairs.mutable_data());
  return {cell_gradient(sum), cell_hessian(sum)};
}

// ---- histogram

TileView view_of(const Array<uint8_t>& tile, int64_t n_lanes) {
  check(tile.ndim() == 2 && tile.shape(1) % 4 == 0 && tile.shape(1) >= 4 &&
            tile.shape(1) <= kTileBytes,
        "tile must be [n][4, 8, ... 32]");
  check(n_lanes == tile.shape(1) * kBinPlaces, "lanes must be 256 a byte");
  return {tile.data(), int32_t(tile.shape(1)), int32_t(tile.shape(1))};
}

template <class Pair, class Lane>
void add_rows(const Array<uint8_t>& tile, const Array<uint32_t>& rows, const Array<Pair>& pairs,
              Array<Lane>& lanes) {
  const TileView view = view_of(tile, lanes.size());
  check(pairs.size() == tile.shape(0), "pairs must be one a row of the tile");
  const Kernels& kernels = choose_kernels();
  if constexpr (sizeof(Pair) == sizeof(Pair8))
    kernels.add_rows8(view, rows.data(), rows.size(), pairs.data(), lanes.mutable_data());
  else kernels.add_rows16(view, rows.data(), rows.size(), pairs.data(), lanes.mutable_data());
}

// The stores of add_rows alone, for a tile of 32 bytes: its floor.
void store_rows(const Array<uint8_t>& tile, const Array<uint32_t>& rows, Array<uint32_t>& lanes) {
  const TileView view = view_of(tile, lanes.size());
  check(view.stride == kTileBytes, "tile must be [n][32]");
  uint32_t* const to = lanes.mutable_data();
  const uint32_t* const listed = rows.data();
  const int64_t n = rows.size();
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t row = listed[i];
    const uint8_t* bins = view.bins + int64_t(row) * kTileBytes;
#pragma GCC unroll 8
    for (int f = 0; f < kTileBytes; f += 4) {
      uint32_t four;
      __builtin_memcpy(&four, bins + f, 4);
      uint32_t* const lane = to + f * kBinPlaces;
      lane[four & 0xff] = row;
      lane[kBinPlaces + ((four >> 8) & 0xff)] = row;
      lane[2 * kBinPlaces + ((four >> 16) & 0xff)] = row;
      lane[3 * kBinPlaces + (four >> 24)] = row;
    }
  }
}

template <class Pair, class Sum>
void add_sparse_rows(const Array<uint32_t>& row_begin, const Array<uint16_t>& entries,
                     const Array<uint32_t>& rows, const Array<Pair>& pairs, Array<Sum>& sums) {
  const int64_t n = pairs.size();
  check(row_begin.size() == n + 1 && row_begin.data()[n] == entries.size(),
        "row_begin must be [n + 1] and end with the number of entries");
  const SparseTileView tile{row_begin.data(), entries.data()};
  const Kernels& kernels = choose_kernels();
  if constexpr (sizeof(Sum) == sizeof(uint32_t))
    kernels.add_sparse_rows8(tile, rows.data(), rows.size(), pairs.data(), sums.mutable_data());
  else if constexpr (sizeof(Pair) == sizeof(Pair8))
    kernels.add_sparse_cells8(tile, rows.data(), rows.size(), pairs.data(), sums.mutable_data());
  else
    kernels.add_sparse_cells16(tile, rows.data(), rows.size(), pairs.data(), sums.mutable_data());
}

template <class Lane>
void part_bundle(const Array<int32_t>& n_positions, Array<Lane>& codes, Array<Lane>& places,
                 int passes) {
  std::vector<BinOrder> orders;
  int64_t n_codes = 1, n_places = 0;
  for (int64_t i = 0; i < n_positions.size(); ++i) {
    check(2 <= n_positions.data()[i] && n_positions.data()[i] <= kBinPlaces,
          "n_positions must be in [2, 256]");
    n_codes *= n_positions.data()[i];
    check(n_codes <= kBinPlaces, "a bundle has at most 256 codes");
    orders.push_back(order_of_bins(n_positions.data()[i] - 1));
    n_places += orders.back().n_places();
  }
  check(codes.size() == n_codes, "codes must be the product of n_positions");
  check(places.size() == n_places, "places must be those of all features");
  const BundleView bundle{n_positions.data(), orders.data(), int32_t(orders.size())};
  const Kernels& kernels = choose_kernels();
  for (int pass = 0; pass < passes; ++pass)
    if constexpr (sizeof(Lane) == sizeof(uint32_t))
      kernels.part_bundle8(bundle, codes.mutable_data(), places.mutable_data());
    else kernels.part_bundle16(bundle, codes.mutable_data(), places.mutable_data());
}

template <class Lane>
void flush(const Array<Lane>& lanes, Array<HistCell>& cells) {
  check(lanes.size() == cells.size(), "arrays differ in size");
  if constexpr (sizeof(Lane) == sizeof(uint32_t))
    choose_kernels().flush8(lanes.data(), lanes.size(), cells.mutable_data());
  else choose_kernels().flush16(lanes.data(), lanes.size(), cells.mutable_data());
}

template <class Lane>
void subtract(const Array<Lane>& lanes, Array<HistCell>& cells) {
  check(lanes.size() == cells.size(), "arrays differ in size");
  if constexpr (sizeof(Lane) == sizeof(uint32_t))
    choose_kernels().subtract8(lanes.data(), lanes.size(), cells.mutable_data());
  else choose_kernels().subtract16(lanes.data(), lanes.size(), cells.mutable_data());
}

// ---- histograms between workers

py::bytes pack(const Array<HistCell>& cells) {
  check(cells.size() % kRuns == 0, "cells must be a multiple of 8");
  Bytes bytes;
  pack_cells(cells.data(), int32_t(cells.size()), &bytes);
  return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void add_packed(const py::bytes& bytes, Array<HistCell>& cells) {
  check(cells.size() % kRuns == 0, "cells must be a multiple of 8");
  const std::string_view text = bytes;
  CellReader reader({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  reader.add_to(cells.mutable_data(), int32_t(cells.size()));
  check(reader.is_done(), "bytes are left over");
}

// ---- rows

int64_t count_left(const Array<uint32_t>& rows, const Array<uint8_t>& column, int32_t bin,
                   int32_t missing_left_bin) {
  return choose_kernels().count_left(rows.data(), rows.size(), column.data(), bin,
                                     missing_left_bin);
}

int64_t partition(Array<uint32_t>& rows, const Array<uint8_t>& column, int32_t bin,
                  int32_t missing_left_bin, Array<uint32_t>& right) {
  check(right.size() == rows.size(), "right must be as long as rows");
  return choose_kernels().partition(rows.mutable_data(), rows.size(), column.data(), bin,
                                    missing_left_bin, right.mutable_data());
}

void mark_leaf(const Array<uint32_t>& rows, uint32_t leaf, Array<uint32_t>& leaf_of_row) {
  choose_kernels().mark_leaf(rows.data(), rows.size(), leaf, leaf_of_row.mutable_data());
}

// sums: gradient and hessian of each leaf, added to.
void leaf_sums(const Array<uint32_t>& leaf_of_row, const Array<float>& gradient,
               const Array<float>& hessian, double gradient_scale, double hessian_scale,
               Array<int64_t>& sums) {
  const int64_t n = leaf_of_row.size();
  check(gradient.size() == n && hessian.size() == n, "arrays differ in size");
  check(sums.ndim() == 2 && sums.shape(1) == 2, "sums must be [n_leaves][2]");
  static_assert(sizeof(LeafSums) == 2 * sizeof(int64_t));
  choose_kernels().leaf_sums(leaf_of_row.data(), 0, n, gradient.data(), hessian.data(),
                             gradient_scale, hessian_scale,
                             reinterpret_cast<LeafSums*>(sums.mutable_data()));
}

void add_leaf_values(const Array<uint32_t>& leaf_of_row, const Array<double>& values,
                     Array<double>& raw_prediction) {
  const int64_t n = leaf_of_row.size();
  check(raw_prediction.size() == n, "arrays differ in size");
  choose_kernels().add_leaf_values(leaf_of_row.data(), 0, n, values.data(),
                                   raw_prediction.mutable_data());
}

}  // namespace

void bind_kernels(py::module_& core) {
  py::module_ m = core.def_submodule(
      "kernels",
      "Single kernels of the SIMD level in use, for tests and benchmarks; no public interface. "
      "Results are written into the arrays given for them, whose types choose between 8 and 16 "
      "bits. Types and sizes are checked; row, leaf and cell numbers are not, for that would be "
      "timed too.");
  // Arrays are never converted: what is written into a copy would be lost.
  const auto array = [](const char* name) { return py::arg(name).noconvert(); };
  const auto def = [&m](const char* name, auto function, auto... args) {
    m.def(name, function, args..., py::call_guard<py::gil_scoped_release>());
  };

  def("find_splits", &find_splits, array("histograms"), array("at_least"), py::kw_only(),
      py::arg("bound_first"), py::arg("as_lanes"), py::arg("check_counts"),
      py::arg("gradient_scale"), py::arg("hessian_scale"), py::arg("reg_alpha"),
      py::arg("reg_lambda"), py::arg("min_split_gain"), py::arg("min_child_weight"),
      py::arg("max_step"), py::arg("min_child_samples"), py::arg("constant_hessian"),
      py::arg("limits") = py::none(), py::arg("passes") = 1);
  def("gradients", &gradients, py::arg("objective"), array("target"), array("weight"),
      array("raw_prediction"), array("gradient"), array("hessian"));
  const auto def_quantize = [&](auto function) {
    def("quantize", function, array("gradient"), array("hessian"), py::arg("gradient_step"),
        py::arg("gradient_levels"), py::arg("hessian_step"), py::arg("hessian_levels"),
        py::arg("constant_hessian"), py::arg("stochastic"), py::arg("key"), array("pairs"));
  };
  def_quantize(&quantize<Pair8>);
  def_quantize(&quantize<Pair16>);
  const auto def_add_rows = [&](auto function) {
    def("add_rows", function, array("tile"), array("rows"), array("pairs"), array("lanes"));
  };
  def_add_rows(&add_rows<Pair8, uint32_t>);
  def_add_rows(&add_rows<Pair16, HistCell>);
  def("store_rows", &store_rows, array("tile"), array("rows"), array("lanes"));
  const auto def_add_sparse_rows = [&](auto function) {
    def("add_sparse_rows", function, array("row_begin"), array("entries"), array("rows"),
        array("pairs"), array("sums"));
  };
  def_add_sparse_rows(&add_sparse_rows<Pair8, uint32_t>);
  def_add_sparse_rows(&add_sparse_rows<Pair8, HistCell>);
  def_add_sparse_rows(&add_sparse_rows<Pair16, HistCell>);
  const auto def_part_bundle = [&](auto function) {
    def("part_bundle", function, array("n_positions"), array("codes"), array("places"),
        py::arg("passes") = 1);
  };
  def_part_bundle(&part_bundle<uint32_t>);
  def_part_bundle(&part_bundle<HistCell>);
  def("flush", &flush<uint32_t>, array("lanes"), array("cells"));
  def("flush", &flush<HistCell>, array("lanes"), array("cells"));
  def("subtract", &subtract<uint32_t>, array("lanes"), array("cells"));
  def("subtract", &subtract<HistCell>, array("lanes"), array("cells"));
  m.def("pack_cells", &pack, array("cells"));
  m.def("add_packed_cells", &add_packed, py::arg("bytes"), array("cells"));
  def("count_left", &count_left, array("rows"), array("column"), py::arg("bin"),
      py::arg("missing_left_bin"));
  def("partition", &partition, array("rows"), array("column"), py::arg("bin"),
      py::arg("missing_left_bin"), array("right"));
  def("mark_leaf", &mark_leaf, array("rows"), py::arg("leaf"), array("leaf_of_row"));
  def("leaf_sums", &leaf_sums, array("leaf_of_row"), array("gradient"), array("hessian"),
      py::arg("gradient_scale"), py::arg("hessian_scale"), array("sums"));
  def("add_leaf_values", &add_leaf_values, array("leaf_of_row"), array("values"),
      array("raw_prediction"));
}

}  // namespace qgbdt
