/* What the CPU's matmul promises about bits: an element of y is the same whatever
 * the number of threads, the other tokens of the pass, the other products of the
 * call, and the address of the weights. */
#include "matmul_fixture.h"

#include <stdio.h>

enum { ROWS = 90, COLS = 1120, TOKENS = 281 /* two slabs of HR__MATMUL_SLAB */ };

struct call {
	int          n_threads;
	int          token, n_tokens; /* which of the tokens */
	int          n_single;        /* of them */
	int          split;           /* rows of the first of two products; 0: one product */
	enum hr_type neighbour;       /* type of a third product, when split */
	size_t       shift;           /* of the weights' address */
	int          cols;
	enum hr_type type;
	uint32_t     seed;
	int          isa;
	const float *x;
};

/* y[TOKENS][ROWS] of the call's tokens; the rest is left alone. */
static void run(const struct call *c, float *y)
{
	struct fixture   f;
	struct hr_matmul m[3] = {0};
	void            *memory[2];
	uint32_t         seed = c->seed + 5;
	float           *other = malloc(TOKENS * ROWS * sizeof *other);
	fixture_open(&f, c->isa, c->n_threads, TOKENS, COLS);
	m[0].w = random_weight(c->type, ROWS, c->cols, c->shift, &seed, &memory[0]);
	m[0].y = y + c->token * ROWS;
	m[0].y_stride = ROWS;
	m[1] = m[0];
	if (c->split) {
		m[0].w = hr_weight_rows(m[0].w, 0, c->split);
		m[1].w = hr_weight_rows(m[1].w, c->split, ROWS - c->split);
		m[1].y += c->split;
	}
	m[2].w = random_weight(c->neighbour, ROWS, c->cols, 0, &seed, &memory[1]);
	m[2].y = other;
	m[2].y_stride = ROWS;
	fixture_multiply(&f, m, c->split ? 3 : 1, c->x + c->token * c->cols, c->n_tokens, c->n_single);
	free(other);
	free(memory[0]);
	free(memory[1]);
	fixture_close(&f);
}

static void check_same(const struct call *c, const float *want, const char *what)
{
	float *y = calloc(TOKENS * ROWS, sizeof *y);
	run(c, y);
	if (memcmp(y + c->token * ROWS, want + c->token * ROWS, (size_t)c->n_tokens * ROWS * sizeof *y))
		fail_msg("%s, %s: other bits for tokens %d + %d with %s", isa_names[c->isa],
		         hr_type_info(c->type)->name, c->token, c->n_tokens, what);
	free(y);
}

/* The test's columns, or fewer: whole blocks, and no whole vectors of floats. */
static int cols_of(enum hr_type type)
{
	int block = (int)hr_type_info(type)->block_elems;
	return block > 1 ? COLS / block * block : COLS - 5;
}

static enum hr_type neighbour_of(enum hr_type type, int n)
{
	enum hr_type neighbour = (enum hr_type)(n % HR_TYPE_COUNT);
	return hr_type_row_bytes(hr_type_info(neighbour), (uint64_t)cols_of(type)) ? neighbour : HR_TYPE_F16;
}

static void check_type(int isa, enum hr_type type, uint32_t seed, const float *x, bool single)
{
	int n_tokens = hr_type_info(type)->block_elems > 1 ? 70 : TOKENS; /* several tiles of either kind */
	struct call all = {.n_threads = 2,
	                   .n_tokens = n_tokens,
	                   .cols = cols_of(type),
	                   .type = type,
	                   .seed = seed,
	                   .isa = isa,
	                   .x = x};
	float      *want = malloc(TOKENS * ROWS * sizeof *want);
	all.n_single = single ? n_tokens : 0;
	run(&all, want);
	static const int counts[] = {1, 2, 3, 4, 5, 8, 9, 12, 16, 17, 39};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		int         n = counts[i], token = (int)i * 17 % (n_tokens - 39);
		struct call c = all;
		c.token = token;
		c.n_tokens = n;
		c.n_single = single ? n : 0;
		check_same(&c, want, "fewer tokens");
		c.shift = (size_t)(1 + n % 3);
		c.n_threads = 1 + n % 3;
		c.split = 1 + n * 2;
		c.neighbour = neighbour_of(type, n);
		check_same(&c, want, "other threads, address and products in the call");
	}
	free(want);
}

/* Both ways in one call: the single tokens first. */
static void check_both_ways(int isa, enum hr_type type, uint32_t seed, const float *x)
{
	struct call c = {.n_threads = 2,
	                 .n_tokens = TOKENS,
	                 .cols = cols_of(type),
	                 .type = type,
	                 .seed = seed,
	                 .isa = isa,
	                 .x = x};
	float      *many = malloc(TOKENS * ROWS * sizeof *many), *single = malloc(TOKENS * ROWS * sizeof *single);
	run(&c, many);
	c.n_single = TOKENS;
	run(&c, single);
	c.n_single = 5;
	memcpy(many, single, 5 * ROWS * sizeof *many);
	check_same(&c, many, "five single ones first");
	free(many);
	free(single);
}

/* Tiles divide and add integers in another way, which must not show; single tokens know none. */
static void test_amx_has_the_bits_of_avx512(void **state)
{
	(void)state;
	uint32_t seed = 12;
	float   *x = malloc(TOKENS * COLS * sizeof *x), *want = malloc(TOKENS * ROWS * sizeof *want);
	if (!isa_is_here(HR_CPU_AMX))
		skip();
	for (int i = 0; i < TOKENS * COLS; i++)
		x[i] = random_float(&seed);
	for (int i = 0; i < HR_TYPE_COUNT + N_RANDOM_SHARINGS; i++) {
		int         type = i < HR_TYPE_COUNT ? i : HR_TYPE_F8_E4M3;
		struct call c = {.n_threads = 2,
		                 .seed = 64 * (uint32_t)i,
		                 .n_tokens = TOKENS,
		                 .n_single = TOKENS,
		                 .cols = cols_of((enum hr_type)type),
		                 .type = (enum hr_type)type,
		                 .isa = HR_CPU_AVX512,
		                 .x = x};
		run(&c, want);
		c.isa = HR_CPU_AMX;
		check_same(&c, want, "tiles");
	}
	free(x);
	free(want);
}

static void test_bits(void **state)
{
	(void)state;
	uint32_t seed = 11;
	float   *x = malloc(TOKENS * COLS * sizeof *x);
	for (int i = 0; i < TOKENS * COLS; i++)
		x[i] = random_float(&seed);
	for (int isa = 0; isa < HR_CPU_ISA_COUNT; isa++)
		for (int type = 0; isa_is_here(isa) && type < HR_TYPE_COUNT; type++) {
			for (uint32_t k = 0; k < (type == HR_TYPE_F8_E4M3 ? N_RANDOM_SHARINGS : 1); k++) {
				check_type(isa, (enum hr_type)type, 64 * k, x, false);
				check_type(isa, (enum hr_type)type, 64 * k, x, true);
				check_both_ways(isa, (enum hr_type)type, 64 * k, x);
			}
		}
	free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits),
	                                   cmocka_unit_test(test_amx_has_the_bits_of_avx512)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
