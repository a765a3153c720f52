// Workers that are processes, each joined to each by a stream socket.
//
// Whoever holds the lock moves bytes, both ways, with all the others: the thread that waits in an
// exchange, and while there is none, a thread of its own. That one takes in what has come and tells
// the others that this worker lives, needs no GIL, and sleeps otherwise. A worker is lost when its
// connection is closed, when it sends nothing for the length of a heartbeat, or sends nonsense.
//
// After a fork the child's copy has no such thread, and perhaps a lock that nobody will open: it is
// of no use, touches nothing, and is left as it lies.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "comm.h"
#include "frames.h"

namespace qgbdt {

class SocketComm final : public Comm {
 public:
  // sockets[i] leads to worker i and is closed in the end; that of this worker is -1. names are for
  // messages. Where the sockets lead through a process of this worker, the relay, that hangs up on
  // the socket `relay` when it ends; it is closed in the end, too. check_interrupt is called now
  // and then while an exchange waits, and may throw.
  SocketComm(int rank, const std::vector<int>& sockets, std::vector<std::string> names,
             double heartbeat_seconds, int relay, std::function<void()> check_interrupt);
  ~SocketComm() override;
  bool is_forked() const;

  int rank() const override { return rank_; }
  int world_size() const override { return int(names_.size()); }
  std::vector<Bytes> deliver(std::vector<Bytes> messages) override;
  void leave(const std::string& why) noexcept override;
  void begin_phase(const std::string& phase) override;

  CommReport report() const override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer;

  void check_not_forked() const;
  void send(Peer& peer, FrameKind kind, uint64_t number, Bytes payload);
  void move_bytes(int timeout_ms);
  void receive(Peer& peer);
  void take_frame(Peer& peer, Frame frame);
  void write(Peer& peer);
  void lose(Peer& peer, const std::string& why);
  void check_missing();
  bool is_complete() const;
  bool relay_has_ended() const;
  std::string title(int worker) const;
  std::string lost(int worker, const std::string& why) const;
  void keep_alive();

  const pid_t process_;
  const int rank_;
  const std::vector<std::string> names_;
  const Clock::duration heartbeat_;
  const int relay_;  // -1: none
  const std::function<void()> check_interrupt_;

  mutable std::mutex mutex_;  // of all that follows
  std::vector<Peer> peers_;
  std::string phase_, lost_;  // lost_: why no exchange is possible any more
  CommReport report_;
  Clock::time_point last_moved_, last_beat_;

  std::condition_variable closing_;
  bool is_closing_ = false;
  std::thread keeper_;
};

// Deletes a connection, but for a copy that came with a fork.
struct SocketCommDeleter {
  void operator()(SocketComm* comm) const {
    if (!comm->is_forked()) delete comm;
  }
};

}  // namespace qgbdt
