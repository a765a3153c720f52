// The CPU's way with features that list next to nothing (binned_matrix.h): no histogram. All nodes
// of a batch are searched in two passes over what a feature lists. The first counts how much of it
// lies in each node: on one side of any cut are listed rows only, so with fewer of them than
// min_child_samples there is no split. The second sums what is left, for most nodes nothing.

#include <algorithm>
#include <numeric>
#include <utility>

#include "searched_node.h"

namespace qgbdt {
namespace {

constexpr uint32_t kNoNode = UINT32_MAX;
constexpr int64_t kEntriesPerThread = 8192;
constexpr int64_t kFeaturesPerTask = 64;
constexpr int64_t kRowsPerTask = 16384;

}  // namespace

struct CpuBackend::ListedScratch {  // of one thread
  struct Entry {
    uint32_t row, node;
    uint8_t bin;
  };
  std::vector<Entry> entries;       // of a feature, in the nodes that are searched
  std::vector<uint32_t> n_listed;   // of these, by node
  std::vector<int64_t> first_cell;  // of the nodes that are worth it, else -1
  std::vector<HistCell> cells;
  std::vector<uint32_t> counts;  // of rows
};

void CpuBackend::find_listed_splits() {
  const std::vector<int32_t>& features = bins_.listed_features();
  if (features.empty() || nodes_.empty()) return;
  if (!searched_node_of_row_.size()) {
    searched_node_of_row_ = Buffer<uint32_t>(n_samples_);
    std::fill_n(searched_node_of_row_.data(), n_samples_, kNoNode);
  }
  std::vector<RowRange> ranges;
  for (const SearchedNode& node : nodes_)
    ranges.push_back(enough_rows_for_two(node.task.count, node.rules.params) ? node.task.rows
                                                                             : RowRange{});
  const std::vector<RowChunk> chunks = cut(ranges, kRowsPerTask);
  const auto mark = [&](bool searched) {
    team_.run(team_.n_threads(), int64_t(chunks.size()), [&](int64_t i, int) {
      const RowRange rows = chunks[i].rows;
      const uint32_t node = searched ? uint32_t(chunks[i].task) : kNoNode;
      for (uint32_t k = rows.begin; k < rows.end; ++k)
        searched_node_of_row_.data()[row_order_.data()[k]] = node;
    });
  };
  mark(true);
  const int threads = team_.threads_for(bins_.n_listed(), kEntriesPerThread);
  std::vector<ListedScratch> scratch(threads);
  team_.run_blocks(threads, int64_t(features.size()), kFeaturesPerTask,
                   [&](int64_t begin, int64_t end, int thread) {
                     for (int64_t i = begin; i < end; ++i)
                       search_listed(features[i], scratch[thread]);
                   });
  mark(false);
}

void CpuBackend::search_listed(int32_t feature, ListedScratch& scratch) {
  const ListedColumn column = bins_.listed_column(feature);
  const uint32_t least = uint32_t(nodes_.front().rules.params.min_child_samples);
  if (column.n < least) return;
  scratch.entries.resize(column.n);
  scratch.n_listed.assign(nodes_.size(), 0);
  int64_t n_entries = 0;
  for (int64_t i = 0; i < column.n; ++i) {
    const uint32_t row = column.rows[i], node = searched_node_of_row_.data()[row];
    scratch.entries[n_entries] = {row, node, column.bins[i]};
    if (node == kNoNode) continue;
    ++n_entries;
    ++scratch.n_listed[node];
  }

  const BinOrder order = bins_.bin_order(feature);
  const int32_t n_places = order.n_places(), missing_bin = bins_.n_value_bins(feature);
  const auto place_of = [&](uint8_t bin) { return order.place(position_of_bin(bin, missing_bin)); };
  scratch.first_cell.assign(nodes_.size(), -1);
  int64_t n_cells = 0;
  for (size_t node = 0; node < nodes_.size(); ++node)
    if (scratch.n_listed[node] >= least)
      scratch.first_cell[node] = std::exchange(n_cells, n_cells + n_places);
  if (n_cells == 0) return;
  scratch.cells.assign(n_cells, 0);
  scratch.counts.assign(n_cells, 0);
  for (int64_t i = 0; i < n_entries; ++i) {
    const auto [row, node, bin] = scratch.entries[i];
    if (scratch.first_cell[node] < 0) continue;
    const int64_t cell = scratch.first_cell[node] + place_of(bin);
    scratch.cells[cell] += quantized(row);
    ++scratch.counts[cell];
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (scratch.first_cell[i] < 0) continue;
    SearchedNode& node = nodes_[i];
    HistCell* const cells = &scratch.cells[scratch.first_cell[i]];
    uint32_t* const counts = &scratch.counts[scratch.first_cell[i]];
    const int32_t rest = place_of(column.default_bin);
    cells[rest] += node.task.total - std::accumulate(cells, cells + n_places, HistCell(0));
    counts[rest] += uint32_t(node.task.count) - scratch.n_listed[i];
    if (node.task.allowed && !node.task.allowed[feature]) continue;
    const FeatureBins bins{cells, nullptr, order, data_.sign_of(feature)};
    node.add(feature, node.find(kernels_, feature, bins, counts, node.sure()));
  }
}

// Of nodes that a listed feature splits: their rows' bins, as partition reads them. Nodes share no
// row, so one column serves all.
void CpuBackend::spread_listed_columns(std::span<const PartitionTask> tasks) {
  std::vector<int64_t> listed;
  for (size_t i = 0; i < tasks.size(); ++i)
    if (bins_.is_listed(tasks[i].feature)) listed.push_back(int64_t(i));
  if (listed.empty()) return;
  if (!spread_bins_.size()) spread_bins_ = Buffer<uint8_t>(n_samples_);
  team_.run(team_.n_threads(), int64_t(listed.size()), [&](int64_t i, int) {
    const PartitionTask& task = tasks[listed[i]];
    const ListedColumn column = bins_.listed_column(task.feature);
    const uint32_t* const rows = row_order_.data() + task.rows.begin;
    const uint32_t* const end = row_order_.data() + task.rows.end;
    for (const uint32_t* row = rows; row < end; ++row)
      spread_bins_.data()[*row] = column.default_bin;
    for (int64_t k = 0; k < column.n; ++k)
      if (std::binary_search(rows, end, column.rows[k]))
        spread_bins_.data()[column.rows[k]] = column.bins[k];
  });
}

}  // namespace qgbdt
