// The GPU's machine on the host, and how its kernels are cut, for tests.
#include <algorithm>

#include "../cuda/cuda_backend.h"
#include "border.h"

namespace qgbdt {
namespace {

// (range, begin, end) of each chunk.
std::vector<std::tuple<int32_t, uint32_t, uint32_t>> cut_ranges(
    const std::vector<std::pair<uint32_t, uint32_t>>& given, uint32_t chunk_rows) {
  std::vector<RowRange> ranges;
  for (const auto& [begin, end] : given) ranges.push_back({begin, end});
  const std::vector<int64_t> first = first_chunks(ranges, chunk_rows);
  const RowChunks chunks{ranges.data(), first.data(), int32_t(ranges.size()), chunk_rows};
  std::vector<std::tuple<int32_t, uint32_t, uint32_t>> found;
  for (int64_t i = 0; i < first.back(); ++i) {
    const Chunk chunk = chunks.at(i);
    found.emplace_back(chunk.range, chunk.rows.begin, chunk.rows.end);
  }
  return found;
}

// Whether lanes are used, and the rows of a block.
std::pair<bool, uint32_t> chunk_rows(int64_t n_rows, int64_t n_tiles, int32_t gradient_levels,
                                     int32_t hessian_levels) {
  const Quantization q{{1, 1, gradient_levels}, {1, 1, hessian_levels}, false, true, 0};
  return {fits_lanes(q), histogram_chunk_rows(n_rows, n_tiles, fits_lanes(q), q)};
}

std::vector<int64_t> shuffled_numbers(int64_t n, uint64_t seed) {
  std::vector<int64_t> order(n);
  std::generate(
      order.begin(), order.end(),
      [i = int64_t(0), numbers = ShuffledNumbers(n, seed)]() mutable { return numbers.at(i++); });
  return order;
}

}  // namespace

void bind_device_on_host(py::module_& core) {
  py::module_ m = core.def_submodule(
      "on_host", "A GPU's machine on the host, and how its kernels are cut; for tests.");
  m.def(
      "device",
      [](int64_t most_bytes, uint64_t order_seed) -> std::shared_ptr<Device> {
        return std::make_shared<CudaDevice>(most_bytes, order_seed);
      },
      "A device whose kernels run on the host, in an order that depends on order_seed.",
      py::arg("most_bytes") = INT64_MAX, py::arg("order_seed") = 0);
  m.def("cut_ranges", &cut_ranges, py::arg("ranges"), py::arg("chunk_rows"));
  m.def("histogram_chunk_rows", &chunk_rows, py::arg("n_rows"), py::arg("n_tiles"),
        py::arg("gradient_levels"), py::arg("hessian_levels"));
  m.def("shuffled_numbers", &shuffled_numbers, py::arg("n"), py::arg("seed"));
}

}  // namespace qgbdt
