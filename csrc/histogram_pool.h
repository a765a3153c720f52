// Which histogram sits in which slot. Slots are numbers; the backend keeps the memory behind them
// and grows it when a number is new.
#pragma once

#include <stdint.h>

#include <vector>

namespace qgbdt {

class HistogramPool {
 public:
  int32_t take() {
    if (free_.empty()) return n_slots_++;
    const int32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give_back(int32_t slot) { free_.push_back(slot); }

 private:
  std::vector<int32_t> free_;
  int32_t n_slots_ = 0;
};

}  // namespace qgbdt
