// Trees as bit logic. A block of 256 rows is a slice: one bit a row. For every condition of the
// model, feature > threshold or not in a set, one slice says which rows meet it. A tree numbers its
// leaves from left to right, and each binary digit of a row's leaf number is a slice as well: at a
// split it is the left child's digit or the right child's, selected by the condition's slice. So a
// few hundred bitwise selects send 256 rows at once to their leaves, with no branch and no gather.
// The conditions are shared by all trees.
//
// A slice's address is its slot: 0 and 1 are constants, then the conditions, then the
// selects' results, which are used once and then overwritten, so that a tree's stay in the L1
// cache. A missing value meets a condition where the split sends it right and not where
// it sends it left, so each condition has a second slot, a side offset away, for splits of the
// second kind. In a block without missing values both are the same, and masking the offset off the
// address saves the second.
#pragma once

#include <stdint.h>

#include "bin_search.h"
#include "types.h"

namespace qgbdt {

constexpr int kSliceRows = 256;
constexpr int kMissingBin = 255;        // where a block's bins say that a value is missing
constexpr int kColumnThresholds = 254;  // value bins of a column are 0 to 254
constexpr int kIndexPlanes = 8;         // binary digits of a leaf number
constexpr int kMaxSlicedLeaves = 1 << kIndexPlanes;

// Row r is bit r / 32 of byte r % 32: the digits of 256 leaf numbers then become 256 bytes in
// row order by transposing 8 x 8 bits within each byte position.
struct alignas(32) Slice {
  uint64_t words[4];
};
constexpr int kSliceBytes = sizeof(Slice);

// The low half selects left or right by the condition. Three addresses in steps of 8 bytes, the
// unit in which a CPU scales an index.
using Select = uint64_t;
constexpr int kAddressBits = 21;
constexpr int kAddressStep = 8;
constexpr uint32_t kStepsPerSlot = kSliceBytes / kAddressStep;

struct SlicedTree {
  const Select* selects;
  const uint16_t* results;  // the slots they write, counted from first_result
  int32_t n_selects;
  uint32_t first_result;          // slot
  uint32_t planes[kIndexPlanes];  // addresses of the leaf number's digits, lowest first
  const double* leaf_values;      // left to right
};

struct PredictKernels {  // of a machine
  BinKernels binning;
  // right[b] = rows whose bin is above b or missing, left[b] (unless null) = above b, b in [0, n).
  void (*slice_bins)(const uint8_t* bins, int32_t n, Slice* right, Slice* left);
  // right[s] = rows whose bin is not in sets[s], left[s] (unless null) = and not missing, s in
  // [0, n).
  void (*slice_sets)(const uint8_t* bins, const CategorySet* sets, int32_t n, Slice* right,
                     Slice* left);
  // scores[row] += the value of the row's leaf, for all 256 rows.
  void (*add_tree)(const SlicedTree&, Slice* slices, uint32_t address_mask, double* scores);
};

}  // namespace qgbdt
