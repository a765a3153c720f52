#include "comm.h"

#include <algorithm>

#include "support/crc32.h"

namespace qgbdt {

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

void Comm::allreduce(std::span<double> maxima, std::span<int64_t> sums) {
  if (world_size() == 1) return;
  Bytes own;
  append(std::span<const double>(maxima), &own);
  append(std::span<const int64_t>(sums), &own);
  const std::vector<Bytes> all = allgather(std::move(own));
  for (int worker = 0; worker < world_size(); ++worker) {
    if (worker == rank()) continue;
    ByteReader reader(all[worker]);
    const auto their_maxima = reader.take<double>(int64_t(maxima.size()));
    const auto their_sums = reader.take<int64_t>(int64_t(sums.size()));
    for (size_t i = 0; i < maxima.size(); ++i) maxima[i] = std::max(maxima[i], their_maxima[i]);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += their_sums[i];
  }
}

}  // namespace qgbdt
