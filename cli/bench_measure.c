/* Measuring the arms of a benchmark. Every repetition opens a session of its own, so that an
 * arm finds the machine as the others do; prompts are fixed pseudo-random ids, all sequences
 * decode together, and each phase is reported alone. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- One pass in time ------------------------------------------------------------ */

void hr_bench_pass_add(struct hr_bench_pass *pass, const struct hr_span *span)
{
	if (pass->n == pass->capacity) {
		int                   capacity = 2 * pass->capacity + 256;
		struct hr_bench_span *larger = realloc(pass->spans, (size_t)capacity * sizeof *larger);
		if (!larger)
			return;
		pass->spans = larger;
		pass->capacity = capacity;
	}
	struct hr_bench_span *s = &pass->spans[pass->n++];
	*s = (struct hr_bench_span){.lane = span->lane[0], .begin = span->begin_ms, .end = span->end_ms};
	snprintf(s->name, sizeof s->name, "%s", span->name);
}

/* The part of [begin, end] in which a span of `lane` ran. */
static double busy_within(const struct hr_bench_pass *p, char lane, double begin, double end)
{
	double at = begin, busy = 0;
	for (int i = 0; i < p->n && at < end; i++) { /* in order of begin */
		const struct hr_bench_span *s = &p->spans[i];
		if (s->lane != lane || s->end <= at)
			continue;
		double from = fmax(at, s->begin), to = fmin(end, s->end);
		if (to > from) {
			busy += to - from;
			at = to;
		}
	}
	return busy;
}

/* Compute idle before a streamed layer: the link's, while it copied, and the disk's otherwise. */
static void find_stalls(struct hr_bench_pass *p)
{
	double last_end = 0;
	p->stall_disk_ms = p->stall_link_ms = 0;
	for (int i = 0; i < p->n; i++) {
		const struct hr_bench_span *s = &p->spans[i];
		if (s->lane != 'c' || s->begin < 0)
			continue;
		if (s->begin > last_end) {
			double link = busy_within(p, 'l', last_end, s->begin);
			p->stall_link_ms += link;
			p->stall_disk_ms += s->begin - last_end - link;
		}
		last_end = fmax(last_end, s->end);
	}
}

struct pick {
	struct hr_bench_pass *pass;
	double                begin, end;
};

static void pick_span(void *user, const struct hr_span *span)
{
	const struct pick *pick = user;
	struct hr_span     s = *span;
	if (s.end_ms <= pick->begin || s.begin_ms >= pick->end || !strncmp(s.name, "stall", 5))
		return;
	s.begin_ms -= pick->begin;
	s.end_ms -= pick->begin;
	hr_bench_pass_add(pick->pass, &s);
}

static void take_pass(struct hr_bench_pass *pass, struct hr_session *session, double begin, double end)
{
	struct pick pick = {pass, begin, end};
	pass->n = 0;
	pass->ms = end - begin;
	hr_session_visit_trace(session, pick_span, &pick, NULL);
	find_stalls(pass);
}

static void add_predicted(void *user, const struct hr_span *span) { hr_bench_pass_add(user, span); }

/* The pass as it is predicted. Passes are alike, so what this one read before it began the next
 * one reads before it ends. */
static void predict_pass(struct hr_bench_arm *arm, const struct hr_plan *plan)
{
	struct hr_prediction p;
	int                  seqs = arm->info.n_seqs,
	    prompt = arm->n_prompt < arm->info.n_batch ? arm->n_prompt : arm->info.n_batch;
	if (hr_plan_predict(plan, arm->n_gen ? seqs : prompt, arm->n_gen ? seqs : 1, arm->n_prompt, &p,
	                    add_predicted, &arm->predicted, NULL))
		return;
	arm->predicted.ms = p.pass_ms;
	int n = arm->predicted.n;
	for (int i = 0; i < n; i++) {
		const struct hr_bench_span *s = &arm->predicted.spans[i];
		char                        name[sizeof s->name];
		if (s->begin >= 0)
			continue;
		snprintf(name, sizeof name, "%s", s->name);
		struct hr_span next = {s->lane == 'd' ? "disk" : "link", name, s->begin + p.pass_ms,
		                       s->end + p.pass_ms, 0};
		hr_bench_pass_add(&arm->predicted, &next);
	}
}

/* ---- Prediction ------------------------------------------------------------------ */

/* Time of the whole phase: the prompts in as many passes as they took, or n_gen passes of
 * a token for each sequence. */
