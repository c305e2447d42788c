/* Running token ids through a model for tests, by the public header alone (but for run_cut_finely): one
 * call opens a session, runs the prompts together and closes it. Every failure
 * fails the test with the library's own sentence. */
#ifndef HR_TESTS_MODEL_RUN_H
#define HR_TESTS_MODEL_RUN_H

#include "headrace/headrace.h"
#include "runtime/cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define RUN_SKIP     77
#define RUN_MAX_SEQS 8

struct run_prompt {
	const int32_t *ids;
	size_t         n_ids;
	int            max_new_tokens;
};

struct run_result {
	uint64_t            hash[RUN_MAX_SEQS]; /* logits_xxh64 of each prompt */
	struct hr_plan_info plan;               /* what was carried out; its strings are gone */
	bool                streamed;
};

/* HR_EUNSUPPORTED (this machine lacks what `o` asks for) comes back; all else fails the test. */
static inline int run_prompts(struct run_result *out, const struct hr_model *model,
                              const struct hr_plan_options *o, const struct run_prompt *prompts,
                              int n_prompts, hr_logits_fn on_logits, void *user)
{
	struct hr_error    err = {0};
	struct hr_session *session;
	uint64_t           ids[RUN_MAX_SEQS];
	int                rc = hr_session_open(&session, model, o, &err);
	if (rc == HR_EUNSUPPORTED)
		return rc;
	if (rc)
		fail_msg("%s", err.message);
	for (int i = 0; i < n_prompts; i++) {
		struct hr_request request;
		hr_request_init(&request);
		request.ids = prompts[i].ids;
		request.n_ids = prompts[i].n_ids;
		request.max_new_tokens = prompts[i].max_new_tokens;
		request.ignore_eos = true;
		request.logits_all = on_logits != NULL;
		request.on_logits = on_logits;
		request.user = user;
		if (hr_session_submit(session, &request, &ids[i], &err))
			fail_msg("%s", err.message);
	}
	while ((rc = hr_session_step(session, &err)) > 0)
		;
	if (rc)
		fail_msg("%s", err.message);
	for (int i = 0; i < n_prompts; i++) {
		struct hr_request_state state;
		assert_int_equal(hr_session_state(session, ids[i], &state), 0);
		assert_int_equal(state.finish, HR_FINISH_LENGTH);
		assert_int_equal(state.n_new_tokens, prompts[i].max_new_tokens);
		out->hash[i] = state.logits_xxh64;
	}
	out->plan = *hr_plan_info(hr_session_plan(session));
	out->streamed = out->plan.disk_bytes_per_pass > 0 || out->plan.link_bytes_per_pass > 0;
	hr_session_close(session);
	return 0;
}

/* The hash of ten ids spread over the vocabulary and four new tokens, on the CPU, in a context of n_ctx
 * tokens (0: as it comes); closes `model`. */
static inline uint64_t run_to_hash_in(struct hr_model *model, int n_ctx)
{
	int32_t                ids[10];
	struct run_result      result = {0};
	struct run_prompt      prompt = {ids, 10, 4};
	struct hr_plan_options o;
	for (int i = 0; i < 10; i++)
		ids[i] = (i * 7919 + 3) % hr_model_info(model)->n_vocab;
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.n_threads = 2;
	o.kv_type = "f32";
	o.n_ctx = n_ctx;
	assert_int_equal(run_prompts(&result, model, &o, &prompt, 1, NULL, NULL), 0);
	hr_model_close(model);
	return result.hash[0];
}

static inline uint64_t run_to_hash(struct hr_model *model) { return run_to_hash_in(model, 0); }

/* Let streamed blocks come in as many pieces as there are steps, which only large ones otherwise do. */
static inline int run_cut_finely(struct hr_model *model)
{
	hr__cuts_release(&model->cuts);
	model->cuts = (struct hr_cuts){0};
	return hr__cuts_init(model, HR_PIECE_OF_STEP);
}

#define RUN_CUT_BUDGET (32ull << 20)

/* The same for small models, with which it saves nothing: within RUN_CUT_BUDGET, all matrices are streamed,
 * since the planner is told that blocks are too large to be held whole. */
static inline int run_cut_always(struct hr_model *model)
{
	int rc = run_cut_finely(model);
	model->cuts.n = 1; /* that of all matrices */
	for (int i = 0; i < model->n_blocks; i++)
		model->block_layers[i].memory_bytes = model->block_layers[i].file_bytes = 2 * RUN_CUT_BUDGET;
	return rc;
}

/* A budget close to the smallest that works (within a 32nd): all that can be streamed is. */
static inline uint64_t run_smallest_budget(const struct hr_model        *model,
                                           const struct hr_plan_options *options)
{
	struct hr_plan_options o = *options;
	uint64_t               most = hr_model_info(model)->weight_bytes * 2 + (64u << 20);
	o.cpu_isa = NULL; /* whether the machine has it is for the run to find out */
	o.device_memory_bytes = hr_model_info(model)->largest_layer_bytes / 8 + 64;
	for (; o.device_memory_bytes < most; o.device_memory_bytes += o.device_memory_bytes / 32) {
		struct hr_plan *plan;
		struct hr_error err = {0};
		int             rc = hr_plan_new(&plan, model, &o, &err);
		bool            same = !rc && (!o.n_batch || hr_plan_info(plan)->n_batch == o.n_batch) &&
		            (!o.n_seqs || hr_plan_info(plan)->n_seqs == o.n_seqs); /* not made smaller to fit */
		if (!rc)
			hr_plan_free(plan);
		if (same)
			return o.device_memory_bytes;
		if (rc && rc != HR_EBUDGET)
			fail_msg("%s", err.message);
	}
	fail_msg("No budget below %llu bytes works.", (unsigned long long)most);
	return 0;
}

/* A budget that has room for `percent` of the weights and for all that is no weight. */
static inline uint64_t run_part_budget(const struct hr_model *model, const struct hr_plan_options *options,
                                       int percent)
{
	struct hr_plan_options o = *options;
	struct hr_plan        *plan;
	struct hr_error        err = {0};
	o.cpu_isa = NULL;
	o.full = true;
	o.window_layers = o.resident_layers = o.slots = HR_AUTO;
	if (hr_plan_new(&plan, model, &o, &err))
		fail_msg("%s", err.message);
	const struct hr_plan_info *info = hr_plan_info(plan);
	bool                       apart = !strcmp(info->device, "cpu"); /* a budget for weights alone */
	uint64_t                   bytes = info->device_bytes / 100 * (uint64_t)percent,
	         least = run_smallest_budget(model, options);
	bytes += apart ? 0 : info->kv_bytes + info->activation_bytes;
	hr_plan_free(plan);
	return bytes > least ? bytes : least;
}

#endif
