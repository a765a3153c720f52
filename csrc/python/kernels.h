// Single kernels for tests and benchmarks: the submodule qgbdt._core.kernels.
#pragma once

#include <pybind11/pybind11.h>

namespace qgbdt {

void bind_kernels(pybind11::module_& core);

}  // namespace qgbdt
