/* The kernels, compiled for avx2 (flags: kernels/CMakeLists.txt). */
#define HR_CPU_KERNELS hr__cpu_kernels_avx2
#include "kernels/cpu/kernels.inc"
