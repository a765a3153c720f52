#include "cuda_backend.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "../best_splits.h"
#include "../fixed_point.h"
#include "../histogram_exchange.h"
#include "../support/check.h"
#include "bounds.h"
#include "elements.h"
#include "find_category_split.h"
#include "leaves.h"
#include "partition.h"
#include "quantize_rows.h"
#include "residuals.h"
#include "sample_rows.h"
#include "walks.h"

namespace qgbdt {
namespace {

constexpr uint32_t kStreamRows = 4096;  // of a chunk whose rows are read once
constexpr int64_t kHostRowsPerThread = 4096;
constexpr int64_t kBytesAtOnce = 1 << 24;  // of the user's that are gathered, then copied

template <class Task>
std::vector<RowRange> ranges_of(std::span<Task> tasks) {
  std::vector<RowRange> ranges;
  for (const Task& task : tasks) ranges.push_back(task.rows);
  return ranges;
}

int64_t n_rows(std::span<const RowRange> ranges) {
  int64_t n = 0;
  for (const RowRange& range : ranges) n += range.size();
  return n;
}

// The bins that go left.
CategorySet left_bins(const BinnedMatrix& bins, const PartitionTask& task) {
  const int32_t missing_bin = bins.n_value_bins(task.feature);
  CategorySet left = task.categories;
  if (!bins.is_categorical(task.feature))
    for (int32_t bin = 0; bin <= task.bin; ++bin) left.insert(bin);
  if (task.missing_left) left.insert(missing_bin);
  return left;
}

template <class T>
T* loaded(std::vector<GpuArray<T>>& arrays, Gpu& gpu, std::span<const T> values) {
  arrays.emplace_back(gpu).assign(values);
  return arrays.back().data();
}

}  // namespace

std::unique_ptr<Backend> CudaDevice::make_backend(TrainingData data, Team& team) {
  return std::make_unique<CudaBackend>(gpu_, std::move(data), team);
}

bool CudaDevice::run_bounds(int64_t n_blocks) {
  const int64_t n_words = n_blocks * CopyWords::kWordsPerBlock;
  GpuArray<uint64_t> from(gpu_, n_words), to(gpu_, n_words);
  from.clear(n_words);
  gpu_.run(CopyWords{from.data(), to.data()}, n_blocks, 2 * n_words * int64_t(sizeof(uint64_t)));
  GpuArray<uint32_t> sums(gpu_, n_blocks);
  constexpr int64_t kAdditions = AddOnes::kThreads * AddOnes::kPerThread;  // of a block
  gpu_.run(AddOnes{sums.data()}, n_blocks, n_blocks * kAdditions);
  std::vector<uint64_t> words(n_words, 1);
  std::vector<uint32_t> found(n_blocks);
  to.read(std::span(words));
  sums.read(std::span(found));
  return std::ranges::all_of(words, [](uint64_t word) { return word == 0; }) &&
         std::ranges::all_of(found, [](uint32_t sum) { return sum == kAdditions; });
}

void CudaDevice::copy_out(const DeviceElements& from, void* to) {
  const OnGpuOf there(from.first);
  const int64_t row_bytes = from.n_columns * from.item_bytes;
  const int64_t rows_at_once = std::clamp<int64_t>(kBytesAtOnce / row_bytes, 1, from.n_rows);
  GpuArray<uint8_t> gathered(gpu_, rows_at_once * row_bytes);
  for (int64_t row = 0; row < from.n_rows; row += rows_at_once) {
    DeviceElements some = from;
    some.first += row * from.row_stride;
    some.n_rows = std::min(rows_at_once, from.n_rows - row);
    gpu_.run(GatherElements{some, gathered.data()},
             blocks_of(some.n_rows * some.n_columns, GatherElements::kThreads));
    gathered.read({static_cast<uint8_t*>(to) + row * row_bytes, size_t(some.n_rows * row_bytes)});
  }
}

void CudaDevice::add_walks(const WalkedForest& forest, const MatrixView& X, int64_t begin_tree,
                           int64_t end_tree, int n_outputs, double* scores) {
  const OnGpuOf there(X.data);
  const std::span all(scores, size_t(X.n_samples * n_outputs));
  GpuArray<WalkNode> nodes(gpu_);
  GpuArray<double> values(gpu_), sums(gpu_);
  GpuArray<uint32_t> roots(gpu_);
  nodes.assign(forest.nodes());
  values.assign(forest.values());
  roots.assign(forest.roots());
  sums.assign(all);
  visit_elements(X, [&]<class T>(const T* rows) {
    gpu_.run(
        WalkTrees<T>{rows, X.row_stride, X.column_stride, X.n_samples, nodes.data(), values.data(),
                     roots.data() + begin_tree, end_tree - begin_tree, n_outputs, sums.data()},
        blocks_of(X.n_samples, WalkTrees<T>::kThreads));
  });
  sums.read(all);
}

void CudaBackend::CutRanges::cut(std::span<const RowRange> from, uint32_t chunk_rows) {
  const std::vector<int64_t> first = first_chunks(from, chunk_rows);
  ranges.assign(from);
  first_chunk.assign(first);
  chunks = {ranges.data(), first_chunk.data(), int32_t(from.size()), chunk_rows};
  n_chunks = first.back();
}

CudaBackend::CudaBackend(Gpu& gpu, TrainingData data, Team& team)
    : gpu_(gpu),
      data_(std::move(data)),
      bins_(*data_.bins),
      team_(team),
      n_samples_(bins_.n_samples()),
      n_features_(bins_.n_features()),
      features_(gpu_),
      bundles_(gpu_),
      dense_tiles_(gpu_),
      sparse_tiles_(gpu_),
      sparse_features_(gpu_),
      categorical_(gpu_),
      target_(gpu_),
      weight_(gpu_),
      raw_prediction_(gpu_, n_samples_ * data_.n_outputs),
      gradients_(gpu_, 2 * n_samples_ * data_.n_outputs),
      magnitudes_(gpu_),
      doubles_(gpu_),
      query_begin_(gpu_),
      inverse_max_dcg_(gpu_),
      discount_(gpu_),
      label_gain_(gpu_),
      query_sums_(gpu_),
      probabilities_(gpu_),
      ranked_(gpu_),
      row_numbers_(gpu_),
      draw_numbers_(gpu_),
      magnitude_bits_(gpu_),
      left_out_(gpu_),
      row_counts_(gpu_),
      n_in_use_(n_samples_),
      pairs8_(gpu_),
      pairs16_(gpu_),
      row_order_(gpu_, n_samples_),
      scratch_rows_(gpu_, n_samples_),
      totals_(gpu_),
      cut_(gpu_),
      leaves_(gpu_),
      others_(gpu_),
      cell_lists_(gpu_),
      nodes_(gpu_),
      splits_(gpu_),
      categories_(gpu_),
      cuts_(gpu_),
      count_features_(gpu_),
      counts_(gpu_),
      place_counts_(gpu_),
      left_bins_(gpu_),
      split_columns_(gpu_),
      left_of_chunk_(gpu_),
      left_of_range_(gpu_),
      leaf_sums_(gpu_),
      residual_keys_(gpu_),
      digit_prefixes_(gpu_),
      residual_weights_(gpu_),
      digit_weights_(gpu_) {
  load_matrix();
  load_rows();
}

// The binned data crosses once.
void CudaBackend::load_matrix() {
  std::vector<DeviceFeature> features;
  for (int32_t f = 0; f < n_features_; ++f) {
    columns_.push_back(loaded(storage_.bytes, gpu_, {bins_.column(f), size_t(n_samples_)}));
    features.push_back({columns_.back(), bins_.cell_offset(f), bins_.n_value_bins(f),
                        bins_.bin_order(f), bins_.default_place(f), data_.sign_of(f)});
    if (bins_.is_categorical(f) && data_.searched.contains(f)) categorical_features_.push_back(f);
  }
  bundles_.assign(bins_.bundles());
  std::vector<DenseTile> dense;
  std::vector<SparseTile> sparse;
  std::vector<int32_t> sparse_features;
  for (const FeatureTile& tile : bins_.tiles()) {
    if (!tile.is_sparse()) {
      const int32_t n_words = tile.stride / int32_t(sizeof(uint32_t));
      GpuArray<uint32_t>& words =
          storage_.words.emplace_back(gpu_, std::max<int64_t>(n_samples_ * n_words, 1));
      gpu_.copy_in(tile.bins, n_samples_ * tile.stride, words.data());
      n_dense_bytes_ += tile.n_bundles;
      dense.push_back({words.data(), bundles_.data() + tile.first_bundle, tile.n_bundles, n_words});
      continue;
    }
    const uint32_t* row_begin =
        loaded(storage_.words, gpu_, {tile.row_begin, size_t(n_samples_) + 1});
    const uint16_t* entries =
        loaded(storage_.entries, gpu_, {tile.entries, tile.row_begin[n_samples_]});
    sparse.push_back({row_begin, entries, tile.first_feature});
    for (int32_t i = 0; i < tile.n_features; ++i) sparse_features.push_back(tile.first_feature + i);
  }
  features_.assign(features);
  dense_tiles_.assign(dense);
  sparse_tiles_.assign(sparse);
  sparse_features_.assign(sparse_features);
  categorical_.assign(categorical_features_);
  n_dense_tiles_ = int32_t(dense.size());
  n_sparse_tiles_ = int32_t(sparse.size());
  n_sparse_features_ = int32_t(sparse_features.size());
}

void CudaBackend::load_rows() {
  const int64_t n_values = n_samples_ * data_.n_outputs;
  target_.assign({data_.target, size_t(n_samples_ * n_targets(data_.objective, data_.n_outputs))});
  if (data_.weight) weight_.assign({data_.weight, size_t(n_samples_)});
  if (data_.raw_prediction) raw_prediction_.assign({data_.raw_prediction, size_t(n_values)});
  rows_ = {n_samples_,
           data_.n_outputs,
           target_.data(),
           data_.weight ? weight_.data() : nullptr,
           raw_prediction_.data(),
           gradients_.data(),
           gradients_.data() + n_values};
  if (!is_ranking(data_.objective)) return;
  const RankingTables tables = ranking_tables(data_);
  query_begin_.assign(data_.query_begin);
  inverse_max_dcg_.assign(tables.inverse_max_dcg);
  discount_.assign(tables.discount);
  label_gain_.assign(data_.label_gain);
  query_sums_.reserve(2 * n_samples_);
  ranked_.reserve(n_samples_);
  if (data_.objective == ObjectiveKind::lambdarank) return;
  std::vector<int64_t> numbers(n_samples_);
  bins_.rows().for_stretches(0, n_samples_, [&](int64_t begin, int64_t end, int64_t first_row) {
    std::iota(numbers.begin() + begin, numbers.begin() + end, first_row + begin);
  });
  row_numbers_.assign(numbers);
}

void CudaBackend::set_start_scores(std::span<const double> scores) {
  doubles_.assign(scores);
  gpu_.run(SetScores{rows_, doubles_.data(), row_order_.data()},
           blocks_of(n_samples_, SetScores::kThreads));
}

void CudaBackend::compute_row_gradients(uint64_t key) {
  visit_objective(data_.objective, [&]<class Objective>(Objective) {
    using Kernel = RowGradients<Objective>;
    if constexpr (std::is_same_v<Objective, LambdaRank>) {
      const int64_t n_queries = int64_t(data_.query_begin.size()) - 1;
      gpu_.run(Kernel{rows_, n_queries, data_.truncation_level, query_begin_.data(),
                      inverse_max_dcg_.data(), discount_.data(), label_gain_.data(), ranked_.data(),
                      query_sums_.data(), query_sums_.data() + n_samples_},
               blocks_of(n_queries, Kernel::kThreads));
    } else if constexpr (std::is_same_v<Objective, RankXendcg>) {
      const int64_t n_queries = int64_t(data_.query_begin.size()) - 1;
      probabilities_.reserve(n_samples_);
      gpu_.run(Kernel{rows_, n_queries, key, query_begin_.data(), row_numbers_.data(),
                      label_gain_.data(), probabilities_.data(), query_sums_.data(),
                      query_sums_.data() + n_samples_},
               blocks_of(n_queries, Kernel::kThreads));
    } else if constexpr (Objective::kGivenGradients) {
      compute_given_gradients();
    } else {
      gpu_.run(Kernel{rows_, data_.args}, blocks_of(n_samples_, Kernel::kThreads));
    }
  });
}

// The user's functions and the sums of cox run on the host.
void CudaBackend::compute_given_gradients() {
  std::vector<double> raw(n_samples_ * data_.n_outputs);
  std::vector<float> gradients(2 * raw.size());
  float *const g = gradients.data(), *const h = g + raw.size();
  raw_prediction_.read(std::span(raw));
  if (data_.given.of_all) {
    data_.given.of_all(raw, {g, raw.size()}, {h, raw.size()});
  } else {
    const int threads = team_.threads_for(n_samples_, kHostRowsPerThread);
    team_.run_blocks(threads, n_samples_, kHostRowsPerThread, [&](int64_t begin, int64_t end, int) {
      given_row_gradients(data_, begin, end, raw.data(), g, h);
    });
  }
  gradients_.assign(gradients);
}

void CudaBackend::compute_gradients(uint64_t key, std::span<GradientRange> ranges) {
  compute_row_gradients(key);
  n_in_use_ = n_samples_;
  measure(ranges);
}

void CudaBackend::measure(std::span<GradientRange> ranges) {
  const int64_t n_arrays = 2 * data_.n_outputs;
  magnitudes_.clear(n_arrays);
  const int64_t blocks = blocks_of(n_samples_, Measure::kValuesPerBlock);
  gpu_.run(Measure{gradients_.data(), n_samples_, blocks, magnitudes_.data()}, blocks * n_arrays);
  std::vector<DeviceMagnitudes> found(n_arrays);
  magnitudes_.read(std::span(found));
  const auto as_magnitudes = [](const DeviceMagnitudes& from) {
    Magnitudes to;
    to.max = double(__builtin_bit_cast(float, from.largest));
    std::copy_n(from.counts, 256, to.counts);
    return to;
  };
  for (int k = 0; k < data_.n_outputs; ++k)
    ranges[k] = {as_magnitudes(found[k]), as_magnitudes(found[data_.n_outputs + k])};
}

void CudaBackend::count_magnitudes(uint32_t prefix, int shift, std::span<int64_t> counts) {
  const int64_t blocks = blocks_of(n_samples_, kRowThreads);
  magnitude_bits_.reserve(n_samples_);
  const int bits = std::countr_zero(counts.size());
  if (shift + bits == 32)  // the first digit
    gpu_.run(FindMagnitudes{rows_, magnitude_bits_.data()}, blocks);
  row_counts_.clear(int64_t(counts.size()));
  gpu_.run(
      CountMagnitudes{magnitude_bits_.data(), n_samples_, prefix, shift, bits, row_counts_.data()},
      blocks);
  row_counts_.read(counts);
}

// Rows are drawn by their own numbers, or by that of their query's first row.
void CudaBackend::number_rows(bool by_query) {
  std::vector<uint32_t> numbers(n_samples_);
  bins_.rows().for_stretches(0, n_samples_, [&](int64_t begin, int64_t end, int64_t first_row) {
    std::iota(&numbers[begin], numbers.data() + end, uint32_t(first_row + begin));
  });
  if (by_query)
    for (size_t q = 0; q + 1 < data_.query_begin.size(); ++q)
      std::fill(numbers.begin() + data_.query_begin[q], numbers.begin() + data_.query_begin[q + 1],
                data_.query_begin[q] < n_samples_ ? numbers[data_.query_begin[q]] : 0);
  draw_numbers_.assign(numbers);
  left_out_.reserve(n_samples_);
  are_numbered_ = true;
}

int64_t CudaBackend::sample_rows(const RowSample& sample, std::span<GradientRange> ranges) {
  if (!are_numbered_) number_rows(sample.by_query);
  row_counts_.clear(1);
  gpu_.run(SampleRows{sample, rows_, draw_numbers_.data(), magnitude_bits_.data(), left_out_.data(),
                      row_counts_.data()},
           blocks_of(n_samples_, SampleRows::kThreads));
  row_counts_.read({&n_in_use_, 1});
  measure(ranges);
  return n_in_use_;
}

template <class Pair>
void CudaBackend::quantize_rows(const Quantization& quantization, GpuArray<Pair>& pairs) {
  pairs.reserve(n_samples_);
  bins_.rows().for_stretches(0, n_samples_, [&](int64_t begin, int64_t end, int64_t first_row) {
    const int64_t first = current_output_ * n_samples_;
    gpu_.run(
        QuantizeRows<Pair>{quantization, rows_.gradient + first, rows_.hessian + first, first_row,
                           begin, end, pairs.data(), row_order_.data(), totals_.data()},
        blocks_of(end - begin, QuantizeRows<Pair>::kRowsPerBlock));
  });
}

HistCell CudaBackend::quantize(int output, const Quantization& quantization) {
  current_output_ = output;
  quantization_ = quantization;
  wide_ = is_wide(quantization);
  totals_.clear(1);
  if (wide_) quantize_rows(quantization, pairs16_);
  else quantize_rows(quantization, pairs8_);
  HistCell total = 0;
  totals_.read({&total, 1});
  if (n_in_use_ == n_samples_) return total;
  CategorySet in_use;
  in_use.insert(0);
  const RowCut cut{{0, uint32_t(n_samples_)}, left_out_.data(), in_use};
  int64_t n_in_use = 0;
  partition_rows({&cut, 1}, {&n_in_use, 1});
  return quantization.constant_hessian ? make_cell(cell_gradient(total), int32_t(n_in_use)) : total;
}

HistCell* CudaBackend::cells_of(int32_t slot) {
  while (slot >= int32_t(slots_.size())) slots_.emplace_back(gpu_);
  slots_[slot].reserve(bins_.n_cells());
  return slots_[slot].data();
}

template <class Pair>
void CudaBackend::add_rows(std::span<const RowRange> ranges, const GpuArray<Pair>& pairs) {
  const int64_t total_rows = n_rows(ranges), n_nodes = int64_t(ranges.size());
  if (n_dense_tiles_ > 0) {
    const auto add_dense = [&]<class Sums>(Sums*, bool lanes) {
      cut_.cut(ranges, histogram_chunk_rows(total_rows, n_dense_tiles_, lanes, quantization_));
      gpu_.run(
          AddRows<Pair, Sums>{cut_.chunks, row_order_.data(), pairs.data(), dense_tiles_.data(),
                              n_dense_tiles_, features_.data(), cell_lists_.data()},
          cut_.n_chunks * n_dense_tiles_, total_rows * n_dense_bytes_ * (lanes ? 1 : 2));
    };
    if constexpr (std::is_same_v<Pair, Pair8>) {
      if (fits_lanes(quantization_)) add_dense(static_cast<LaneSums*>(nullptr), true);
      else add_dense(static_cast<HalfSums*>(nullptr), false);
    } else {
      add_dense(static_cast<HalfSums*>(nullptr), false);
    }
  }
  if (n_sparse_tiles_ > 0) {
    cut_.cut(ranges, kStreamRows);
    gpu_.run(AddSparseRows<Pair>{cut_.chunks, row_order_.data(), pairs.data(), sparse_tiles_.data(),
                                 n_sparse_tiles_, features_.data(), cell_lists_.data()},
             cut_.n_chunks * n_sparse_tiles_);
    totals_.clear(n_nodes);
    gpu_.run(SumRows<Pair>{cut_.chunks, row_order_.data(), pairs.data(), totals_.data()},
             cut_.n_chunks);
    gpu_.run(FillDefaultPlaces{sparse_features_.data(), n_sparse_features_, features_.data(),
                               totals_.data(), cell_lists_.data()},
             n_nodes * n_sparse_features_);
  }
}

void CudaBackend::build_histograms(std::span<const HistogramTask> tasks, std::span<int64_t> counts,
                                   Comm& comm) {
  if (!tasks.empty()) sum_rows(tasks);
  if (comm.world_size() > 1) reduce(tasks, counts, comm);
}

void CudaBackend::sum_rows(std::span<const HistogramTask> tasks) {
  std::vector<HistCell*> cells;
  for (const HistogramTask& task : tasks) cells.push_back(cells_of(task.slot));
  cell_lists_.assign(cells);
  const int64_t blocks = blocks_of(bins_.n_cells(), ClearCells::kCellsPerBlock);
  gpu_.run(ClearCells{cell_lists_.data(), bins_.n_cells(), blocks}, blocks * int64_t(tasks.size()));
  const std::vector<RowRange> ranges = ranges_of(tasks);
  if (wide_) add_rows(std::span(ranges), pairs16_);
  else add_rows(std::span(ranges), pairs8_);
}

// Cells cross to the host and back: workers with fast links of their own are not served yet.
void CudaBackend::reduce(std::span<const HistogramTask> tasks, std::span<int64_t> counts,
                         Comm& comm) {
  std::vector<std::vector<HistCell>> cells;  // of all features
  for (const HistogramTask& task : tasks) {
    cells.emplace_back(bins_.n_cells());
    slots_[task.slot].read(std::span(cells.back()));
  }
  const auto pack = [&](int64_t i, FeatureRange features) {
    Bytes part;
    pack_cells_part(bins_, features, cells[i].data(), &part);
    return part;
  };
  const auto parts =
      exchange_parts(int64_t(tasks.size()), counts, bins_, pack, comm, team_, team_.n_threads());
  const int64_t begin = bins_.cell_offset(data_.searched.begin);
  const int64_t end = bins_.cell_offset(data_.searched.end);
  for (size_t i = 0; i < tasks.size(); ++i) {
    for (const std::vector<Bytes>& of_worker : parts)
      add_part(of_worker[i], bins_, data_.searched, wide_, cells[i].data() + begin);
    check_sums(cells[i].data() + begin, bins_, data_.searched, tasks[i].total);
    gpu_.copy_in(cells[i].data() + begin, (end - begin) * int64_t(sizeof(HistCell)),
                 slots_[tasks[i].slot].data() + begin);
  }
}

// Categorical features as if their codes were numbers, which subtracts siblings; then as they are.
void CudaBackend::search(std::span<const DeviceNode> nodes, FeatureRange searched,
                         RowCounts row_counts) {
  const int64_t n_nodes = int64_t(nodes.size());
  nodes_.assign(nodes);
  splits_.reserve(n_nodes * n_features_);
  gpu_.run(
      FindSplit{nodes_.data(), searched, features_.data(), n_features_, row_counts, splits_.data()},
      n_nodes * searched.size());
  const FeatureRange categorical = categorical_in(searched);
  categories_.reserve(n_nodes * categorical.size());
  gpu_.run(FindCategorySplit{nodes_.data(), categorical_.data() + categorical.begin,
                             categorical.size(), features_.data(), n_features_, row_counts,
                             splits_.data(), categories_.data()},
           n_nodes * categorical.size());
}

// Which of the categorical features are in the range.
FeatureRange CudaBackend::categorical_in(FeatureRange features) const {
  const auto place = [&](int32_t feature) {
    const auto& all = categorical_features_;
    return int32_t(std::lower_bound(all.begin(), all.end(), feature) - all.begin());
  };
  return {place(features.begin), place(features.end)};
}

void CudaBackend::find_splits(std::span<const FindSplitTask> tasks, const SplitParams& params) {
  const int64_t n_splits = int64_t(tasks.size()) * n_features_;
  tasks_.assign(tasks.begin(), tasks.end());
  rules_.clear();
  found_.assign(n_splits, {});
  found_categories_.resize(tasks.size() * categorical_features_.size());
  std::vector<DeviceNode> nodes;
  std::vector<uint8_t> cuts;  // of each task, or of none
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (!tasks[i].cuts) continue;
    cuts.resize(n_splits);
    std::copy_n(tasks[i].cuts, n_features_, &cuts[i * n_features_]);
  }
  cuts_.assign(cuts);
  for (const FindSplitTask& task : tasks) {
    rules_.push_back(rules_of_node(params, task.total, task.count, task.bounds));
    const HistCell* sibling = task.sibling == kNone ? nullptr : cells_of(tasks[task.sibling].slot);
    nodes.push_back({cells_of(task.slot), sibling, rules_.back(),
                     enough_rows_for_two(task.count, params), cuts_of(int64_t(nodes.size())),
                     task.only_cuts});
  }
  if (data_.searched.size() == 0) return;
  search(nodes, data_.searched);
  splits_.read(std::span(found_));
  categories_.read(std::span(found_categories_));
  for (size_t i = 0; i < tasks.size(); ++i)
    for (int32_t f = 0; tasks[i].allowed && f < n_features_; ++f)
      if (!tasks[i].allowed[f]) found_[int64_t(i) * n_features_ + f].gain = 0;
}

