/* A session: memory, threads and the running batch of one model on one device.
 *
 * Opening takes everything in order (plan, device, reader, window, cache, forward)
 * and closing gives it back in reverse; nothing is allocated in between but the
 * requests themselves. One step is one pass: admit, compose, run, sample.
 *
 * The lock protects the list of jobs, their output and the measurements. It is not
 * held while a pass is computed or a callback runs, so submit, read, cancel and
 * report never wait for the device. A job is freed only when it is finished, and
 * only the stepping thread finishes jobs. */
#include "runtime/session.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "runtime/batch.h"
#include "runtime/ladder.h"

#include <sys/resource.h>

#define TRACE_SPANS (1 << 18)

/* ---- Opening --------------------------------------------------------------- */

static void on_notice(void *user, const char *sentence)
{
	struct hr_session *s = user;
	hr__plan_note(s->plan, &s->options, "%s", sentence);
}

static int open_reader(struct hr_session *s, struct hr_error *err)
{
	const char              *name = s->options.reader ? s->options.reader : "auto";
	struct hr_reader_options options = {
	    .kind = !strcmp(name, "auto")    ? HR_READER_AUTO
	            : !strcmp(name, "pread") ? HR_READER_PREAD
	                                     : HR_READER_URING,
	    .chunk_bytes = s->plan->placement.chunk_bytes,
	    .depth = s->plan->placement.read_depth,
	    .max_bytes_per_second = s->options.max_disk_rate,
	    .notices = {on_notice, s},
	};
	const struct hr_checkpoint *c = &s->model->checkpoint;
	for (int i = 0; i < c->n_files; i++)
		if (c->files[i].fd_direct < 0)
			hr__plan_note(s->plan, &s->options, "%s is read through the page cache: %s.", c->files[i].path,
			              c->files[i].direct_refused);
	int rc = hr_reader_open(&s->reader, &options, err);
	if (!rc)
		s->plan->info.reader = s->reader->ops->name;
	return rc;
}

/* The window's list: blocks or the pieces that are streamed of them, head (whole or in parts), globals,
 * an embedding of its own when it is resident, and what is kept of blocks. */
static int list_layers(struct hr_session *s, struct hr_error *err)
{
	const struct hr_model     *m = s->model;
	const struct hr_placement *p = &s->plan->placement;
	bool                       whole = p->head_tier == HR_TIER_DEVICE;
	bool                       tied = m->checkpoint.ends.head == m->checkpoint.ends.embedding;
	size_t                     most = (HR_MAX_PIECES + 1) * (size_t)m->n_blocks + (size_t)m->n_head_parts + 3;
	s->parts = hr__parts_new(m, p);
	s->layers = hr__calloc(most, sizeof *s->layers);
	s->tiers = hr__calloc(most, sizeof *s->tiers);
	if (!s->parts || !s->layers || !s->tiers)
		return hr__fail(err, HR_ENOMEM, "Out of memory for the list of layers.");
	int n = 0;
	for (int i = 0; i < m->n_blocks; i++) {
		s->parts[i].first_layer = n;
		for (int k = 0; k < s->parts[i].n_pieces; k++, n++) {
			s->layers[n] = s->parts[i].pieces[k];
			s->tiers[n] = p->block_tier[i];
		}
	}
	s->head_layer = n;
	for (int i = 0; i < (whole && m->n_head_parts ? 1 : m->n_head_parts); i++, n++) {
		s->layers[n] = whole ? m->head.layer : m->head_parts[i].layer;
		s->tiers[n] = p->head_tier;
	}
	s->layers[n] = m->globals;
	s->tiers[n++] = HR_TIER_DEVICE;
	if (!tied && p->embedding_tier == HR_TIER_DEVICE) {
		s->layers[n] = m->embedding.layer;
		s->tiers[n++] = HR_TIER_DEVICE;
	}
	for (int i = 0; i < m->n_blocks; i++)
		if (s->parts[i].kept.n_extents) {
			s->parts[i].kept_layer = n;
			s->layers[n] = s->parts[i].kept;
			s->tiers[n++] = HR_TIER_DEVICE;
		}
	s->n_layers = n;
	return 0;
}

