// A GPU as a machine: rows, gradients, raw predictions and histograms in its memory. The verbs send
// tasks, run a few kernels for all of them and bring small results back; what a verb does not bring
// back nobody waits for.
#pragma once

#include <vector>

#include "../backend.h"
#include "find_split.h"
#include "geometry.h"
#include "gpu.h"
#include "gradients.h"
#include "histogram.h"

namespace qgbdt {

class CudaBackend final : public Backend {
 public:
  CudaBackend(Gpu& gpu, TrainingData data, Team& team);

  int64_t n_samples() const override { return n_samples_; }
  int64_t n_in_use() const override { return n_in_use_; }
  bool has_sample_weight() const override { return data_.weight != nullptr; }
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
  void set_features(std::span<const uint8_t>) override {}  // histograms are of all
  void build_histograms(std::span<const HistogramTask> tasks, std::span<int64_t> counts,
                        Comm& comm) override;
  int64_t max_direct_rows() const override { return 0; }
  void find_splits(std::span<const FindSplitTask> tasks, const SplitParams& params) override;
  std::vector<SplitCandidate> best_splits(int32_t node, int32_t n) const override;
  void count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) override;
  void find_counted_split(int32_t task, const HistCell* row_counts) override;
  void partition(std::span<const PartitionTask> tasks, std::span<int64_t> left_counts) override;
  void set_row_order(std::span<const uint32_t> order) override { row_order_.assign(order); }
  void take_residuals(int output, int weight_exponent) override;
  void weigh_digits(std::span<const DigitTask> tasks, int digit,
                    std::span<int64_t> weights) override;
  void set_leaves(std::span<const RowRange> leaves, std::span<const RowRange> others) override;
  void leaf_sums(int output, int gradient_exponent, int hessian_exponent,
                 std::span<LeafSums> sums) override;
  void add_leaf_values(int output, std::span<const double> values) override;

 private:
  // Ranges of rows in the GPU's memory, and how they are cut.
  struct CutRanges {
    GpuArray<RowRange> ranges;
    GpuArray<int64_t> first_chunk;
    RowChunks chunks{};
    int64_t n_chunks = 0;

    explicit CutRanges(Gpu& gpu) : ranges(gpu), first_chunk(gpu) {}
    void cut(std::span<const RowRange> from, uint32_t chunk_rows);
  };
  // Arrays of the binned matrix, which outlive what points to them.
  struct Storage {
    std::vector<GpuArray<uint8_t>> bytes;
    std::vector<GpuArray<uint32_t>> words;
    std::vector<GpuArray<uint16_t>> entries;
  };

  void load_matrix();
  void load_rows();
  void compute_row_gradients(uint64_t key);
  void compute_given_gradients();
  void measure(std::span<GradientRange> ranges);
  void number_rows(bool by_query);
  HistCell* cells_of(int32_t slot);
  // How a range of rows is cut in two.
  struct RowCut {
    RowRange rows;
    const uint8_t* column;
    CategorySet left_bins;
  };
  void partition_rows(std::span<const RowCut> cuts, std::span<int64_t> left_counts);
  template <class Pair>
  void quantize_rows(const Quantization& quantization, GpuArray<Pair>& pairs);
  template <class Pair>
  void add_rows(std::span<const RowRange> ranges, const GpuArray<Pair>& pairs);
  void sum_rows(std::span<const HistogramTask> tasks);
  void reduce(std::span<const HistogramTask> tasks, std::span<int64_t> counts, Comm& comm);
  void search(std::span<const DeviceNode> nodes, FeatureRange searched, RowCounts row_counts = {});
  FeatureRange categorical_in(FeatureRange features) const;
  int64_t place_of_categories(int32_t node, int32_t feature) const {
    return node * int64_t(categorical_features_.size()) +
           categorical_in({feature, feature + 1}).begin;
  }
  // Of a node of the last find_splits; null if it may be cut anywhere.
  const uint8_t* cuts_of(int64_t node) const {
    return tasks_[node].cuts ? cuts_.data() + node * n_features_ : nullptr;
  }

