// The seam to other workers. Each worker holds a part of the rows and runs the same loop; what it
// learns about all rows passes through here. Every reduction is of integers or a maximum, so the
// result does not depend on order or on the number of workers. Alone it is the identity, so the
// algorithm never asks.
#pragma once

#include <stdint.h>

#include <span>
#include <string>
#include <vector>

#include "support/bytes.h"

namespace qgbdt {

// What went over the wire so far.
struct CommReport {
  int64_t n_exchanges = 0, bytes_sent = 0, bytes_received = 0;
  double wait_seconds = 0;  // in exchanges
};

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // Sends messages[i] to worker i and returns what each worker sent to this one, by rank. All
  // workers call it, the same number of times and for the same purposes. What a worker sends to
  // itself comes back unchanged. Throws WorkersDiffer if a message was changed on its way, from
  // where it is written to where it is read.
  std::vector<Bytes> exchange(std::vector<Bytes> messages);
  // The same, and whatever arrives is taken as it is.
  virtual std::vector<Bytes> deliver(std::vector<Bytes> messages) = 0;

  // What the workers are at, for messages. Like an exchange, it ends a fit whose worker has left.
  virtual void begin_phase(const std::string&) {}

  // Tells the others that this worker stops; whoever waits for it raises WorkerLost, and so does
  // this worker's own fit, if another thread calls it.
  virtual void leave(const std::string& why) noexcept = 0;

  // Nothing, for workers that share a process.
  virtual CommReport report() const { return {}; }

  // Every worker's message, by rank.
  std::vector<Bytes> allgather(Bytes message);
  // In one exchange: maxima become the largest of any worker, sums those over all workers.
  void allreduce(std::span<double> maxima, std::span<int64_t> sums);
  void allreduce_max(std::span<double> values) { allreduce(values, {}); }
  void allreduce_sum(std::span<int64_t> values) { allreduce({}, values); }
};

// A message with its checksum behind it. unseal takes that off: whether it fits.
void seal(Bytes* message);
bool unseal(Bytes* message);

class AloneComm final : public Comm {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  std::vector<Bytes> deliver(std::vector<Bytes> messages) override { return messages; }
  void leave(const std::string&) noexcept override {}
};

}  // namespace qgbdt