static int open_window(struct hr_session *s, struct hr_error *err)
{
	int rc = list_layers(s, err);
	if (!rc && s->options.trace)
		rc = hr_trace_new(&s->trace, TRACE_SPANS, err);
	if (!rc)
		rc = s->backend.device->ops->stream_new(s->backend.device, &s->compute, true, err);
	if (rc)
		return rc;
	struct hr_window_options options = {
	    .device = s->backend.device,
	    .reader = s->reader,
	    .compute = s->compute,
	    .layers = s->layers,
	    .tiers = s->tiers,
	    .n_layers = s->n_layers,
	    .slots = s->plan->placement.slots,
	    .chunk_bytes = s->plan->placement.chunk_bytes,
	    .staging_buffers = s->plan->placement.staging_buffers,
	    .trace = s->trace,
	};
	return hr_window_open(&s->window, &options, err);
}

static int open_cache(struct hr_session *s, struct hr_error *err)
{
	const struct hr_plan_info *info = &s->plan->info;
	int rc = s->backend.device->ops->alloc(s->backend.device, &s->kv_memory, info->kv_bytes, err);
	if (!rc && hr__kv_init(&s->kv, &s->model->checkpoint.hparams, s->plan->kv_type, info->n_ctx, info->n_seqs,
	                       s->kv_memory))
		rc = hr__fail(err, HR_ENOMEM, "Out of memory for the list of cache pages.");
	return rc;
}

static int open_forward(struct hr_session *s, struct hr_error *err)
{
	const struct hr_hparams   *h = &s->model->checkpoint.hparams;
	const struct hr_plan_info *info = &s->plan->info;
	struct hr_device          *device = s->backend.device;
	int                        rc = h->encoder ? 0 : open_cache(s, err);
	if (rc)
		return rc;
	if (s->plan->placement.embedding_tier != HR_TIER_DEVICE) {
		struct hr_notice_sink sink = {on_notice, s};
		if ((rc = hr__embedding_open(&s->rows, s->model, info->n_batch, &sink, err)))
			return rc;
	}
	struct hr_forward_options options = {
	    .model = s->model,
	    .plan = s->plan,
	    .device = device,
	    .ops = s->backend.ops,
	    .compute = s->compute,
	    .window = s->window,
	    .parts = s->parts,
	    .head_layer = s->head_layer,
	    .kv = h->encoder ? NULL : &s->kv,
	    .rows = s->rows,
	};
	return hr__forward_open(&s->forward, &options, err);
}

/* Take all that the plan needs. */
static int take(void *user, struct hr_error *err)
{
	struct hr_session *s = user;
	int                rc = open_reader(s, err);
	if (!rc)
		rc = open_window(s, err);
	if (!rc)
		rc = open_forward(s, err);
	return rc;
}

/* Give back what was taken, by a take() that failed, too. */
static void give_back(void *user)
{
	struct hr_session *s = user;
	hr__forward_close(s->forward);
	hr__embedding_close(s->rows);
	hr__kv_release(&s->kv);
	if (s->kv_memory)
		s->backend.device->ops->free(s->backend.device, s->kv_memory);
	hr_window_close(s->window);
	if (s->compute)
		s->backend.device->ops->stream_free(s->compute);
	hr_trace_free(s->trace);
	if (s->reader)
		s->reader->ops->close(s->reader);
	hr__parts_free(s->parts, s->model->n_blocks);
	free(s->layers);
	free(s->tiers);
	s->forward = NULL;
	s->rows = NULL;
	s->kv_memory = NULL;
	s->window = NULL;
	s->compute = NULL;
	s->trace = NULL;
	s->reader = NULL;
	s->parts = NULL;
	s->layers = NULL;
	s->tiers = NULL;
}

