/* What the last layer computes for the rows that are asked for is, bit for bit, what it computes for them
 * among all rows: of models with norms before and behind, with parts in parallel, with queries, keys and
 * values in one matrix, whole or in pieces; for passes of several chunks, of which all, some or no rows are
 * wanted. */
#include "base/mem.h"
#include "model_run.h"
#include "runtime/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { N_TOKENS = 37, MAX_EMBD = 256 };

/* Texts of an encoder in chunks; a decoder's pass is one chunk, and here one sequence. */
static const int lengths[] = {11, 1, 9, 1, 8, 7};
static const int chunks[] = {0, 12, 21, 22, N_TOKENS};

/* Rows of all chunks; of two; one chunk whole; the last row; each row. */
static const struct asked {
	int n;
	int rows[8];
} asked[] = {
    {6, {0, 11, 12, 21, 22, 30}}, {3, {3, 7, 36}}, {2, {20, 21}}, {1, {N_TOKENS - 1}}, {N_TOKENS, {0}},
};

static void compose_texts(struct hr_pass *p)
{
	p->n_seqs = (int)HR_COUNT_OF(lengths);
	p->n_chunks = (int)HR_COUNT_OF(chunks) - 1;
	for (int c = 0; c <= p->n_chunks; c++)
		p->chunk_begin[c] = chunks[c];
	for (int text = 0, row = 0, chunk = 0; text < p->n_seqs; row += lengths[text++]) {
		while (row >= chunks[chunk + 1])
			chunk++;
		p->length[row] = lengths[text];
		for (int i = 0; i < lengths[text]; i++) {
			p->pos[row + i] = i;
			p->seq[row + i] = row - chunks[chunk];
			p->types[row + i] = i > 3;
		}
	}
}

static void compose_sequence(struct hr_pass *p)
{
	p->n_seqs = p->n_chunks = 1;
	p->chunk_begin[0] = 0;
	p->chunk_begin[1] = N_TOKENS;
	for (int i = 0; i < N_TOKENS; i++) {
		p->pos[i] = i;
		p->seq[i] = 0;
	}
	for (int i = 0; i < p->max_pages; i++)
		p->page_table[i] = i;
}

/* The states of the rows `of`, or, NULL, of all: [n][n_embd]. */
static const float *states(struct hr_session *s, const struct asked *of)
{
	struct hr_error err = {0};
	struct hr_pass *p = hr__forward_pass(s->forward);
	p->n_tokens = p->max_context = N_TOKENS;
	p->keep_states = true;
	p->n_outputs = of ? of->n : 0;
	for (int i = 0; i < N_TOKENS; i++)
		p->ids[i] = (i * 7919 + 5) % s->model->checkpoint.hparams.n_vocab;
	if (s->model->checkpoint.hparams.encoder)
		compose_texts(p);
	else
		compose_sequence(p);
	for (int i = 0; i < p->n_outputs; i++)
		p->outputs[i] = of->n == N_TOKENS ? i : of->rows[i];
	if (hr__forward_run(s->forward, &err))
		fail_msg("%s", err.message);
	return p->states;
}

/* `pieces`: blocks are streamed piece by piece instead of whole. */
static void check_rows(struct hr_model *model, bool pieces)
{
	static float           all[N_TOKENS][MAX_EMBD];
	struct hr_error        err = {0};
	struct hr_session     *s;
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = "cpu"; /* all of whose memory the host sees */
	o.n_threads = 2;
	o.n_batch = o.n_ctx = N_TOKENS;
	o.n_seqs = N_TOKENS; /* room for so many outputs */
	o.resident_layers = pieces ? HR_AUTO : 0;
	if (pieces)
		o.device_memory_bytes = RUN_CUT_BUDGET;
	if (hr_session_open(&s, model, &o, &err))
		fail_msg("%s", err.message);
	assert_int_equal(s->parts[0].n_pieces > 1, pieces);
	size_t n_embd = (size_t)hr_model_info(model)->n_embd, bytes = n_embd * sizeof(float);
	assert_in_range(n_embd, 1, MAX_EMBD);
	const float *whole = states(s, NULL);
	for (int i = 0; i < N_TOKENS; i++)
		memcpy(all[i], whole + (size_t)i * n_embd, bytes);
	for (size_t a = 0; a < HR_COUNT_OF(asked); a++) {
		const float *some = states(s, &asked[a]);
		for (int i = 0; i < asked[a].n; i++)
			assert_memory_equal(some + (size_t)i * n_embd, all[asked[a].n == N_TOKENS ? i : asked[a].rows[i]],
			                    bytes);
	}
	assert_memory_not_equal(all[0], all[1], bytes);
	hr_session_close(s);
}

static void rows_are_the_same(void **state)
{
	struct hr_error  err = {0};
	struct hr_model *model;
	if (hr_model_open(&model, *state, &err))
		fail_msg("%s", err.message);
	check_rows(model, false);
	if (!model->checkpoint.hparams.encoder) {
		assert_int_equal(run_cut_always(model), 0);
		check_rows(model, true);
	}
	hr_model_close(model);
}

int main(void)
{
#define MODEL(path)                                                                                          \
	{                                                                                                        \
		path, rows_are_the_same, NULL, NULL, "tests/golden/" path                                            \
	}
	const struct CMUnitTest tests[] = {
	    MODEL("encoders/bert"), MODEL("encoders/distilbert"),     MODEL("models/opt-after"),
	    MODEL("models/pythia"), MODEL("models/llama2-q4_0.gguf"), MODEL("models/gemma2"),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
