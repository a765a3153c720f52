#include "cpu_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "../fixed_point.h"
#include "../support/check.h"
#include "searched_node.h"
#include "tile_sums.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowBlock = 4096;  // rows of one task of an elementwise pass
constexpr int64_t kMarksOfLine = kCacheLine / sizeof(uint32_t);  // of rows that share one

// Dense tiles cut into as many parts as may feed n_threads with few nodes.
std::vector<FeatureTile> cut_tiles(const BinnedMatrix& bins, const std::vector<FeatureTile>& tiles,
                                   int n_threads) {
  std::vector<FeatureTile> parts;
  for (const FeatureTile& tile : tiles) {
    if (tile.is_sparse()) parts.push_back(tile);
    const int32_t fours = (tile.n_bundles + 3) / 4;  // adds read four bytes at once
    const int32_t width = (fours + n_threads - 1) / n_threads * 4;
    const int32_t last_bundle = tile.first_bundle + tile.n_bundles;
    for (int32_t b = tile.first_bundle; b < last_bundle; b += width) {
      const Bundle end = bins.bundles()[std::min(b + width, last_bundle) - 1];
      parts.push_back(bins.part_of(
          tile, {bins.bundles()[b].first_feature, end.first_feature + end.n_features}));
    }
  }
  return parts;
}

// The tiles that have a feature in the range, whole, to be summed.
std::vector<FeatureTile> tiles_with(const std::vector<FeatureTile>& tiles, FeatureRange range) {
  std::vector<FeatureTile> found;
  for (const FeatureTile& tile : tiles)
    if (tile.first_feature < range.end && range.begin < tile.first_feature + tile.n_features)
      found.push_back(tile);
  return found;
}

// What of the tiles lies in the range, to be searched.
std::vector<FeatureTile> clip_tiles(const BinnedMatrix& bins, FeatureRange range) {
  std::vector<FeatureTile> clipped = tiles_with(bins.tiles(), range);
  for (FeatureTile& tile : clipped) tile = bins.part_of(tile, range);
  return clipped;
}

void merge(const Magnitudes& from, Magnitudes* to) {
  to->max = std::max(to->max, from.max);
  for (int e = 0; e < 256; ++e) to->counts[e] += from.counts[e];
}

using RangesOfThreads = std::vector<std::vector<GradientRange>>;  // [n_threads][n_outputs]

void merge(const RangesOfThreads& local, std::span<GradientRange> ranges) {
  for (size_t k = 0; k < ranges.size(); ++k) {
    ranges[k] = {};
    for (const auto& l : local) {
      merge(l[k].gradient, &ranges[k].gradient);
      merge(l[k].hessian, &ranges[k].hessian);
    }
  }
}

}  // namespace

// What one thread needs for a query.
struct CpuBackend::QueryScratch {
  std::vector<Document> documents;
  std::vector<double> score, gain, discount, g, h;
  std::vector<int64_t> position;

  explicit QueryScratch(int64_t longest_query)
      : documents(longest_query),
        score(whole_rival_lanes(longest_query)),
        gain(score.size()),
        discount(score.size()),
        g(longest_query),
        h(longest_query),
        position(longest_query) {}
  RankingScratch view() {
    return {{score.data(), gain.data(), discount.data(), position.data()}, g.data(), h.data()};
  }
};

CpuBackend::CpuBackend(TrainingData data, Team& team)
    : data_(std::move(data)),
      bins_(*data_.bins),
      kernels_(choose_kernels()),
      team_(team),
      n_samples_(bins_.n_samples()),
      raw_prediction_(n_samples_ * data_.n_outputs),
      gradient_(n_samples_ * data_.n_outputs),
      hessian_(n_samples_ * data_.n_outputs),
      n_in_use_(n_samples_),
      row_order_(n_samples_),
      scratch_rows_(n_samples_),
      scratch_(team.n_threads()),
      searched_(data_.searched),
      tile_parts_(cut_tiles(bins_, bins_.tiles(), team.n_threads())),
      all_own_tiles_(tiles_with(bins_.tiles(), searched_)),
      all_searched_tiles_(clip_tiles(bins_, searched_)) {
  set_features({});
  rows_ = {n_samples_,       data_.n_outputs, data_.target, data_.weight, raw_prediction_.data(),
           gradient_.data(), hessian_.data()};
  if (data_.raw_prediction)
    std::copy_n(data_.raw_prediction, raw_prediction_.size(), raw_prediction_.data());
  if (data_.X) {
    row_numbers_.resize(n_samples_);
    bins_.rows().for_stretches(0, n_samples_, [&](int64_t begin, int64_t end, int64_t first_row) {
      std::iota(row_numbers_.begin() + begin, row_numbers_.begin() + end, first_row + begin);
    });
  }
  if (is_ranking(data_.objective)) {
    ranking_tables_ = ranking_tables(data_);
    ranking_ = {data_.query_begin.data(), ranking_tables_.inverse_max_dcg.data(),
                data_.truncation_level};
    ranked_positions_ = Buffer<uint32_t>(n_samples_);
    for (size_t q = 0; q + 1 < data_.query_begin.size(); ++q)
      std::iota(ranked_positions_.data() + data_.query_begin[q],
                ranked_positions_.data() + data_.query_begin[q + 1], 0u);
  }
}

