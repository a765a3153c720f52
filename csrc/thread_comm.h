// Workers that are threads of one process.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "comm.h"

namespace qgbdt {

// Where they meet. Messages are laid down until all workers have come, then taken.
class ThreadHub {
 public:
  explicit ThreadHub(int world_size);
  int world_size() const { return int(laid_down_.size()); }
  std::vector<Bytes> exchange(int rank, std::vector<Bytes> messages);
  void leave(int rank, const std::string& why);

 private:
  using Mail = std::vector<std::vector<Bytes>>;  // [to][from]

  std::mutex mutex_;
  std::condition_variable changed_;
  Mail laid_down_, delivered_;
  int n_waiting_ = 0;
  int64_t round_ = 0;
  std::string lost_;
};

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<ThreadHub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}
  int rank() const override { return rank_; }
  int world_size() const override { return hub_->world_size(); }
  std::vector<Bytes> deliver(std::vector<Bytes> messages) override {
    return hub_->exchange(rank_, std::move(messages));
  }
  void leave(const std::string& why) noexcept override { hub_->leave(rank_, why); }

 private:
  const std::shared_ptr<ThreadHub> hub_;
  const int rank_;
};

}  // namespace qgbdt