int hr__session_open(struct hr_session **out, const struct hr_model *model,
                     const struct hr_plan_options *options, const struct hr_rates_source *rates,
                     struct hr_error *err)
{
	uint64_t           begin = hr__now_ns();
	struct hr_session *s = hr__calloc(1, sizeof *s);
	if (!s)
		return hr__fail(err, HR_ENOMEM, "Out of memory for a session.");
	pthread_mutex_init(&s->lock, NULL);
	XXH64_reset(&s->encoded, 0);
	s->model = model;
	s->options = *options;
	options = &s->options;
	s->next_id = 1;
	struct hr_ladder ladder = {model, options, take, give_back, s, &s->backend, &s->plan, rates};
	int              rc = hr__ladder_climb(&ladder, err);
	if (!rc) {
		s->running = hr__calloc((size_t)s->plan->info.n_seqs, sizeof(struct hr_job *));
		if (!s->running)
			rc = hr__fail(err, HR_ENOMEM, "Out of memory for %d sequences.", s->plan->info.n_seqs);
	}
	if (!rc)
		rc = hr_window_load(s->window, options->on_progress, options->user, err);
	if (rc) {
		hr_session_close(s);
		return rc;
	}
	hr_session_reset_report(s);
	s->measure.load_ms = (double)(hr__now_ns() - begin) * 1e-6;
	*out = s;
	return 0;
}