std::vector<SplitCandidate> CudaBackend::best_splits(int32_t node, int32_t n) const {
  const FeatureSplit* features = &found_[int64_t(node) * n_features_];
  std::vector<SplitCandidate> best =
      qgbdt::best_splits({features, size_t(n_features_)}, data_.searched, rules_[node], n);
  for (SplitCandidate& split : best)
    if (bins_.is_categorical(split.feature))
      split.categories = found_categories_[place_of_categories(node, split.feature)];
  return best;
}

void CudaBackend::count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) {
  count_tasks_.assign(tasks.begin(), tasks.end());
  std::vector<RowRange> ranges;
  std::vector<int32_t> features;
  for (const CountTask& task : tasks) {
    ranges.push_back(tasks_[task.node].rows);
    features.push_back(task.feature);
  }
  cut_.cut(ranges, kStreamRows);
  count_features_.assign(features);
  counts_.clear(int64_t(counts.size()));
  gpu_.run(CountRows{cut_.chunks, row_order_.data(), count_features_.data(), features_.data(),
                     counts_.data()},
           cut_.n_chunks);
  counts_.read(counts);
}

void CudaBackend::find_counted_split(int32_t task, const HistCell* row_counts) {
  const auto [node, feature] = count_tasks_[task];
  if (!data_.searched.contains(feature)) return;
  uint32_t counts[kBinPlaces];
  std::transform(row_counts, row_counts + kBinPlaces, counts, cell_hessian);
  place_counts_.assign(counts);
  const DeviceNode searched{cells_of(tasks_[node].slot), nullptr, rules_[node], true, cuts_of(node),
                            tasks_[node].only_cuts};
  search({&searched, 1}, {feature, feature + 1},
         {place_counts_.data(), int32_t(tasks_[node].count)});
  splits_.read({&found_[int64_t(node) * n_features_ + feature], 1}, feature);
  if (bins_.is_categorical(feature))
    categories_.read({&found_categories_[place_of_categories(node, feature)], 1});
}

