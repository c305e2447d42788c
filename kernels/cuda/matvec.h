/* What the two kernels for few tokens share: the products of a launch, and the end of
 * a row. A launch takes up to four products that share x; each gets blocks of its own. */
#ifndef HR_KERNELS_CUDA_MATVEC_H
#define HR_KERNELS_CUDA_MATVEC_H

#include "kernels/cuda/decode.h"
#include "kernels/cuda/reduce.h"

struct hr_matvec_product {
	const uint8_t *w;
	size_t         row_bytes;
	const void    *bias; /* NULL: none */
	float         *y;
	int64_t        y_stride;
	int            bias_type, rows;
	int            column_stride; /* elements; 0: by rows */
	int            first_block;
	bool           add;
	hr_scale_table scales;
};

struct hr_matvec_products {
	hr_matvec_product p[HR_CUDA_PRODUCTS];
	int               n, n_blocks;
	int               cols;
};

static inline hr_matvec_products hr_matvec_list(const struct hr_matmul *products, int n, int rows_per_block,
                                                int32_t first_token)
{
	hr_matvec_products list = {};
	list.n = n;
	list.cols = products[0].w.cols;
	for (int i = 0; i < n; i++) {
		const struct hr_matmul *m = &products[i];
		list.p[i].w = (const uint8_t *)m->w.data;
		list.p[i].row_bytes = hr_type_row_bytes(hr_type_info(m->w.type), (uint64_t)m->w.cols);
		list.p[i].bias = m->bias.data;
		list.p[i].bias_type = m->bias.type;
		list.p[i].y = m->y + first_token * m->y_stride;
		list.p[i].y_stride = m->y_stride;
		list.p[i].rows = m->w.rows;
		list.p[i].column_stride = m->w.column_stride;
		list.p[i].add = m->add;
		list.p[i].scales = hr_scales_of(&m->w);
		list.p[i].first_block = list.n_blocks;
		list.n_blocks += (int)hr_div_up(m->w.rows, rows_per_block);
	}
	return list;
}

static __device__ __forceinline__ hr_matvec_product hr_matvec_product_of(const hr_matvec_products &list,
                                                                         int                       block)
{
	hr_matvec_product p = list.p[0];
#pragma unroll
	for (int i = 1; i < HR_CUDA_PRODUCTS; i++)
		if (i < list.n && block >= list.p[i].first_block)
			p = list.p[i];
	return p;
}

/* A warp's R rows from `first` on, of which behind the last one there is the first again, and zeros
 * for the sums of T tokens. */
template <int T, int R>
static __device__ __forceinline__ void hr_matvec_begin(const hr_matvec_product &p, int first,
                                                       const uint8_t *(&rows)[R], float (&sums)[T * R])
{
#pragma unroll
	for (int r = 0; r < R; r++)
		rows[r] = p.w + (size_t)(first + r < p.rows ? first + r : first) * p.row_bytes;
#pragma unroll
	for (int i = 0; i < T * R; i++)
		sums[i] = 0;
}

static __device__ __forceinline__ void hr_matvec_write(const hr_matvec_product &p, int row, int t, float sum)
{
	float *y = p.y + t * p.y_stride + row;
	if (p.bias)
		sum += hr_load_float(p.bias, p.bias_type, row);
	*y = p.add ? *y + sum : sum;
}

/* Each lane has a part of T * R sums, token by token; add them up and write them. */
template <int T, int R>
static __device__ __forceinline__ void hr_matvec_finish(float (&sums)[T * R], const hr_matvec_product &p,
                                                        int row, int n_tokens)
{
	const int LANES = HR_WARP / (T * R); /* that hold one sum */
	int       lane = (int)threadIdx.x % HR_WARP, t = lane / LANES / R;
	float     sum = hr_warp_sums(sums);
	row += lane / LANES % R;
	if (lane % LANES == 0 && t < n_tokens && row < p.rows)
		hr_matvec_write(p, row, t, sum);
}

#endif
