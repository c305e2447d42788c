/* Requests: checked and copied at submission, sampled after every pass. */
#include "runtime/request.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

void hr_request_init(struct hr_request *r)
{
	*r = (struct hr_request){
	    .add_special = true,
	    .parse_special = true,
	    .hash_logits = true,
	    .sampling = {.top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64},
	};
}

/* The prompt as ids, in *ids (allocated) with room for `extra` more; returns how many. */
static int64_t prompt_ids(int32_t **ids, const struct hr_model *model, const struct hr_request *r,
                          struct hr_error *err)
{
	if (r->ids) {
		*ids = hr__calloc(r->n_ids, sizeof **ids);
		if (!*ids)
			return hr__fail(err, HR_ENOMEM, "Out of memory for a prompt of %zu tokens.", r->n_ids);
		memcpy(*ids, r->ids, r->n_ids * sizeof **ids);
		return (int64_t)r->n_ids;
	}
	if (!r->text)
		return hr__fail(err, HR_EINVAL, "The request has neither text nor token ids.");
	size_t length = r->length ? r->length : strlen(r->text);
	size_t capacity = length + 16; /* no tokenizer makes more tokens than bytes, plus BOS and EOS */
	*ids = hr__calloc(capacity, sizeof **ids);
	if (!*ids)
		return hr__fail(err, HR_ENOMEM, "Out of memory for a prompt of %zu bytes.", length);
	int64_t n =
	    hr_model_tokenize(model, r->text, length, r->add_special, r->parse_special, *ids, capacity, err);
	if (n > (int64_t)capacity)
		return hr__fail(err, HR_EINTERNAL, "A prompt of %zu bytes became %lld tokens.", length, (long long)n);
	return n;
}

static int check_prompt(const int32_t *ids, int64_t n, int n_vocab, int n_ctx, struct hr_error *err)
{
	if (n < 0)
		return (int)n;
	if (n == 0)
		return hr__fail(err, HR_EINVAL, "The prompt is empty; give at least one token.");
	if (n >= n_ctx)
		return hr__fail(err, HR_ECONTEXT,
		                "The prompt has %lld tokens, but a context of %d leaves room for %d and one more; "
		                "shorten it or give "
		                "-c %lld.",
		                (long long)n, n_ctx, n_ctx - 1, (long long)n + 1);
	for (int64_t i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= n_vocab)
			return hr__fail(err, HR_EINVAL, "Token id %d at position %lld is outside the vocabulary of %d.",
			                ids[i], (long long)i, n_vocab);
	return 0;
}

int hr__job_new(struct hr_job **out, const struct hr_model *model, const struct hr_request *r, int n_ctx,
                struct hr_error *err)
{
	struct hr_job *job = NULL;
	int32_t       *ids = NULL;
	int            n_vocab = model->checkpoint.hparams.n_vocab;
	int            rc = hr__sampling_check(&r->sampling, err);
	if (rc)
		return rc;
	int64_t n = prompt_ids(&ids, model, r, err);
	rc = check_prompt(ids, n, n_vocab, n_ctx, err);
	if (rc)
		goto done;

	job = hr__calloc(1, sizeof *job);
	if (!job)
		goto out_of_memory;
	int room = n_ctx - (int)n;
	job->row = -1;
	job->n_prompt = (int)n;
	job->max_new = r->max_new_tokens > 0 && r->max_new_tokens < room ? r->max_new_tokens : room;
	job->n_pages = hr__kv_pages_for(job->n_prompt + job->max_new);
	job->tokens = hr__calloc((size_t)job->n_prompt + (size_t)job->max_new, sizeof *job->tokens);
	job->pages = hr__calloc((size_t)job->n_pages, sizeof *job->pages);
	if (!job->tokens || !job->pages || hr__sampler_init(&job->sampler, &r->sampling, n_vocab) ||
	    hr__text_init(&job->text, model->tokenizer, r->stop, r->n_stop))
		goto out_of_memory;
	memcpy(job->tokens, ids, (size_t)n * sizeof *ids);
	for (int i = 0; i < job->n_prompt; i++)
		hr__sampler_accept(&job->sampler, ids[i]);
	XXH64_reset(&job->hash, 0);
	job->ignore_eos = r->ignore_eos;
	job->logits_all = r->logits_all;
	job->hash_logits = r->hash_logits;
	job->on_logits = r->on_logits;
	job->user = r->user;
	job->submit_ns = hr__now_ns();
	*out = job;
	goto done;
out_of_memory:
	rc = hr__fail(err, HR_ENOMEM, "Out of memory for a request of %lld tokens.", (long long)n);
	hr__job_free(job);
done:
	free(ids);
	return rc;
}

void hr__job_free(struct hr_job *job)
{
	if (!job)
		return;
	hr__sampler_release(&job->sampler);
	hr__text_release(&job->text);
	free(job->tokens);
	free(job->pages);
	free(job);
}

void hr__job_finish(struct hr_job *job, enum hr_finish finish)
{
	job->finish = finish;
	job->finish_ns = hr__now_ns();
	if (hr__text_finish(&job->text))
		job->finish = HR_FINISH_ERROR;
}

int hr__job_top(const struct hr_job *job)
{
	return job->hash_logits || job->on_logits ? 0 : hr__sampler_top(&job->sampler);
}

int hr__job_sample(struct hr_job *job, const struct hr_model *model, const float *logits,
                   const struct hr_top *top, struct hr_error *err)
{
	size_t n_vocab = (size_t)model->checkpoint.hparams.n_vocab;
	if (job->hash_logits)
		XXH64_update(&job->hash, logits, n_vocab * sizeof *logits);
	int32_t token =
	    logits ? hr__sampler_pick(&job->sampler, logits) : hr__sampler_pick_top(&job->sampler, top);
	hr__sampler_accept(&job->sampler, token);
	job->tokens[job->n_prompt + job->n_new++] = token;
	if (!job->first_token_ns)
		job->first_token_ns = hr__now_ns();
	if (!job->ignore_eos && model->tokenizer && hr_tokenizer_is_eog(model->tokenizer, token)) {
		hr__job_finish(job, HR_FINISH_STOP);
		return 0;
	}
	int rc = hr__text_add(&job->text, token);
	if (rc) {
		hr__job_finish(job, HR_FINISH_ERROR);
		return hr__fail(err, rc, "Token %d could not be turned into text (%s).", token, hr_error_text(rc));
	}
	if (job->text.stopped)
		hr__job_finish(job, HR_FINISH_STOP);
	else if (job->n_new == job->max_new)
		hr__job_finish(job, HR_FINISH_LENGTH);
	return 0;
}