CpuBackend::~CpuBackend() = default;

// Best score first; where scores are equal, in the order of rows. That is nearly the last tree's
// order, from which there is less to sort, and fewer surprises.
void CpuBackend::rank_documents(int64_t query, Document* documents) {
  const int64_t begin = data_.query_begin[query], n = data_.query_begin[query + 1] - begin;
  uint32_t* const ranked = ranked_positions_.data() + begin;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = begin + ranked[i], label = int64_t(rows_.target[row]);
    documents[i] = {rows_.raw_prediction[row], data_.label_gain[label], 0, ranked[i]};
  }
  std::sort(documents, documents + n, [](const Document& a, const Document& b) {
    return a.score != b.score ? a.score > b.score : a.position < b.position;
  });
  for (int64_t rank = 0; rank < n; ++rank) {
    documents[rank].discount = ranking_tables_.discount[rank];
    ranked[rank] = uint32_t(documents[rank].position);
  }
}

void CpuBackend::set_start_scores(std::span<const double> scores) {
  for (size_t k = 0; k < scores.size(); ++k)
    std::fill_n(raw_prediction_.data() + int64_t(k) * n_samples_, n_samples_, scores[k]);
  std::iota(row_order_.data(), row_order_.data() + n_samples_, 0u);
}

void CpuBackend::compute_query_gradients(uint64_t key, int64_t query, QueryScratch& scratch,
                                         GradientRange* range) {
  if (data_.objective == ObjectiveKind::lambdarank) {
    rank_documents(query, scratch.documents.data());
    kernels_.query_gradients(ranking_, rows_, query, scratch.documents.data(), scratch.view(),
                             range);
    return;
  }
  const int64_t begin = data_.query_begin[query], end = data_.query_begin[query + 1];
  bins_.rows().for_stretches(begin, end, [&](int64_t from, int64_t to, int64_t first_row) {
    for (int64_t i = from; i < to; ++i)
      scratch.g[i - begin] = RankXendcg::relevance(data_.label_gain[int64_t(data_.target[i])],
                                                   row_hash(key, uint64_t(first_row + i)));
  });
  kernels_.xendcg_gradients(rows_, begin, end - begin, scratch.view(), range);
}

// Those of a function of all rows are there; those of single rows are computed.
void CpuBackend::compute_given_gradients(int64_t begin, int64_t end, GradientRange* ranges) {
  if (data_.given.of_rows)
    given_row_gradients(data_, begin, end, rows_.raw_prediction, rows_.gradient, rows_.hessian);
  for (int k = 0; k < rows_.n_outputs; ++k) {
    kernels_.measure(rows_.gradient + k * n_samples_ + begin, end - begin, &ranges[k].gradient);
    kernels_.measure(rows_.hessian + k * n_samples_ + begin, end - begin, &ranges[k].hessian);
  }
}

void CpuBackend::compute_gradients(uint64_t key, std::span<GradientRange> ranges) {
  const int threads = team_.threads_for(n_samples_ * rows_.n_outputs, kRowsPerThread);
  RangesOfThreads local(threads, std::vector<GradientRange>(ranges.size()));
  if (is_ranking(data_.objective)) {
    std::vector<QueryScratch> scratch(threads, QueryScratch(ranking_tables_.longest_query));
    team_.run(threads, int64_t(data_.query_begin.size()) - 1, [&](int64_t query, int thread) {
      compute_query_gradients(key, query, scratch[thread], local[thread].data());
    });
  } else if (has_given_gradients(data_.objective)) {
    const size_t n_values = size_t(n_samples_ * rows_.n_outputs);
    if (data_.given.of_all)
      data_.given.of_all({rows_.raw_prediction, n_values}, {rows_.gradient, n_values},
                         {rows_.hessian, n_values});
    team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
      compute_given_gradients(begin, end, local[thread].data());
    });
  } else {
    team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
      kernels_.gradients(data_.objective, data_.args, rows_, begin, end, local[thread].data());
    });
  }
  merge(local, ranges);
  n_in_use_ = n_samples_;
}