  Gpu& gpu_;
  const TrainingData data_;
  const BinnedMatrix& bins_;
  Team& team_;
  const int64_t n_samples_;
  const int32_t n_features_;

  Storage storage_;
  GpuArray<DeviceFeature> features_;
  GpuArray<Bundle> bundles_;
  GpuArray<DenseTile> dense_tiles_;
  GpuArray<SparseTile> sparse_tiles_;
  GpuArray<int32_t> sparse_features_, categorical_;
  std::vector<int32_t> categorical_features_;  // that are searched
  int32_t n_dense_tiles_ = 0, n_sparse_tiles_ = 0, n_sparse_features_ = 0;
  int64_t n_dense_bytes_ = 0;  // of a row in all dense tiles, one addition each
  std::vector<const uint8_t*> columns_;

  GpuArray<double> target_, weight_, raw_prediction_;
  GpuArray<float> gradients_;  // and hessians, [2][n_outputs][n_samples]
  DeviceRows rows_{};
  GpuArray<DeviceMagnitudes> magnitudes_;
  GpuArray<double> doubles_;  // small arrays of a verb

  GpuArray<int64_t> query_begin_;  // of a ranker, as the next
  GpuArray<double> inverse_max_dcg_, discount_, label_gain_, query_sums_, probabilities_;
  GpuArray<uint32_t> ranked_;
  GpuArray<int64_t> row_numbers_;  // of rank_xendcg, among the rows of all workers

  GpuArray<uint32_t> draw_numbers_, magnitude_bits_;  // of samples of rows, as the next
  GpuArray<uint8_t> left_out_;
  GpuArray<int64_t> row_counts_;
  bool are_numbered_ = false;
  int64_t n_in_use_;

  Quantization quantization_{};
  int current_output_ = 0;  // whose gradients are quantized
  bool wide_ = false;       // 16-bit pairs
  GpuArray<Pair8> pairs8_;
  GpuArray<Pair16> pairs16_;
  GpuArray<uint32_t> row_order_, scratch_rows_;
  GpuArray<HistCell> totals_;

  CutRanges cut_;              // of the verb that runs
  CutRanges leaves_, others_;  // of the finished tree: rows in use, and the rest
  std::vector<GpuArray<HistCell>> slots_;
  GpuArray<HistCell*> cell_lists_;
  GpuArray<DeviceNode> nodes_;
  GpuArray<FeatureSplit> splits_;
  GpuArray<CategorySet> categories_;  // of these, where features are categorical
  GpuArray<uint8_t> cuts_;
  std::vector<FindSplitTask> tasks_;  // of the last find_splits, and what it found
  std::vector<NodeRules> rules_;
  std::vector<FeatureSplit> found_;
  std::vector<CategorySet> found_categories_;  // [nodes][categorical features]
  std::vector<CountTask> count_tasks_;         // of the last count_rows
  GpuArray<int32_t> count_features_;
  GpuArray<HistCell> counts_;
  GpuArray<uint32_t> place_counts_;
  GpuArray<CategorySet> left_bins_;
  GpuArray<const uint8_t*> split_columns_;
  GpuArray<uint32_t> left_of_chunk_, left_of_range_;
  GpuArray<LeafSums> leaf_sums_;
  GpuArray<uint32_t> residual_keys_, digit_prefixes_;  // where leaves are quantiles, as the next
  GpuArray<int64_t> residual_weights_, digit_weights_;
};

// Of one fit at a time.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int64_t most_bytes = INT64_MAX, uint64_t order_seed = 0, bool timed = false)
      : gpu_(most_bytes, order_seed, timed) {}
  std::unique_ptr<Backend> make_backend(TrainingData data, Team& team) override;
  void copy_out(const DeviceElements& from, void* to) override;
  void add_walks(const WalkedForest& forest, const MatrixView& X, int64_t begin_tree,
                 int64_t end_tree, int n_outputs, double* scores) override;
  std::map<std::string, KernelTime> kernel_times() const override { return gpu_.times(); }
  bool run_bounds(int64_t n_blocks) override;

 private:
  Gpu gpu_;
};

}  // namespace qgbdt
