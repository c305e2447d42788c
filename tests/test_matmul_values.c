/* The CPU's matmul against sums in double precision: every weight type, every
 * instruction set this machine has, shapes that divide nothing, weights at odd
 * addresses, bias, add, strides; and nothing written where nothing belongs. */
#include "matmul_fixture.h"

#include <math.h>
#include <stdio.h>

enum { MAX_TOKENS = 531, MAX_COLS = 1280, BLOCK = 32 };

static const float poison = 12345.678f;

/* One call: y before, y after, and what y should be. */
struct trial {
	struct hr_matmul m;
	const float     *x;
	int32_t          n_tokens, n_single;
	float           *y_before, *w, *bias; /* as f32 */
	void            *memory[2];
};

/* As matmul.h says, one block of activations. */
static void quantized(const float *x, int16_t q[BLOCK], double *d)
{
	float amax = 0;
	for (int i = 0; i < BLOCK; i++)
		amax = fmaxf(amax, fabsf(x[i]));
	float inverse = amax > 0 ? 32512 / amax : 0;
	for (int i = 0; i < BLOCK; i++)
		q[i] = (int16_t)lrintf(x[i] * inverse);
	*d = amax / 32512;
}

static void check_element(const struct trial *t, int32_t token, int32_t r)
{
	int32_t      cols = t->m.w.cols;
	bool         blocks = hr_type_info(t->m.w.type)->block_elems > 1;
	const float *w = t->w + (size_t)r * (size_t)cols, *x = t->x + (size_t)token * (size_t)cols;
	double       sum = 0, exact = 0, size = 0, rounding = 0;
	for (int32_t k = 0; k < cols; k++) {
		exact += (double)w[k] * x[k];
		size += fabs((double)w[k] * x[k]);
	}
	sum = exact;
	if (blocks) {
		sum = 0;
		for (int32_t k = 0; k < cols; k += BLOCK) {
			int16_t q[BLOCK];
			double  d;
			quantized(x + k, q, &d);
			for (int i = 0; i < BLOCK; i++) {
				sum += w[k + i] * d * q[i];
				rounding += fabs(w[k + i]) * d / 2;
			}
		}
	}
	double extra = (t->bias ? t->bias[r] : 0) + (t->m.add ? t->y_before[token * t->m.y_stride + r] : 0);
	double got = t->m.y[token * t->m.y_stride + r],
	       bound = (blocks ? 1e-5 : 1e-6) * (size + fabs(extra)) + 1e-7;
	if (!(fabs(got - (sum + extra)) <= bound) || !(fabs(got - (exact + extra)) <= bound + 1.01 * rounding))
		fail_msg("%s %d x %d (a scale for %d x %d), token %d of %d, row %d: got %.9g, want %.9g (%.9g with "
		         "f32 activations)",
		         hr_type_info(t->m.w.type)->name, t->m.w.rows, cols, t->m.w.scale.rows, t->m.w.scale.cols,
		         token, t->n_tokens, r, got, sum + extra, exact + extra);
}

static void check_trial(const struct trial *t)
{
	for (int32_t token = 0; token < t->n_tokens; token++)
		for (int32_t r = 0; r < t->m.y_stride; r++)
			if (r < t->m.w.rows)
				check_element(t, token, r);
			else
				assert_true(t->m.y[token * t->m.y_stride + r] == poison);
}

static void trial_init(struct trial *t, enum hr_type type, int32_t rows, int32_t cols, int32_t n_tokens,
                       int variant, uint32_t *seed)
{
	static const enum hr_type bias_types[] = {HR_TYPE_F32, HR_TYPE_F16, HR_TYPE_BF16};
	*t = (struct trial){.n_tokens = n_tokens, .n_single = n_tokens * (variant % 3) / 2};
	t->m.w = random_weight(type, rows, cols, (size_t)(variant % 4), seed, &t->memory[0]);
	t->m.add = variant & 1;
	t->m.y_stride = rows + variant % 3;
	t->w = malloc((size_t)rows * (size_t)cols * sizeof(float));
	weight_to_f32(&t->m.w, t->w);
	if (variant & 2) {
		t->m.bias = random_weight(bias_types[variant % 3], 1, rows, 1, seed, &t->memory[1]);
		t->bias = malloc((size_t)rows * sizeof(float));
		hr_type_info(t->m.bias.type)->to_f32(t->m.bias.data, t->bias, (size_t)rows);
	}
	size_t n_y = (size_t)n_tokens * (size_t)t->m.y_stride;
	t->m.y = malloc(n_y * sizeof(float));
	t->y_before = malloc(n_y * sizeof(float));
	for (size_t i = 0; i < n_y; i++) /* without add, what was there must not matter */
		t->y_before[i] = (int64_t)i % t->m.y_stride >= rows ? poison : t->m.add ? random_float(seed) : NAN;
	memcpy(t->m.y, t->y_before, n_y * sizeof(float));
}

