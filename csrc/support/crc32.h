// CRC-32 (IEEE 802.3, reflected), for accidents: it keeps no attacker out.
#pragma once

#include <stdint.h>

#include <array>
#include <cstring>
#include <span>

namespace qgbdt {

using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

// Table k: what a byte does to the checksum when k more bytes follow it.
constexpr CrcTables make_crc_tables() {
  CrcTables t{};
  for (uint32_t i = 0; i < 256; ++i) {
    t[0][i] = i;
    for (int bit = 0; bit < 8; ++bit)
      t[0][i] = t[0][i] & 1 ? (t[0][i] >> 1) ^ 0xEDB88320u : t[0][i] >> 1;
  }
  for (int k = 1; k < 8; ++k)
    for (int i = 0; i < 256; ++i) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 0xff];
  return t;
}
inline constexpr CrcTables kCrcTables = make_crc_tables();

// Eight bytes at a time, on little-endian machines.
inline uint32_t crc32(std::span<const uint8_t> data) {
  const CrcTables& t = kCrcTables;
  uint32_t crc = ~0u;
  size_t i = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  for (; i + 8 <= data.size(); i += 8) {
    uint64_t eight;
    std::memcpy(&eight, &data[i], 8);
    eight ^= crc;
    crc = 0;
    for (int k = 0; k < 8; ++k) crc ^= t[7 - k][eight >> 8 * k & 0xff];
  }
#endif
  for (; i < data.size(); ++i) crc = t[0][(crc ^ data[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

}  // namespace qgbdt
