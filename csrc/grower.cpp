#include "grower.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "histogram_pool.h"
#include "leaf_rows.h"
#include "split_finder.h"

namespace qgbdt {
namespace {

// What a round may expand ahead of its turn, of the splits that are left: more is fewer rounds and
// more in vain (docs/decisions/0002). Between workers a round is several trips.
constexpr double kBatchShare = 0.25, kBatchShareOfWorkers = 1;

// A leaf of the growing tree: committed (it has a node) or only tried out ahead of its turn.
struct Leaf {
  RowRange rows;
  int64_t count;  // over all workers; until they have counted, of the parent
  HistCell total;
  int32_t depth;
  uint64_t key;                    // of what is drawn for it
  std::vector<int32_t> used = {};  // the features of the splits above, where they matter
  FeatureMask live = {};           // those that may split it or what comes of it
  Bounds bounds = {};
  int32_t slot = kNone;       // its histogram, while it may still be split
  int32_t node = kNone;       // its place in the tree, once committed
  int32_t left_leaf = kNone;  // once expanded: its children, left and right in a row
  bool missing_left = false;
  int32_t forced_split = kNone;  // one of params.forced_splits that it is to be split by
  SplitCandidate split = {};
};

// Leaf-wise growth splits the leaf of largest gain, again and again. Done one by one that is
// hundreds of rounds; but a leaf's split does not depend on when it is made. So each round
// *expands* a batch of the most promising leaves (partition, histograms, best splits of the
// children), and then *commits* in strict best-first order as far as the expanded leaves reach. The
// tree is exactly the leaf-wise tree; what was expanded and never committed is the price
// (report.expansions - report.splits). Depth-wise growth is the same with another order: a round
// expands the nodes of a depth, none in vain.
class Grower {
 public:
  Grower(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
         const SplitParams& split_params, const FeatureChoice& features, GrowthReport& report)
      : backend_(backend),
        comm_(comm),
        bins_(bins),
        params_(params),
        split_params_(split_params),
        features_(features),
        report_(report),
        split_finder_(backend, comm, bins, split_params),
        is_alone_(comm.world_size() == 1),
        max_direct_rows_(is_alone_ ? backend.max_direct_rows() : kNone),
        batch_share_(is_alone_ ? kBatchShare : kBatchShareOfWorkers),
        queue_(BestFirst{&leaves_, params.by_depth}),
        known_(LargestGain{&leaves_}) {}

  GrownTree grow(HistCell root_total, int64_t n_rows) {
    leaves_.push_back(
        {{0, uint32_t(backend_.n_in_use())}, n_rows, root_total, 0, features_.root_key()});
    leaves_[0].bounds.above = leaf_value(root_total, split_params_);  // the root's own
    if (!params_.forced_splits.empty()) leaves_[0].forced_split = 0;
    find_root_split();
    commit_leaf(0);
    while (n_leaves_ < params_.num_leaves && !queue_.empty()) {
      if (leaves_[*queue_.begin()].left_leaf == kNone)
        expand(params_.by_depth ? nodes_of_depth() : choose_batch());
      commit_split(pop_best());
    }
    return finish();
  }

 private:
  struct BestFirst {
    const std::vector<Leaf>* leaves;
    bool by_depth;
    bool operator()(int32_t a, int32_t b) const {
      const Leaf &x = (*leaves)[a], &y = (*leaves)[b];
      const bool x_is_forced = x.forced_split != kNone, y_is_forced = y.forced_split != kNone;
      if (x_is_forced != y_is_forced) return x_is_forced;
      if (by_depth && x.depth != y.depth) return x.depth < y.depth;
      if (x.split.gain != y.split.gain) return x.split.gain > y.split.gain;
      return x.node < y.node;
    }
  };

  struct LargestGain {
    const std::vector<Leaf>* leaves;
    bool operator()(int32_t a, int32_t b) const {
      const double x = (*leaves)[a].split.gain, y = (*leaves)[b].split.gain;
      return x != y ? x > y : a < b;
    }
  };

  bool may_split(const Leaf& leaf) const {
    return (params_.max_depth <= 0 || leaf.depth < params_.max_depth) &&
           enough_rows_for_two(leaf.count, split_params_);
  }

  void find_root_split() {
    Leaf& root = leaves_[0];
    if (params_.num_leaves < 2 || !may_split(root)) return;
    if (size(root) > max_direct_rows_) {
      root.slot = pool_.take();
      const HistogramTask whole = histogram_task(root);
      backend_.build_histograms({&whole, 1}, {}, comm_);
    }
    find_splits({find_task(root, kNone)}, {0});
  }