void CudaBackend::partition(std::span<const PartitionTask> tasks, std::span<int64_t> left_counts) {
  std::vector<RowCut> cuts;
  for (const PartitionTask& task : tasks)
    cuts.push_back({task.rows, columns_[task.feature], left_bins(bins_, task)});
  partition_rows(cuts, left_counts);
}

void CudaBackend::partition_rows(std::span<const RowCut> cuts, std::span<int64_t> left_counts) {
  std::vector<CategorySet> left_bins;
  std::vector<const uint8_t*> columns;
  for (const RowCut& cut : cuts) {
    left_bins.push_back(cut.left_bins);
    columns.push_back(cut.column);
  }
  cut_.cut(ranges_of(cuts), kPartitionRows);
  left_bins_.assign(left_bins);
  split_columns_.assign(columns);
  left_of_chunk_.reserve(cut_.n_chunks);
  left_of_range_.reserve(int64_t(cuts.size()));
  const LeftCounter counter{
      cut_.chunks, {left_bins_.data(), split_columns_.data()}, row_order_.data()};
  gpu_.run(CountLeft{counter, left_of_chunk_.data()}, cut_.n_chunks);
  gpu_.run(ScanChunks{cut_.chunks, left_of_chunk_.data(), left_of_range_.data()},
           int64_t(cuts.size()));
  gpu_.run(MoveRows{counter, left_of_chunk_.data(), left_of_range_.data(), scratch_rows_.data()},
           cut_.n_chunks);
  gpu_.run(CopyRows{cut_.chunks, scratch_rows_.data(), row_order_.data()}, cut_.n_chunks);
  std::vector<uint32_t> left(cuts.size());
  left_of_range_.read(std::span(left));
  std::copy(left.begin(), left.end(), left_counts.begin());
}

