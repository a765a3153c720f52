// The best splits of nodes, by the features that are in tiles.

#include <algorithm>

#include "../best_splits.h"
#include "searched_node.h"
#include "tile_sums.h"

namespace qgbdt {
namespace {

constexpr int64_t kBinsPerThread = 2048;  // as kRowsPerThread, of the search

// Rows by place, and their sums. Neighbours often share one, and an addition waits for the one
// before it: where rows are many they take turns.
class CountedPlaces {
 public:
  CountedPlaces(int64_t n_rows, HistCell* counts, HistCell* sums)
      : n_turns_(n_rows < kRowsThatTakeTurns ? 1 : kMostTurns), counts_{counts}, sums_{sums} {
    for (uint32_t turn = 1; turn < n_turns_; ++turn) {
      counts_[turn] = others_[turn - 1];
      sums_[turn] = others_[turn - 1] + kBinPlaces;
    }
    for (uint32_t turn = 0; turn < n_turns_; ++turn) {
      std::fill_n(counts_[turn], kBinPlaces, 0);
      std::fill_n(sums_[turn], kBinPlaces, 0);
    }
  }
  void add(uint32_t turn, int32_t place, HistCell cell) {
    turn &= n_turns_ - 1;
    counts_[turn][place] += 1;
    sums_[turn][place] += cell;
  }
  void finish() {
    for (uint32_t turn = 1; turn < n_turns_; ++turn)
      for (int32_t i = 0; i < kBinPlaces; ++i) {
        counts_[0][i] += counts_[turn][i];
        sums_[0][i] += sums_[turn][i];
      }
  }

