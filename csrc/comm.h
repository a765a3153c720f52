// The seam to other workers. Each worker holds a part of the rows and runs the same loop; what it
// learns about all rows passes through here. Every reduction is of integers or a maximum, so the
// result does not depend on order or on the number of workers. Alone it is the identity, so the
// algorithm never asks.
#pragma once

#include <stdint.h>

#include <span>

namespace qgbdt {

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual void allreduce_sum(std::span<int64_t> values) = 0;
  virtual void allreduce_max(std::span<double> values) = 0;
};

class AloneComm final : public Comm {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  void allreduce_sum(std::span<int64_t>) override {}
  void allreduce_max(std::span<double>) override {}
};

}  // namespace qgbdt
