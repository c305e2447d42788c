/* The ways to cut blocks: every set of matrices that streams other bytes than the rest is offered, in the
 * order of ever fewer streamed bytes, whether there are few of them or many. */
#include "runtime/cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_BLOCKS   3
#define N_MATRICES 7

static struct hr_file file;

/* The next tensor of the file. */
static struct hr_tensor tensor(uint64_t *at, uint64_t rows)
{
	struct hr_tensor t = {.type = HR_TYPE_F32,
	                      .n_dims = 2,
	                      .shape = {rows, 256},
	                      .file = &file,
	                      .offset = *at,
	                      .bytes = rows * 1024};
	*at += t.bytes + (1 << 20); /* too far apart to be read together */
	return t;
}

/* A model whose blocks hold a norm and matrices of `rows` KiB. */
static void make_model(struct hr_model *m, const uint64_t rows[N_MATRICES])
{
	struct hr_checkpoint *c = &m->checkpoint;
	int                   n = 0;
	uint64_t              at = 512;
	*m = (struct hr_model){.n_blocks = N_BLOCKS};
	c->blocks = calloc(N_BLOCKS, sizeof *c->blocks);
	c->tensors = calloc(N_BLOCKS * (N_MATRICES + 1), sizeof *c->tensors);
	m->block_layers = calloc(N_BLOCKS, sizeof *m->block_layers);
	m->blocks = calloc(N_BLOCKS, sizeof *m->blocks);
	for (int i = 0; i < N_BLOCKS; i++) {
		struct hr_block_tensors *b = &c->blocks[i];
		int *const               names[N_MATRICES] = {&b->q, &b->k, &b->v, &b->o, &b->gate, &b->up, &b->down};
		for (int k = 0; k < HR_N_BLOCK_WEIGHTS; k++)
			((int *)b)[k] = -1;
		b->attn_norm = n;
		c->tensors[n++] = tensor(&at, 1);
		for (int k = 0; k < N_MATRICES; k++) {
			*names[k] = n;
			c->tensors[n++] = tensor(&at, rows[k]);
		}
		assert_int_equal(hr__layout_block(&m->block_layers[i], &m->blocks[i], c, i, UINT64_MAX), 0);
	}
	assert_int_equal(hr__cuts_init(m), 0);
}

static void release_model(struct hr_model *m)
{
	hr__cuts_release(&m->cuts);
	for (int i = 0; i < N_BLOCKS; i++)
		free(m->block_layers[i].extents);
	free(m->block_layers);
	free(m->blocks);
	free(m->checkpoint.tensors);
	free(m->checkpoint.blocks);
}

static void check_ways(const uint64_t rows[N_MATRICES], int n_expected)
{
	struct hr_model m;
	uint64_t        sum = 0, before = UINT64_MAX;
	make_model(&m, rows);
	for (int k = 0; k < N_MATRICES; k++)
		sum += rows[k] * 1024;
	assert_int_equal(m.cuts.n, n_expected);
	for (int i = 0; i < m.cuts.n; i++) {
		const struct hr_cut *cut = &m.cuts.bytes[i * N_BLOCKS];
		assert_true(cut->file_bytes < before && cut->file_bytes > 0 && cut->file_bytes < sum);
		before = cut->file_bytes;
		for (int b = 0; b < N_BLOCKS; b++) {
			assert_int_equal(cut[b].file_bytes, cut->file_bytes);
			assert_true(cut[b].kept_bytes >= sum - cut->file_bytes + 1024); /* the norm is kept */
			assert_true(cut[b].memory_bytes >= cut->file_bytes);
		}
	}
	release_model(&m);
}

static void test_matrices_of_one_type(void **state)
{
	(void)state;
	check_ways((const uint64_t[]){64, 8, 8, 64, 1000, 1000, 1000}, 3 * 3 * 4 - 2);
}

static void test_matrices_of_many_types(void **state)
{
	(void)state;
	check_ways((const uint64_t[]){64, 4, 2, 128, 1000, 2000, 4000}, (1 << N_MATRICES) - 2);
	check_ways((const uint64_t[]){64, 4, 2, 64, 1000, 1000, 3001}, 3 * 2 * 2 * 3 * 2 - 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_matrices_of_one_type),
	    cmocka_unit_test(test_matrices_of_many_types),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
