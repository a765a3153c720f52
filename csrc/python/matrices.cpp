// Matrices: what is borrowed, and what is binned.
#include <cstdint>
#include <numeric>

#include "../binned_matrix.h"
#include "../cpu/kernels.h"
#include "../missing_zeros.h"
#include "../support/parallel.h"
#include "border.h"

namespace qgbdt {
namespace {

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

std::unique_ptr<BinnedMatrix> binned_matrix(const Matrix& X, int max_bin, int n_threads,
                                            const std::optional<SharedComm>& shared_comm,
                                            const std::optional<RowBlocks>& row_blocks,
                                            const std::vector<int32_t>& n_categories, bool may_list,
                                            bool zero_is_missing) {
  const Kernels& kernels = choose_kernels();
  std::unique_ptr<BinnedMatrix> matrix;
  const auto is_categorical = [&](int32_t feature) {
    return !n_categories.empty() && n_categories[feature] != kNotCategorical;
  };
  std::visit(
      [&](const auto& view) {
        const int64_t values = view.n_samples * view.n_features;
        with_comm(shared_comm, [&](Comm& comm) {
          GlobalRows rows = global_rows(row_blocks, view.n_samples, comm);
          with_team(threads_for(values, kValuesPerThread, n_threads), [&](Team& team) {
            Buffer<uint8_t> copy;
            const auto as_binned =
                zero_is_missing ? without_zeros(view, is_categorical, team, &copy) : view;
            matrix =
                std::make_unique<BinnedMatrix>(as_binned, std::move(rows), max_bin, n_categories,
                                               may_list, kernels.binning, comm, team);
          });
        });
      },
      view_of(X));
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

SparseMatrix::SparseMatrix(py::array values, py::array_t<int32_t, py::array::c_style> rows,
                           py::array_t<int64_t, py::array::c_style> column_begin,
                           std::pair<int64_t, int64_t> shape)
    : values_(std::move(values)), rows_(std::move(rows)), column_begin_(std::move(column_begin)) {
  const bool is_float32 = py::isinstance<py::array_t<float, py::array::c_style>>(values_);
  check(is_float32 || py::isinstance<py::array_t<double, py::array::c_style>>(values_),
        "values must be float32 or float64");
  const auto [n_samples, n_features] = shape;
  check(0 <= n_samples && n_samples <= INT32_MAX && n_features >= 0, "shape out of range");
  check(values_.ndim() == 1 && rows_.ndim() == 1 && rows_.size() == values_.size(),
        "one row per value");
  check(column_begin_.ndim() == 1 && column_begin_.size() == n_features + 1,
        "column_begin must have n_features + 1 values");
  const int64_t* const begin = column_begin_.data();
  const int32_t* const row = rows_.data();
  check(begin[0] == 0 && begin[n_features] == rows_.size(), "columns must hold all values");
  for (int64_t f = 0; f < n_features; ++f) {
    check(begin[f] <= begin[f + 1] && begin[f + 1] <= rows_.size(), "columns must be in order");
    for (int64_t i = begin[f]; i < begin[f + 1]; ++i)
      check((i == begin[f] ? 0 : row[i - 1] + int64_t(1)) <= row[i] && row[i] < n_samples,
            "the rows of a column must ascend");
  }
  view_ = {values_.data(), is_float32, row, begin, n_samples, n_features};
}

View view_of(const Matrix& X) {
  if (const auto* sparse = std::get_if<const SparseMatrix*>(&X)) {
    check(*sparse, "X must be an array");
    return (*sparse)->view();
  }
  return matrix_view(std::get<py::array>(X));
}

void bind_matrices(py::module_& m) {
  py::class_<SparseMatrix>(m, "SparseMatrix")
      .def(py::init<py::array, py::array_t<int32_t, py::array::c_style>,
                    py::array_t<int64_t, py::array::c_style>, std::pair<int64_t, int64_t>>(),
           py::arg("values"), py::arg("rows"), py::arg("column_begin"), py::arg("shape"));

  py::class_<BinnedMatrix>(m, "BinnedMatrix")
      .def(py::init(&binned_matrix), py::arg("X"), py::arg("max_bin"), py::arg("n_threads"),
           py::arg("comm") = py::none(), py::arg("row_blocks") = py::none(),
           py::arg("n_categories") = std::vector<int32_t>(), py::arg("may_list") = true,
           py::arg("zero_is_missing") = false)
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
