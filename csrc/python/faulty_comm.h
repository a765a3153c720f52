// A worker of which memory or a network changes one byte of what it receives, for tests.
#pragma once

#include <memory>
#include <utility>

#include "../comm.h"

namespace qgbdt {

class FaultyComm final : public Comm {
 public:
  // Of the exchange with this number, the byte (modulo the length) of what the sender sent.
  FaultyComm(std::shared_ptr<Comm> sound, int64_t exchange, int sender, int64_t byte, uint8_t flip)
      : sound_(std::move(sound)), at_(exchange), sender_(sender), byte_(byte), flip_(flip) {}

  int rank() const override { return sound_->rank(); }
  int world_size() const override { return sound_->world_size(); }
  std::vector<Bytes> exchange(std::vector<Bytes> messages) override {
    std::vector<Bytes> received = sound_->exchange(std::move(messages));
    Bytes& message = received[sender_];
    if (n_exchanges_++ == at_ && !message.empty())
      message[byte_ % int64_t(message.size())] ^= flip_;
    return received;
  }
  void leave(const std::string& why) noexcept override { sound_->leave(why); }

  int64_t n_exchanges() const { return n_exchanges_; }

 private:
  const std::shared_ptr<Comm> sound_;
  const int64_t at_;
  const int sender_;
  const int64_t byte_;
  const uint8_t flip_;
  int64_t n_exchanges_ = 0;
};

}  // namespace qgbdt
