/* CUDA's matmul against sums in double precision, on all of its ways: every weight type, 1 to
 * 9 tokens and many, shapes that divide nothing, weights at odd addresses and by columns, bias,
 * add, strides; and what is promised about bits.
 *
 * Tolerances, of size = sum |w x|: 1e-5 for sums in f32; with block types and few tokens half a
 * step of the 16-bit activations more, sum |w| d / 2; on the way through cuBLAS 2^-11 for what is
 * rounded to f16 (activations, and weights of f8 and block types), 2^-8 for bf16. */
#include "base/mem.h"
#include "ops_cuda_testing.h"

enum { MAX_TOKENS = 41, MAX_ROWS = 140, MAX_COLS = 2112, BLOCK = 32 };

static const float poison = 12345.678f;

struct trial {
	struct hr_matmul m; /* on the device */
	const float     *x; /* on the host, as what follows */
	int32_t          n_tokens;
	float           *y, *before, *w, *bias;
};

static bool is_block(const struct trial *t) { return hr_type_info(t->m.w.type)->block_elems > 1; }

/* What may be wrong with element (token, r). */
static double tolerance(const struct trial *t, const float *w, const float *x, double size)
{
	bool few = t->n_tokens <= (is_block(t) ? 32 : 8), rounded = is_block(t) || t->m.w.type == HR_TYPE_F8_E4M3;
	double bound = 1e-5 * size + 1e-7;
	for (int32_t k = 0; few && is_block(t) && k < t->m.w.cols; k += BLOCK) {
		double largest = 0, sum = 0;
		for (int i = k; i < k + BLOCK; i++) {
			largest = fmax(largest, fabs((double)x[i]));
			sum += fabs((double)w[i]);
		}
		bound += 1.01 * sum * largest / 32639 / 2;
	}
	if (few || t->m.w.type == HR_TYPE_F32)
		return bound;
	if (t->m.w.type == HR_TYPE_F8_E4M3) /* which f16 has no smaller numbers for */
		bound += t->m.w.cols * 0x1p-25;
	return bound + size * (t->m.w.type == HR_TYPE_BF16 ? 0x1p-8 : rounded ? 0x1p-10 : 0x1p-11);
}

static void check_element(const struct trial *t, int32_t token, int32_t r)
{
	int32_t      cols = t->m.w.cols;
	const float *w = t->w + (size_t)r * (size_t)cols, *x = t->x + (size_t)token * (size_t)cols;
	size_t       at = (size_t)token * (size_t)t->m.y_stride + (size_t)r;
	double       want = (t->bias ? (double)t->bias[r] : 0) + (t->m.add ? (double)t->before[at] : 0), size = 0;
	for (int32_t k = 0; k < cols; k++) {
		want += (double)w[k] * (double)x[k];
		size += fabs((double)w[k] * (double)x[k]);
	}
	if (!(fabs((double)t->y[at] - want) <= tolerance(t, w, x, size)))
		fail_msg("%s %d x %d%s, token %d of %d, row %d: got %.9g, want %.9g +- %.3g",
		         hr_type_info(t->m.w.type)->name, t->m.w.rows, cols,
		         t->m.w.column_stride ? " by columns" : "", token, t->n_tokens, r, (double)t->y[at], want,
		         tolerance(t, w, x, size));
}

static void check_trial(struct gpu *g, struct trial *t)
{
	assert_int_equal(g->ops->table->matmul(g->ops, g->stream, &t->m, 1,
	                                       gpu_floats(g, t->x, (size_t)t->n_tokens * (size_t)t->m.w.cols),
	                                       t->n_tokens, 0),
	                 0);
	t->y = gpu_get(g, t->m.y, (size_t)t->n_tokens * (size_t)t->m.y_stride * sizeof(*t->y));
	for (int32_t token = 0; token < t->n_tokens; token++)
		for (int32_t r = 0; r < t->m.y_stride; r++)
			if (r < t->m.w.rows)
				check_element(t, token, r);
			else
				assert_true(t->y[token * t->m.y_stride + r] == poison);
}

/* The weights' bytes by columns. */
static void *turned(const void *data, size_t elem, size_t rows, size_t cols, size_t stride)
{
	char *columns = calloc(cols * stride, elem);
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < cols; c++)
			memcpy(columns + (c * stride + r) * elem, (const char *)data + (r * cols + c) * elem, elem);
	return columns;
}

