// The CPU machine: rows, gradients, raw predictions and histograms in memory, kernels of one SIMD
// level, and the scheduling of both over threads.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "../backend.h"
#include "../binned_matrix.h"
#include "../support/buffer.h"
#include "../support/parallel.h"
#include "kernels.h"

namespace qgbdt {

// Work that should outweigh waking a thread (a few microseconds), here of elementwise passes; other
// files have their own units. 12,500 rows x 20, 31 leaves, two threads: with two to four times as
// much a fit takes a tenth longer.
constexpr int64_t kRowsPerThread = 2048;

constexpr int64_t kMinChunkRows = 2048;  // a node is cut over threads into no smaller parts
constexpr int64_t kMaxChunkRows = 16384;

// Nodes cut into some chunks for each thread, none too small.
inline int64_t rows_per_chunk(int64_t total_rows, int n_threads) {
  return std::clamp(total_rows / (8 * n_threads), kMinChunkRows, kMaxChunkRows);
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(TrainingData data, Team& team);
  ~CpuBackend() override;

  int64_t n_samples() const override { return n_samples_; }
  int64_t n_in_use() const override { return n_in_use_; }
  bool has_sample_weight() const override { return rows_.weight != nullptr; }
  double max_weighted_target() override { return qgbdt::max_weighted_target(data_); }
  double max_weight() override { return qgbdt::max_weight(data_); }
  StartSums start_sums(int output, int target_exponent, int weight_exponent) override {
    return qgbdt::start_sums(data_, output, target_exponent, weight_exponent);
  }
  void set_start_scores(std::span<const double> scores) override;
  void compute_gradients(uint64_t key, std::span<GradientRange> ranges) override;
  void count_magnitudes(uint32_t prefix, int shift, std::span<int64_t> counts) override;
  int64_t sample_rows(const RowSample& sample, std::span<GradientRange> ranges) override;
  HistCell quantize(int output, const Quantization& quantization) override;
  void set_features(std::span<const uint8_t> allowed) override;
  void build_histograms(std::span<const HistogramTask> tasks, std::span<int64_t> counts,
                        Comm& comm) override;
  int64_t max_direct_rows() const override;
  void find_splits(std::span<const FindSplitTask> tasks, const SplitParams& params) override;
  FeatureMask live_features(int32_t node) const override;
  std::vector<SplitCandidate> best_splits(int32_t node, int32_t n) const override;
  void count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) override;
  void find_counted_split(int32_t task, const HistCell* row_counts) override;
  void partition(std::span<const PartitionTask> tasks, std::span<int64_t> left_counts) override;
  void set_row_order(std::span<const uint32_t> order) override;
  void take_residuals(int output, int weight_exponent) override;
  void weigh_digits(std::span<const DigitTask> tasks, int digit,
                    std::span<int64_t> weights) override;
  void set_leaves(std::span<const RowRange> leaves, std::span<const RowRange> others) override;
  void leaf_sums(int output, int gradient_exponent, int hessian_exponent,
                 std::span<LeafSums> sums) override;
  void add_leaf_values(int output, std::span<const double> values) override;
  std::vector<LinearLeaf> fit_linear_leaves(int output, std::span<const LinearTask> leaves,
                                            const LinearRules& rules) override;
  void add_linear_leaves(int output, std::span<const double> values,
                         std::span<const LinearLeaf> leaves) override;

 private:
  struct ListedScratch;
  struct QueryScratch;
  struct RowChunk {
    int64_t task;
    RowRange rows;
  };
  struct RowCut {
    RowRange rows;
    const uint8_t* column;
    int32_t bin, missing_left_bin;
    const bool* goes_left = nullptr;  // by bin, where categories are split
  };
  struct RowSums {
    RowRange rows;
    HistCell* cells;      // of the first tile on
    const uint8_t* live;  // features; null: all
  };
  template <class Lane>
  struct Lanes;
  struct SearchedNode;
  struct ThreadScratch;
  struct TileBounds;
  struct TileSums;

