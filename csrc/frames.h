// What workers write to each other's sockets: frames, of a head and a payload. Integers are
// little-endian.
//
//   head      kind 4 | number 8 | length of the payload 8 | checksum of the head so far 4
//   payload   as it is: a message has a checksum of its own (comm.cpp)
#pragma once

#include <stdint.h>

#include <span>

#include "support/bytes.h"

namespace qgbdt {

enum class FrameKind : uint32_t {
  message = 1,  // number: of the exchange
  beat = 2,     // the worker lives
  stop = 3,     // the worker stops; the payload says why
};

struct Frame {
  FrameKind kind;
  uint64_t number;
  Bytes payload;
};

constexpr size_t kFrameHead = 24;
constexpr uint64_t kMaxPayload = uint64_t(1) << 40;

Bytes frame_head(FrameKind kind, uint64_t number, uint64_t length);

// Frames out of a stream of bytes, whoever wrote it. What is no frame throws std::runtime_error,
// and after that nothing more can be read.
class FrameReader {
 public:
  // Where the next bytes belong; never empty.
  std::span<uint8_t> room();
  // n bytes of the room were filled. Whether a frame is complete: then it must be taken.
  bool fill(size_t n);
  Frame take();

 private:
  void read_head();

  uint8_t head_[kFrameHead];
  size_t n_filled_ = 0;  // of the head, then of the payload
  bool in_payload_ = false;
  uint64_t length_ = 0;
  Frame frame_{};
};

}  // namespace qgbdt