/* Scales of the sharing that `variant` says; `host` is the matrix there. */
static void put_scales(struct gpu *g, struct hr_weight *w, const void *host, int variant, float *values,
                       uint32_t *seed)
{
	struct hr_weight at_host = *w;
	struct hr_scale  scale = random_sharings[variant % N_RANDOM_SHARINGS];
	size_t   n = count_scales(&scale, w->rows, w->cols), bytes = n * hr_type_info(scale.type)->block_bytes;
	uint8_t *data = malloc(bytes + 1);
	random_scales(scale.type, data, n, seed);
	at_host.data = host;
	at_host.scale = w->scale = scale;
	at_host.scale.data = data;
	weight_to_f32(&at_host, values);
	w->scale.data = gpu_put(g, data, bytes, (size_t)(variant % 3));
	free(data);
}

static void put_weights(struct gpu *g, struct trial *t, enum hr_type type, int32_t rows, int32_t cols,
                        int variant, bool by_columns, uint32_t *seed)
{
	const struct hr_type_info *info = hr_type_info(type);
	size_t                     bytes = (size_t)rows * hr_type_row_bytes(info, (uint64_t)cols);
	void                      *data = random_bytes(type, (size_t)rows * (size_t)cols, &t->w, seed);
	t->m.w = (struct hr_weight){NULL, type, rows, cols, by_columns ? rows + variant % 2 : 0, {0}};
	if (by_columns) {
		void *columns =
		    turned(data, info->block_bytes, (size_t)rows, (size_t)cols, (size_t)t->m.w.column_stride);
		free(data);
		data = columns;
		bytes = (size_t)cols * (size_t)t->m.w.column_stride * info->block_bytes;
	}
	t->m.w.data = gpu_put(g, data, bytes, (size_t)(variant % 3 ? variant % 5 : 0));
	if (type == HR_TYPE_F8_E4M3)
		put_scales(g, &t->m.w, data, variant, t->w, seed);
	free(data);
}

static void trial_init(struct gpu *g, struct trial *t, enum hr_type type, int32_t rows, int32_t cols,
                       int32_t n_tokens, int variant, bool by_columns, uint32_t *seed)
{
	*t = (struct trial){.n_tokens = n_tokens};
	put_weights(g, t, type, rows, cols, variant, by_columns, seed);
	t->m.add = variant & 1;
	t->m.y_stride = rows + variant % 3;
	if (variant & 2) {
		enum hr_type bias_type = (enum hr_type)(variant % 3);
		void        *bias = random_bytes(bias_type, (size_t)rows, &t->bias, seed);
		t->m.bias = (struct hr_weight){NULL, bias_type, 1, rows, 0, {0}};
		t->m.bias.data = gpu_put(g, bias, (size_t)rows * hr_type_info(bias_type)->block_bytes, 1);
		free(bias);
	}
	size_t n_y = (size_t)n_tokens * (size_t)t->m.y_stride;
	t->before = malloc(n_y * sizeof(float));
	for (size_t i = 0; i < n_y; i++) /* without add, what was there must not matter */
		t->before[i] = (int64_t)i % t->m.y_stride >= rows ? poison : t->m.add ? random_float(seed) : NAN;
	t->m.y = gpu_floats(g, t->before, n_y);
}

static void trial_release(struct gpu *g, struct trial *t)
{
	free(t->y);
	free(t->before);
	free(t->w);
	free(t->bias);
	gpu_release(g, 1);
}

static const struct {
	int32_t rows, cols, n_tokens;
} shapes[] = {
    {1, 32, 1},   {16, 64, 1},  {17, 2112, 1}, {9, 96, 2},    {3, 512, 3}, {40, 288, 4},
    {13, 256, 5}, {20, 32, 6},  {31, 1056, 7}, {10, 1088, 8}, {50, 64, 9}, {7, 544, 13},
    {66, 32, 17}, {19, 64, 32}, {33, 96, 33},  {130, 64, 41},
};

