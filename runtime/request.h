/* A request inside a session: its tokens, its place in the KV cache, its output. */
#ifndef HR_RUNTIME_REQUEST_H
#define HR_RUNTIME_REQUEST_H

#include "headrace/headrace.h"
#include "runtime/kv.h"
#include "runtime/model.h"
#include "runtime/sampler.h"
#include "runtime/text_stream.h"

#define XXH_STATIC_LINKING_ONLY /* the state is a member */
#include <xxhash.h>

/* WAITING -> RUNNING (has a row and pages) -> one of enum hr_finish. */
struct hr_job {
	struct hr_job *next; /* in order of submission */
	uint64_t       id;
	enum hr_finish finish; /* HR_RUNNING while waiting, too */
	bool           cancel;

	int32_t *tokens; /* [n_prompt + max_new] prompt, then what was generated */
	int      n_prompt, n_new, max_new;
	int      n_past; /* tokens whose keys and values are in the cache */

	int      row;   /* of the page table; -1 while waiting */
	int32_t *pages; /* [n_pages] */
	int      n_pages;

	struct hr_sampler     sampler;
	struct hr_text_stream text;
	XXH64_state_t         hash;

	bool         ignore_eos, logits_all, hash_logits;
	hr_logits_fn on_logits;
	void        *user;
	uint64_t     submit_ns, first_token_ns, finish_ns;

	/* In the pass being computed. */
	int pass_begin, pass_tokens; /* tokens [n_past, n_past + pass_tokens) stand at row pass_begin */
	int pass_output, n_outputs;  /* the last n_outputs of them have logits, from row pass_output */
};

/* Validate and copy a request. HR_EINVAL, HR_ECONTEXT, HR_EUNSUPPORTED, HR_ENOMEM. */
int  hr__job_new(struct hr_job **out, const struct hr_model *model, const struct hr_request *request,
                 int n_ctx, struct hr_error *err);
void hr__job_free(struct hr_job *job); /* NULL is fine; its pages must have been given back */

/* How many of the largest logits of its outputs the job needs; 0: all of them. */
int hr__job_top(const struct hr_job *job);

/* Sample from the logits of the job's last output, or, when `logits` is NULL, from its hr__job_top()
 * largest, and add the token; sets finish. */
int hr__job_sample(struct hr_job *job, const struct hr_model *model, const float *logits,
                   const struct hr_top *top, struct hr_error *err);

/* End the job: what its text held back becomes readable. */
void hr__job_finish(struct hr_job *job, enum hr_finish finish);

#endif
