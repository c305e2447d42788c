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

INLINE vec vec_mul(vec a, float b) { return a * b; }

INLINE void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }

INLINE vec vec_load_n(enum hr_type type, const void *p, int n)
{
	vec      v = {0};
	uint16_t h[VEC];
	if (type == HR_TYPE_F8_E4M3) {
		for (int i = 0; i < n; i++)
			v[i] = hr__f8_e4m3_to_f32(((const uint8_t *)p)[i]) * HR__F8_SHIFT;
		return v;
	}
	if (type == HR_TYPE_F32)
		memcpy(&v, p, (size_t)n * sizeof(float));
	else
		memcpy(h, p, (size_t)n * sizeof *h);
	for (int i = 0; i < n && type != HR_TYPE_F32; i++)
		v[i] = type == HR_TYPE_F16 ? hr__f16_to_f32(h[i]) : hr__bf16_to_f32(h[i]);
	return v;
}

/* All codes are decoded alike. */
enum { CODES = VEC };
typedef int  codes;
INLINE codes special_codes(const void *p) { return p != NULL; }
INLINE bool  has_any(codes c) { return c; }
INLINE vec   vec_load_normal(const void *p) { return vec_load_n(HR_TYPE_F8_E4M3, p, VEC); }

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

/* Columns [16 * begin, 16 * end). */
static int32_t dot(const int8_t *a, const int16_t *b, int begin, int end)
{
	int32_t s = 0;
	for (int i = 16 * begin; i < 16 * end; i++)
		s += a[i] * b[i];
	return s;
}

/* Both halves of a block, where each has a scale, or all of it at once. */
static float dot_part(const struct hr_type_part *w, const struct hr__matmul_xq *x, bool halves, float acc)
{
	if (!halves)
		return acc + (float)dot(w->q, x->v, 0, 2) * (w->d[0] * x->d) + w->m[0] * x->dsum;
	for (int h = 0; h < 2; h++)
		acc = acc + (float)dot(w->q, x->v, h, h + 1) * (w->d[h] * x->d) + w->m[h] * x->dhalf[h];
	return acc;
}

/* One row, one tile of tokens. */
static void row_dots(const struct hr__matmul_job *job, enum hr_type type, const uint8_t *w,
                     const struct hr__matmul_xq *x, float acc[HR__MATMUL_FEW])
{
	const struct hr_type_info *info = hr_type_info(type);
	int                        parts = (int)info->block_elems / HR__MATMUL_BLOCK;
	bool                       halves = type == HR_TYPE_Q2_K || type == HR_TYPE_Q3_K || type == HR_TYPE_Q6_K;
	memset(acc, 0, HR__MATMUL_FEW * sizeof *acc);
	for (int32_t b = 0; b < job->cols / HR__MATMUL_BLOCK; b++, x += job->tile) {
		struct hr_type_part part;
		info->unpack(w + (size_t)(b / parts) * info->block_bytes, b % parts, &part);
		for (int32_t t = 0; t < job->tile; t++)
			acc[t] = dot_part(&part, &x[t], halves, acc[t]);
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
			         (const struct hr__matmul_xq *)job->workspace +
			             (int64_t)token * (job->cols / HR__MATMUL_BLOCK),
			         acc);
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
            [HR_TYPE_F8_E4M3] = rows_float,
            [HR__MATMUL_FIRST_BLOCK_TYPE... HR_TYPE_COUNT - 1] = rows_quant,
        },
};