void CudaBackend::take_residuals(int output, int weight_exponent) {
  residual_keys_.reserve(n_samples_);
  residual_weights_.reserve(n_samples_);
  visit_objective(data_.objective, [&]<class Objective>(Objective) {
    if constexpr (Objective::kQuantileLeaves)
      gpu_.run(
          TakeResiduals<Objective>{rows_, output, row_order_.data(), power_of_two(weight_exponent),
                                   residual_keys_.data(), residual_weights_.data()},
          blocks_of(n_samples_, kRowThreads));
  });
}

void CudaBackend::weigh_digits(std::span<const DigitTask> tasks, int digit,
                               std::span<int64_t> weights) {
  std::vector<uint32_t> prefixes;
  for (const DigitTask& task : tasks) prefixes.push_back(task.prefix);
  cut_.cut(ranges_of(tasks), kStreamRows);
  digit_prefixes_.assign(prefixes);
  digit_weights_.clear(int64_t(weights.size()));
  gpu_.run(WeighDigits{cut_.chunks, digit_prefixes_.data(), digit, residual_keys_.data(),
                       residual_weights_.data(), digit_weights_.data()},
           cut_.n_chunks);
  digit_weights_.read(weights);
}

void CudaBackend::set_leaves(std::span<const RowRange> leaves, std::span<const RowRange> others) {
  leaves_.cut(leaves, kStreamRows);
  others_.cut(others, kStreamRows);
}

void CudaBackend::leaf_sums(int output, int gradient_exponent, int hessian_exponent,
                            std::span<LeafSums> sums) {
  const int64_t first = output * n_samples_;
  leaf_sums_.clear(int64_t(sums.size()));
  gpu_.run(
      SumLeaves{leaves_.chunks, row_order_.data(), rows_.gradient + first, rows_.hessian + first,
                power_of_two(gradient_exponent), power_of_two(hessian_exponent), leaf_sums_.data()},
      leaves_.n_chunks);
  leaf_sums_.read(sums);
}

void CudaBackend::add_leaf_values(int output, std::span<const double> values) {
  doubles_.assign(values);
  for (const CutRanges* rows : {&leaves_, &others_})
    gpu_.run(AddLeafValues{rows->chunks, row_order_.data(), doubles_.data(),
                           raw_prediction_.data() + output * n_samples_},
             rows->n_chunks);
}

}  // namespace qgbdt