  static const uint8_t* live(const Leaf& leaf) {
    return leaf.live.empty() ? nullptr : leaf.live.data();
  }
  static HistogramTask histogram_task(const Leaf& leaf) {
    return {leaf.slot, leaf.rows, leaf.total, live(leaf)};
  }
  static FindSplitTask find_task(const Leaf& leaf, int32_t sibling) {
    return {leaf.slot, sibling, leaf.rows, leaf.count, leaf.total, leaf.bounds, live(leaf)};
  }

  void find_splits(std::vector<FindSplitTask> tasks, const std::vector<int32_t>& ids) {
    std::vector<FeatureMask> allowed;
    std::vector<std::vector<uint8_t>> cuts;
    for (size_t i = 0; i < ids.size(); ++i) {
      const Leaf& leaf = leaves_[ids[i]];
      const int32_t forced = leaf.forced_split;
      tasks[i].only_cuts = forced != kNone;
      allowed.push_back(forced == kNone ? features_.of_node(leaf.key, leaf.used)
                                        : features_.of_forced(forced));
      if (!allowed.back().empty()) tasks[i].allowed = allowed.back().data();
      cuts.push_back(forced == kNone ? features_.cuts_of_node(leaf.key)
                                     : features_.cuts_of_forced(forced));
      if (!cuts.back().empty()) tasks[i].cuts = cuts.back().data();
    }
    const std::vector<SplitCandidate> best = split_finder_.find(tasks);
    std::vector<FindSplitTask> free_tasks;
    std::vector<int32_t> free_ids;
    for (size_t i = 0; i < ids.size(); ++i) {
      Leaf& leaf = leaves_[ids[i]];
      leaf.split = best[i];
      if (best[i].exists()) {
        leaf.live = backend_.live_features(int32_t(i));
        known_.insert(ids[i]);
      } else if (std::exchange(leaf.forced_split, kNone) != kNone) {
        free_tasks.push_back(find_task(leaf, kNone));
        free_ids.push_back(ids[i]);
      }
    }
    if (!free_ids.empty()) find_splits(std::move(free_tasks), free_ids);
  }

  // The first in the queue, and the best unexpanded leaves that are likely to be split before the
  // leaves run out. Before a leaf of gain g is split, so will be every leaf of larger gain G and
  // those of its descendants that beat g: about G / g in all, if a split leaves its children half
  // its gain each.
  std::vector<int32_t> choose_batch() const {
    const double splits_left = params_.num_leaves - n_leaves_;
    const int32_t first = *queue_.begin();
    std::vector<int32_t> batch{first};
    double sum_gain = 0;
    for (int32_t id : known_) {
      const double gain = leaves_[id].split.gain;
      sum_gain += gain;
      if (sum_gain > batch_share_ * splits_left * gain) break;
      if (id != first && leaves_[id].left_leaf == kNone) batch.push_back(id);
    }
    return batch;
  }

  // The first in the queue and those of its depth that will be split: nothing in vain.
  std::vector<int32_t> nodes_of_depth() const {
    std::vector<int32_t> batch;
    const int32_t depth = leaves_[*queue_.begin()].depth;
    for (int32_t id : queue_) {
      if (leaves_[id].depth != depth || int(batch.size()) == params_.num_leaves - n_leaves_) break;
      batch.push_back(id);
    }
    return batch;
  }

  void expand(const std::vector<int32_t>& batch) {
    report_.rounds += 1;
    report_.expansions += int64_t(batch.size());
    std::vector<int64_t> left_counts = partition(batch);
    const int splits_to_come = params_.by_depth ? int(batch.size()) : 1;
    const bool is_last =
        params_.num_leaves - n_leaves_ == splits_to_come;  // no child will be split
    const auto build = is_last ? std::vector<HistogramTask>{} : histograms_of_children(batch);
    backend_.build_histograms(build, left_counts, comm_);
    for (size_t i = 0; i < batch.size(); ++i) count_children(batch[i], left_counts[i]);
    if (!is_last) find_children_splits(batch);
  }

  static PartitionTask partition_task(const Leaf& leaf) {
    const SplitCandidate& s = leaf.split;
    return {leaf.rows, s.feature, s.bin, s.missing_left, s.categories};
  }

