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
static void make_model(struct hr_model *m, const uint64_t rows[N_MATRICES], uint64_t piece_bytes)
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
	assert_int_equal(hr__cuts_init(m, piece_bytes), 0);
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
	make_model(&m, rows, HR_ONE_PIECE);
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
			assert_int_equal(cut[b].n_pieces, 1);
			assert_int_equal(cut[b].pieces[0], cut->file_bytes);
			assert_int_equal(cut[b].slot_bytes, cut[b].memory_bytes);
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

/* The cut of all matrices, in pieces of `piece_bytes`: `expected` KiB each. */
static void check_pieces(uint64_t piece_bytes, const uint64_t *expected, int n)
{
	static const uint64_t rows[N_MATRICES] = {64, 8, 8, 64, 1000, 1001, 1002}; /* q k v o gate up down */
	struct hr_model       m;
	make_model(&m, rows, piece_bytes);
	const struct hr_cut *cut = m.cuts.bytes;
	assert_int_equal(cut->file_bytes, (64 + 8 + 8 + 64 + 1000 + 1001 + 1002) * 1024);
	assert_int_equal(cut->n_pieces, n);
	uint64_t largest = 0;
	for (int p = 0; p < n; p++) {
		assert_int_equal(cut->pieces[p], expected[p] * 1024);
		largest = expected[p] * 1024 > largest ? expected[p] * 1024 : largest;
	}
	assert_in_range(cut->slot_bytes, largest, largest + 5 * 2 * 4096);
	release_model(&m);
}

static void test_pieces_follow_the_steps(void **state)
{
	(void)state;
	check_pieces(HR_PIECE_OF_STEP, (const uint64_t[]){80, 64, 1001, 1000, 1002}, 5);
	check_pieces(1, (const uint64_t[]){144, 1001, 1000, 1002}, 4); /* no larger than the largest step */
	check_pieces(1145 * 1024, (const uint64_t[]){1145, 1000, 1002}, 3);
	check_pieces(2003 * 1024, (const uint64_t[]){1145, 2002}, 2);
}

/* Whatever is kept: every step has its matrices in the piece that it is computed with, or kept, and goes
 * back to no piece before. */
static void test_every_step_finds_its_matrices(void **state)
{
	(void)state;
	static const uint64_t rows[N_MATRICES] = {64, 4, 2, 128, 1000, 2000, 4000};
	struct hr_model       m;
	make_model(&m, rows, HR_PIECE_OF_STEP);
	assert_int_equal(m.cuts.n, (1 << N_MATRICES) - 1);
	for (int i = 0; i < m.cuts.n; i++) {
		enum hr_tier        tiers[N_BLOCKS] = {HR_TIER_DISK, HR_TIER_DEVICE, HR_TIER_DISK};
		struct hr_placement placement = {.cut = i, .block_tier = tiers};
		struct hr_part     *parts = hr__parts_new(&m, &placement);
		for (int b = 0; b < N_BLOCKS; b++) {
			const struct hr_part     *part = &parts[b];
			const struct hr_block    *o = &part->offsets;
			const struct hr_weight   *used[] = {&o->q, &o->k, &o->v, &o->o, &o->up, &o->gate, &o->down};
			static const enum hr_step step_of[] = {HR_STEP_QKV, HR_STEP_QKV,  HR_STEP_QKV, HR_STEP_O,
			                                       HR_STEP_UP,  HR_STEP_GATE, HR_STEP_DOWN};
			assert_int_equal(part->n_pieces,
			                 tiers[b] == HR_TIER_DEVICE ? 1 : m.cuts.bytes[i * N_BLOCKS].n_pieces);
			for (int k = 0; k < N_MATRICES; k++) {
				uint64_t bit = 1ull << (used[k] - (const struct hr_weight *)o);
				int      piece = part->piece_of[step_of[k]];
				assert_true((part->weights[piece] | part->kept_weights) & bit);
				assert_true(k == 0 || piece >= part->piece_of[step_of[k - 1]]);
			}
		}
		hr__parts_free(parts, N_BLOCKS);
	}
	release_model(&m);
}

/* Of cuts that stream as many bytes, the one with the smallest slots is offered: not two matrices of one
 * step. */
static void test_slots_are_small(void **state)
{
	(void)state;
	static const uint64_t rows[N_MATRICES] = {64, 64, 64, 64, 256, 256, 256};
	struct hr_model       m;
	make_model(&m, rows, HR_PIECE_OF_STEP);
	const struct hr_cut *two = &m.cuts.bytes[(m.cuts.n - 2) * N_BLOCKS];
	assert_int_equal(two->file_bytes, 2 * 64 * 1024);
	assert_int_equal(two->n_pieces, 2);
	assert_in_range(two->slot_bytes, 64 * 1024, 64 * 1024 + 2 * 4096);
	release_model(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_matrices_of_one_type),          cmocka_unit_test(test_matrices_of_many_types),
	    cmocka_unit_test(test_pieces_follow_the_steps),       cmocka_unit_test(test_slots_are_small),
	    cmocka_unit_test(test_every_step_finds_its_matrices),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
