#include "global_rows.h"

#include "support/check.h"

namespace qgbdt {
namespace {

bool comes_before(const RowBlock& a, const RowBlock& b) { return a.number < b.number; }

std::vector<RowBlock> sorted_blocks_of_all(std::span<const RowBlock> blocks, Comm& comm) {
  Bytes own;
  append(blocks, &own);
  std::vector<RowBlock> all;
  for (const Bytes& message : comm.allgather(std::move(own))) {
    const auto some =
        ByteReader(message).take<RowBlock>(int64_t(message.size() / sizeof(RowBlock)));
    all.insert(all.end(), some.begin(), some.end());
  }
  std::sort(all.begin(), all.end(), comes_before);
  const auto is_repeated = [](const RowBlock& a, const RowBlock& b) {
    return a.number == b.number;
  };
  check(std::adjacent_find(all.begin(), all.end(), is_repeated) == all.end(),
        "two blocks of rows have the same number");
  return all;
}

}  // namespace

GlobalRows::GlobalRows(std::span<const RowBlock> blocks, Comm& comm) {
  const std::vector<RowBlock> all = sorted_blocks_of_all(blocks, comm);
  std::vector<int64_t> first_rows;
  for (const RowBlock& block : all) {
    first_rows.push_back(n_samples_of_all_);
    n_samples_of_all_ += block.n_rows;
  }
  check(1 <= n_samples_of_all_ && n_samples_of_all_ <= INT32_MAX,
        "n_samples must be in [1, 2^31 - 1]");
  for (const RowBlock& block : blocks) {
    if (block.n_rows == 0) continue;
    const auto at = std::lower_bound(all.begin(), all.end(), block, comes_before) - all.begin();
    const int64_t begin = n_samples();
    stretches_.push_back({begin + block.n_rows, first_rows[at] - begin});
  }
}

}  // namespace qgbdt
