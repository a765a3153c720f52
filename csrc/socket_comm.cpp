#if defined(__unix__) || defined(__APPLE__)
#include "socket_comm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace qgbdt {
namespace {

constexpr int kBeatsPerHeartbeat = 4;
constexpr int kWaitMs = 100;      // between looks at interrupts
constexpr int kGoodbyeMs = 1000;  // for the others to take the reason why
constexpr size_t kPartsAtOnce = 16;

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;  // SO_NOSIGPIPE instead
#endif

void prepare(int socket) {
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL, 0) | O_NONBLOCK);
#ifdef SO_NOSIGPIPE
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
}

constexpr const char* kClosed = "its connection was closed";

const char* reason_of(int error) {
  return error == ECONNRESET || error == EPIPE ? kClosed : std::strerror(error);
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

struct SocketComm::Peer {
  int worker;
  int socket;  // -1: closed, or this worker itself
  std::deque<Bytes> to_send = {};
  size_t n_sent = 0;  // of the first
  FrameReader reader = {};
  std::deque<Bytes> arrived = {};
  uint64_t n_arrived = 0;
  Clock::time_point last_heard = Clock::now();
  std::string gone = {};  // why it is not there any more

  void close() {
    if (socket >= 0) ::close(socket);
    socket = -1;
    to_send.clear();
  }
};

SocketComm::SocketComm(int rank, const std::vector<int>& sockets, std::vector<std::string> names,
                       double heartbeat_seconds, int relay, std::function<void()> check_interrupt)
    : process_(getpid()),
      rank_(rank),
      names_(std::move(names)),
      heartbeat_(std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(heartbeat_seconds))),
      relay_(relay),
      check_interrupt_(std::move(check_interrupt)),
      last_moved_(Clock::now()),
      last_beat_(last_moved_) {
  for (size_t i = 0; i < sockets.size(); ++i) {
    peers_.push_back({int(i), sockets[i]});
    if (sockets[i] >= 0) prepare(sockets[i]);
  }
  keeper_ = std::thread([this] { keep_alive(); });
}

SocketComm::~SocketComm() {
  {
    const std::scoped_lock lock(mutex_);
    is_closing_ = true;
  }
  closing_.notify_all();
  keeper_.join();
  for (Peer& peer : peers_) peer.close();
  if (relay_ >= 0) ::close(relay_);
}

bool SocketComm::is_forked() const { return getpid() != process_; }

void SocketComm::check_not_forked() const {
  if (is_forked()) throw WorkerLost(title(rank_) + " is another process, of which this is a fork");
}

std::string SocketComm::title(int worker) const {
  return "worker " + std::to_string(worker) + " (" + names_[worker] + ")";
}

void SocketComm::begin_phase(const std::string& phase) {
  check_not_forked();
  const std::scoped_lock lock(mutex_);
  if (!lost_.empty()) throw WorkerLost(lost_);
  phase_ = phase;
}

CommReport SocketComm::report() const {
  check_not_forked();
  const std::scoped_lock lock(mutex_);
  return report_;
}

std::vector<Bytes> SocketComm::deliver(std::vector<Bytes> messages) {
  check_not_forked();
  std::unique_lock lock(mutex_);
  if (!lost_.empty()) throw WorkerLost(lost_);
  const Clock::time_point start = Clock::now();
  Clock::time_point checked = start;
  ++report_.n_exchanges;
  std::vector<Bytes> received(world_size());
  received[rank_] = std::move(messages[rank_]);
  for (Peer& peer : peers_)
    if (peer.worker != rank_)
      send(peer, FrameKind::message, uint64_t(report_.n_exchanges),
           std::move(messages[peer.worker]));
  while (!is_complete()) {
    check_missing();
    move_bytes(kWaitMs);
    if (Clock::now() - checked < std::chrono::milliseconds(kWaitMs)) continue;
    lock.unlock();
    check_interrupt_();  // it waits for the GIL
    lock.lock();
    checked = Clock::now();
  }
  for (Peer& peer : peers_) {
    if (peer.worker == rank_) continue;
    received[peer.worker] = std::move(peer.arrived.front());
    peer.arrived.pop_front();
  }
  report_.wait_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  return received;
}

// A worker that is gone is missed when its message is: the first to be done with all leaves first.
void SocketComm::check_missing() {
  if (!lost_.empty()) throw WorkerLost(lost_);
  for (const Peer& peer : peers_)
    if (lost_.empty() && peer.arrived.empty()) lost_ = peer.gone;
  if (lost_.empty()) return;
  if (relay_has_ended()) lost_ = lost(rank_, "its TLS relay has ended");
  throw WorkerLost(lost_);
}

// Of all that a process has open, some is closed before the rest when it ends.
bool SocketComm::relay_has_ended() const {
  pollfd polled{relay_, 0, 0};
  return relay_ >= 0 && poll(&polled, 1, kWaitMs) > 0;
}

bool SocketComm::is_complete() const {
  return std::all_of(peers_.begin(), peers_.end(), [&](const Peer& peer) {
    return peer.worker == rank_ || (!peer.arrived.empty() && peer.to_send.empty());
  });
}

