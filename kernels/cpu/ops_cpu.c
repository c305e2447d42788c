/* To be built. */
#include "kernels/cpu/cpu.h"
