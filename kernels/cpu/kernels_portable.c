/* The kernels, compiled for the compiler's baseline. */
#define HR_CPU_KERNELS hr__cpu_kernels_portable
#include "kernels/cpu/kernels.inc"
