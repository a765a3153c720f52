// A worker that receives one changed byte, for tests: of a message that was changed on its way, or
// before its checksum was made.
#pragma once

#include <memory>
#include <utility>

#include "../comm.h"

namespace qgbdt {

class FaultyComm final : public Comm {
 public:
  // Of the exchange with this number, the byte (modulo the length) of what the sender sent.
  FaultyComm(std::shared_ptr<Comm> sound, int64_t exchange, int sender, int64_t byte, uint8_t flip,
             bool on_its_way)
      : sound_(std::move(sound)),
        at_(exchange),
        sender_(sender),
        byte_(byte),
        flip_(flip),
        on_its_way_(on_its_way) {}

  int rank() const override { return sound_->rank(); }
  int world_size() const override { return sound_->world_size(); }
  std::vector<Bytes> deliver(std::vector<Bytes> messages) override {
    std::vector<Bytes> received = sound_->deliver(std::move(messages));
    if (n_exchanges_++ == at_) change(&received[sender_]);
    return received;
  }
  void leave(const std::string& why) noexcept override { sound_->leave(why); }

  int64_t n_exchanges() const { return n_exchanges_; }

 private:
  void change(Bytes* message) const {
    if (!on_its_way_) unseal(message);
    if (!message->empty()) (*message)[byte_ % int64_t(message->size())] ^= flip_;
    if (!on_its_way_) seal(message);
  }

  const std::shared_ptr<Comm> sound_;
  const int64_t at_;
  const int sender_;
  const int64_t byte_;
  const uint8_t flip_;
  const bool on_its_way_;
  int64_t n_exchanges_ = 0;
};

}  // namespace qgbdt
