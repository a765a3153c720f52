#include "thread_comm.h"

#include <utility>

namespace qgbdt {

ThreadHub::ThreadHub(int world_size)
    : laid_down_(world_size, std::vector<Bytes>(world_size)), delivered_(laid_down_) {}

std::vector<Bytes> ThreadHub::exchange(int rank, std::vector<Bytes> messages) {
  std::unique_lock lock(mutex_);
  if (!lost_.empty()) throw WorkerLost(lost_);
  for (int to = 0; to < world_size(); ++to) laid_down_[to][rank] = std::move(messages[to]);
  const int64_t round = round_;
  if (++n_waiting_ == world_size()) {
    n_waiting_ = 0;
    ++round_;
    std::swap(laid_down_, delivered_);
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return round_ != round || !lost_.empty(); });
  if (round_ == round) throw WorkerLost(lost_);
  return std::exchange(delivered_[rank], std::vector<Bytes>(world_size()));
}

void ThreadHub::leave(int rank, const std::string& why) {
  const std::scoped_lock lock(mutex_);
  if (lost_.empty()) lost_ = "worker " + std::to_string(rank) + " stopped: " + why;
  changed_.notify_all();
}

}  // namespace qgbdt