  // How many of this worker's rows went left.
  std::vector<int64_t> partition(const std::vector<int32_t>& batch) {
    std::vector<PartitionTask> tasks;
    for (int32_t id : batch) tasks.push_back(partition_task(leaves_[id]));
    std::vector<int64_t> left_counts(batch.size());
    backend_.partition(tasks, left_counts);
    for (size_t i = 0; i < batch.size(); ++i) add_children(batch[i], left_counts[i]);
    return left_counts;
  }

  void add_children(int32_t id, int64_t n_left) {
    const int32_t left = int32_t(leaves_.size());
    Leaf& parent = leaves_[id];
    const SplitCandidate& s = parent.split;
    const RowRange rows = parent.rows;
    const uint32_t middle = rows.begin + uint32_t(n_left);
    const int64_t count = parent.count;
    const int32_t depth = parent.depth + 1, forced = parent.forced_split;
    const HistCell right_total = parent.total - s.left;
    parent.left_leaf = left;
    std::vector<int32_t> used = parent.used;
    if (params_.limits_interactions() &&
        std::find(used.begin(), used.end(), s.feature) == used.end())
      used.push_back(s.feature);
    const FeatureMask live = parent.live;
    const ChildBounds bounds = bounds_of_children(parent, right_total);
    const uint64_t left_key = FeatureChoice::child_key(parent.key, false);
    const uint64_t right_key = FeatureChoice::child_key(parent.key, true);
    leaves_.push_back(
        {{rows.begin, middle}, count, s.left, depth, left_key, used, live, bounds.left});
    leaves_.push_back(
        {{middle, rows.end}, count, right_total, depth, right_key, used, live, bounds.right});
    if (forced != kNone) {
      leaves_[left].forced_split = params_.forced_splits[forced].left;
      leaves_[left + 1].forced_split = params_.forced_splits[forced].right;
    }
    if (is_alone_) count_children(id, n_left);
  }

  void count_children(int32_t id, int64_t left_count) {
    Leaf &parent = leaves_[id], &left = leaves_[parent.left_leaf];
    Leaf& right = leaves_[parent.left_leaf + 1];
    left.count = left_count;
    right.count = parent.count - left_count;
    // Where training saw no missing value, one met later follows the larger child.
    const SplitCandidate& s = parent.split;
    parent.missing_left = bins_.has_missing(s.feature) ? s.missing_left : left.count >= right.count;
  }

  ChildBounds bounds_of_children(const Leaf& parent, HistCell right_total) const {
    if (!split_params_.limits_values) return {};
    const NodeRules rules = rules_of_node(split_params_, parent.total, parent.count, parent.bounds);
    const std::vector<int8_t>& signs = params_.monotone_constraints;
    return child_bounds(rules.bounds, signs.empty() ? 0 : signs[parent.split.feature],
                        value_of_side(parent.split.left, rules), value_of_side(right_total, rules));
  }

  // What stands for a leaf's number of rows where workers have not counted them yet: its hessian.
  int64_t size(const Leaf& leaf) const { return is_alone_ ? leaf.count : cell_hessian(leaf.total); }

  struct Siblings {
    int32_t small, large;
  };
  Siblings children_by_size(int32_t id) const {
    const int32_t left = leaves_[id].left_leaf, right = left + 1;
    const bool left_is_small = size(leaves_[left]) <= size(leaves_[right]);
    return left_is_small ? Siblings{left, right} : Siblings{right, left};
  }

  // The larger child's histogram is the parent's minus the smaller child's. Small children need
  // none of their own.
  std::vector<HistogramTask> histograms_of_children(const std::vector<int32_t>& batch) {
    std::vector<HistogramTask> build;
    for (int32_t id : batch) {
      const auto [small_id, large_id] = children_by_size(id);
      Leaf &small = leaves_[small_id], &large = leaves_[large_id];
      const bool subtract = may_split(large) && size(large) > max_direct_rows_;
      if (subtract) large.slot = std::exchange(leaves_[id].slot, kNone);
      if (subtract && size(small) > max_direct_rows_) {
        small.slot = pool_.take();
        build.push_back(histogram_task(small));
      }
      give_back_slot(leaves_[id]);
    }
    return build;
  }

