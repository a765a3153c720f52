#define QGBDT_LEVEL avx2
#define QGBDT_LEVEL_NAME "avx2"
#include "kernels.inc"
