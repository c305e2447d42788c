/* The kernels, compiled for avx512 (flags: kernels/CMakeLists.txt). */
#define HR_CPU_KERNELS hr__cpu_kernels_avx512
#include "kernels/cpu/kernels.inc"