 private:
  static constexpr int64_t kRowsThatTakeTurns = 1024;
  static constexpr uint32_t kMostTurns = 4;  // a power of two
  const uint32_t n_turns_;
  HistCell *counts_[kMostTurns], *sums_[kMostTurns];
  HistCell others_[kMostTurns - 1][2 * kBinPlaces];
};

}  // namespace

FeatureBins CpuBackend::bins_of(const TileSums& sums, const FeatureTile& tile,
                                int32_t feature) const {
  const BinOrder order = bins_.bin_order(feature);
  const int32_t sign = data_.sign_of(feature);
  if (sums.cells) return {sums.cells + first_cell(tile, feature), nullptr, order, sign};
  return {nullptr, lanes_of(sums.lanes, tile, feature), order, sign};
}

void CpuBackend::subtract(const FeatureBins& bins, HistCell* cells) const {
  const int32_t n = bins.order.n_places();
  if (bins.lanes) kernels_.subtract8(bins.lanes, n, cells);
  else kernels_.subtract16(bins.cells, n, cells);
}

// Where some bin has all that counts, no cut leaves a child its hessian: not in this node, and not
// in one that comes of it. Sparse tiles have many such features, dense ones few.
bool CpuBackend::can_split(const FeatureBins& bins, int32_t feature, HistCell total) const {
  const uint8_t place = bins_.default_place(feature);
  const HistCell of_default = bins.lanes ? lane_cell(bins.lanes[place]) : bins.cells[place];
  return cell_hessian(of_default) < cell_hessian(total);
}

// The sums of at most one of the two are not in a slot.
void CpuBackend::find_tile_splits(SearchedNode& node, SearchedNode* sibling,
                                  const FeatureTile& tile, ThreadScratch& scratch) {
  const auto sums_of = [&](const FindSplitTask& task) {
    return task.slot == kNone ? sum_tile(task, tile, scratch)
                              : TileSums{{}, cells_of(task.slot, tile.first_feature)};
  };
  if (!sibling && node.task.allowed && !has_allowed(node.task.allowed, tile)) return;
  const TileSums sums = sums_of(node.task);
  const TileSums sibling_sums = sibling ? sums_of(sibling->task) : TileSums{};
  const bool search_sibling =  // it may be there to be subtracted only
      sibling && enough_rows_for_two(sibling->task.count, sibling->rules.params);
  const auto search = [&](SearchedNode& searched, const TileSums& of_node, int32_t f) {
    const FeatureBins bins = bins_of(of_node, tile, f);
    searched.search(kernels_, f, bins, n_categories(f));
    if (tile.is_sparse() && !searched.live.empty())
      searched.live[f] = can_split(bins, f, searched.task.total);
  };
  for_live(tile, node.task.live, [&](int32_t f) {
    if (sibling) subtract(bins_of(sibling_sums, tile, f), cells_of(node.task.slot, f));
    if (search_sibling) search(*sibling, sibling_sums, f);
    search(node, sums, f);
  });
}

void CpuBackend::find_splits(std::span<const FindSplitTask> tasks, const SplitParams& params) {
  const int32_t n_features = bins_.n_features();
  const int64_t n_tasks = int64_t(tasks.size());
  const int threads = team_.threads_for(bins_.n_cells() * n_tasks, kBinsPerThread);
  const auto& tiles = cuts_tiles(threads, n_tasks, true) ? searched_parts_ : searched_tiles_;
  const int64_t n_tiles = int64_t(tiles.size());
  feature_splits_.assign(n_tasks * n_features, {});
  category_sets_.assign(bins_.has_categories() ? n_tasks * n_features : 0, {});
  nodes_.clear();
  std::vector<bool> is_sibling(n_tasks);
  for (const FindSplitTask& task : tasks) {
    const size_t first = nodes_.size() * n_features;
    nodes_.emplace_back(task, rules_of_node(params, task.total, task.count, task.bounds),
                        &feature_splits_[first],
                        bins_.has_categories() ? &category_sets_[first] : nullptr);
    if (task.sibling != kNone) is_sibling[task.sibling] = true;
    if (!bins_.has_sparse_tiles() || least_hessian(params) == 0) continue;
    FeatureMask& live = nodes_.back().live;
    if (task.live) live.assign(task.live, task.live + n_features);
    else live.assign(n_features, 1);
  }
  team_.run(threads, n_tasks * n_tiles, [&](int64_t i, int thread) {
    const int64_t t = i / n_tiles;
    if (is_sibling[t]) return;
    const int32_t sibling = tasks[t].sibling;
    find_tile_splits(nodes_[t], sibling == kNone ? nullptr : &nodes_[sibling], tiles[i % n_tiles],
                     scratch_[thread]);
  });
  find_listed_splits();
}

FeatureMask CpuBackend::live_features(int32_t node) const { return nodes_[node].live; }

std::vector<SplitCandidate> CpuBackend::best_splits(int32_t node_index, int32_t n) const {
  const SearchedNode& node = nodes_[node_index];
  std::vector<SplitCandidate> best =
      qgbdt::best_splits({node.features, size_t(bins_.n_features())}, searched_, node.rules, n);
  for (SplitCandidate& split : best)
    if (bins_.is_categorical(split.feature)) split.categories = node.categories[split.feature];
  return best;
}

void CpuBackend::count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) {
  int64_t total_rows = 0;
  for (const CountTask& t : tasks) total_rows += nodes_[t.node].task.rows.size();
  count_tasks_.assign(tasks.begin(), tasks.end());
  counted_cells_.resize(counts.size());
  team_.run(team_.threads_for(total_rows, kRowsPerThread), int64_t(tasks.size()),
            [&](int64_t t, int) {
              const FindSplitTask& node = nodes_[tasks[t].node].task;
              const int32_t feature = tasks[t].feature;
              const uint8_t* column = bins_.column(feature);
              const int32_t missing_bin = bins_.n_value_bins(feature);
              const BinOrder order = bins_.bin_order(feature);
              CountedPlaces counted(node.rows.size(), &counts[t * kBinPlaces],
                                    &counted_cells_[t * kBinPlaces]);
              for (uint32_t i = node.rows.begin; i < node.rows.end; ++i) {
                const uint32_t row = row_order_.data()[i];
                const int32_t place = order.place(position_of_bin(column[row], missing_bin));
                counted.add(i, place, node.slot == kNone ? quantized(row) : 0);
              }
              counted.finish();
            });
}

void CpuBackend::find_counted_split(int32_t task, const HistCell* row_counts) {
  const auto [node_index, feature] = count_tasks_[task];
  if (!searched_.contains(feature)) return;
  SearchedNode& node = nodes_[node_index];
  uint32_t counts[kBinPlaces];
  std::transform(row_counts, row_counts + kBinPlaces, counts, cell_hessian);
  const HistCell* cells = node.task.slot == kNone ? &counted_cells_[task * kBinPlaces]
                                                  : cells_of(node.task.slot, feature);
  const FeatureBins bins{cells, nullptr, bins_.bin_order(feature), data_.sign_of(feature)};
  node.features[feature] = node.find(kernels_, feature, bins, n_categories(feature), counts, 0);
}

}  // namespace qgbdt
