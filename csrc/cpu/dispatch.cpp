// Chooses the SIMD level at run time. The build never looks at the build machine's CPU.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace qgbdt {

namespace scalar {
extern const Kernels kernels;
}
#ifdef __x86_64__
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

SimdLevels simd_levels() {
#ifdef __x86_64__
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return {{{&scalar::kernels, true}, {&avx2::kernels, has_avx2}, {&avx512::kernels, has_avx512}},
          3};
#else
  return {{{&scalar::kernels, true}}, 1};
#endif
}

const Kernels& choose_kernels() {
  const SimdLevels all = simd_levels();
  const char* wanted = std::getenv("QGBDT_SIMD");
  if (!wanted || !*wanted) {
    const Kernels* best = all.levels[0].kernels;
    for (int i = 0; i < all.n; ++i)
      if (all.levels[i].runs_here) best = all.levels[i].kernels;
    return *best;
  }
  std::string usable;
  for (int i = 0; i < all.n; ++i) {
    const SimdLevel& level = all.levels[i];
    if (level.runs_here && std::string(wanted) == level.kernels->name) return *level.kernels;
    if (level.runs_here) usable += (usable.empty() ? "" : ", ") + std::string(level.kernels->name);
  }
  throw std::invalid_argument("QGBDT_SIMD is '" + std::string(wanted) +
                              "', but this build on this CPU runs: " + usable +
                              ". Unset it to let the library choose.");
}

}  // namespace qgbdt