static void values_of_every_type(void **state)
{
	(void)state;
	struct gpu g;
	uint32_t   seed = 7;
	gpu_open(&g, MAX_TOKENS, MAX_ROWS, MAX_COLS);
	float *x = malloc(MAX_TOKENS * MAX_COLS * sizeof(*x));
	for (int i = 0; i < MAX_TOKENS * MAX_COLS; i++)
		x[i] = random_float(&seed);
	memset(x + BLOCK, 0, BLOCK * sizeof(*x)); /* a block without any scale */
	for (int type = 0; type < HR_TYPE_COUNT; type++)
		for (size_t i = 0; i < HR_COUNT_OF(shapes); i++) {
			uint32_t block = hr_type_info((enum hr_type)type)->block_elems;
			int32_t  odd = block > 1 ? 0 : (int32_t)i % 5; /* float types take any number of columns */
			int32_t  cols = block > BLOCK
			                    ? (shapes[i].cols + (int32_t)block - 1) / (int32_t)block * (int32_t)block
			                    : shapes[i].cols - odd;
			for (int by_columns = 0; cols <= MAX_COLS && by_columns <= hr_type_is_plain((enum hr_type)type);
			     by_columns++) {
				int n_variants = type == HR_TYPE_F8_E4M3 ? N_RANDOM_SHARINGS : 1;
				for (int k = 0; k < n_variants; k++) {
					struct trial t;
					trial_init(&g, &t, (enum hr_type)type, shapes[i].rows, cols, shapes[i].n_tokens,
					           (int)i + type + k, by_columns, &seed);
					t.x = x;
					check_trial(&g, &t);
					trial_release(&g, &t);
				}
			}
		}
	free(x);
	gpu_close(&g);
}

/* ---- bits ---- */

enum { ROWS = 37, COLS = 1280, TOKENS = 32 };

/* y[n][ROWS] of tokens first .. first + n - 1, with rows in two products, the first of `split`. */
static void multiply(struct gpu *g, enum hr_type type, int sharing, const void *bytes, const float *x,
                     int first, int n, int split, size_t shift, float *y)
{
	const struct hr_type_info *info = hr_type_info(type);
	size_t                     row_bytes = hr_type_row_bytes(info, COLS);
	struct hr_matmul           m[3] = {0};
	m[0].w = (struct hr_weight){gpu_put(g, bytes, ROWS * row_bytes, shift), type, ROWS, COLS, 0, {0}};
	if (type == HR_TYPE_F8_E4M3) {
		uint32_t seed = 3;
		float   *values = malloc(ROWS * COLS * sizeof(*values));
		put_scales(g, &m[0].w, bytes, sharing, values, &seed);
		free(values);
	}
	m[0].y = gpu_new(g, (size_t)n * ROWS * 4, 0);
	m[0].y_stride = ROWS;
	m[1] = m[2] = m[0];
	m[2].y = gpu_new(g, (size_t)n * ROWS * 4, 0);
	if (split) {
		m[0].w = hr_weight_rows(m[0].w, 0, split);
		m[1].w = hr_weight_rows(m[1].w, split, ROWS - split);
		m[1].y += split;
	}
	const float *gx = gpu_floats(g, x + first * COLS, (size_t)n * COLS);
	assert_int_equal(g->ops->table->matmul(g->ops, g->stream, m, split ? 3 : 1, gx, n, 0), 0);
	gpu_copy(g, y, m[0].y, (size_t)n * ROWS * 4);
	gpu_release(g, 1);
}

/* Up to 8 tokens (32 of block types): neither the other tokens nor the other products of the call
 * nor the address of the weights change a bit. */
static void few_tokens_do_not_see_each_other(void **state)
{
	(void)state;
	static const size_t shifts[] = {0, 8, 2, 1, 4, 24, 6, 3};

	struct gpu g;
	uint32_t   seed = 5;
	float     *x = malloc(TOKENS * COLS * sizeof(*x)), want[TOKENS * ROWS], got[TOKENS * ROWS];
	gpu_open(&g, TOKENS, ROWS, COLS);
	for (int i = 0; i < TOKENS * COLS; i++)
		x[i] = random_float(&seed);
	for (int i = 0; i < HR_TYPE_COUNT + N_RANDOM_SHARINGS; i++) {
		int   type = i < HR_TYPE_COUNT ? i : HR_TYPE_F8_E4M3;
		void *bytes = random_bytes((enum hr_type)type, ROWS * COLS, NULL, &seed);
		int   all = hr_type_info((enum hr_type)type)->block_elems > 1 ? TOKENS : 8;
		multiply(&g, (enum hr_type)type, i, bytes, x, 0, all, 0, 0, want);
		for (int n = 1; n < all; n += n < 8 ? 1 : 11) {
			int first = (all - n) / 2;
			multiply(&g, (enum hr_type)type, i, bytes, x, first, n, n % 2 ? 0 : 1 + n % (ROWS - 1),
			         shifts[n % 8], got);
			if (memcmp(got, want + first * ROWS, (size_t)(n * ROWS) * sizeof(*got)))
				fail_msg("%s: other bits for tokens %d + %d", hr_type_info((enum hr_type)type)->name, first,
				         n);
		}
		free(bytes);
	}
	free(x);
	gpu_close(&g);
}

