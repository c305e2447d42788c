/* Matrix products in plain C: for machines without the vectors of the other
 * files, and easy to compare with them. Float products use the compiler's own
 * vectors of 4 (matmul_float.inc); block products go block by block, as the
 * order of the sum in matmul.h says, several tokens for each block unpacked. */
#include "kernels/cpu/matmul.h"
#include "kernels/half.h"

#include <string.h>

typedef float vec __attribute__((vector_size(16)));
typedef vec   v4;
enum { VEC = 4, MAX_T = 3, FEW_TOKENS = 6 };

#define INLINE static inline __attribute__((always_inline))

INLINE vec vec_zero(void) { return (vec){0}; }

INLINE vec vec_fma(vec a, vec b, vec c) { return a * b + c; }

INLINE void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }

INLINE vec vec_load_n(enum hr_type type, const void *p, int n)
{
	vec      v = {0};
	uint16_t h[VEC];
	if (type == HR_TYPE_F32)
		memcpy(&v, p, (size_t)n * sizeof(float));
	else
		memcpy(h, p, (size_t)n * sizeof *h);
	for (int i = 0; i < n && type != HR_TYPE_F32; i++)
		v[i] = type == HR_TYPE_F16 ? hr__f16_to_f32(h[i]) : hr__bf16_to_f32(h[i]);
	return v;
}

INLINE vec vec_load(enum hr_type type, const void *p) { return vec_load_n(type, p, VEC); }

INLINE float sum(vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }

INLINE v4 vec_sum4(vec a, vec b, vec c, vec d) { return (v4){sum(a), sum(b), sum(c), sum(d)}; }

#include "kernels/cpu/matmul_float.inc"

INLINE void put_values(struct hr__matmul_xq *xq, const int32_t v[HR__MATMUL_BLOCK])
{
	for (int i = 0; i < HR__MATMUL_BLOCK; i++)
		xq->v[i] = (int16_t)v[i];
}

#include "kernels/cpu/matmul_quantize.inc"

struct block {
	float   d, m;
	int16_t q[HR__MATMUL_BLOCK]; /* weight = d * q + m */
};

static void unpack(enum hr_type type, const uint8_t *src, struct block *out)
{
	uint16_t half[2];
	memcpy(half, src, sizeof half);
	out->d = hr__f16_to_f32(half[0]);
	out->m = type == HR_TYPE_Q4_1 ? hr__f16_to_f32(half[1]) : 0;
	src += type == HR_TYPE_Q4_1 ? 4 : 2;
	if (type == HR_TYPE_Q8_0) {
		for (int i = 0; i < HR__MATMUL_BLOCK; i++)
			out->q[i] = (int8_t)src[i];
		return;
	}
	int16_t zero = type == HR_TYPE_Q4_0 ? 8 : 0;
	for (int i = 0; i < HR__MATMUL_BLOCK / 2; i++) {
		out->q[i] = (int16_t)((src[i] & 15) - zero);
		out->q[i + HR__MATMUL_BLOCK / 2] = (int16_t)((src[i] >> 4) - zero);
	}
}

static int32_t dot(const int16_t *a, const int16_t *b)
{
	int32_t s = 0;
	for (int i = 0; i < HR__MATMUL_BLOCK; i++)
		s += a[i] * b[i];
	return s;
}

/* One row, one tile of tokens. */
static void row_dots(const struct hr__matmul_job *job, enum hr_type type, const uint8_t *w,
                     const struct hr__matmul_xq *x, float acc[HR__MATMUL_FEW])
{
	memset(acc, 0, HR__MATMUL_FEW * sizeof *acc);
	for (int32_t k = 0; k < job->cols;
	     k += HR__MATMUL_BLOCK, x += job->tile, w += hr_type_info(type)->block_bytes) {
		struct block block;
		unpack(type, w, &block);
		for (int32_t t = 0; t < job->tile; t++) {
			acc[t] += (float)dot(block.q, x[t].v) * (block.d * x[t].d);
			if (type == HR_TYPE_Q4_1)
				acc[t] += block.m * x[t].dsum;
		}
	}
}

static void rows_quant(const struct hr__matmul_job *job, const struct hr_matmul *p, int32_t begin,
                       int32_t end)
{
	size_t row_bytes = hr_type_row_bytes(hr_type_info(p->w.type), (uint64_t)job->cols);
	for (int32_t row = begin; row < end; row++) {
		float bias, acc[HR__MATMUL_FEW];
		hr__matmul_load_bias(p, row, 1, &bias);
		for (int32_t token = 0; token < job->n_tokens; token += job->tile) {
			row_dots(job, p->w.type, (const uint8_t *)p->w.data + (size_t)row * row_bytes,
			         job->xq + (int64_t)token * (job->cols / HR__MATMUL_BLOCK), acc);
			for (int32_t t = token; t < token + job->tile && t < job->n_tokens; t++) {
				float *y = p->y + t * p->y_stride + row;
				*y = (p->add ? *y : 0) + (acc[t - token] + bias);
			}
		}
	}
}

const struct hr__matmul_kernels hr__matmul_portable = {
    .tile = HR__MATMUL_FEW,
    .quantize = quantize,
    .rows =
        {
            [HR_TYPE_F32] = rows_float,
            [HR_TYPE_F16] = rows_float,
            [HR_TYPE_BF16] = rows_float,
            [HR_TYPE_Q8_0] = rows_quant,
            [HR_TYPE_Q4_0] = rows_quant,
            [HR_TYPE_Q4_1] = rows_quant,
        },
};