void SocketComm::send(Peer& peer, FrameKind kind, uint64_t number, Bytes payload) {
  if (peer.socket < 0) return;
  Bytes head = frame_head(kind, number, payload.size());
  report_.bytes_sent += int64_t(head.size() + payload.size());
  peer.to_send.push_back(std::move(head));
  if (!payload.empty()) peer.to_send.push_back(std::move(payload));
}

// Waits at most so long for something to move. Who was stopped or starved itself must not judge
// others by how long it has not heard them.
void SocketComm::move_bytes(int timeout_ms) {
  if (Clock::now() - last_beat_ > heartbeat_ / kBeatsPerHeartbeat) {
    last_beat_ = Clock::now();
    for (Peer& peer : peers_)
      if (peer.to_send.empty()) send(peer, FrameKind::beat, 0, {});
  }
  std::vector<pollfd> polled;
  std::vector<Peer*> connected;
  for (Peer& peer : peers_) {
    if (peer.socket < 0) continue;
    polled.push_back({peer.socket, short(peer.to_send.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    connected.push_back(&peer);
  }
  poll(polled.data(), nfds_t(polled.size()), timeout_ms);
  for (size_t i = 0; i < polled.size(); ++i) {
    if (polled[i].revents & POLLOUT) write(*connected[i]);
    if (polled[i].revents & (POLLIN | POLLHUP | POLLERR)) receive(*connected[i]);
  }
  const Clock::time_point now = Clock::now();
  const bool was_away = now - last_moved_ > heartbeat_ / 2;
  last_moved_ = now;
  for (Peer* peer : connected) {
    if (was_away) peer->last_heard = now;
    if (peer->socket >= 0 && now - peer->last_heard > heartbeat_) {
      const double seconds = std::chrono::duration<double>(heartbeat_).count();
      lose(*peer, "it has been silent for " + std::to_string(int(seconds + 0.5)) + " seconds");
    }
  }
}

void SocketComm::write(Peer& peer) {
  while (!peer.to_send.empty()) {
    iovec parts[kPartsAtOnce];
    const size_t n_parts = std::min(peer.to_send.size(), kPartsAtOnce);
    for (size_t i = 0; i < n_parts; ++i) {
      const size_t sent = i == 0 ? peer.n_sent : 0;
      parts[i] = {peer.to_send[i].data() + sent, peer.to_send[i].size() - sent};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = n_parts;
    const ssize_t n = sendmsg(peer.socket, &message, kSendFlags);
    if (n < 0) {
      if (!would_block()) lose(peer, reason_of(errno));
      return;
    }
    peer.n_sent += size_t(n);
    while (!peer.to_send.empty() && peer.n_sent >= peer.to_send.front().size()) {
      peer.n_sent -= peer.to_send.front().size();
      peer.to_send.pop_front();
    }
  }
}

void SocketComm::receive(Peer& peer) {
  while (peer.socket >= 0) {
    const std::span<uint8_t> room = peer.reader.room();
    const ssize_t n = recv(peer.socket, room.data(), room.size(), 0);
    if (n < 0 && would_block()) return;
    if (n <= 0) return lose(peer, n == 0 ? kClosed : reason_of(errno));
    report_.bytes_received += n;
    peer.last_heard = Clock::now();
    try {
      if (peer.reader.fill(size_t(n))) take_frame(peer, peer.reader.take());
    } catch (const std::exception& error) {
      return lose(peer, std::string("it sent ") + error.what());
    }
  }
}

void SocketComm::take_frame(Peer& peer, Frame frame) {
  if (frame.kind == FrameKind::message) {
    if (frame.number != ++peer.n_arrived) throw std::runtime_error("a message out of turn");
    peer.arrived.push_back(std::move(frame.payload));
  } else if (frame.kind == FrameKind::stop) {
    peer.close();
    if (lost_.empty()) lost_.assign(frame.payload.begin(), frame.payload.end());
  }
}

void SocketComm::lose(Peer& peer, const std::string& why) {
  peer.close();
  peer.gone = lost(peer.worker, why);
}

std::string SocketComm::lost(int worker, const std::string& why) const {
  return title(worker) + " is lost: " + why + (phase_.empty() ? "" : " (while " + phase_ + ")");
}

// The first reason counts, so that all workers name the same one.
void SocketComm::leave(const std::string& why) noexcept {
  if (is_forked()) return;
  const std::scoped_lock lock(mutex_);
  if (lost_.empty()) lost_ = title(rank_) + " stopped: " + why;
  for (Peer& peer : peers_) send(peer, FrameKind::stop, 0, Bytes(lost_.begin(), lost_.end()));
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(kGoodbyeMs);
  const auto is_waiting = [](const Peer& peer) { return !peer.to_send.empty(); };
  while (Clock::now() < end && std::any_of(peers_.begin(), peers_.end(), is_waiting))
    move_bytes(kWaitMs);
  for (Peer& peer : peers_) peer.close();
}

void SocketComm::keep_alive() {
  std::unique_lock lock(mutex_);
  while (!is_closing_) {
    move_bytes(0);
    closing_.wait_for(lock, heartbeat_ / (2 * kBeatsPerHeartbeat));
  }
}

}  // namespace qgbdt

#endif
