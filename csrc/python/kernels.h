// Single kernels for tests and benchmarks: the submodule qgbdt._core.kernels.
#pragma once

#include <pybind11/pybind11.h>

namespace qgbdt {

void bind_kernels(pybind11::module_& core);

// A device for tests: the submodule qgbdt._core.on_host.
void bind_device_on_host(pybind11::module_& core);

}  // namespace qgbdt