static double predict(const struct hr_plan *plan, const struct hr_bench_arm *arm, bool decode,
                      uint64_t passes)
{
	struct hr_prediction p;
	int                  seqs = arm->info.n_seqs, tokens = arm->n_prompt * seqs;
	double               ms = 0;
	if (!arm->info.rates)
		return 0;
	if (decode)
		return hr_plan_predict(plan, seqs, seqs, arm->n_prompt + arm->n_gen / 2.0, &p, NULL, NULL, NULL)
		           ? 0
		           : p.pass_ms * arm->n_gen * 1e6;
	int each = passes ? (tokens + (int)passes - 1) / (int)passes : tokens;
	for (int left = tokens; left > 0; left -= each) {
		int    n = left < each ? left : each;
		double before = (tokens - left) % arm->n_prompt;
		double context = n < arm->n_prompt ? before + n / 2.0 : arm->n_prompt / 2.0;
		if (hr_plan_predict(plan, n, 1, context, &p, NULL, NULL, NULL))
			return 0;
		ms += p.pass_ms;
	}
	return ms * 1e6;
}

/* ---- One repetition of one arm ----------------------------------------------------- */

static int submit(struct hr_session *session, const struct hr_bench_arm *arm, int n_vocab, int seq,
                  int max_new_tokens, uint64_t *id, struct hr_error *err)
{
	int      n = arm->n_prompt > 0 ? arm->n_prompt : 1;
	int32_t *ids = calloc((size_t)n, sizeof *ids);
	uint64_t x = 88172645463325252u + (uint64_t)seq;
	for (int i = 0; ids && i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		ids[i] = (int32_t)(x % (uint64_t)n_vocab);
	}
	struct hr_request r;
	hr_request_init(&r);
	r.ids = ids;
	r.n_ids = (size_t)n;
	r.max_new_tokens = max_new_tokens;
	r.ignore_eos = true;
	r.hash_logits = false;
	int rc = ids ? hr_session_submit(session, &r, id, err) : HR_ENOMEM;
	free(ids);
	return rc;
}

static bool all_prefilled(struct hr_session *session, const uint64_t *ids, int n)
{
	for (int i = 0; i < n; i++) {
		struct hr_request_state state;
		if (hr_session_state(session, ids[i], &state) || !state.n_new_tokens)
			return false;
	}
	return true;
}

/* Step until the prompts are through, then `n_gen` passes more; a report of each phase. */
static int run_phases(struct hr_session *session, struct hr_bench_arm *arm, int n_vocab,
                      struct hr_report reports[2], struct hr_error *err)
{
	int       seqs = arm->info.n_seqs, n = arm->n_prompt > 0 ? arm->n_prompt : 1;
	uint64_t *ids = calloc((size_t)seqs, sizeof *ids);
	double    begin = 0, end = 0;
	int       rc = ids ? 0 : HR_ENOMEM, prefills = (n * seqs + arm->info.n_batch - 1) / arm->info.n_batch;
	for (int i = 0; i < seqs && !rc; i++) /* those that begin early must not end early */
		rc = submit(session, arm, n_vocab, i, arm->n_gen + prefills + seqs + 1, &ids[i], err);
	hr_session_reset_report(session);
	while (!rc && !all_prefilled(session, ids, seqs) && !hr_cli_interrupted()) {
		begin = now_ms();
		rc = hr_session_step(session, err) < 0 ? -1 : 0;
		end = now_ms();
	}
	hr_session_report(session, &reports[0]);
	hr_session_reset_report(session);
	for (int pass = 0; pass < arm->n_gen && !rc && !hr_cli_interrupted(); pass++) {
		begin = now_ms();
		rc = hr_session_step(session, err) < 0 ? -1 : 0;
		end = now_ms();
	}
	hr_session_report(session, &reports[1]);
	if (!rc)
		take_pass(&arm->measured, session, begin, end);
	free(ids);
	return rc;
}

static int stop(void *user, uint64_t done, uint64_t total)
{
	(void)user, (void)done, (void)total;
	return hr_cli_interrupted();
}