// Of all outputs' gradients of a row.
void CpuBackend::find_magnitudes() {
  if (!magnitude_bits_.size()) magnitude_bits_ = Buffer<uint32_t>(n_samples_);
  const int threads = team_.threads_for(n_samples_ * rows_.n_outputs, kRowsPerThread);
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t at = i; at < n_samples_ * rows_.n_outputs; at += n_samples_)
        sum += std::abs(double(rows_.gradient[at]) * double(rows_.hessian[at]));
      magnitude_bits_.data()[i] = magnitude_bits(sum);
    }
  });
}

void CpuBackend::count_magnitudes(uint32_t prefix, int shift, std::span<int64_t> counts) {
  const int bits = std::countr_zero(counts.size());
  if (shift + bits == 32) find_magnitudes();  // the first digit
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  std::vector<std::vector<int64_t>> local(threads, std::vector<int64_t>(counts.size()));
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t digits = magnitude_bits_.data()[i] >> shift;
      if (digits >> bits == prefix) ++local[thread][digits & (counts.size() - 1)];
    }
  });
  for (const auto& l : local)
    std::transform(l.begin(), l.end(), counts.begin(), counts.begin(), std::plus<>());
}

void CpuBackend::draw_rows(const RowSample& sample) {
  if (!left_out_.size()) left_out_ = Buffer<uint8_t>(n_samples_);
  uint8_t* const left_out = left_out_.data();
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  if (sample.by_query) {
    const std::vector<int64_t>& query_begin = data_.query_begin;
    team_.run(threads, int64_t(query_begin.size()) - 1, [&](int64_t query, int) {
      const int64_t begin = query_begin[query], end = query_begin[query + 1];
      bins_.rows().for_stretches(begin, std::min(begin + 1, end), [&](int64_t, int64_t, int64_t n) {
        std::fill(left_out + begin, left_out + end, !is_drawn(sample, n + begin));
      });
    });
    return;
  }
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int) {
    bins_.rows().for_stretches(begin, end, [&](int64_t from, int64_t to, int64_t first_row) {
      for (int64_t i = from; i < to; ++i) left_out[i] = !is_drawn(sample, first_row + i);
    });
    if (sample.by_gradient)
      for (int64_t i = begin; i < end; ++i)
        left_out[i] &= magnitude_bits_.data()[i] < sample.least_large;
  });
}

int64_t CpuBackend::sample_rows(const RowSample& sample, std::span<GradientRange> ranges) {
  draw_rows(sample);
  const int threads = team_.threads_for(n_samples_ * rows_.n_outputs, kRowsPerThread);
  std::vector<int64_t> n_left_out(threads);
  RangesOfThreads local(threads, std::vector<GradientRange>(ranges.size()));
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    double factor[kRowBlock];
    for (int64_t i = begin; i < end; ++i) {
      const bool is_large = sample.by_gradient && magnitude_bits_.data()[i] >= sample.least_large;
      n_left_out[thread] += left_out_.data()[i];
      factor[i - begin] = left_out_.data()[i] ? 0 : is_large ? 1 : sample.amplification;
    }
    for (int k = 0; k < rows_.n_outputs; ++k) {
      float* g = rows_.gradient + k * n_samples_;
      float* h = rows_.hessian + k * n_samples_;
      for (int64_t i = begin; i < end; ++i) {
        g[i] = to_gradient(double(g[i]) * factor[i - begin]);
        h[i] = to_gradient(double(h[i]) * factor[i - begin]);
      }
      kernels_.measure(g + begin, end - begin, &local[thread][k].gradient);
      kernels_.measure(h + begin, end - begin, &local[thread][k].hessian);
    }
  });
  merge(local, ranges);
  n_in_use_ = n_samples_ - std::accumulate(n_left_out.begin(), n_left_out.end(), int64_t(0));
  return n_in_use_;
}

