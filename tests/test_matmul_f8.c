/* Products with f8 weights on the CPU, element by element: every code comes out as it should, once multiplied
 * by its scale; what is no number makes its own row none; scales that make no sense are refused. */
#include "matmul_fixture.h"

#include <math.h>

enum { ROWS = 33, CODES = 256 };

static bool is_nan(int code) { return (code & 0x7f) == 0x7f; }

/* W[r][c] = c's value, where that is a number; x[t][c] = 1 for c = t. */
static void test_codes(void **state)
{
	(void)state;
	static uint8_t data[ROWS * CODES];
	float   *x = calloc((size_t)CODES * CODES, sizeof *x), *y = malloc((size_t)CODES * ROWS * sizeof *y);
	float    scales[ROWS][CODES / 32], decoded[CODES];
	uint32_t seed = 1;
	for (int i = 0; i < ROWS * CODES; i++)
		data[i] = (uint8_t)(is_nan(i % CODES) ? 0 : i % CODES);
	for (int t = 0; t < CODES; t++)
		x[t * CODES + t] = 1;
	for (size_t i = 0; i < sizeof scales / sizeof(float); i++)
		(&scales[0][0])[i] = random_float(&seed);
	hr_type_info(HR_TYPE_F8_E4M3)->to_f32(data, decoded, CODES);
	for (int isa = 0; isa < HR_CPU_ISA_COUNT; isa++)
		for (int n_single = 0; isa_is_here(isa) && n_single <= CODES; n_single += CODES) {
			struct fixture   f;
			struct hr_matmul m = {.y = y, .y_stride = ROWS};
			m.w = (struct hr_weight){.data = data, .type = HR_TYPE_F8_E4M3, .rows = ROWS, .cols = CODES};
			m.w.scale = (struct hr_scale){.data = scales, .type = HR_TYPE_F32, .rows = 1, .cols = 32};
			fixture_open(&f, isa, 1, CODES, CODES);
			fixture_multiply(&f, &m, 1, x, CODES, n_single);
			for (int t = 0; t < CODES; t++)
				for (int r = 0; r < ROWS; r++)
					if (y[t * ROWS + r] != decoded[t] * scales[r][t / 32])
						fail_msg("%s, code %d, row %d: %.9g, not %.9g times %.9g", isa_names[isa], t, r,
						         y[t * ROWS + r], decoded[t], scales[r][t / 32]);
			fixture_close(&f);
		}
	free(x);
	free(y);
}

static void test_nan_stays_in_its_row(void **state)
{
	(void)state;
	enum { TOKENS = 19, COLS = 200 };
	uint8_t data[4 * COLS];
	float   x[TOKENS * COLS], y[TOKENS * 4];
	for (int i = 0; i < TOKENS * COLS; i++)
		x[i] = 1;
	for (int isa = 0; isa < HR_CPU_ISA_COUNT; isa++)
		for (int k = 0; isa_is_here(isa) && k < 4 * COLS; k += 7) {
			struct fixture   f;
			struct hr_matmul m = {.y = y, .y_stride = 4};
			m.w = (struct hr_weight){.data = data, .type = HR_TYPE_F8_E4M3, .rows = 4, .cols = COLS};
			memset(data, 0x40, sizeof data); /* 2 */
			data[k] = k % 2 ? 0xff : 0x7f;
			fixture_open(&f, isa, 1, TOKENS, COLS);
			fixture_multiply(&f, &m, 1, x, TOKENS, k % 3 * 9);
			for (int i = 0; i < TOKENS * 4; i++)
				assert_true(i % 4 == k / COLS ? isnan(y[i]) : y[i] == 2 * COLS);
			fixture_close(&f);
		}
}

static void test_refuses_wrong_scales(void **state)
{
	(void)state;
	struct fixture f;
	uint8_t        w[16 * 64] = {0};
	float          x[64] = {0}, y[16], scales[16] = {0};
	fixture_open(&f, HR_CPU_PORTABLE, 1, 1, 64);
	struct hr_matmul ok = {.y = y, .y_stride = 16}, bad;
	ok.w = (struct hr_weight){.data = w, .type = HR_TYPE_F8_E4M3, .rows = 16, .cols = 64};
	ok.w.scale = (struct hr_scale){.data = scales, .type = HR_TYPE_F32, .rows = 1, .cols = 64};
	assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, &ok, 1, x, 1, 0), 0);
	bad = ok;
	bad.w.scale.type = HR_TYPE_F8_E4M3;
	assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, &bad, 1, x, 1, 0), HR_EINVAL);
	bad = ok;
	bad.w.scale.cols = 0;
	assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, &bad, 1, x, 1, 0), HR_EINVAL);
	bad = ok;
	bad.w.type = HR_TYPE_F16;
	assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, &bad, 1, x, 1, 0), HR_EINVAL);
	bad = ok;
	bad.w.column_stride = 16;
	assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, &bad, 1, x, 1, 0), HR_EINVAL);
	bad = ok;
	bad.bias = (struct hr_weight){.data = w, .type = HR_TYPE_F8_E4M3, .rows = 1, .cols = 16};
	assert_int_equal(hr__cpu_matmul(&f.ops.base, f.stream, &bad, 1, x, 1, 0), HR_EINVAL);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_codes),
	    cmocka_unit_test(test_nan_stays_in_its_row),
	    cmocka_unit_test(test_refuses_wrong_scales),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
