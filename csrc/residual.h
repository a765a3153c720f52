// Residuals (target - raw prediction) as float32 and their keys: integers in the same order, which
// are searched digit by digit.
#pragma once

#include <stdint.h>

#include "objective.h"

namespace qgbdt {

constexpr int kKeyBits = 32, kDigitBits = 8, kDigits = 1 << kDigitBits;
constexpr int kDigitsOfKey = kKeyBits / kDigitBits;

// Of floats, finite ones; -0 is +0.
QGBDT_FN uint32_t residual_key(double residual) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, to_gradient(residual) + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

QGBDT_FN double residual_of_key(uint32_t key) {
  const uint32_t bits = key >> 31 ? key & 0x7fffffffu : ~key;
  return double(__builtin_bit_cast(float, bits));
}

// The digits before number n of a key, and that digit; the first one counts most.
QGBDT_FN uint32_t digits_before(uint32_t key, int n) {
  return uint32_t(uint64_t(key) >> (kKeyBits - n * kDigitBits));
}
QGBDT_FN uint32_t digit_of(uint32_t key, int n) {
  return key >> (kKeyBits - (n + 1) * kDigitBits) & (kDigits - 1);
}

}  // namespace qgbdt
