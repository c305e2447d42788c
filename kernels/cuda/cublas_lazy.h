/* cuBLAS when it is needed, see cublas_lazy.c. */
#ifndef HR_KERNELS_CUDA_CUBLAS_LAZY_H
#define HR_KERNELS_CUDA_CUBLAS_LAZY_H

#include "headrace/error.h"

#include <cublas_v2.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hr__cublas {
	__typeof__(cublasGetStatusString) *status_string;
	__typeof__(cublasCreate)          *create;
	__typeof__(cublasDestroy)         *destroy;
	__typeof__(cublasSetStream)       *set_stream;
	__typeof__(cublasSetWorkspace)    *set_workspace;
	/* spelled out, because the header overloads cublasGemmEx in C++ */
	cublasStatus_t (*gemm_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
	                          const void *alpha, const void *a, cudaDataType_t, int lda, const void *b,
	                          cudaDataType_t, int ldb, const void *beta, void *c, cudaDataType_t, int ldc,
	                          cublasComputeType_t, cublasGemmAlgo_t);
};

/* HR_EUNSUPPORTED: it is not there, or lacks a function. There is nothing to close. */
int hr__cublas_load(struct hr__cublas *out, struct hr_error *err);

#ifdef __cplusplus
}
#endif
#endif
