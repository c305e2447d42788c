/* The small parts of the runtime: cache pages, batches, device maps, the report. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/batch.h"
#include "runtime/plan.h"
#include "runtime/report.h"

static void pages_come_back(void **state)
{
	(void)state;
	const struct hr_hparams h = {.n_layers = 2, .n_kv_heads = 3, .head_dim = 8};
	struct hr_kv            kv;
	int32_t                 a[8], b[8];
	assert_int_equal(hr__kv_bytes(&h, HR_KV_F16, 33, 2), 2 * 2 * 32 * 3 * 8 * 2 * 4);
	assert_int_equal(hr__kv_init(&kv, &h, HR_KV_F16, 33, 2, (void *)4096), 0);
	assert_int_equal(kv.n_pages, 4);
	assert_int_equal(hr__kv_take(&kv, a, 3), 0);
	assert_int_equal(hr__kv_take(&kv, b, 2), HR_EAGAIN);
	assert_int_equal(hr__kv_take(&kv, b, 1), 0);
	for (int i = 0; i < 3; i++)
		assert_int_not_equal(a[i], b[0]);
	hr__kv_give_back(&kv, a, 3);
	assert_int_equal(hr__kv_take(&kv, b, 3), 0);
	/* Layers do not overlap: 4 pages of keys, then of values, each. */
	size_t page = 32 * 3 * 8 * 2;
	assert_int_equal((char *)hr__kv_layer(&kv, 0).v - (char *)hr__kv_layer(&kv, 0).k, 4 * page);
	assert_int_equal((char *)hr__kv_layer(&kv, 1).k - (char *)hr__kv_layer(&kv, 0).k, 8 * page);
	hr__kv_release(&kv);
}

/* A job with `prompt` tokens (100, 101, ...), `done` of them in the cache. */
static struct hr_job *make_job(int row, int prompt, int generated, int past)
{
	struct hr_job *job = calloc(1, sizeof *job);
	job->row = row;
	job->n_prompt = prompt;
	job->n_new = generated;
	job->n_past = past;
	job->n_pages = 1;
	job->tokens = calloc((size_t)(prompt + generated + 1), sizeof *job->tokens);
	job->pages = calloc(1, sizeof *job->pages);
	job->pages[0] = 40 + row;
	for (int i = 0; i < prompt + generated; i++)
		job->tokens[i] = 100 * (row + 1) + i;
	return job;
}

static void decode_goes_first_and_prompts_fill_the_rest(void **state)
{
	(void)state;
	int32_t        ids[16], pos[16], seq[16], table[4], outputs[20];
	int32_t        chunks[2];
	struct hr_pass p = {.ids = ids,
	                    .pos = pos,
	                    .seq = seq,
	                    .page_table = table,
	                    .outputs = outputs,
	                    .max_pages = 1,
	                    .chunk_begin = chunks};
	struct hr_job *running[4] = {make_job(0, 20, 0, 5), make_job(1, 3, 2, 4), NULL, make_job(3, 2, 0, 0)};
	hr__batch_compose(&p, running, 4, 8, 20);
	/* Row 1 decodes; row 0 takes all but one token of what is left; row 3 that one. */
	assert_int_equal(p.n_tokens, 8);
	assert_int_equal(ids[0], 204);
	assert_int_equal(pos[0], 4);
	assert_int_equal(seq[0], 1);
	assert_int_equal(running[0]->pass_tokens, 6);
	assert_int_equal(ids[1], 105);
	assert_int_equal(pos[6], 10);
	assert_int_equal(running[3]->pass_tokens, 1);
	assert_int_equal(running[0]->n_outputs, 0);
	assert_int_equal(running[1]->n_outputs, 1);
	assert_int_equal(running[3]->n_outputs, 0); /* one prompt token still to come */
	assert_int_equal(p.n_outputs, 1);
	assert_int_equal(outputs[0], 0);
	assert_int_equal(p.max_context, 11);
	assert_int_equal(table[3], 43);
	int prefill, decode;
	assert_int_equal(hr__batch_counts(running, 4, &prefill, &decode), 8);
	assert_int_equal(prefill, 7);
	assert_int_equal(decode, 1);

	/* All positions asked for: the pass is cut to the room for outputs. */
	running[0]->logits_all = true;
	hr__batch_compose(&p, running, 4, 16, 6);
	assert_int_equal(running[0]->pass_tokens, 4);
	assert_int_equal(running[0]->n_outputs, 4);
	assert_int_equal(running[3]->n_outputs, 1);
	assert_int_equal(p.n_outputs, 6);
	for (int i = 0; i < 4; i++)
		if (running[i])
			hr__job_free(running[i]);
}

