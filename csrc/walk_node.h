// A step of a walk through a tree, the same on every machine.
#pragma once

#include <stdint.h>

#include "support/inline.h"

namespace qgbdt {

// 16 bytes. The right child follows the left one, which is its own left child in a leaf: every
// value goes left there, so rows that have arrived may go on walking.
struct WalkNode {
  double threshold;
  int32_t feature;  // complemented where a missing value goes left
  uint32_t left;

  QGBDT_FN int32_t column() const { return feature ^ (feature >> 31); }

  // The node after this one for a value x of its column, which goes right or left unless missing.
  QGBDT_FN uint32_t next(double x, uint32_t goes_right) const {
    const uint32_t missing = x != x;
    return left + (goes_right | (missing & uint32_t((feature >> 31) + 1)));
  }
  QGBDT_FN uint32_t next(double x) const { return next(x, x > threshold); }
};

}  // namespace qgbdt