/* ---- the rest ---- */

/* A NaN among the activations must not vanish in the quantisation. */
static void a_nan_stays_visible(void **state)
{
	(void)state;
	struct gpu g;
	uint32_t   seed = 3;
	gpu_open(&g, 1, 16, 256);
	for (int type = 0; type < HR_TYPE_COUNT; type++) {
		float            x[256];
		void            *bytes = random_bytes((enum hr_type)type, 16 * 256, NULL, &seed);
		struct hr_matmul m = {.y = gpu_new(&g, 64, 0), .y_stride = 16};
		size_t           n_bytes = 16 * hr_type_row_bytes(hr_type_info((enum hr_type)type), 256);
		m.w = (struct hr_weight){gpu_put(&g, bytes, n_bytes, 0), (enum hr_type)type, 16, 256, 0, {0}};
		for (int i = 0; i < 256; i++)
			x[i] = i == 40 ? NAN : 1;
		assert_int_equal(g.ops->table->matmul(g.ops, g.stream, &m, 1, gpu_floats(&g, x, 256), 1, 0), 0);
		float *y = gpu_get(&g, m.y, 64);
		for (int i = 0; i < 16; i++)
			assert_true(isnan(y[i]));
		free(y);
		free(bytes);
		gpu_release(&g, 1);
	}
	gpu_close(&g);
}

static void wrong_shapes_are_refused(void **state)
{
	(void)state;
	struct gpu g;
	gpu_open(&g, 1, 16, 64);
	float           *x = gpu_new(&g, 65536, 0);
	struct hr_matmul ok = {.w = {x, HR_TYPE_F32, 16, 64, 0, {0}}, .y = x, .y_stride = 16}, bad[2] = {ok, ok};
	const struct hr_ops_table *t = g.ops->table;
	assert_int_equal(t->matmul(g.ops, g.stream, &ok, 0, x, 1, 0), HR_EINVAL);
	assert_int_equal(t->matmul(g.ops, g.stream, &ok, 5, x, 1, 0), HR_EINVAL);
	assert_int_equal(t->matmul(g.ops, g.stream, &ok, 1, x, 0, 0), HR_EINVAL);
	bad[1].w.cols = 32; /* does not share x */
	assert_int_equal(t->matmul(g.ops, g.stream, bad, 2, x, 1, 0), HR_EINVAL);
	bad[0].w = (struct hr_weight){x, HR_TYPE_Q8_0, 16, 48, 0, {0}}; /* half a block */
	assert_int_equal(t->matmul(g.ops, g.stream, bad, 1, x, 1, 0), HR_EINVAL);
	bad[0].w = (struct hr_weight){x, HR_TYPE_Q8_0, 1, 1 << 24, 0, {0}}; /* more than the workspace holds */
	assert_int_equal(t->matmul(g.ops, g.stream, bad, 1, x, 1, 0), HR_EINVAL);
	bad[0].w = (struct hr_weight){x, HR_TYPE_F16, 16, 1 << 24, 0, {0}};
	assert_int_equal(t->matmul(g.ops, g.stream, bad, 1, x, 9, 0), HR_EINVAL);
	bad[0] = ok;
	bad[0].y_stride = 15;
	assert_int_equal(t->matmul(g.ops, g.stream, bad, 1, x, 1, 0), HR_EINVAL);
	bad[0] = ok;
	bad[0].w.column_stride = 15;
	assert_int_equal(t->matmul(g.ops, g.stream, bad, 1, x, 1, 0), HR_EINVAL);
	gpu_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values_of_every_type),
	    cmocka_unit_test(few_tokens_do_not_see_each_other),
	    cmocka_unit_test(a_nan_stays_visible),
	    cmocka_unit_test(wrong_shapes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
