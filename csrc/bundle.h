// Neighbouring features of few bins share a byte of a tile: the positions of their bins
// (bin_order.h) are the digits of its code.
//
//   code = position of f0 + n_positions of f0 * (position of f1 + n_positions of f1 * ...) < 256
//
// One addition to the sum of a code serves all of them; their own sums are sums over codes.
#pragma once

#include <stdint.h>

#include "support/inline.h"

namespace qgbdt {

struct Bundle {  // the features of a byte: one, whose place it is, or several that share it
  int32_t first_feature;
  int32_t n_features;

  QGBDT_FN bool is_shared() const { return n_features > 1; }
};

}  // namespace qgbdt
