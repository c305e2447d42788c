/* NVIDIA's header of that name adds, in C++, what a .cu file needs. */
#ifndef CUDA_ON_CPU_CUDA_RUNTIME_H
#define CUDA_ON_CPU_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"
#ifdef __cplusplus
#if __has_include("kernel.h")
#include "kernel.h"
#endif
#endif

#endif
