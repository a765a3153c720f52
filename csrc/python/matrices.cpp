// Matrices: what is borrowed, and what is binned.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "../binned_matrix.h"
#include "../cpu/kernels.h"
#include "../missing_zeros.h"
#include "../support/parallel.h"
#include "border.h"

namespace qgbdt {
namespace {

// Throws unless the columns of a sparse matrix list rows in order.
void check_columns(const RowArray& rows, const LongArray& column_begin, int64_t n_samples,
                   int64_t n_features) {
  check(0 <= n_samples && n_samples <= INT32_MAX && n_features >= 0, "shape out of range");
  check(rows.ndim() == 1 && column_begin.ndim() == 1 && column_begin.size() == n_features + 1,
        "column_begin must have n_features + 1 values");
  const int64_t* const begin = column_begin.data();
  const int32_t* const row = rows.data();
  check(begin[0] == 0 && begin[n_features] == rows.size(), "columns must hold all values");
  for (int64_t f = 0; f < n_features; ++f) {
    check(begin[f] <= begin[f + 1] && begin[f + 1] <= rows.size(), "columns must be in order");
    for (int64_t i = begin[f]; i < begin[f + 1]; ++i)
      check((i == begin[f] ? 0 : row[i - 1] + int64_t(1)) <= row[i] && row[i] < n_samples,
            "the rows of a column must ascend");
  }
}

using RowBlocks = std::vector<std::pair<int64_t, int64_t>>;

// (number, rows) of each block; without any, a worker's rows are one, numbered by its rank.
GlobalRows global_rows(const std::optional<RowBlocks>& given, int64_t n_samples, Comm& comm) {
  std::vector<RowBlock> blocks;
  for (const auto& [number, n_rows] : given.value_or(RowBlocks{{comm.rank(), n_samples}})) {
    check(n_rows >= 0, "a block of rows has at least 0");
    blocks.push_back({number, n_rows});
  }
  return GlobalRows(blocks, comm);
}

// Of this worker's rows, among those of all workers.
py::array_t<int64_t> row_numbers(const BinnedMatrix& matrix) {
  py::array_t<int64_t> out(matrix.n_samples());
  int64_t* to = out.mutable_data();
  matrix.rows().for_stretches(0, matrix.n_samples(),
                              [&](int64_t begin, int64_t end, int64_t first_row) {
                                std::iota(to + begin, to + end, first_row + begin);
                              });
  return out;
}

using SharedBinning = std::shared_ptr<Binning>;

// Calls body(rows, comm, team) without the GIL.
template <class Body>
void with_rows(const std::optional<SharedComm>& shared_comm,
               const std::optional<RowBlocks>& row_blocks, int64_t n_samples, int64_t n_values,
               int n_threads, const Body& body) {
  with_comm(shared_comm, [&](Comm& comm) {
    comm.begin_phase("binning");
    GlobalRows rows = global_rows(row_blocks, n_samples, comm);
    with_team(threads_for(n_values, kValuesPerThread, n_threads),
              [&](Team& team) { body(std::move(rows), comm, team); });
  });
}

// The binning of X, and X as it is binned: where zero is missing, a copy.
template <class View>
std::pair<Binning, View> find_binning(const View& view, const GlobalRows& rows, int max_bin,
                                      const std::vector<int32_t>& n_categories,
                                      bool zero_is_missing, Comm& comm, Team& team,
                                      Buffer<uint8_t>* copy) {
  const auto is_categorical = [&](int32_t feature) {
    return feature < int32_t(n_categories.size()) && n_categories[feature] != kNotCategorical;
  };
  const View X = as_read(zero_is_missing, view, is_categorical, team, copy);
  Binning binning = find_binning(X, rows, max_bin, n_categories, comm, team);
  binning.zero_is_missing = zero_is_missing;
  return {std::move(binning), X};
}

std::unique_ptr<BinnedMatrix> laid_out(DenseBins columns, GlobalRows rows, const Binning& binning,
                                       bool, Comm& comm, Team& team) {
  return std::make_unique<BinnedMatrix>(std::move(columns), std::move(rows), binning, comm, team);
}
std::unique_ptr<BinnedMatrix> laid_out(const SparseBins& columns, GlobalRows rows,
                                       const Binning& binning, bool may_list, Comm& comm,
                                       Team& team) {
  return std::make_unique<BinnedMatrix>(columns, std::move(rows), binning, may_list, comm, team);
}

std::unique_ptr<BinnedMatrix> binned_matrix(const Matrix& X, int max_bin, int n_threads,
                                            const std::optional<SharedComm>& shared_comm,
                                            const std::optional<RowBlocks>& row_blocks,
                                            const std::vector<int32_t>& n_categories, bool may_list,
                                            bool zero_is_missing) {
  const BinKernels& kernels = choose_kernels().binning;
  std::unique_ptr<BinnedMatrix> matrix;
  std::visit(
      [&](const auto& view) {
        with_rows(shared_comm, row_blocks, view.n_samples, view.n_samples * view.n_features,
                  n_threads, [&](GlobalRows rows, Comm& comm, Team& team) {
                    Buffer<uint8_t> copy;
                    const auto [binning, X] = find_binning(view, rows, max_bin, n_categories,
                                                           zero_is_missing, comm, team, &copy);
                    matrix = laid_out(bin_columns(X, binning, kernels, team), std::move(rows),
                                      binning, may_list, comm, team);
                  });
      },
      view_of(X));
  return matrix;
}

SharedBinning binning_of(std::vector<std::vector<double>> thresholds,
                         std::vector<uint8_t> is_categorical, bool zero_is_missing) {
  Binning binning{std::move(thresholds), std::move(is_categorical), zero_is_missing};
  check_binning(binning);
  return std::make_shared<Binning>(std::move(binning));
}

SharedBinning found_binning(const Matrix& X, int max_bin, int n_threads,
                            const std::vector<int32_t>& n_categories, bool zero_is_missing) {
  Binning binning;
  std::visit(
      [&](const auto& view) {
        with_rows({}, {}, view.n_samples, view.n_samples * view.n_features, n_threads,
                  [&](const GlobalRows& rows, Comm& comm, Team& team) {
                    Buffer<uint8_t> copy;
                    binning = find_binning(view, rows, max_bin, n_categories, zero_is_missing, comm,
                                           team, &copy)
                                  .first;
                  });
      },
      view_of(X));
  return std::make_shared<Binning>(std::move(binning));
}

// Columns as they are kept: [n_features, n_samples], or those of the values that X lists.
ByteArray binned_columns(const Matrix& X, const SharedBinning& binning, int n_threads) {
  const BinKernels& kernels = choose_kernels().binning;
  return std::visit(
      [&](const auto& view) {
        check(view.n_features == binning->n_features(), "X has other features");
        ByteArray out;
        if constexpr (std::is_same_v<decltype(view), const MatrixView&>)
          out = ByteArray({view.n_features, view.n_samples});
        else out = ByteArray(view.column_begin[view.n_features]);
        uint8_t* const to = out.mutable_data();
        const int64_t n_bytes = out.size();
        const auto is_categorical = [&](int32_t f) { return binning->is_categorical[f] != 0; };
        const py::gil_scoped_release release;
        with_team(threads_for(view.n_samples * view.n_features, kValuesPerThread, n_threads),
                  [&](Team& team) {
                    Buffer<uint8_t> copy;
                    const auto X =
                        as_read(binning->zero_is_missing, view, is_categorical, team, &copy);
                    const auto columns = bin_columns(X, *binning, kernels, team);
                    std::copy_n(columns.bins, n_bytes, to);
                  });
        return out;
      },
      view_of(X));
}

py::object matrix_of_columns(const ByteArray& bins, const std::optional<LongArray>& rows,
                             const SharedBinning& binning, int n_threads,
                             const std::optional<SharedComm>& shared_comm,
                             const std::optional<RowBlocks>& row_blocks) {
  check(bins.ndim() == 2 && bins.shape(0) == binning->n_features(), "bins of other features");
  const int64_t n_kept = bins.shape(1), n_samples = rows ? rows->size() : n_kept;
  std::unique_ptr<BinnedMatrix> matrix;
  with_rows(shared_comm, row_blocks, n_samples, n_samples * binning->n_features(), n_threads,
            [&](GlobalRows global, Comm& comm, Team& team) {
              DenseBins columns =
                  rows ? kept_columns(bins.data(), n_kept, {rows->data(), size_t(n_samples)},
                                      *binning, team)
                       : kept_columns(bins.data(), n_kept, *binning, team);
              matrix = std::make_unique<BinnedMatrix>(std::move(columns), std::move(global),
                                                      *binning, comm, team);
            });
  py::object found = py::cast(std::move(matrix));
  found.attr("bins_of_others") = bins;  // so that they live as long
  return found;
}

// Of a sparse matrix.
std::unique_ptr<BinnedMatrix> matrix_of_lists(const ByteArray& bins, const RowArray& rows,
                                              const LongArray& column_begin, int64_t n_samples,
                                              const SharedBinning& binning, int n_threads,
                                              const std::optional<SharedComm>& shared_comm,
                                              const std::optional<RowBlocks>& row_blocks,
                                              bool may_list) {
  check(bins.ndim() == 1 && bins.size() == rows.size(), "one row per bin");
  check_columns(rows, column_begin, n_samples, binning->n_features());
  std::unique_ptr<BinnedMatrix> matrix;
  with_rows(shared_comm, row_blocks, n_samples, n_samples * binning->n_features(), n_threads,
            [&](GlobalRows global, Comm& comm, Team& team) {
              const SparseBins columns = kept_columns({n_samples,
                                                       {},
                                                       bins.data(),
                                                       rows.data(),
                                                       column_begin.data(),
                                                       binning->zero_is_missing},
                                                      *binning);
              matrix = std::make_unique<BinnedMatrix>(columns, std::move(global), *binning,
                                                      may_list, comm, team);
            });
  return matrix;
}

py::array_t<uint8_t> bins_array(const BinnedMatrix& matrix) {
  py::array_t<uint8_t> out({matrix.n_samples(), int64_t(matrix.n_features())});
  auto to = out.mutable_unchecked<2>();
  std::vector<uint8_t> column(matrix.n_samples());
  for (int32_t f = 0; f < matrix.n_features(); ++f) {
    matrix.copy_column(f, column.data());
    for (int64_t i = 0; i < matrix.n_samples(); ++i) to(i, f) = column[i];
  }
  return out;
}

}  // namespace

const double* column_of(const DoubleArray& a, int64_t n, const char* what) {
  check(a.ndim() == 1 && a.shape(0) == n, what);
  return a.data();
}

MatrixView matrix_view(const void* data, const py::dtype& dtype, std::pair<int64_t, int64_t> shape,
                       std::pair<int64_t, int64_t> strides) {
  const bool is_float32 = dtype.equal(py::dtype::of<float>());
  check(is_float32 || dtype.equal(py::dtype::of<double>()), "X must be float32 or float64");
  const auto item = dtype.itemsize();
  check(strides.first % item == 0 && strides.second % item == 0 &&
            reinterpret_cast<uintptr_t>(data) % uintptr_t(item) == 0,
        "X must be aligned");
  return {data, is_float32, shape.first, shape.second, strides.first / item, strides.second / item};
}

MatrixView matrix_view(const py::array& X) {
  check(X.ndim() == 2, "X must be 2-D");
  return matrix_view(X.data(), X.dtype(), {X.shape(0), X.shape(1)}, {X.strides(0), X.strides(1)});
}

SparseMatrix::SparseMatrix(py::array values, RowArray rows, LongArray column_begin,
                           std::pair<int64_t, int64_t> shape)
    : values_(std::move(values)), rows_(std::move(rows)), column_begin_(std::move(column_begin)) {
  const bool is_float32 = py::isinstance<py::array_t<float, py::array::c_style>>(values_);
  check(is_float32 || py::isinstance<py::array_t<double, py::array::c_style>>(values_),
        "values must be float32 or float64");
  const auto [n_samples, n_features] = shape;
  check(values_.ndim() == 1 && rows_.size() == values_.size(), "one row per value");
  check_columns(rows_, column_begin_, n_samples, n_features);
  view_ = {values_.data(), is_float32, rows_.data(), column_begin_.data(), n_samples, n_features};
}

View view_of(const Matrix& X) {
  if (const auto* sparse = std::get_if<const SparseMatrix*>(&X)) {
    check(*sparse, "X must be an array");
    return (*sparse)->view();
  }
  return matrix_view(std::get<py::array>(X));
}

void bind_matrices(py::module_& m) {
  m.attr("LARGEST_ZERO") = kLargestZero;
  py::class_<SparseMatrix>(m, "SparseMatrix")
      .def(py::init<py::array, RowArray, LongArray, std::pair<int64_t, int64_t>>(),
           py::arg("values"), py::arg("rows"), py::arg("column_begin"), py::arg("shape"));

  py::class_<Binning, SharedBinning>(m, "Binning")
      .def(py::init(&binning_of), py::arg("thresholds"), py::arg("is_categorical"),
           py::arg("zero_is_missing"))
      .def(py::init(&found_binning), py::arg("X"), py::arg("max_bin"), py::arg("n_threads"),
           py::arg("n_categories"), py::arg("zero_is_missing"))
      .def_readonly("thresholds", &Binning::thresholds)
      .def_readonly("is_categorical", &Binning::is_categorical)
      .def(
          "columns",
          [](const SharedBinning& binning, const Matrix& X, int n_threads) {
            return binned_columns(X, binning, n_threads);
          },
          py::arg("X"), py::arg("n_threads"));

  py::class_<BinnedMatrix>(m, "BinnedMatrix", py::dynamic_attr())
      .def(py::init(&binned_matrix), py::arg("X"), py::arg("max_bin"), py::arg("n_threads"),
           py::arg("comm") = py::none(), py::arg("row_blocks") = py::none(),
           py::arg("n_categories") = std::vector<int32_t>(), py::arg("may_list") = true,
           py::arg("zero_is_missing") = false)
      .def_static("of_columns", &matrix_of_columns, py::arg("bins").noconvert(), py::arg("rows"),
                  py::arg("binning"), py::arg("n_threads"), py::arg("comm") = py::none(),
                  py::arg("row_blocks") = py::none())
      .def_static("of_lists", &matrix_of_lists, py::arg("bins"), py::arg("rows"),
                  py::arg("column_begin"), py::arg("n_samples"), py::arg("binning"),
                  py::arg("n_threads"), py::arg("comm") = py::none(),
                  py::arg("row_blocks") = py::none(), py::arg("may_list") = true)
      .def_property_readonly("n_samples", &BinnedMatrix::n_samples)
      .def_property_readonly("n_features", &BinnedMatrix::n_features)
      .def_property_readonly("n_bytes", &BinnedMatrix::n_bytes)
      .def_property_readonly("n_cells", &BinnedMatrix::n_cells)
      .def("row_numbers", &row_numbers)
      .def("bins", &bins_array)
      .def("bin_thresholds",
           [](const BinnedMatrix& matrix, int32_t feature) {
             check(0 <= feature && feature < matrix.n_features(), "feature out of range");
             return array_of(matrix.thresholds(feature));
           })
      .def("has_missing", [](const BinnedMatrix& matrix) {
        py::array_t<bool> out(matrix.n_features());
        for (int32_t f = 0; f < matrix.n_features(); ++f) out.mutable_at(f) = matrix.has_missing(f);
        return out;
      });
}

}  // namespace qgbdt
