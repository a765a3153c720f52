#include "histogram_exchange.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>

#include "histogram_codec.h"
#include "support/check.h"

namespace qgbdt {

FeatureRange searched_features(const BinnedMatrix& bins, int rank, int world_size) {
  const auto first_of = [&](int worker) {
    if (worker == world_size) return bins.n_features();  // those without cells too
    int32_t feature = 0;
    while (bins.cell_offset(feature) * world_size < bins.n_cells() * worker) ++feature;
    return feature;
  };
  return {first_of(rank), first_of(rank + 1)};
}

void pack_cells_part(const BinnedMatrix& bins, FeatureRange features, const HistCell* cells,
                     Bytes* part) {
  part->push_back(kCellsPart);
  for (int32_t f = features.begin; f < features.end; ++f)
    pack_cells(cells + bins.cell_offset(f), bins.bin_order(f).n_places(), part);
}

std::vector<std::vector<Bytes>> exchange_parts(int64_t n_nodes, std::span<int64_t> counts,
                                               const BinnedMatrix& bins, const PackPart& pack,
                                               Comm& comm, Team& team, int n_threads) {
  std::vector<Bytes> messages(comm.world_size());
  for (int to = 0; to < comm.world_size(); ++to) {
    if (to == comm.rank()) continue;
    const FeatureRange features = searched_features(bins, to, comm.world_size());
    std::vector<Bytes> parts(n_nodes);
    team.run(n_threads, n_nodes, [&](int64_t i, int) { parts[i] = pack(i, features); });
    std::vector<int64_t> sizes;
    for (const Bytes& part : parts) sizes.push_back(int64_t(part.size()));
    append(std::span<const int64_t>(sizes), &messages[to]);
    append(std::span<const int64_t>(counts), &messages[to]);
    for (const Bytes& part : parts) append(std::span<const uint8_t>(part), &messages[to]);
  }
  const std::vector<Bytes> received = comm.exchange(std::move(messages));
  std::vector<std::vector<Bytes>> parts;
  for (int from = 0; from < comm.world_size(); ++from) {
    if (from == comm.rank()) continue;
    ByteReader reader(received[from]);
    const std::vector<int64_t> sizes = reader.take<int64_t>(n_nodes);
    const std::vector<int64_t> others = reader.take<int64_t>(int64_t(counts.size()));
    std::transform(counts.begin(), counts.end(), others.begin(), counts.begin(), std::plus());
    parts.emplace_back();
    for (int64_t size : sizes) parts.back().push_back(reader.take<uint8_t>(size));
  }
  return parts;
}

void add_part(const Bytes& part, const BinnedMatrix& bins, FeatureRange features, bool wide,
              HistCell* cells) {
  const auto add_all = [&](auto reader) {
    for (int32_t f = features.begin; f < features.end; ++f) {
      reader.add_to(cells, bins.bin_order(f).n_places());
      cells += bins.bin_order(f).n_places();
    }
    check(reader.is_done(), "a message of another worker is too long");
  };
  const uint8_t kind = ByteReader(part).take<uint8_t>(1)[0];
  const auto rest = std::span<const uint8_t>(part).subspan(1);
  check(kind == kCellsPart || kind == kRowsPart, "a message of another worker is of no known kind");
  if (kind == kCellsPart) add_all(CellReader(rest));
  else add_all(RowReader(rest, wide));
}

void check_sums(const HistCell* cells, const BinnedMatrix& bins, FeatureRange features,
                HistCell total) {
  for (int32_t f = features.begin; f < features.end; ++f) {
    const int32_t n_places = bins.bin_order(f).n_places();
    if (std::accumulate(cells, cells + n_places, HistCell(0)) != total)
      throw WorkersDiffer(
          "The histograms of the workers do not fit together: memory or a network has changed "
          "one. Train again.");
    cells += n_places;
  }
}

}  // namespace qgbdt
