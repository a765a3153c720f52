#include "split_finder.h"

#include <algorithm>
#include <numeric>

#include "bin_order.h"
#include "histogram_codec.h"
#include "support/bytes.h"
#include "support/check.h"

namespace qgbdt {
namespace {

constexpr int32_t kNamed = 8;  // splits that a worker names for a node at a time, at most

// Of equal gains that of the first feature is the best.
bool is_better(const SplitCandidate& a, const SplitCandidate& b) {
  return a.gain > b.gain || (a.exists() && a.gain == b.gain && a.feature < b.feature);
}

struct WireSplit {
  double gain;
  HistCell left;
  int32_t feature;
  int32_t bin_and_flags;  // bin, missing_left, is_allowed
};
static_assert(sizeof(WireSplit) == 24);  // without gaps

WireSplit to_wire(const SplitCandidate& s) {
  return {s.gain, s.left, s.feature, s.bin << 2 | s.missing_left << 1 | s.is_allowed};
}

SplitCandidate from_wire(const WireSplit& w) {
  return {w.gain,
          w.left,
          w.feature,
          w.bin_and_flags >> 2,
          (w.bin_and_flags & 2) != 0,
          (w.bin_and_flags & 1) != 0,
          {}};
}

}  // namespace

std::vector<SplitCandidate> SplitFinder::find(std::span<const FindSplitTask> tasks) {
  backend_.find_splits(tasks, params_);
  std::vector<SplitCandidate> best(tasks.size());
  std::vector<int32_t> open(tasks.size());  // nodes whose best split is not known
  std::iota(open.begin(), open.end(), 0);
  while (!open.empty()) {
    const Named named = name_splits(open);
    std::vector<SplitCandidate> doubtful;
    std::vector<CountTask> to_count;
    for (size_t i = 0; i < open.size(); ++i) {
      SplitCandidate& of_node = best[open[i]];
      for (const SplitCandidate& split : named[i])
        if (split.is_allowed && is_better(split, of_node)) of_node = split;
      for (const SplitCandidate& split : named[i]) {
        if (split.is_allowed || !is_better(split, of_node)) continue;
        doubtful.push_back(split);
        to_count.push_back({open[i], split.feature});
      }
    }
    const std::vector<HistCell> row_counts = count(to_count);
    std::vector<size_t> refused;
    for (size_t i = 0; i < doubtful.size(); ++i) {
      SplitCandidate& of_node = best[to_count[i].node];
      if (!has_enough_rows(doubtful[i], tasks[to_count[i].node].count, &row_counts[i * kBinPlaces]))
        refused.push_back(i);
      else if (is_better(doubtful[i], of_node)) of_node = doubtful[i];
    }
    open.clear();
    for (size_t i : refused) {
      const int32_t node = to_count[i].node;
      if (!is_better(doubtful[i], best[node])) continue;
      if (open.empty() || open.back() != node) open.push_back(node);
      backend_.find_counted_split(int32_t(i), &row_counts[i * kBinPlaces]);
    }
  }
  return best;
}

// What each worker names for each node: its best splits, no further than the first allowed one.
SplitFinder::Named SplitFinder::name_splits(std::span<const int32_t> nodes) {
  Named named;
  for (int32_t node : nodes) named.push_back(backend_.best_splits(node, kNamed));
  if (comm_.world_size() == 1) return named;
  std::vector<int64_t> sizes;
  std::vector<WireSplit> splits;
  std::vector<CategorySet> categories;  // of those that have any
  for (const auto& of_node : named) {
    sizes.push_back(int64_t(of_node.size()));
    for (const SplitCandidate& split : of_node) {
      splits.push_back(to_wire(split));
      if (bins_.is_categorical(split.feature)) categories.push_back(split.categories);
    }
  }
  Bytes message;
  append(std::span<const int64_t>(sizes), &message);
  append(std::span<const WireSplit>(splits), &message);
  append(std::span<const CategorySet>(categories), &message);
  named.assign(nodes.size(), {});
  for (const Bytes& of_worker : comm_.allgather(std::move(message))) {
    ByteReader reader(of_worker);
    const std::vector<int64_t> n_splits = reader.take<int64_t>(int64_t(nodes.size()));
    std::vector<SplitCandidate*> categorical;
    for (size_t i = 0; i < nodes.size(); ++i) {
      for (const WireSplit& split : reader.take<WireSplit>(n_splits[i])) {
        named[i].push_back(from_wire(split));
        check(0 <= split.feature && split.feature < bins_.n_features() &&
                  0 <= named[i].back().bin && named[i].back().bin < kBinPlaces - 1,
              "a worker names a split that cannot be");
      }
      for (size_t k = named[i].size() - size_t(n_splits[i]); k < named[i].size(); ++k)
        if (bins_.is_categorical(named[i][k].feature)) categorical.push_back(&named[i][k]);
    }
    for (SplitCandidate* split : categorical)
      split->categories = reader.take<CategorySet>(1).front();
  }
  return named;
}

// The rows of all workers in each place of the tasks' features.
std::vector<HistCell> SplitFinder::count(std::span<const CountTask> tasks) {
  std::vector<HistCell> counts(tasks.size() * kBinPlaces);
  if (tasks.empty()) return counts;
  backend_.count_rows(tasks, counts);
  if (comm_.world_size() == 1) return counts;
  Bytes message;
  for (size_t i = 0; i < counts.size(); i += kBinPlaces)
    pack_cells(&counts[i], kBinPlaces, &message);
  const std::vector<Bytes> all = comm_.allgather(std::move(message));
  for (int worker = 0; worker < comm_.world_size(); ++worker) {
    if (worker == comm_.rank()) continue;
    CellReader reader(all[worker]);
    for (size_t i = 0; i < counts.size(); i += kBinPlaces) reader.add_to(&counts[i], kBinPlaces);
  }
  return counts;
}

bool SplitFinder::has_enough_rows(const SplitCandidate& split, int64_t count,
                                  const HistCell* row_counts) {
  const BinOrder order = bins_.bin_order(split.feature);
  const auto rows_at = [&](int32_t position) {
    return cell_hessian(row_counts[order.place(position)]);
  };
  int64_t left = split.missing_left ? rows_at(kMissingPosition) : 0;
  if (!bins_.is_categorical(split.feature)) {
    for (int32_t bin = 0; bin <= split.bin; ++bin) left += rows_at(position_of_bin(bin, kNone));
  } else {
    for (int32_t bin = 0; bin < bins_.n_value_bins(split.feature); ++bin)
      if (split.categories.contains(bin)) left += rows_at(position_of_bin(bin, kNone));
  }
  return std::min(left, count - left) >= params_.min_child_samples;
}

}  // namespace qgbdt