HistCell CpuBackend::quantize(int output, const Quantization& quantization) {
  const float* g = rows_.gradient + output * n_samples_;
  const float* h = rows_.hessian + output * n_samples_;
  rows_per_flush_ = rows_per_flush(quantization);
  wide_ = is_wide(quantization);
  if (wide_ && !pairs16_.size()) pairs16_ = Buffer<Pair16>(n_samples_);
  if (!wide_ && !pairs8_.size()) pairs8_ = Buffer<Pair8>(n_samples_);
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  std::vector<HistCell> totals(threads);
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    std::iota(row_order_.data() + begin, row_order_.data() + end, uint32_t(begin));
    bins_.rows().for_stretches(begin, end, [&](int64_t from, int64_t to, int64_t first_row) {
      totals[thread] +=
          wide_ ? kernels_.quantize16(quantization, g, h, first_row, from, to, pairs16_.data())
                : kernels_.quantize8(quantization, g, h, first_row, from, to, pairs8_.data());
    });
  });
  const HistCell total = std::accumulate(totals.begin(), totals.end(), HistCell(0));
  if (n_in_use_ == n_samples_) return total;
  const RowCut cut{{0, uint32_t(n_samples_)}, left_out_.data(), 0, -1};
  int64_t n_in_use = 0;
  partition_rows({&cut, 1}, {&n_in_use, 1});
  return quantization.constant_hessian ? make_cell(cell_gradient(total), int32_t(n_in_use)) : total;
}

void CpuBackend::set_row_order(std::span<const uint32_t> order) {
  std::copy(order.begin(), order.end(), row_order_.data());
}

void CpuBackend::set_features(std::span<const uint8_t> allowed) {
  const auto used = [&](std::vector<FeatureTile> tiles) {
    std::erase_if(tiles, [&](const FeatureTile& tile) {
      return !allowed.empty() && !has_allowed(allowed.data(), tile);
    });
    return tiles;
  };
  own_tiles_ = used(all_own_tiles_);
  own_parts_ = cut_tiles(bins_, own_tiles_, team_.n_threads());
  searched_tiles_ = used(all_searched_tiles_);
  searched_parts_ = cut_tiles(bins_, searched_tiles_, team_.n_threads());
}

std::vector<CpuBackend::RowChunk> CpuBackend::cut(std::span<const RowRange> ranges,
                                                  int64_t chunk_rows) const {
  std::vector<RowChunk> chunks;
  for (size_t i = 0; i < ranges.size(); ++i)
    for (int64_t begin = ranges[i].begin; begin < ranges[i].end; begin += chunk_rows)
      chunks.push_back(
          {int64_t(i),
           {uint32_t(begin), uint32_t(std::min<int64_t>(ranges[i].end, begin + chunk_rows))}});
  return chunks;
}

// Each chunk keeps its left rows in place and puts its right rows into scratch; then both go to
// where all chunks of the node together put them. Rows stay in ascending order: gathers stay
// forward.
void CpuBackend::partition_rows(std::span<const RowCut> cuts, std::span<int64_t> left_counts) {
  std::vector<RowRange> ranges;
  int64_t total_rows = 0;
  for (const RowCut& cut : cuts) {
    ranges.push_back(cut.rows);
    total_rows += cut.rows.size();
  }
  const int threads = team_.threads_for(total_rows, kRowsPerThread);
  const std::vector<RowChunk> chunks = cut(ranges, rows_per_chunk(total_rows, threads));
  std::vector<int64_t> left(chunks.size());
  uint32_t* const order = row_order_.data();
  uint32_t* const scratch = scratch_rows_.data();
  team_.run(threads, int64_t(chunks.size()), [&](int64_t i, int) {
    const RowCut& cut = cuts[chunks[i].task];
    const RowRange rows = chunks[i].rows;
    left[i] = cut.goes_left
                  ? kernels_.partition_categories(order + rows.begin, rows.size(), cut.column,
                                                  cut.goes_left, scratch + rows.begin)
                  : kernels_.partition(order + rows.begin, rows.size(), cut.column, cut.bin,
                                       cut.missing_left_bin, scratch + rows.begin);
  });
  std::fill(left_counts.begin(), left_counts.end(), 0);
  std::vector<size_t> first_chunk(cuts.size() + 1, 0);
  for (size_t i = 0; i < chunks.size(); ++i) {
    left_counts[chunks[i].task] += left[i];
    ++first_chunk[chunks[i].task + 1];
  }
  std::partial_sum(first_chunk.begin(), first_chunk.end(), first_chunk.begin());
  team_.run(threads, int64_t(cuts.size()), [&](int64_t task, int) {
    uint32_t* left_to = order + ranges[task].begin;
    uint32_t* right_to = left_to + left_counts[task];
    const size_t first = first_chunk[task], last = first_chunk[task + 1];
    for (size_t i = first; i < last;
         left_to += left[i++])  // towards the front: none is overwritten
      if (i > first)
        std::memmove(left_to, order + chunks[i].rows.begin, left[i] * sizeof(uint32_t));
    for (size_t i = first; i < last; ++i) {
      const int64_t n_right = chunks[i].rows.size() - left[i];
      std::memcpy(right_to, scratch + chunks[i].rows.begin, n_right * sizeof(uint32_t));
      right_to += n_right;
    }
  });
}