  void find_children_splits(const std::vector<int32_t>& batch) {
    std::vector<FindSplitTask> find;
    std::vector<int32_t> found;
    const auto look_for = [&](int32_t id, int32_t sibling) {
      find.push_back(find_task(leaves_[id], sibling));
      found.push_back(id);
    };
    for (int32_t id : batch) {
      const auto [small_id, large_id] = children_by_size(id);
      const Leaf &small = leaves_[small_id], &large = leaves_[large_id];
      const bool search_large = may_split(large), subtract = large.slot != kNone;
      if (may_split(small) || (search_large && subtract)) look_for(small_id, kNone);
      if (search_large) look_for(large_id, subtract ? int32_t(find.size()) - 1 : kNone);
    }
    find_splits(find, found);
    for (int32_t id : batch)
      for (int32_t child : {leaves_[id].left_leaf, leaves_[id].left_leaf + 1})
        if (!leaves_[child].split.exists()) give_back_slot(leaves_[child]);
  }

  void give_back_slot(Leaf& leaf) {
    if (leaf.slot != kNone) pool_.give_back(leaf.slot);
    leaf.slot = kNone;
  }

  int32_t pop_best() {
    const int32_t id = *queue_.begin();
    queue_.erase(queue_.begin());
    known_.erase(id);
    return id;
  }

  void commit_leaf(int32_t id) {
    Leaf& leaf = leaves_[id];
    leaf.node = int32_t(nodes_.size());
    Node node;
    node.count = leaf.count;
    node.sum_hessian = cell_hessian(leaf.total) * split_params_.hessian_scale;
    nodes_.push_back(node);
    node_leaf_.push_back(id);
    if (leaf.split.exists()) queue_.insert(id);
  }

  void commit_split(int32_t id) {
    const Leaf leaf = leaves_[id];
    Node& node = nodes_[leaf.node];
    const std::vector<double>& thresholds = bins_.thresholds(leaf.split.feature);
    node.feature = leaf.split.feature;
    node.left = int32_t(nodes_.size());
    node.right = node.left + 1;
    node.missing_left = leaf.missing_left;
    node.gain = leaf.split.gain;
    node.threshold =  // past the last threshold: all values | missing
        leaf.split.bin < int32_t(thresholds.size()) ? thresholds[leaf.split.bin] : HUGE_VAL;
    commit_leaf(leaf.left_leaf);
    commit_leaf(leaf.left_leaf + 1);
    n_leaves_ += 1;
    report_.splits += 1;
  }

  GrownTree finish() {
    GrownTree tree;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      Node& node = nodes_[i];
      if (node.feature < 0 || !bins_.is_categorical(node.feature)) continue;
      node.is_categorical = true;
      node.threshold = double(nodes_.category_sets.size());
      nodes_.category_sets.push_back(leaves_[node_leaf_[i]].split.categories);
    }
    const RowRange not_in_use{uint32_t(backend_.n_in_use()), uint32_t(backend_.n_samples())};
    const std::vector<RowRange> others = rows_of_nodes(backend_, bins_, nodes_, not_in_use);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].feature >= 0) continue;
      const Leaf& leaf = leaves_[node_leaf_[i]];
      tree.leaf_nodes.push_back(int32_t(i));
      tree.leaf_rows.push_back(leaf.rows);
      tree.other_rows.push_back(others[i]);
      tree.leaf_totals.push_back(leaf.total);
    }
    tree.nodes = std::move(nodes_);
    return tree;
  }

  Backend& backend_;
  Comm& comm_;
  const BinnedMatrix& bins_;
  const TrainParams& params_;
  const SplitParams& split_params_;
  const FeatureChoice& features_;
  GrowthReport& report_;
  SplitFinder split_finder_;
  const bool is_alone_;
  const int64_t max_direct_rows_;
  const double batch_share_;
  HistogramPool pool_;
  std::vector<Leaf> leaves_;
  Tree nodes_;
  std::vector<int32_t> node_leaf_;  // the leaf that became a node
  int n_leaves_ = 1;
  std::set<int32_t, BestFirst> queue_;    // committed leaves that can be split
  std::set<int32_t, LargestGain> known_;  // these, and leaves tried out that can be
};

}  // namespace

GrownTree grow_tree(Backend& backend, Comm& comm, const BinnedMatrix& bins,
                    const TrainParams& params, const SplitParams& split_params,
                    const FeatureChoice& features, HistCell root_total, int64_t n_rows,
                    GrowthReport& report) {
  Grower grower(backend, comm, bins, params, split_params, features, report);
  return grower.grow(root_total, n_rows);
}

}  // namespace qgbdt
