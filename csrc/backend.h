// The seam to a machine (CPU, CUDA): it holds the rows of this worker, their gradients and their
// raw predictions, and does everything that costs time in proportion to them. Its verbs are called
// once per tree or once per batch of nodes, never per row. Only plain data comes back.
//
// A backend is deterministic: each verb is specified to the last bit by tests/reference.py.
#pragma once

#include <stdint.h>

#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm.h"
#include "linear_leaf.h"
#include "quantize.h"
#include "residual.h"
#include "row_sample.h"
#include "split.h"
#include "support/parallel.h"
#include "training_data.h"
#include "types.h"
#include "walked_forest.h"

namespace qgbdt {

struct HistogramTask {
  int32_t slot;  // of the histogram pool
  RowRange rows;
  HistCell total;                 // over all workers
  const uint8_t* live = nullptr;  // as of a FindSplitTask: others may have no histogram
};

constexpr int32_t kNone = -1;

struct FindSplitTask {
  int32_t slot;     // or kNone: look at the rows themselves (see max_direct_rows)
  int32_t sibling;  // kNone, or: `slot` still holds the parent, and this is the other child's task
  RowRange rows;
  int64_t count;  // over all workers, as the next
  HistCell total;
  Bounds bounds = {};
  const uint8_t* live = nullptr;     // [n_features]: live_features of a node above; null: all
  const uint8_t* allowed = nullptr;  // [n_features]: what the node may be split by; null: all
  const uint8_t* cuts = nullptr;     // [n_features]: the only bin after which; null: any
  bool only_cuts = false;            // false: values may be parted from missing values, too
};

struct CountTask {
  int32_t node;  // a task of the last find_splits
  int32_t feature;
};

struct PartitionTask {
  RowRange rows;
  int32_t feature, bin;
  bool missing_left;
  CategorySet categories;  // that go left, instead of the bins <= bin
};

struct DigitTask {
  RowRange rows;
  uint32_t prefix;
};

struct LinearTask {  // of a leaf
  RowRange rows;
  std::vector<int32_t> features;  // ascending
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual int64_t n_samples() const = 0;
  virtual int64_t n_in_use() const = 0;  // of the rows
  virtual bool has_sample_weight() const = 0;

  // The largest |w y| and w (of class k for multiclass: y = [class is k]), and their fixed-point
  // sums.
  virtual double max_weighted_target() = 0;
  virtual double max_weight() = 0;
  virtual StartSums start_sums(int output, int target_exponent, int weight_exponent) = 0;

  // Raw predictions of a new model, the same for all rows, which all are in the root. Without it
  // they are those that the fit was given to go on from.
  virtual void set_start_scores(std::span<const double> scores) = 0;

  // Gradients of every output at the raw predictions; `key` is of the random stream of those that
  // have a random part. All rows are in use.
  virtual void compute_gradients(uint64_t key, std::span<GradientRange> ranges) = 0;

  // Counts the rows by the digit of their magnitude_bits above `shift`, if what is above that is
  // `prefix`.
  virtual void count_magnitudes(uint32_t prefix, int shift, std::span<int64_t> counts) = 0;

  // From here on the rows of the sample are in use: the gradients of others become 0. The ranges
  // are those of what is left. Returns how many rows are in use.
  virtual int64_t sample_rows(const RowSample& sample, std::span<GradientRange> ranges) = 0;

  // Rounds the gradients of one output to integers and puts the rows in use into the root, which
  // others follow: returns their sums.
  virtual HistCell quantize(int output, const Quantization& quantization) = 0;

  // The features that the next trees may be split by, if they are all searched here; empty: all.
  // Others' histograms may be left out.
  virtual void set_features(std::span<const uint8_t> allowed) = 0;

  // Histograms of the tasks' rows, of all workers, into their slots, overwriting them: of the
  // features that this worker searches. On the way counts become those of all workers.
  virtual void build_histograms(std::span<const HistogramTask> tasks, std::span<int64_t> counts,
                                Comm& comm) = 0;

  // Up to this many rows find_splits needs no histogram, where this worker has all rows of a node.
  // It changes with the quantization.
  virtual int64_t max_direct_rows() const = 0;

