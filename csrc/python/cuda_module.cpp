// The module qgbdt._cuda, which only a build for GPUs has. It makes the core's Device.
#include <pybind11/pybind11.h>

#include <memory>

#include "../cuda/cuda_backend.h"

namespace py = pybind11;

PYBIND11_MODULE(_cuda, m) {
  using namespace qgbdt;
  m.doc() = "qgbdt on NVIDIA GPUs. Private: use device='cuda'.";
  py::module_::import("qgbdt._core");  // where Device is registered
  m.def("state", &gpu_state);
  m.def(
      "device",
      [](bool timed) -> std::shared_ptr<Device> {
        return std::make_shared<CudaDevice>(INT64_MAX, 0, timed);
      },
      py::arg("timed") = false);
}
