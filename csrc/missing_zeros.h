// X as it is read where zero is missing: with NaN in place of zeros, and of what a sparse matrix
// does not list.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "binning.h"
#include "support/buffer.h"
#include "support/parallel.h"
#include "tree.h"

namespace qgbdt {

constexpr double kLargestZero = 1e-35f;  // in magnitude: LightGBM's

template <class T>
T without_zero(T x) {
  return std::abs(x) <= T(kLargestZero) ? std::numeric_limits<T>::quiet_NaN() : x;
}

// The copy lies in `values`, in the order of X. Categorical features stay as they are.
template <class IsCategorical>
MatrixView without_zeros(const MatrixView& X, const IsCategorical& is_categorical, Team& team,
                         Buffer<uint8_t>* values) {
  return visit_elements(X, [&]<class T>(const T* data) {
    const bool by_rows = X.row_stride >= X.column_stride;
    const int64_t row_stride = by_rows ? X.n_features : 1,
                  column_stride = by_rows ? 1 : X.n_samples;
    *values = Buffer<uint8_t>(X.n_samples * X.n_features * int64_t(sizeof(T)));
    T* const copy = reinterpret_cast<T*>(values->data());
    const auto copy_value = [&](int64_t row, int64_t f) {
      const T x = data[row * X.row_stride + f * X.column_stride];
      copy[row * row_stride + f * column_stride] = is_categorical(int32_t(f)) ? x : without_zero(x);
    };
    const int64_t outer = by_rows ? X.n_samples : X.n_features;
    const int64_t inner = by_rows ? X.n_features : X.n_samples;
    const int64_t block = 1 + kValuesPerThread / std::max<int64_t>(inner, 1);
    team.run_blocks(team.threads_for(outer * inner, kValuesPerThread), outer, block,
                    [&](int64_t begin, int64_t end, int) {
                      for (int64_t i = begin; i < end; ++i)
                        for (int64_t k = 0; k < inner; ++k)
                          by_rows ? copy_value(i, k) : copy_value(k, i);
                    });
    return MatrixView{copy, X.is_float32, X.n_samples, X.n_features, row_stride, column_stride};
  });
}

// No feature of a sparse matrix is categorical.
template <class IsCategorical>
SparseView without_zeros(SparseView X, const IsCategorical&, Team& team, Buffer<uint8_t>* values) {
  return visit_elements(X, [&]<class T>(const T* data) {
    const int64_t n = X.column_begin[X.n_features];
    *values = Buffer<uint8_t>(n * int64_t(sizeof(T)));
    T* const copy = reinterpret_cast<T*>(values->data());
    team.run_blocks(team.threads_for(n, kValuesPerThread), n, kValuesPerThread,
                    [&](int64_t begin, int64_t end, int) {
                      std::transform(data + begin, data + end, copy + begin, without_zero<T>);
                    });
    X.data = copy;
    X.others_are_missing = true;
    return X;
  });
}

// X as it is read: itself, unless zero is missing.
template <class View, class IsCategorical>
View as_read(bool zero_is_missing, const View& X, const IsCategorical& is_categorical, Team& team,
             Buffer<uint8_t>* values) {
  return zero_is_missing ? without_zeros(X, is_categorical, team, values) : X;
}
template <class View>
View as_read(const Model& model, const View& X, Team& team, Buffer<uint8_t>* values) {
  return as_read(
      model.zero_is_missing, X, [&](int32_t feature) { return model.is_categorical(feature); },
      team, values);
}

}  // namespace qgbdt
