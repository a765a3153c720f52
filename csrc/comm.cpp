#include "comm.h"

#include <algorithm>

namespace qgbdt {
namespace {

// values[i] <- combine of every worker's values[i].
template <class T, class Combine>
void allreduce(Comm& comm, std::span<T> values, Combine combine) {
  if (comm.world_size() == 1) return;
  Bytes own;
  append(std::span<const T>(values), &own);
  const std::vector<Bytes> all = comm.allgather(std::move(own));
  for (int worker = 0; worker < comm.world_size(); ++worker) {
    if (worker == comm.rank()) continue;
    const std::vector<T> other = ByteReader(all[worker]).take<T>(int64_t(values.size()));
    std::transform(values.begin(), values.end(), other.begin(), values.begin(), combine);
  }
}

}  // namespace

std::vector<Bytes> Comm::allgather(Bytes message) {
  return exchange(std::vector<Bytes>(world_size(), std::move(message)));
}

void Comm::allreduce_sum(std::span<int64_t> values) {
  allreduce(*this, values, [](int64_t a, int64_t b) { return a + b; });
}

void Comm::allreduce_max(std::span<double> values) {
  allreduce(*this, values, [](double a, double b) { return std::max(a, b); });
}

}  // namespace qgbdt
