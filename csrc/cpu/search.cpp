// The best splits of nodes, by the features that are in tiles.

#include <algorithm>

#include "../best_splits.h"
#include "../support/check.h"
#include "searched_node.h"
#include "tile_sums.h"

namespace qgbdt {
namespace {

constexpr int64_t kBinsPerThread = 2048;  // as kRowsPerThread, of the search
constexpr uint32_t kRowsPerLook = 256;    // are counted before looking whether they are enough

// Rows by place. Neighbours often share one, and an addition waits for the one before it: they take
// turns.
class PlaceCounts {
 public:
  void add(uint32_t turn, int32_t place) { counts_[turn % kTurns][place] += 1; }
  uint32_t operator[](int32_t place) const {
    uint32_t sum = 0;
    for (const auto& counts : counts_) sum += counts[place];
    return sum;
  }

 private:
  static constexpr uint32_t kTurns = 4;
  uint32_t counts_[kTurns][kBinPlaces] = {};
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
  TileBounds bounds, sibling_bounds;
  for_live(tile, node.task.live, [&](int32_t f) {
    if (sibling) subtract(bins_of(sibling_sums, tile, f), cells_of(node.task.slot, f));
    if (search_sibling) bound(*sibling, sibling_sums, tile, f, sibling_bounds);
    bound(node, sums, tile, f, bounds);
  });
  if (search_sibling) search(*sibling, sibling_sums, tile, sibling_bounds);
  search(node, sums, tile, bounds);
}

void CpuBackend::bound(SearchedNode& node, const TileSums& sums, const FeatureTile& tile,
                       int32_t feature, TileBounds& bounds) const {
  const FeatureBins bins = bins_of(sums, tile, feature);
  const float bound = node.bound(kernels_, feature, bins);
  bounds.of_features[feature - tile.first_feature] = bound;
  bounds.highest = std::max(bounds.highest, bound);
  if (tile.is_sparse() && !node.live.empty())
    node.live[feature] = can_split(bins, feature, node.task.total);
}

// The feature that may have the highest gain first: it rules out most of the others.
void CpuBackend::search(SearchedNode& node, const TileSums& sums, const FeatureTile& tile,
                        const TileBounds& bounds) {
  for (const bool is_highest : {true, false})
    for (int32_t i = 0; i < tile.n_features; ++i) {
      const float bound = bounds.of_features[i];
      if ((bound == bounds.highest) != is_highest || !node.is_worth_searching(bound)) continue;
      const int32_t feature = tile.first_feature + i;
      search(node, feature, bins_of(sums, tile, feature));
    }
}

// Where hessians do not prove that the best split leaves enough rows, those that are here are
// counted: a part of the node's may do. If it does not and all are here, the best that does is
// looked for.
void CpuBackend::search(SearchedNode& node, int32_t feature, const FeatureBins& bins) {
  const double sure = node.sure();
  const RowRange rows = node.task.rows;
  FeatureSplit best = node.find(kernels_, feature, bins, nullptr, sure);
  const bool may_win = best.gain > 0 && best.gain >= sure;
  if (may_win && !has_enough_rows(best, node.rules)) {
    best.is_counted = !bins_.is_categorical(feature) &&
                      leaves_enough_rows(rows, feature, best, node.rules.params);
    if (!best.is_counted && rows.size() == node.task.count) {
      uint32_t counts[kBinPlaces];
      count_places(rows, feature, counts);
      best = node.find(kernels_, feature, bins, counts, sure);
    }
  }
  node.add(feature, best);
}

bool CpuBackend::leaves_enough_rows(RowRange rows, int32_t feature, const FeatureSplit& split,
                                    const SplitParams& params) const {
  const int32_t missing_left_bin = split.missing_left ? bins_.n_value_bins(feature) : -1;
  int64_t left = 0;
  for (uint32_t i = rows.begin; i < rows.end;) {
    const uint32_t n = std::min(kRowsPerLook, rows.end - i);
    left += kernels_.count_left(row_order_.data() + i, n, bins_.column(feature), split.bin,
                                missing_left_bin);
    i += n;
    if (std::min(left, int64_t(i - rows.begin) - left) >= params.min_child_samples) return true;
  }
  return false;
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
    nodes_.emplace_back(bins_, task, rules_of_node(params, task.total, task.count, task.bounds),
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

template <class Count>
void CpuBackend::count_places(RowRange rows, int32_t feature, Count* counts) const {
  const uint8_t* column = bins_.column(feature);
  const int32_t missing_bin = bins_.n_value_bins(feature);
  const BinOrder order = bins_.bin_order(feature);
  PlaceCounts in_turns;
  for (uint32_t i = rows.begin; i < rows.end; ++i)
    in_turns.add(i, order.place(position_of_bin(column[row_order_.data()[i]], missing_bin)));
  for (int32_t place = 0; place < kBinPlaces; ++place) counts[place] = in_turns[place];
}

void CpuBackend::count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) {
  int64_t total_rows = 0;
  for (const CountTask& t : tasks) total_rows += nodes_[t.node].task.rows.size();
  count_tasks_.assign(tasks.begin(), tasks.end());
  team_.run(
      team_.threads_for(total_rows, kRowsPerThread), int64_t(tasks.size()), [&](int64_t t, int) {
        count_places(nodes_[tasks[t].node].task.rows, tasks[t].feature, &counts[t * kBinPlaces]);
      });
}

void CpuBackend::find_counted_split(int32_t task, const HistCell* row_counts) {
  const auto [node_index, feature] = count_tasks_[task];
  if (!searched_.contains(feature)) return;
  SearchedNode& node = nodes_[node_index];
  check(node.task.slot != kNone, "where all rows are here they were counted at once");
  uint32_t counts[kBinPlaces];
  std::transform(row_counts, row_counts + kBinPlaces, counts, cell_hessian);
  const FeatureBins bins{cells_of(node.task.slot, feature), nullptr, bins_.bin_order(feature),
                         data_.sign_of(feature)};
  node.features[feature] = node.find(kernels_, feature, bins, counts, 0);
}

}  // namespace qgbdt
