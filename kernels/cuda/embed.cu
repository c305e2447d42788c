/* y[i][:] = scale * row ids[i] of a table of any weight type, as f32, rounded as the reference
 * decoders of types.c round. A block does a row; a thread one element of a float type, or
 * one group of 32 weights of a block type. Moves a row's bytes and 4 an element. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/decode.h"

enum { THREADS = 128 };

struct embed_args {
	float         *y;
	const uint8_t *table;
	size_t         row_bytes;
	float          scale;
	int            type, cols;
	const int32_t *ids;
	hr_scale_table scales;
};

static __global__ void embed_float_kernel(embed_args a)
{
	const uint8_t *row = a.table + (size_t)a.ids[blockIdx.x] * a.row_bytes;
	int64_t        scales = hr_scale_row(a.scales, a.ids[blockIdx.x]);
	for (int i = (int)threadIdx.x; i < a.cols; i += THREADS) {
		float v = hr_load_float(row, a.type, i) * hr_scale_at(a.scales, scales, i);
		a.y[(int64_t)blockIdx.x * a.cols + i] = a.scale * v;
	}
}

template <int TYPE> static __global__ void embed_block_kernel(embed_args a)
{
	const uint8_t *row = a.table + (size_t)a.ids[blockIdx.x] * a.row_bytes;
	for (int i = (int)threadIdx.x; i < a.cols / 32; i += THREADS) {
		hr_block32 b;
		hr_decoder<TYPE>::decode(row, i, b);
		float *y = a.y + (int64_t)blockIdx.x * a.cols + 32 * i;
#pragma unroll
		for (int k = 0; k < 32; k++)
			y[k] = a.scale * hr_block_weight<hr_decoder<TYPE>>(b, k);
	}
}

static void (*kernel_of(enum hr_type type))(embed_args)
{
	switch ((int)type) {
#define HR_X(TYPE, ...)                                                                                      \
	case TYPE:                                                                                               \
		return embed_block_kernel<TYPE>;
		HR_BLOCK_TYPES(HR_X)
#undef HR_X
	}
	return hr_type_is_float(type) ? embed_float_kernel : NULL;
}

int hr__cuda_embed(struct hr_ops *ops, struct hr_stream *stream, float *y, const struct hr_weight *table,
                   float scale, const int32_t *ids, int32_t n)
{
	(void)ops;
	size_t row_bytes = hr_type_row_bytes(hr_type_info(table->type), (uint64_t)table->cols);
	if (n < 0 || !hr_weight_is_valid(table))
		return HR_EINVAL;
	if (!kernel_of(table->type))
		return HR_EUNSUPPORTED;
	if (!n)
		return 0;
	embed_args a = {y,   (const uint8_t *)table->data, row_bytes, scale, table->type, table->cols,
	                ids, hr_scales_of(table)};
	return hr_cuda_launch(stream, "embed", kernel_of(table->type), dim3((unsigned)n), dim3(THREADS), 0, a);
}
