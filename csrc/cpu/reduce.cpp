// The CPU's side of the exchange of histograms between workers.

#include <algorithm>

#include "../histogram_codec.h"
#include "../histogram_exchange.h"
#include "cpu_backend.h"

namespace qgbdt {
namespace {

template <class Pair>
void pack_pairs_of(const Pair* pairs, std::span<const uint32_t> rows, Bytes* part) {
  std::vector<Pair> some;
  for (uint32_t row : rows) some.push_back(pairs[row]);
  pack_pairs(some, part);
}

constexpr int64_t kCellsPerThread = 2048;  // to pack or to add, that outweigh waking a thread

}  // namespace

bool CpuBackend::sends_rows(RowRange range) const {
  return searched_.size() < bins_.n_features() &&
         range.size() * bins_.n_features() <= bins_.n_cells();
}

void CpuBackend::pack_rows(RowRange range, FeatureRange features, Bytes* part) const {
  part->push_back(kRowsPart);
  const int64_t n = range.size();
  const std::span<const uint32_t> rows(row_order_.data() + range.begin, n);
  if (wide_) pack_pairs_of(pairs16_.data(), rows, part);
  else pack_pairs_of(pairs8_.data(), rows, part);
  size_t to = part->size();
  part->resize(to + n * features.size());
  for (int32_t f = features.begin; f < features.end; ++f) {
    const uint8_t* column = bins_.column(f);
    const int32_t missing_bin = bins_.n_value_bins(f);
    const BinOrder order = bins_.bin_order(f);
    for (uint32_t row : rows)
      (*part)[to++] = uint8_t(order.place(position_of_bin(column[row], missing_bin)));
  }
}

void CpuBackend::reduce(std::span<const HistogramTask> tasks, std::span<const RowSums> nodes,
                        std::span<int64_t> counts, Comm& comm) {
  const int64_t n_tasks = int64_t(tasks.size());
  const int threads = team_.threads_for(bins_.n_cells() * n_tasks, kCellsPerThread);
  const auto pack = [&](int64_t i, FeatureRange features) {
    Bytes part;
    if (sends_rows(nodes[i].rows)) pack_rows(nodes[i].rows, features, &part);
    else pack_cells_part(bins_, features, nodes[i].cells, &part);
    return part;
  };
  const auto parts = exchange_parts(n_tasks, counts, bins_, pack, comm, team_, threads);
  team_.run(threads, n_tasks, [&](int64_t i, int) {
    if (!own_tiles_.empty() && !sends_rows(tasks[i].rows)) {
      const int32_t first = own_tiles_.front().first_feature;
      std::copy_n(nodes[i].cells + bins_.cell_offset(first), n_cells(own_tiles_),
                  cells_of(tasks[i].slot, first));
    }
    HistCell* const cells = own_tiles_.empty() ? nullptr : cells_of(tasks[i].slot, searched_.begin);
    for (const std::vector<Bytes>& of_worker : parts)
      add_part(of_worker[i], bins_, searched_, wide_, cells);
    check_sums(cells, bins_, searched_, tasks[i].total);
  });
}

}  // namespace qgbdt
