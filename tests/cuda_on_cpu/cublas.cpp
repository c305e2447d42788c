/* cuBLAS of the layer, see cublas_v2.h. Stricter than cuBLAS where that finds bugs: a
 * product without a workspace of one's own is refused, since cuBLAS would allocate. */
#include "cublas_v2.h"

#include "kernels/half.h"
#include "layer.h"

#include <cstdint>
#include <cstring>

struct cublasContext {
	cudaStream_t stream;
	void        *workspace;
	size_t       workspace_bytes;
};

namespace
{

struct Matrix {
	const void    *data;
	cudaDataType_t type;
	int            ld;
	bool           transposed;

	double at(int row, int column) const
	{
		int64_t  i = transposed ? (int64_t)row * ld + column : (int64_t)column * ld + row;
		uint16_t half;
		float    f;
		if (type == CUDA_R_32F) {
			memcpy(&f, (const char *)data + 4 * i, sizeof f);
			return (double)f;
		}
		memcpy(&half, (const char *)data + 2 * i, sizeof half);
		return (double)(type == CUDA_R_16F ? hr__f16_to_f32(half) : hr__bf16_to_f32(half));
	}
};

size_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

void multiply(const Matrix &a, const Matrix &b, int m, int n, int k, float alpha, float beta, float *c,
              int ldc)
{
	std::vector<double> left((size_t)k), right((size_t)k * (size_t)n);
	for (int column = 0; column < n; column++)
		for (int i = 0; i < k; i++)
			right[(size_t)column * (size_t)k + (size_t)i] = b.at(i, column);
	for (int row = 0; row < m; row++) {
		for (int i = 0; i < k; i++)
			left[(size_t)i] = a.at(row, i);
		for (int column = 0; column < n; column++) {
			const double *x = right.data() + (size_t)column * (size_t)k;
			double        sum = 0;
			for (int i = 0; i < k; i++)
				sum += left[(size_t)i] * x[i];
			float *to = c + (int64_t)column * ldc + row;
			*to = (float)((double)alpha * sum + (beta == 0.0f ? 0.0 : (double)(beta * *to)));
		}
	}
}

} // namespace

const char *cublasGetStatusString(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_SUCCESS:
		return "CUBLAS_STATUS_SUCCESS";
	case CUBLAS_STATUS_NOT_INITIALIZED:
		return "CUBLAS_STATUS_NOT_INITIALIZED";
	case CUBLAS_STATUS_ALLOC_FAILED:
		return "CUBLAS_STATUS_ALLOC_FAILED";
	case CUBLAS_STATUS_INVALID_VALUE:
		return "CUBLAS_STATUS_INVALID_VALUE";
	case CUBLAS_STATUS_EXECUTION_FAILED:
		return "CUBLAS_STATUS_EXECUTION_FAILED";
	default:
		return "CUBLAS_STATUS_NOT_SUPPORTED";
	}
}

cublasStatus_t cublasCreate(cublasHandle_t *out)
{
	if (cuda_on_cpu_enter(__func__))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	*out = new cublasContext();
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
	delete handle;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
	*handle = cublasContext();
	handle->stream = stream;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
	if ((uintptr_t)workspace % 256)
		return CUBLAS_STATUS_INVALID_VALUE;
	handle->workspace = workspace;
	handle->workspace_bytes = bytes;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                            int n, int k, const void *alpha, const void *a, cudaDataType_t a_type, int lda,
                            const void *b, cudaDataType_t b_type, int ldb, const void *beta, void *c,
                            cudaDataType_t c_type, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t)
{
	Matrix left = {a, a_type, lda, op_a == CUBLAS_OP_T}, right = {b, b_type, ldb, op_b == CUBLAS_OP_T};
	float  by = *(const float *)alpha, keep = *(const float *)beta;
	if (cuda_on_cpu_enter(__func__))
		return CUBLAS_STATUS_EXECUTION_FAILED;
	if (m < 0 || n < 0 || k < 0 || lda < (left.transposed ? k : m) || ldb < (right.transposed ? n : k) ||
	    ldc < m)
		return CUBLAS_STATUS_INVALID_VALUE;
	if ((uintptr_t)a % size_of(a_type) || (uintptr_t)b % size_of(b_type) || (uintptr_t)c % 4)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (a_type != b_type || c_type != CUDA_R_32F || compute != CUBLAS_COMPUTE_32F || !handle->workspace)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	cublasContext h = *handle;
	cuda_on_cpu_enqueue(h.stream, [=] {
		memset(h.workspace, 0xff, h.workspace_bytes);
		multiply(left, right, m, n, k, by, keep, (float *)c, ldc);
	});
	return cudaPeekAtLastError() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

void *cuda_on_cpu::cublas_function(const char *name)
{
	static const struct {
		const char *name;
		void       *function;
	} functions[] = {
	    {"cublasGetStatusString", (void *)cublasGetStatusString},
	    {"cublasCreate", (void *)cublasCreate},
	    {"cublasDestroy", (void *)cublasDestroy},
	    {"cublasSetStream", (void *)cublasSetStream},
	    {"cublasSetWorkspace", (void *)cublasSetWorkspace},
	    {"cublasGemmEx", (void *)cublasGemmEx},
	};
	for (auto &f : functions)
		if (!strcmp(f.name, name))
			return f.function;
	return nullptr;
}