  // Looks for the best split of each feature that this worker searches, as if all children had
  // min_child_samples rows. Where a sibling is named, slot <- parent - sibling: exactly this
  // node's, but for features that are not live.
  virtual void find_splits(std::span<const FindSplitTask> tasks, const SplitParams& params) = 0;

  // The features that may split the children of a node of the last find_splits, as far as that is
  // known: the others have no two bins with rows that count.
  virtual FeatureMask live_features(int32_t) const { return {}; }

  // The n best of the splits that were found for a node, best first, but none after the first that
  // is_allowed: its children are known to have min_child_samples rows.
  virtual std::vector<SplitCandidate> best_splits(int32_t node, int32_t n) const = 0;

  // Rows of this worker in each place of a feature, [tasks][kBinPlaces]: cells whose hessians are
  // counts.
  virtual void count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) = 0;

  // Searches the feature of a task of the last count_rows again, if it is this worker's, with the
  // rows of all workers counted.
  virtual void find_counted_split(int32_t task, const HistCell* row_counts) = 0;

  // Sorts each task's rows into left | right; returns how many went left on this worker.
  virtual void partition(std::span<const PartitionTask> tasks, std::span<int64_t> left_counts) = 0;

  // Lays all rows in an order of the caller's, instead of growing a tree.
  virtual void set_row_order(std::span<const uint32_t> order) = 0;

  // For objectives whose leaves are quantiles: takes the residuals of one output of all rows as
  // they lie in the nodes, and their weights in fixed point.
  virtual void take_residuals(int output, int weight_exponent) = 0;

  // Of each task's rows with residuals whose keys begin with its prefix, `digit` digits long: the
  // weights by the next digit, [tasks][kDigits].
  virtual void weigh_digits(std::span<const DigitTask> tasks, int digit,
                            std::span<int64_t> weights) = 0;

  // The leaves of the finished tree, for the two verbs below: the rows in use, and the others.
  virtual void set_leaves(std::span<const RowRange> leaves, std::span<const RowRange> others) = 0;

  // Fixed-point sums of the unquantized gradients of one output, of each leaf.
  virtual void leaf_sums(int output, int gradient_exponent, int hessian_exponent,
                         std::span<LeafSums> sums) = 0;

  // raw_prediction of each leaf's rows += its value.
  virtual void add_leaf_values(int output, std::span<const double> values) = 0;

  // The linear models of all leaves, of the rows in use; and add_leaf_values with such models. Only
  // where all workers' rows and their X are in this process's memory.
  virtual std::vector<LinearLeaf> fit_linear_leaves(int, std::span<const LinearTask>,
                                                    const LinearRules&) {
    throw std::invalid_argument("this machine has no linear leaves");
  }
  virtual void add_linear_leaves(int, std::span<const double>, std::span<const LinearLeaf>) {
    throw std::invalid_argument("this machine has no linear leaves");
  }
};

struct KernelTime {
  int64_t n_launches = 0;
  double seconds = 0;  // 0 where they are not measured
  int64_t work = 0;  // what bounds it: bytes, or additions in shared memory; 0 where nobody counts
};

// Elements of the user's in a device's memory, in rows and columns that lie strides of bytes apart.
struct DeviceElements {
  const uint8_t* first;
  int64_t n_rows, n_columns;
  int64_t row_stride, column_stride;
  int64_t item_bytes;
};

// A machine other than the CPU. Its modules share nothing with the core but this interface. Before
// it reads what is the user's, it waits for what the user still has it do.
class Device {
 public:
  virtual ~Device() = default;

  // Throws DeviceFailure if the device cannot hold the data.
  virtual std::unique_ptr<Backend> make_backend(TrainingData data, Team& team) = 0;

  // Copies elements to the host, row by row and side by side.
  virtual void copy_out(const DeviceElements& from, void* to) = 0;

  // As WalkedForest::add, for all rows of an X whose data is the device's; without categories.
  virtual void add_walks(const WalkedForest& forest, const MatrixView& X, int64_t begin_tree,
                         int64_t end_tree, int n_outputs, double* scores) = 0;

  // What ran so far, by the names of kernels' types.
  virtual std::map<std::string, KernelTime> kernel_times() const = 0;

  // Runs kernels that do nothing but what bounds others, so that kernel_times has them, too.
  // Returns whether they did it.
  virtual bool run_bounds(int64_t n_blocks) = 0;
};

}  // namespace qgbdt
