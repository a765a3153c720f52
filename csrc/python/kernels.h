// Single kernels for tests and benchmarks: the submodule qgbdt._core.kernels.
#pragma once

#include <pybind11/pybind11.h>

namespace qgbdt {

void bind_kernels(pybind11::module_& core);
void bind_device_on_host(pybind11::module_& kernels);

}  // namespace qgbdt