  void find_magnitudes();
  void draw_rows(const RowSample& sample);
  void partition_rows(std::span<const RowCut> cuts, std::span<int64_t> left_counts);
  void rank_documents(int64_t query, Document* documents);
  void compute_query_gradients(uint64_t key, int64_t query, QueryScratch& scratch,
                               GradientRange* range);
  void compute_given_gradients(int64_t begin, int64_t end, GradientRange* ranges);
  void make_slot(int32_t slot);
  HistCell* cells_of(int32_t slot, int32_t feature);
  std::vector<RowChunk> cut(std::span<const RowRange> ranges, int64_t chunk_rows) const;
  template <class Lane>
  void part_bundles(const FeatureTile& tile, Lanes<Lane> lanes);
  template <class Lane>
  void fill_lanes(const FeatureTile& tile, const uint32_t* rows, int64_t n, Lanes<Lane> lanes);
  template <class Lane>
  const Lane* lanes_of(const Lanes<Lane>& lanes, const FeatureTile& tile, int32_t feature) const;
  template <class Lane>
  void add_dense_rows(RowRange range, const FeatureTile& tile, Lanes<Lane> lanes, HistCell* cells);
  void add_rows(RowRange range, const FeatureTile& tile, ThreadScratch& scratch, HistCell* cells);
  bool cuts_tiles(int threads, int64_t n_nodes, bool few_rows) const;
  // Where a feature's cells begin in those of its tile.
  int64_t first_cell(const FeatureTile& tile, int32_t feature) const {
    return bins_.cell_offset(feature) - bins_.cell_offset(tile.first_feature);
  }
  int64_t n_cells(const FeatureTile& tile) const;
  int64_t n_cells(const std::vector<FeatureTile>& tiles) const;
  HistCell quantized(uint32_t row) const {
    return wide_ ? lane_cell(pair_lane(pairs16_.data()[row]))
                 : lane_cell(pair_lane(pairs8_.data()[row]));
  }
  HistCell sum_rows(RowRange range) const;
  template <class Visit>
  static void for_live(const FeatureTile& tile, const uint8_t* live, const Visit& visit);
  template <class Sum>
  void clear(const FeatureTile& tile, const uint8_t* live, Sum* sums) const;
  void add_cells(const FeatureTile& tile, const uint8_t* live, const HistCell* from,
                 HistCell* to) const;
  template <class Sum>
  void fill_default_places(const FeatureTile& tile, const uint8_t* live, Sum total,
                           Sum* sums) const;
  TileSums sum_tile(const FindSplitTask& task, const FeatureTile& tile, ThreadScratch& scratch);
  FeatureBins bins_of(const TileSums& sums, const FeatureTile& tile, int32_t feature) const;
  bool can_split(const FeatureBins& bins, int32_t feature, HistCell total) const;
  void subtract(const FeatureBins& bins, HistCell* cells) const;
  void find_tile_splits(SearchedNode& node, SearchedNode* sibling, const FeatureTile& tile,
                        ThreadScratch& scratch);
  void bound(SearchedNode& node, const TileSums& sums, const FeatureTile& tile, int32_t feature,
             TileBounds& bounds) const;
  void search(SearchedNode& node, const TileSums& sums, const FeatureTile& tile,
              const TileBounds& bounds);
  void search(SearchedNode& node, int32_t feature, const FeatureBins& bins);
  bool leaves_enough_rows(RowRange rows, int32_t feature, const FeatureSplit& split,
                          const SplitParams& params) const;
  template <class Count>
  void count_places(RowRange rows, int32_t feature, Count* counts) const;
  void find_listed_splits();
  void search_listed(int32_t feature, ListedScratch& scratch);
  void spread_listed_columns(std::span<const PartitionTask> tasks);
  const uint8_t* column_of(int32_t feature) const {
    return bins_.is_listed(feature) ? spread_bins_.data() : bins_.column(feature);
  }
  void sum_rows(std::span<const RowSums> nodes, const std::vector<FeatureTile>& whole_tiles,
                const std::vector<FeatureTile>& tile_parts, int64_t first_cell);
  bool sends_rows(RowRange range) const;
  void pack_rows(RowRange range, FeatureRange features, Bytes* part) const;
  void reduce(std::span<const HistogramTask> tasks, std::span<const RowSums> nodes,
              std::span<int64_t> counts, Comm& comm);

  const TrainingData data_;
  const BinnedMatrix& bins_;
  const Kernels& kernels_;
  Team& team_;
  const int64_t n_samples_;

  RowData rows_;
  Buffer<double> raw_prediction_;
  Buffer<float> gradient_, hessian_;

  RankingTables ranking_tables_;
  Buffer<uint32_t> ranked_positions_;  // of each query's documents, as they were ranked last
  RankingData ranking_{};

  Buffer<uint32_t> magnitude_bits_;  // of all rows, where they are sampled by gradient
  Buffer<uint8_t> left_out_;         // 1 for a row that is not in use, where some are not
  int64_t n_in_use_;

  int64_t rows_per_flush_ = 1;
  bool wide_ = false;  // 16-bit pairs
  Buffer<Pair8> pairs8_;
  Buffer<Pair16> pairs16_;

  Buffer<uint32_t> row_order_;
  Buffer<uint32_t> scratch_rows_;  // of partition; once the tree is grown, the leaf of each row
  std::vector<ThreadScratch> scratch_;   // [n_threads]
  std::vector<Buffer<HistCell>> slots_;  // cells of own_tiles_
  std::vector<Buffer<HistCell>> whole_;  // of all tiles, until other workers have their parts

  std::vector<int64_t> row_numbers_;  // among all, where leaves are linear
  Buffer<uint32_t> residual_keys_;    // by place in the row order, where leaves are quantiles,
  Buffer<int64_t> residual_weights_;  // as these

  const FeatureRange searched_;
  // Tiles, and parts of them to feed many threads: all, those with features that this worker
  // searches, and what it searches; of the last two, what has a feature that the tree may use.
  std::vector<FeatureTile> tile_parts_, all_own_tiles_, all_searched_tiles_;
  std::vector<FeatureTile> own_tiles_, own_parts_, searched_tiles_, searched_parts_;
  std::deque<SearchedNode> nodes_;  // of the last find_splits; they never move
  std::vector<FeatureSplit> feature_splits_;
  std::vector<CategorySet> category_sets_;  // of these, where features are categorical
  Buffer<uint32_t> searched_node_of_row_;   // while listed features are searched
  Buffer<uint8_t> spread_bins_;             // of the rows of nodes that a listed feature splits
  std::vector<CountTask> count_tasks_;      // of the last count_rows
};

}  // namespace qgbdt
