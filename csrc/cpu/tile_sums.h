// The sums of a node's rows in a tile, while they are made and searched.
#pragma once

#include <algorithm>

#include "cpu_backend.h"

namespace qgbdt {

// The sums of a node's rows in one tile as lanes: by byte, kBinPlaces each, or by feature, side by
// side like cells, where the tile is sparse or its byte shared.
template <class Lane>
struct CpuBackend::Lanes {
  Lane* of_bytes;
  Lane* side_by_side;
};

// One thread's lanes, and cells for tiles whose own are taken.
struct CpuBackend::ThreadScratch {
  Buffer<HistCell> of_bytes, side_by_side;  // 32-bit lanes use half
  std::vector<Buffer<HistCell>> cells;
  size_t n_used = 0;

  template <class Lane>
  Lanes<Lane> lanes() {
    if (!of_bytes.size()) {
      of_bytes = Buffer<HistCell>(kTileBytes * kBinPlaces);
      side_by_side = Buffer<HistCell>(kMaxTileFeatures * kBinPlaces);
    }
    return {reinterpret_cast<Lane*>(of_bytes.data()), reinterpret_cast<Lane*>(side_by_side.data())};
  }
  HistCell* take_cells() {
    if (n_used == cells.size()) cells.emplace_back(kMaxTileFeatures * kBinPlaces);
    return cells[n_used++].data();
  }
};

// The sums of a node's rows in one tile: lanes or, of more rows than those hold, cells.
struct CpuBackend::TileSums {
  Lanes<uint32_t> lanes;
  const HistCell* cells;
};

template <class Lane>
const Lane* CpuBackend::lanes_of(const Lanes<Lane>& lanes, const FeatureTile& tile,
                                 int32_t feature) const {
  const int32_t b = bins_.bundle_of(feature);
  if (tile.is_sparse() || bins_.bundles()[b].is_shared())
    return lanes.side_by_side + first_cell(tile, feature);
  return lanes.of_bytes + (b - tile.first_bundle) * kBinPlaces;
}

// live: as of a FindSplitTask.
template <class Visit>
void CpuBackend::for_live(const FeatureTile& tile, const uint8_t* live, const Visit& visit) {
  for (int32_t f = tile.first_feature; f < tile.first_feature + tile.n_features; ++f)
    if (!live || live[f]) visit(f);
}

inline bool has_allowed(const uint8_t* allowed, const FeatureTile& tile) {
  const uint8_t* const first = allowed + tile.first_feature;
  return std::any_of(first, first + tile.n_features, [](uint8_t is_allowed) { return is_allowed; });
}

}  // namespace qgbdt
