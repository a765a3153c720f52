// The border to Python: ndarrays become borrowed spans with named checks, the GIL is released for
// all work, and nothing here knows how trees are grown.
#include "../cpu/kernels.h"
#include "../model_io.h"
#include "../support/parallel.h"
#include "border.h"

PYBIND11_MODULE(_core, m) {
  using namespace qgbdt;
  m.doc() = "The native core of qgbdt. Private: use the estimators and qgbdt.Booster.";
  py::register_exception<ModelFormatError>(m, "ModelFormatError", PyExc_ValueError);
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const DeviceFailure& failure) {
      py::set_error(py::module_::import("qgbdt.errors").attr("DeviceError"), failure.what());
    } catch (const WorkersDiffer& difference) {
      py::set_error(py::module_::import("qgbdt.errors").attr("DistributedError"),
                    difference.what());
    }
  });
  py::register_exception<WorkerLost>(m, "WorkerLost", PyExc_ConnectionError);

  m.def("build_info", [] {
    py::dict info;
    py::list levels;
    const SimdLevels all = simd_levels();
    for (int i = 0; i < all.n; ++i) levels.append(all.levels[i].kernels->name);
    info["openmp"] = built_with_openmp();
    info["compiler"] = __VERSION__;
    info["simd_compiled"] = levels;
    return info;
  });
  m.def("simd_levels", [] {
    std::vector<std::string> names;
    const SimdLevels all = simd_levels();
    for (int i = 0; i < all.n; ++i)
      if (all.levels[i].runs_here) names.push_back(all.levels[i].kernels->name);
    return names;
  });
  m.def("simd_level", [] { return std::string(choose_kernels().name); });

  bind_devices(m);
  bind_comms(m);
  bind_matrices(m);
  bind_models(m);
  bind_training(m);
  bind_kernels(m);
  bind_device_on_host(m);
}