static void device_maps_are_read_or_refused(void **state)
{
	(void)state;
	enum hr_tier    t[4]; /* 2 blocks, embedding, head */
	struct hr_error err = {0};
	assert_int_equal(hr__device_map_parse(t, 2, "{\"\": 0}", false, &err), 0);
	assert_true(t[0] == HR_TIER_DEVICE && t[3] == HR_TIER_DEVICE);
	const char *mixed = "{\"model.layers\": \"disk\", \"model.layers.1\": \"cpu\", \"model.embed_tokens\": "
	                    "0, \"lm_head\": \"cuda:0\"}";
	assert_int_equal(hr__device_map_parse(t, 2, mixed, false, &err), 0);
	assert_true(t[0] == HR_TIER_DISK && t[1] == HR_TIER_HOST && t[2] == HR_TIER_DEVICE);
	assert_int_equal(hr__device_map_parse(t, 2, mixed, true, &err), 0);
	assert_true(t[1] == HR_TIER_DEVICE); /* the host is the device */

	static const struct {
		const char *json, *fragment;
	} bad[] = {
	    {"[1]", "not a JSON object"},
	    {"{", "not a JSON object"},
	    {"{\"model.layers.2\": 0, \"\": 0}", "model.layers.2"},
	    {"{\"model.layer\": 0}", "\"model.layer\""},
	    {"{\"model\": 0}", "lm_head"},
	    {"{\"\": \"floppy\"}", "not"},
	    {"{\"\": 0, \"\": 1}", "JSON"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(hr__device_map_parse(t, 2, bad[i].json, false, &err), HR_EINVAL);
		assert_non_null(strstr(err.message, bad[i].fragment));
	}
}

static void report_divides_what_was_counted(void **state)
{
	(void)state;
	struct hr_measure *m = calloc(1, sizeof *m);
	struct hr_report   r = {0};
	m->window0 = (struct hr_window_stats){.disk_bytes = 1000, .compute_ns = 5, .stall_ns = 7};
	m->reader0 = (struct hr_reader_stats){.bytes = 500, .busy_ns = 100};
	hr__measure_pass(m, 100, 30, 1);
	hr__measure_pass(m, 20, 0, 2);
	hr__measure_pass(m, 40, 0, 2);
	struct hr_window_stats w = {
	    .disk_bytes = 1000 + 300000000, .compute_ns = 5 + 60000000, .stall_ns = 7 + 90000000};
	struct hr_reader_stats rd = {.bytes = 500 + 300000000, .busy_ns = 100 + 150000000};
	hr__measure_report(m, &w, &rd, 0, &r);
	assert_true(fabs(r.disk_gbps - 2.0) < 1e-9);
	assert_true(fabs(r.compute_ms - 60) < 1e-9);
	assert_true(fabs(r.stall_ms - 90) < 1e-9);
	assert_true(fabs(r.ceiling_ms - 150) < 1e-6);
	assert_true(fabs(r.efficiency - 150.0 / 160) < 1e-9);
	assert_true(fabs(r.pass_ms_median - 40) < 1e-9);
	assert_true(fabs(r.decode_pass_ms_median - 30) < 1e-9);
	assert_int_equal(r.prefill_tokens, 30);
	assert_int_equal(r.decode_tokens, 5);
	hr__measure_report(m, &w, &rd, 4000000000u, &r); /* the throttle's rate is the disk's */
	assert_true(fabs(r.ceiling_ms - 75) < 1e-6);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pages_come_back),
	    cmocka_unit_test(decode_goes_first_and_prompts_fill_the_rest),
	    cmocka_unit_test(device_maps_are_read_or_refused),
	    cmocka_unit_test(report_divides_what_was_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
