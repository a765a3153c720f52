#include "frames.h"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <utility>

#include "support/crc32.h"

namespace qgbdt {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are written as they lie");

constexpr size_t kKindAt = 0, kNumberAt = 4, kLengthAt = 12, kChecksumAt = 20;
constexpr size_t kGrowth = size_t(1) << 20;  // a damaged length does not take all memory at once

template <class T>
T number_at(const uint8_t* bytes) {
  T number;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

template <class T>
void put_number(T number, uint8_t* bytes) {
  std::memcpy(bytes, &number, sizeof number);
}

}  // namespace

Bytes frame_head(FrameKind kind, uint64_t number, uint64_t length) {
  Bytes head(kFrameHead);
  put_number(uint32_t(kind), &head[kKindAt]);
  put_number(number, &head[kNumberAt]);
  put_number(length, &head[kLengthAt]);
  put_number(crc32(std::span(head).first(kChecksumAt)), &head[kChecksumAt]);
  return head;
}

std::span<uint8_t> FrameReader::room() {
  if (!in_payload_) return std::span(head_).subspan(n_filled_);
  Bytes& payload = frame_.payload;
  if (n_filled_ == payload.size())
    payload.resize(std::min<uint64_t>(length_, payload.size() + std::max(kGrowth, payload.size())));
  return std::span(payload).subspan(n_filled_);
}

bool FrameReader::fill(size_t n) {
  n_filled_ += n;
  if (!in_payload_) {
    if (n_filled_ < kFrameHead) return false;
    read_head();
  }
  return n_filled_ == length_;
}

void FrameReader::read_head() {
  if (crc32(std::span(head_).first(kChecksumAt)) != number_at<uint32_t>(head_ + kChecksumAt))
    throw std::runtime_error("no message of qgbdt, or a damaged one");
  const auto kind = number_at<uint32_t>(head_ + kKindAt);
  length_ = number_at<uint64_t>(head_ + kLengthAt);
  if (kind < uint32_t(FrameKind::message) || kind > uint32_t(FrameKind::stop) ||
      length_ > kMaxPayload)
    throw std::runtime_error("a message of an unknown kind");
  frame_ = {FrameKind(kind), number_at<uint64_t>(head_ + kNumberAt), {}};
  in_payload_ = true;
  n_filled_ = 0;
}

Frame FrameReader::take() {
  in_payload_ = false;
  n_filled_ = 0;
  length_ = 0;
  return std::exchange(frame_, {});
}

}  // namespace qgbdt
