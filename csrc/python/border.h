// What the files of the border share: arrays borrowed with named checks, workers, and what binds
// each file's part of the module.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "../backend.h"
#include "../binning.h"
#include "../comm.h"
#include "../support/check.h"

namespace qgbdt {

namespace py = pybind11;

// ---- Arrays

using DoubleArray = py::array_t<double, py::array::c_style>;
using ByteArray = py::array_t<uint8_t, py::array::c_style>;
using RowArray = py::array_t<int32_t, py::array::c_style>;
using LongArray = py::array_t<int64_t, py::array::c_style>;

template <class T>
py::array_t<T> array_of(const std::vector<T>& values) {
  return py::array_t<T>(py::ssize_t(values.size()), values.data());
}

// Throws `what` unless it is one of n values.
const double* column_of(const DoubleArray& a, int64_t n, const char* what);

MatrixView matrix_view(const py::array& X);
MatrixView matrix_view(const void* data, const py::dtype& dtype, std::pair<int64_t, int64_t> shape,
                       std::pair<int64_t, int64_t> strides_in_bytes);

// A sparse matrix by columns, proved sound once; the arrays live as long as it does.
class SparseMatrix {
 public:
  SparseMatrix(py::array values, RowArray rows, LongArray column_begin,
               std::pair<int64_t, int64_t> shape);
  const SparseView& view() const { return view_; }

 private:
  py::array values_;
  py::array_t<int32_t> rows_;
  py::array_t<int64_t> column_begin_;
  SparseView view_;
};

// A matrix that lies on a device, in memory that its owner keeps; strides are in bytes.
struct DeviceMatrix {
  std::shared_ptr<Device> device;
  const void* first;
  py::dtype dtype;
  std::pair<int64_t, int64_t> shape, strides;

  MatrixView view() const { return matrix_view(first, dtype, shape, strides); }
};

using Matrix = std::variant<const SparseMatrix*, py::array>;
using View = std::variant<MatrixView, SparseView>;

View view_of(const Matrix& X);

// ---- Workers

using SharedComm = std::shared_ptr<Comm>;

// Raises what a signal's handler raises.
void check_signals();

std::string name_of(const py::error_already_set& error);

// Runs body(comm) without the GIL. If it fails, so do the other workers.
template <class Body>
void with_comm(const std::optional<SharedComm>& shared, const Body& body) {
  AloneComm alone;
  Comm& comm = shared ? **shared : alone;
  const py::gil_scoped_release release;
  try {
    body(comm);
  } catch (const py::error_already_set& error) {
    comm.leave(name_of(error));
    throw;
  } catch (const std::exception& error) {
    comm.leave(error.what());
    throw;
  }
}

// ---- Models

// An objective of the user's: its name, link, hash of source, and parameters.
using CustomFields = std::tuple<std::string, std::string, std::string, std::string>;

// ---- The parts of the module

void bind_comms(py::module_& core);
void bind_devices(py::module_& core);
void bind_matrices(py::module_& core);
void bind_models(py::module_& core);
void bind_training(py::module_& core);

// Single kernels, and a GPU's machine on the host, for tests and benchmarks: the submodules kernels
// and on_host.
void bind_kernels(py::module_& core);
void bind_device_on_host(py::module_& core);

}  // namespace qgbdt