/* The same for an encoder: all texts at once, as `embed` takes them. */
static int run_texts(struct hr_session *session, struct hr_bench_arm *arm, const struct hr_model *model,
                     struct hr_report reports[2], struct hr_error *err)
{
	size_t                n = (size_t)arm->n_seqs;
	float                *embeddings = calloc(n * (size_t)hr_model_info(model)->n_embd, sizeof *embeddings);
	struct hr_bench_texts texts;
	int                   rc = hr_bench_make_texts(&texts, model, (int)n, arm->n_prompt, err);
	hr_session_reset_report(session);
	if (!rc)
		rc = embeddings ? hr_session_embed(session, texts.items, n, embeddings, stop, NULL, err) : HR_ENOMEM;
	double end = now_ms();
	hr_session_report(session, &reports[0]);
	if (!rc)
		take_pass(&arm->measured, session, end - reports[0].pass_ms_median, end);
	hr_bench_release_texts(&texts);
	free(embeddings);
	return rc;
}

static void remember_plan(struct hr_bench_arm *arm, const struct hr_plan *plan)
{
	arm->info = *hr_plan_info(plan);
	snprintf(arm->reader, sizeof arm->reader, "%s", arm->info.reader ? arm->info.reader : "");
	snprintf(arm->device, sizeof arm->device, "%s", arm->info.device);
	snprintf(arm->device_name, sizeof arm->device_name, "%s", arm->info.device_name);
	arm->direct = true;
	const char *sentence;
	for (int i = 0; (sentence = hr_plan_fallback(plan, i)); i++)
		arm->direct &= !strstr(sentence, "page cache");
}

static void add_sample(struct hr_bench_row *row, const struct hr_report *report)
{
	double    ms = row->decode ? report->decode_ms : report->prefill_ms + report->decode_ms;
	time_t    now = time(NULL);
	struct tm utc;
	if (row->arm->encoder)
		row->tokens = report->prefill_tokens;
	row->reports[row->n] = *report;
	row->ns[row->n++] = ms * 1e6;
	strftime(row->test_time, sizeof row->test_time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	if (report->device_peak_bytes > row->device_peak_bytes)
		row->device_peak_bytes = report->device_peak_bytes;
	if (report->host_peak_bytes > row->host_peak_bytes)
		row->host_peak_bytes = report->host_peak_bytes;
}

/* Does this failure mean that there is no room? */
static bool is_no_room(const struct hr_error *err)
{
	return err->code == HR_EBUDGET || err->code == HR_EDEVMEM || err->code == HR_ENOMEM;
}

static int run_arm(struct hr_bench *b, struct hr_bench_arm *arm)
{
	struct hr_session *session;
	struct hr_report   reports[2];
	struct hr_error    err = {0};
	hr_cli_drop_cached(b->model);
	if (hr_session_open(&session, b->model, &arm->plan, &err)) {
		if (!is_no_room(&err))
			return hr_cli_fail_error(&err);
		arm->fits = false;
		snprintf(arm->why_not, sizeof arm->why_not, "%s", err.message);
		return HR_EXIT_OK;
	}
	const struct hr_plan *plan = hr_session_plan(session);
	remember_plan(arm, plan);
	int  rc = arm->encoder ? run_texts(session, arm, b->model, reports, &err)
	                       : run_phases(session, arm, hr_model_info(b->model)->n_vocab, reports, &err);
	bool stopped = hr_cli_interrupted();
	for (int i = 0; i < b->n_rows && !rc && !stopped; i++) {
		struct hr_bench_row *row = &b->rows[i];
		if (row->arm != arm)
			continue;
		row->predicted_ns = predict(plan, arm, row->decode, reports[0].passes);
		add_sample(row, &reports[row->decode]);
	}
	if (!rc && !arm->predicted.n && arm->info.rates)
		predict_pass(arm, plan);
	hr_session_close(session);
	double cached = hr_cli_cached_share(b->model);
	arm->cached_share = fmax(arm->cached_share, cached);
	if (rc)
		return hr_cli_fail_error(&err);
	return stopped ? HR_EXIT_INTERRUPTED : HR_EXIT_OK;
}

int hr_bench_repeat(struct hr_bench *b, int repetition)
{
	int code = HR_EXIT_OK;
	for (int i = 0; i < b->n_arms && !code; i++) { /* there and back, so that no arm is always the first */
		struct hr_bench_arm *arm = &b->arms[repetition % 2 ? b->n_arms - 1 - i : i];
		hr_cli_on_progress(NULL, (uint64_t)(repetition * b->n_arms + i),
		                   (uint64_t)(b->repetitions * b->n_arms));
		if (arm->fits)
			code = run_arm(b, arm);
	}
	return code;
}