void hr_session_close(struct hr_session *s)
{
	if (!s)
		return;
	give_back(s);
	free(s->running);
	while (s->jobs) {
		struct hr_job *next = s->jobs->next;
		hr__job_free(s->jobs);
		s->jobs = next;
	}
	hr_plan_free(s->plan);
	hr__backend_close(&s->backend);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

const struct hr_plan *hr_session_plan(const struct hr_session *s) { return s->plan; }

/* ---- Requests -------------------------------------------------------------- */

static struct hr_job *find_job(struct hr_session *s, uint64_t id)
{
	struct hr_job *job = s->jobs;
	while (job && job->id != id)
		job = job->next;
	return job;
}

int hr_session_submit(struct hr_session *s, const struct hr_request *request, uint64_t *id,
                      struct hr_error *err)
{
	struct hr_job *job;
	if (s->model->checkpoint.hparams.encoder)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s is an encoder (%s), which generates no text; use classify or embed.",
		                s->model->checkpoint.path, s->model->info.family);
	int rc = hr__job_new(&job, s->model, request, s->plan->info.n_ctx, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&s->lock);
	job->id = s->next_id++;
	*id = job->id;
	struct hr_job **end = &s->jobs;
	while (*end)
		end = &(*end)->next;
	*end = job;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int hr_session_cancel(struct hr_session *s, uint64_t id)
{
	pthread_mutex_lock(&s->lock);
	struct hr_job *job = find_job(s, id);
	if (job)
		job->cancel = true;
	pthread_mutex_unlock(&s->lock);
	return job ? 0 : HR_EINVAL;
}

int hr_session_forget(struct hr_session *s, uint64_t id)
{
	struct hr_job *job = NULL;
	pthread_mutex_lock(&s->lock);
	struct hr_job **at = &s->jobs;
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	if (*at && (*at)->finish != HR_RUNNING && (*at)->row < 0) {
		job = *at;
		*at = job->next;
	}
	pthread_mutex_unlock(&s->lock);
	hr__job_free(job);
	return job ? 0 : HR_EINVAL;
}

int64_t hr_session_read(struct hr_session *s, uint64_t id, char *text, size_t capacity)
{
	pthread_mutex_lock(&s->lock);
	struct hr_job *job = find_job(s, id);
	int64_t        n = job ? (int64_t)hr__text_read(&job->text, text, capacity) : HR_EINVAL;
	pthread_mutex_unlock(&s->lock);
	return n;
}

int64_t hr_session_tokens(struct hr_session *s, uint64_t id, int32_t *ids, size_t capacity)
{
	pthread_mutex_lock(&s->lock);
	struct hr_job *job = find_job(s, id);
	int64_t        n = job ? job->n_new : HR_EINVAL;
	for (int64_t i = 0; i < n && i < (int64_t)capacity; i++)
		ids[i] = job->tokens[job->n_prompt + i];
	pthread_mutex_unlock(&s->lock);
	return n;
}

int hr_session_state(struct hr_session *s, uint64_t id, struct hr_request_state *out)
{
	pthread_mutex_lock(&s->lock);
	struct hr_job *job = find_job(s, id);
	if (job)
		*out = (struct hr_request_state){
		    .finish = job->finish,
		    .n_prompt_tokens = job->n_prompt,
		    .n_new_tokens = job->n_new,
		    .logits_xxh64 = XXH64_digest(&job->hash),
		    .first_token_ns = job->first_token_ns ? job->first_token_ns - job->submit_ns : 0,
		    .finish_ns = job->finish_ns ? job->finish_ns - job->submit_ns : 0,
		};
	pthread_mutex_unlock(&s->lock);
	return job ? 0 : HR_EINVAL;
}

/* ---- Steps ----------------------------------------------------------------- */

static void leave(struct hr_session *s, struct hr_job *job)
{
	if (job->row < 0)
		return;
	s->running[job->row] = NULL;
	hr__kv_give_back(&s->kv, job->pages, job->n_pages);
	job->row = -1;
}

/* Give waiting jobs a row and pages, oldest first, while there are any. */
static void admit(struct hr_session *s)
{
	int row = 0;
	for (struct hr_job *job = s->jobs; job; job = job->next) {
		if (job->cancel && job->finish == HR_RUNNING) {
			hr__job_finish(job, HR_FINISH_CANCELED);
			leave(s, job);
		}
	}
	for (struct hr_job *job = s->jobs; job; job = job->next) {
		if (job->finish != HR_RUNNING || job->row >= 0)
			continue;
		while (row < s->plan->info.n_seqs && s->running[row])
			row++;
		if (row == s->plan->info.n_seqs || hr__kv_take(&s->kv, job->pages, job->n_pages))
			return;
		job->row = row;
		s->running[row] = job;
	}
}

/* Show a job's logits to whoever asked for them. No lock is held. */
static void show_logits(const struct hr_job *job, const struct hr_pass *pass, int n_vocab)
{
	if (!job->on_logits)
		return;
	int first = job->n_past + job->pass_tokens - job->n_outputs;
	for (int i = 0; i < job->n_outputs; i++)
		job->on_logits(job->user, job->id, first + i,
		               pass->logits + (size_t)(job->pass_output + i) * (size_t)n_vocab, n_vocab);
}

/* Take the pass apart: every job moves on, those with all their tokens in the
 * cache get their next one. */
static int settle(struct hr_session *s, const struct hr_pass *pass, struct hr_error *err)
{
	int n_vocab = s->model->checkpoint.hparams.n_vocab;
	int rc = 0;
	for (int row = 0; row < s->plan->info.n_seqs; row++)
		if (s->running[row])
			show_logits(s->running[row], pass, n_vocab);
	pthread_mutex_lock(&s->lock);
	for (int row = 0; row < s->plan->info.n_seqs; row++) {
		struct hr_job *job = s->running[row];
		if (!job)
			continue;
		job->n_past += job->pass_tokens;
		if (job->n_past == job->n_prompt + job->n_new) {
			int                  last = job->pass_output + job->n_outputs - 1;
			const float         *logits = pass->n_top ? NULL : pass->logits + (size_t)last * (size_t)n_vocab;
			const struct hr_top *top = pass->top + (size_t)last * (size_t)pass->n_top;
			int                  failed = hr__job_sample(job, s->model, logits, top, rc ? NULL : err);
			rc = rc ? rc : failed;
		}
		if (job->finish != HR_RUNNING)
			leave(s, job);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void fail_all(struct hr_session *s)
{
	s->failed = true;
	pthread_mutex_lock(&s->lock);
	for (struct hr_job *job = s->jobs; job; job = job->next)
		if (job->finish == HR_RUNNING) {
			hr__job_finish(job, HR_FINISH_ERROR);
			leave(s, job);
		}
	pthread_mutex_unlock(&s->lock);
}

int hr__session_check_files(const struct hr_session *s, struct hr_error *err)
{
	const struct hr_checkpoint *c = &s->model->checkpoint;
	for (int i = 0; i < c->n_files; i++) {
		int rc = hr_file_check_unchanged(&c->files[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

int hr_session_step(struct hr_session *s, struct hr_error *err)
{
	if (s->failed)
		return hr__fail(err, HR_ECANCELED, "An earlier pass failed; close the session and open a new one.");
	uint64_t        begin = hr__now_ns();
	struct hr_pass *pass = hr__forward_pass(s->forward);
	int             prefill, decode;
	pthread_mutex_lock(&s->lock);
	admit(s);
	hr__batch_compose(pass, s->running, s->plan->info.n_seqs, s->plan->info.n_batch, s->plan->max_outputs);
	if (s->plan->wanted_seqs > HR_SINGLE_MAX)
		pass->n_single = 0;
	pthread_mutex_unlock(&s->lock);
	if (!hr__batch_counts(s->running, s->plan->info.n_seqs, &prefill, &decode))
		return 0;

	int rc = hr__forward_run(s->forward, err);
	if (!rc)
		rc = hr__session_check_files(s, err);
	if (!rc) {
		uint64_t sampling = hr__now_ns();
		rc = settle(s, pass, err);
		hr_trace_span(s->trace, HR_LANE_HOST, "sample", sampling, hr__now_ns(), 0);
	}
	if (rc) {
		fail_all(s);
		return rc;
	}
	pthread_mutex_lock(&s->lock);
	hr__measure_pass(&s->measure, (double)(hr__now_ns() - begin) * 1e-6, prefill, decode);
	bool more = false;
	for (struct hr_job *job = s->jobs; job && !more; job = job->next)
		more = job->finish == HR_RUNNING;
	pthread_mutex_unlock(&s->lock);
	return more;
}

/* ---- Reports --------------------------------------------------------------- */

/* One job's hash is its own; of several, the hash over theirs in order of submission. */
static uint64_t hash_of_all(const struct hr_session *s)
{
	if (s->jobs && !s->jobs->next)
		return XXH64_digest(&s->jobs->hash);
	if (s->model->checkpoint.hparams.encoder)
		return XXH64_digest(&s->encoded);
	XXH64_state_t state;
	XXH64_reset(&state, 0);
	for (const struct hr_job *job = s->jobs; job; job = job->next) {
		uint64_t digest = XXH64_digest(&job->hash);
		XXH64_update(&state, &digest, sizeof digest);
	}
	return XXH64_digest(&state);
}

void hr_session_report(struct hr_session *s, struct hr_report *out)
{
	struct hr_window_stats  window;
	struct hr_reader_stats  reader;
	struct hr_device_memory memory = {0};
	struct rusage           usage;
	*out = (struct hr_report){0};
	hr_window_stats(s->window, &window);
	s->reader->ops->stats(s->reader, &reader);
	s->backend.device->ops->memory(s->backend.device, &memory);
	getrusage(RUSAGE_SELF, &usage);
	pthread_mutex_lock(&s->lock);
	hr__measure_report(&s->measure, &window, &reader, s->options.max_disk_rate, out);
	out->logits_xxh64 = hash_of_all(s);
	pthread_mutex_unlock(&s->lock);
	out->device_peak_bytes = memory.peak_bytes;
	out->host_peak_bytes = window.host_bytes;
	out->rss_peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
}

void hr_session_reset_report(struct hr_session *s)
{
	struct hr_window_stats window;
	struct hr_reader_stats reader;
	hr_window_stats(s->window, &window);
	s->reader->ops->stats(s->reader, &reader);
	pthread_mutex_lock(&s->lock);
	double load_ms = s->measure.load_ms;
	s->measure = (struct hr_measure){.load_ms = load_ms, .window0 = window, .reader0 = reader};
	pthread_mutex_unlock(&s->lock);
}

static int fail_no_trace(struct hr_error *err)
{
	return hr__fail(err, HR_EINVAL, "No trace was recorded: set options.trace before opening the session.");
}

struct span_sink {
	hr_span_fn fn;
	void      *user;
};

static void pass_span_on(void *user, enum hr_lane lane, const char *name, uint64_t begin_ns, uint64_t end_ns,
                         uint64_t bytes)
{
	const struct span_sink *sink = user;
	struct hr_span span = {hr_trace_lane_name(lane), name, (double)begin_ns * 1e-6, (double)end_ns * 1e-6,
	                       bytes};
	sink->fn(sink->user, &span);
}

int hr_session_visit_trace(struct hr_session *s, hr_span_fn fn, void *user, struct hr_error *err)
{
	struct span_sink sink = {fn, user};
	return s->trace ? hr_trace_visit(s->trace, pass_span_on, &sink, err) : fail_no_trace(err);
}

int hr_session_write_trace(struct hr_session *s, const char *path, struct hr_error *err)
{
	return s->trace ? hr_trace_write(s->trace, path, err) : fail_no_trace(err);
}
