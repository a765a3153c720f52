// Histograms between workers: each sends every other, of each node, the part that the other
// searches.
//
// Of a node with many rows that is cells. Of one with few it is the rows themselves, a byte a
// value: fewer bytes than their sums, nothing to build for others, and nothing to look for among
// empty cells. On wide data most nodes are such.
//
//   message   sizes of the nodes' parts (int64), and the parts; a part's first byte is its kind
//             of histogram_codec.h

#include <algorithm>

#include "../histogram_codec.h"
#include "../support/check.h"
#include "cpu_backend.h"

namespace qgbdt {
namespace {

enum PartKind : uint8_t { kCells, kRows };

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

Bytes CpuBackend::pack_part(const RowSums& node, FeatureRange features) const {
  Bytes part;
  if (sends_rows(node.rows)) {
    part.push_back(kRows);
    pack_rows(node.rows, features, &part);
  } else {
    part.push_back(kCells);
    for (int32_t f = features.begin; f < features.end; ++f)
      pack_cells(node.cells + bins_.cell_offset(f), bins_.bin_order(f).n_places(), &part);
  }
  return part;
}

void CpuBackend::add_part(const Bytes& part, int32_t slot) {
  const auto add_all = [&](auto reader) {
    for (int32_t f = searched_.begin; f < searched_.end; ++f)
      reader.add_to(cells_of(slot, f), bins_.bin_order(f).n_places());
    check(reader.is_done(), "a message of another worker is too long");
  };
  ByteReader reader(part);
  const uint8_t kind = reader.take<uint8_t>(1)[0];
  const auto rest = std::span<const uint8_t>(part).subspan(1);
  check(kind == kCells || kind == kRows, "a message of another worker is of no known kind");
  if (kind == kCells) add_all(CellReader(rest));
  else add_all(RowReader(rest, wide_));
}

void CpuBackend::reduce(std::span<const HistogramTask> tasks, std::span<const RowSums> nodes,
                        Comm& comm) {
  if (tasks.empty()) return;
  const int64_t n_tasks = int64_t(tasks.size());
  const int threads = team_.threads_for(bins_.n_cells() * n_tasks, kCellsPerThread);
  std::vector<Bytes> messages(comm.world_size());
  for (int to = 0; to < comm.world_size(); ++to) {
    if (to == comm.rank()) continue;
    const FeatureRange features = searched_features(bins_, to, comm.world_size());
    std::vector<Bytes> parts(n_tasks);
    team_.run(threads, n_tasks, [&](int64_t i, int) { parts[i] = pack_part(nodes[i], features); });
    std::vector<int64_t> sizes;
    for (const Bytes& part : parts) sizes.push_back(int64_t(part.size()));
    append(std::span<const int64_t>(sizes), &messages[to]);
    for (const Bytes& part : parts) append(std::span<const uint8_t>(part), &messages[to]);
  }
  const std::vector<Bytes> received = comm.exchange(std::move(messages));
  std::vector<std::vector<Bytes>> parts;  // [other workers][tasks]
  for (int from = 0; from < comm.world_size(); ++from) {
    if (from == comm.rank()) continue;
    ByteReader reader(received[from]);
    parts.emplace_back();
    for (int64_t size : reader.take<int64_t>(n_tasks))
      parts.back().push_back(reader.take<uint8_t>(size));
  }
  team_.run(threads, n_tasks, [&](int64_t i, int) {
    if (!own_tiles_.empty() && !sends_rows(tasks[i].rows)) {
      const int32_t first = own_tiles_.front().first_feature;
      std::copy_n(nodes[i].cells + bins_.cell_offset(first), n_cells(own_tiles_),
                  cells_of(tasks[i].slot, first));
    }
    for (const std::vector<Bytes>& of_worker : parts) add_part(of_worker[i], tasks[i].slot);
  });
}

}  // namespace qgbdt
