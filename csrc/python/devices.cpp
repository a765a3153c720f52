// Devices, and matrices that lie on them.
#include "../backend.h"
#include "border.h"

namespace qgbdt {
namespace {

py::array to_host(const DeviceMatrix& X) {
  const auto [n_rows, n_columns] = X.shape;
  const DeviceElements elements{static_cast<const uint8_t*>(X.first),
                                n_rows,
                                n_columns,
                                X.strides.first,
                                X.strides.second,
                                X.dtype.itemsize()};
  py::array out(X.dtype, {n_rows, n_columns});
  void* const to = out.mutable_data();
  const py::gil_scoped_release release;
  X.device->copy_out(elements, to);
  return out;
}

}  // namespace

void bind_devices(py::module_& m) {
  py::class_<Device, std::shared_ptr<Device>>(m, "Device")
      .def("kernel_times",
           [](const Device& device) {
             std::map<std::string, std::tuple<int64_t, double, int64_t>> times;
             for (const auto& [type, time] : device.kernel_times()) {
               std::string name = type.c_str();
               py::detail::clean_type_id(name);
               times[name] = {time.n_launches, time.seconds, time.work};
             }
             return times;
           })
      .def("run_bounds", &Device::run_bounds, py::arg("n_blocks"));

  using Pair = std::pair<int64_t, int64_t>;
  py::class_<DeviceMatrix>(m, "DeviceMatrix")
      .def(py::init([](std::shared_ptr<Device> device, uintptr_t address, py::dtype dtype,
                       Pair shape, Pair strides) {
             check(device && shape.first > 0 && shape.second > 0 && dtype.itemsize() > 0,
                   "a matrix on a device has elements");
             return DeviceMatrix{std::move(device), reinterpret_cast<const void*>(address),
                                 std::move(dtype), shape, strides};
           }),
           py::arg("device"), py::arg("address"), py::arg("dtype"), py::arg("shape"),
           py::arg("strides"))
      .def_readonly("dtype", &DeviceMatrix::dtype)
      .def_readonly("shape", &DeviceMatrix::shape)
      .def("to_host", &to_host);
}

}  // namespace qgbdt