static void trial_release(struct trial *t)
{
	void *all[] = {t->memory[0], t->memory[1], t->w, t->bias, t->m.y, t->y_before};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static void run_isa(int isa)
{
	static const struct {
		int32_t rows, cols, n_tokens;
	} shapes[] = {
	    {1, 32, 1},   {16, 64, 1},  {17, 96, 2},   {3, 512, 3},     {64, 288, 4},  {33, 256, 5},
	    {20, 32, 6},  {31, 160, 7}, {16, 1056, 8}, {50, 64, 9},     {7, 544, 13},  {66, 288, 14},
	    {19, 32, 25}, {5, 64, 121}, {70, 544, 26}, {83, 1056, 131}, {21, 96, 531},
	};
	struct fixture f;
	fixture_open(&f, isa, 2, MAX_TOKENS, MAX_COLS);
	uint32_t seed = 7;
	float   *x = malloc(MAX_TOKENS * MAX_COLS * sizeof *x);
	for (int i = 0; i < MAX_TOKENS * MAX_COLS; i++)
		x[i] = random_float(&seed);
	memset(x + BLOCK, 0, BLOCK * sizeof *x); /* a block without any scale */
	for (int type = 0; type < HR_TYPE_COUNT; type++)
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
			int32_t      block = (int32_t)hr_type_info((enum hr_type)type)->block_elems;
			int32_t      cols = (shapes[i].cols + block - 1) / block * block;
			int32_t      odd = block > 1 ? 0 : (int32_t)i % 5; /* float types take any number of columns */
			struct trial t;
			for (uint32_t k = 0; k < (type == HR_TYPE_F8_E4M3 ? N_RANDOM_SHARINGS : 1); k++) {
				seed = type == HR_TYPE_F8_E4M3 ? 64 * k + (uint32_t)i : seed;
				trial_init(&t, (enum hr_type)type, shapes[i].rows, cols - odd, shapes[i].n_tokens,
				           (int)i + type, &seed);
				t.x = x;
				fixture_multiply(&f, &t.m, 1, x, t.n_tokens, t.n_single);
				check_trial(&t);
				trial_release(&t);
			}
		}
	free(x);
	fixture_close(&f);
}

static void test_values(void **state)
{
	(void)state;
	for (int isa = 0; isa < HR_CPU_ISA_COUNT; isa++)
		if (isa_is_here(isa))
			run_isa(isa);
		else
			print_message("%s: not on this machine\n", isa_names[isa]);
}

