#include "comm.h"

#include <algorithm>

#include "support/crc32.h"

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

void seal(Bytes* message) {
  const uint32_t checksum = crc32(*message);
  append(std::span(&checksum, 1), message);
}

bool unseal(Bytes* message) {
  if (message->size() < sizeof(uint32_t)) return false;
  const size_t size = message->size() - sizeof(uint32_t);
  const auto checksum = ByteReader(std::span(*message).subspan(size)).take<uint32_t>(1)[0];
  message->resize(size);
  return crc32(*message) == checksum;
}

std::vector<Bytes> Comm::exchange(std::vector<Bytes> messages) {
  for (int worker = 0; worker < world_size(); ++worker)
    if (worker != rank()) seal(&messages[worker]);
  std::vector<Bytes> received = deliver(std::move(messages));
  for (int worker = 0; worker < world_size(); ++worker)
    if (worker != rank() && !unseal(&received[worker]))
      throw WorkersDiffer("A message of worker " + std::to_string(worker) +
                          " was changed on its way: memory or a network has failed. Train again.");
  return received;
}

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
