#define QGBDT_LEVEL avx512
#define QGBDT_LEVEL_NAME "avx512"
#include "kernels.inc"