/* Weights stored by columns give the bits of the same weights stored by rows. */
static void test_columns_equal_rows(void **state)
{
	(void)state;
	enum { ROWS = 70, COLS = 1040, STRIDE = 83, TOKENS = 14 };
	static const enum hr_type types[] = {HR_TYPE_F32, HR_TYPE_F16, HR_TYPE_BF16};
	float   *x = malloc(TOKENS * COLS * sizeof *x), *y = malloc(2 * TOKENS * ROWS * sizeof *y);
	uint32_t seed = 9;
	for (int i = 0; i < TOKENS * COLS; i++)
		x[i] = random_float(&seed);
	for (int isa = 0; isa < HR_CPU_ISA_COUNT; isa++)
		for (size_t i = 0; isa_is_here(isa) && i < 3; i++) {
			struct fixture   f;
			void            *memory;
			size_t           elem = types[i] == HR_TYPE_F32 ? 4 : 2;
			char            *columns = calloc((size_t)COLS * STRIDE, elem);
			struct hr_matmul m[2] = {{.y = y, .y_stride = ROWS}, {.y = y + TOKENS * ROWS, .y_stride = ROWS}};
			m[0].w = m[1].w = random_weight(types[i], ROWS, COLS, 0, &seed, &memory);
			for (size_t r = 0; r < ROWS; r++)
				for (size_t c = 0; c < COLS; c++)
					memcpy(columns + (c * STRIDE + r) * elem, (char *)memory + (r * COLS + c) * elem, elem);
			m[1].w.data = columns;
			m[1].w.column_stride = STRIDE;
			fixture_open(&f, isa, 2, TOKENS, COLS);
			for (int32_t n = 1; n <= TOKENS; n += 13) {
				fixture_multiply(&f, m, 2, x, n, n / 2);
				assert_memory_equal(y, y + TOKENS * ROWS, (size_t)n * ROWS * sizeof *y);
			}
			m[1].w.column_stride = ROWS - 1;
			assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, m, 2, x, 1, 0), HR_EINVAL);
			fixture_close(&f);
			free(columns);
			free(memory);
		}
	free(x);
	free(y);
}

/* A NaN among the activations must not vanish in the quantisation. */
static void test_nan_stays_visible(void **state)
{
	(void)state;
	for (int isa = 0; isa < HR_CPU_ISA_COUNT; isa++)
		for (int type = 0; isa_is_here(isa) && type < HR_TYPE_COUNT; type++) {
			struct fixture f;
			void          *memory;
			uint32_t       seed = 3;
			float          x[256], y[16];
			fixture_open(&f, isa, 1, 1, 256);
			struct hr_matmul m = {.y = y, .y_stride = 16};
			m.w = random_weight((enum hr_type)type, 16, 256, 0, &seed, &memory);
			for (int i = 0; i < 256; i++)
				x[i] = i == 40 ? NAN : 1;
			fixture_multiply(&f, &m, 1, x, 1, 0);
			for (int i = 0; i < 16; i++)
				assert_true(isnan(y[i]));
			free(memory);
			fixture_close(&f);
		}
}

static void test_refuses_wrong_shapes(void **state)
{
	(void)state;
	struct fixture f;
	float          x[64], y[16], w[64 * 16];
	fixture_open(&f, HR_CPU_PORTABLE, 1, 1, 64);
	struct hr_matmul ok = {.w = {w, HR_TYPE_F32, 16, 64, 0, {0}}, .y = y, .y_stride = 16}, bad[2] = {ok, ok};
	struct hr_ops   *ops = &f.ops.base;
	assert_int_equal(hr__cpu_matmul(ops, f.stream, &ok, 0, x, 1, 0), HR_EINVAL);
	assert_int_equal(hr__cpu_matmul(ops, f.stream, &ok, 5, x, 1, 0), HR_EINVAL);
	assert_int_equal(hr__cpu_matmul(ops, f.stream, &ok, 1, x, 0, 0), HR_EINVAL);
	bad[1].w.cols = 32; /* does not share x */
	assert_int_equal(hr__cpu_matmul(ops, f.stream, bad, 2, x, 1, 0), HR_EINVAL);
	bad[0].w = (struct hr_weight){w, HR_TYPE_Q8_0, 16, 48, 0, {0}}; /* half a block */
	assert_int_equal(hr__cpu_matmul(ops, f.stream, bad, 1, x, 1, 0), HR_EINVAL);
	bad[0].w = (struct hr_weight){w, HR_TYPE_Q8_0, 16, 128, 0, {0}}; /* more than the workspace holds */
	assert_int_equal(hr__cpu_matmul(ops, f.stream, bad, 1, x, 1, 0), HR_EINVAL);
	bad[0] = ok;
	bad[0].y_stride = 15;
	assert_int_equal(hr__cpu_matmul(ops, f.stream, bad, 1, x, 1, 0), HR_EINVAL);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(test_columns_equal_rows),
	    cmocka_unit_test(test_nan_stays_visible),
	    cmocka_unit_test(test_refuses_wrong_shapes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