void CpuBackend::partition(std::span<const PartitionTask> tasks, std::span<int64_t> left_counts) {
  spread_listed_columns(tasks);
  std::vector<RowCut> cuts;
  std::deque<std::array<bool, kBinPlaces>> tables;
  for (const PartitionTask& t : tasks) {
    const int32_t missing_bin = bins_.n_value_bins(t.feature);
    cuts.push_back({t.rows, column_of(t.feature), t.bin, t.missing_left ? missing_bin : -1});
    if (!bins_.is_categorical(t.feature)) continue;
    std::array<bool, kBinPlaces>& goes_left = tables.emplace_back();
    for (int32_t bin = 0; bin < missing_bin; ++bin) goes_left[bin] = t.categories.contains(bin);
    goes_left[missing_bin] = t.missing_left;
    cuts.back().goes_left = goes_left.data();
  }
  partition_rows(cuts, left_counts);
}

// Rows that are not in use have gradients of 0 and so add nothing to their leaves' sums. A thread
// marks the rows of a part of all, of every leaf: neighbours, which share a cache line, lie in
// different leaves. Of a leaf that was split in vain the rows are not in order any more: one thread
// marks them all.
void CpuBackend::set_leaves(std::span<const RowRange> leaves, std::span<const RowRange> others) {
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  const int64_t part = (n_samples_ / threads / kMarksOfLine + 1) * kMarksOfLine;
  const uint32_t* const order = row_order_.data();
  std::vector<uint8_t> is_sorted(leaves.size(), 1);
  if (threads > 1)  // else there is one part
    team_.run(threads, int64_t(leaves.size()), [&](int64_t leaf, int) {
      is_sorted[leaf] = std::is_sorted(order + leaves[leaf].begin, order + leaves[leaf].end);
    });
  team_.run_blocks(threads, n_samples_, part, [&](int64_t begin, int64_t end, int) {
    const auto mark = [&](RowRange range, size_t leaf, int64_t from, int64_t to) {
      const uint32_t *rows = order + range.begin, *last = order + range.end;
      rows = std::lower_bound(rows, last, uint32_t(from));
      last = std::lower_bound(rows, last, uint32_t(to));
      kernels_.mark_leaf(rows, last - rows, uint32_t(leaf), scratch_rows_.data());
    };
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
      if (is_sorted[leaf]) mark(leaves[leaf], leaf, begin, end);
      else if (begin == 0) mark(leaves[leaf], leaf, 0, n_samples_);
      mark(others[leaf], leaf, begin, end);
    }
  });
}

void CpuBackend::leaf_sums(int output, int gradient_exponent, int hessian_exponent,
                           std::span<LeafSums> sums) {
  const float* g = rows_.gradient + output * n_samples_;
  const float* h = rows_.hessian + output * n_samples_;
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  std::vector<std::vector<LeafSums>> local(threads, std::vector<LeafSums>(sums.size()));
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    kernels_.leaf_sums(scratch_rows_.data(), begin, end, g, h, power_of_two(gradient_exponent),
                       power_of_two(hessian_exponent), local[thread].data());
  });
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = {};
    for (const auto& l : local) {
      sums[i].gradient += l[i].gradient;
      sums[i].hessian += l[i].hessian;
    }
  }
}

void CpuBackend::add_leaf_values(int output, std::span<const double> values) {
  double* raw_prediction = rows_.raw_prediction + output * n_samples_;
  team_.run_blocks(team_.threads_for(n_samples_, kRowsPerThread), n_samples_, kRowBlock,
                   [&](int64_t begin, int64_t end, int) {
                     kernels_.add_leaf_values(scratch_rows_.data(), begin, end, values.data(),
                                              raw_prediction);
                   });
}

}  // namespace qgbdt
