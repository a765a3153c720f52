#define QGBDT_LEVEL scalar
#define QGBDT_LEVEL_NAME "scalar"
#include "kernels.inc"
