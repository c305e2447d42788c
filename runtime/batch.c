/* Composes a pass out of the running requests and takes its result apart.
 *
 * A pass is a ragged batch: every request that is decoding contributes its last
 * token, then requests that still have prompt left fill what room remains, oldest
 * first. A prompt may be spread over several passes; only its last token needs
 * logits (all of them when the request asks for that). */
#include "runtime/batch.h"

#include <string.h>

static int tokens_left(const struct hr_job *job) { return job->n_prompt + job->n_new - job->n_past; }

/* Give `job` up to `room` tokens of the pass and its outputs. */
static void add_job(struct hr_pass *p, struct hr_job *job, int room, int output_room)
{
	int left = tokens_left(job);
	int n = left < room ? left : room;
	if (job->logits_all && n > output_room)
		n = output_room;
	job->pass_begin = p->n_tokens;
	job->pass_tokens = n;
	job->pass_output = p->n_outputs;
	job->n_outputs = job->logits_all ? n : n == left;
	for (int i = 0; i < n; i++) {
		int at = p->n_tokens++;
		p->ids[at] = job->tokens[job->n_past + i];
		p->pos[at] = job->n_past + i;
		p->seq[at] = job->row;
	}
	for (int i = 0; i < job->n_outputs; i++)
		p->outputs[p->n_outputs++] = p->n_tokens - job->n_outputs + i;
	memcpy(p->page_table + (size_t)job->row * (size_t)p->max_pages, job->pages,
	       (size_t)job->n_pages * sizeof *job->pages);
	if (job->n_past + n > p->max_context)
		p->max_context = job->n_past + n;
}

/* As many of the largest logits as every job that has outputs will do with; 0: one needs all. */
static int top_of(struct hr_job *const *running, int n_seqs)
{
	int most = 0;
	for (int row = 0; row < n_seqs; row++) {
		const struct hr_job *job = running[row];
		int                  n = job && job->n_outputs ? hr__job_top(job) : -1;
		if (n == 0)
			return 0;
		most = n > most ? n : most;
	}
	return most;
}

void hr__batch_compose(struct hr_pass *p, struct hr_job *const *running, int n_seqs, int n_batch,
                       int max_outputs)
{
	int n_running = 0;
	p->n_tokens = p->n_outputs = p->max_context = p->n_single = 0;
	p->n_seqs = n_seqs;
	p->n_chunks = 1;
	for (int row = 0; row < n_seqs; row++)
		n_running += running[row] != NULL;
	/* One token of room is kept for every request that comes later: decode never waits. */
	for (int prompts = 0; prompts < 2; prompts++) {
		for (int row = 0; row < n_seqs; row++) {
			struct hr_job *job = running[row];
			if (!job || (job->n_past < job->n_prompt) != prompts)
				continue;
			n_running--;
			int room = n_batch - p->n_tokens - n_running;
			int output_room = max_outputs - p->n_outputs - n_running;
			add_job(p, job, room > 0 ? room : 0, output_room);
		}
		if (!prompts)
			p->n_single = p->n_tokens;
	}
	p->n_top = top_of(running, n_seqs);
	p->chunk_begin[0] = 0;
	p->chunk_begin[1] = p->n_tokens;
}

int hr__batch_counts(struct hr_job *const *running, int n_seqs, int *prefill, int *decode)
{
	*prefill = *decode = 0;
	for (int row = 0; row < n_seqs; row++) {
		const struct hr_job *job = running[row];
		if (!job)
			continue;
		if (job->n_past >= job->n_prompt)
			*decode += job->pass_tokens;
		else
			*prefill += job->pass_tokens;
	}
	return *prefill + *decode;
}
