/* The tuner behind the public header: turns points of the search into plan options and back.
 *
 * The grid has a dimension for each setting; what the caller's options fix, and what the job has no use
 * for, has one value. The budget is the same everywhere, so slots are also the split: what they don't
 * take is the residents'. The first point is the planner's choice, and the simulator predicts the
 * whole job at the others where it has rates: those of the reader and the threads that were measured. */
#include "base/error.h"
#include "base/mem.h"
#include "runtime/probe.h"
#include "runtime/profile.h"
#include "scheduler/tune.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SLOTS, CHUNK, DEPTH, STAGING, READER, THREADS, SEQS, BATCH, N_DIMS };
enum { MAX_VALUES = 8 };

struct hr_tuner {
	const struct hr_model *model; /* borrowed */
	struct hr_plan_options options;
	struct hr_tuner_job    job;
	uint64_t               budget;
	int                    n_ctx;
	uint64_t               values[N_DIMS][MAX_VALUES]; /* ascending; of READER: 0 io_uring, 1 pread */
	struct hr_tune         search;
};

/* The index of `x` among a dimension's values; it is added if need be. */
static int index_of(struct hr_tuner *t, int dim, uint64_t x)
{
	int i = 0, n = t->search.n_values[dim];
	while (i < n && t->values[dim][i] < x)
		i++;
	if (i < n && t->values[dim][i] == x)
		return i;
	if (n == MAX_VALUES)
		return n - 1;
	memmove(&t->values[dim][i + 1], &t->values[dim][i], (size_t)(n - i) * sizeof t->values[0][0]);
	t->values[dim][i] = x;
	t->search.n_values[dim]++;
	return i;
}

static struct hr_plan_options options_at(const struct hr_tuner *t, const struct hr_tune_point *p)
{
	struct hr_plan_options o = t->options;
	o.slots = t->values[SLOTS][p->at[SLOTS]] ? (int)t->values[SLOTS][p->at[SLOTS]] : HR_AUTO;
	o.chunk_bytes = t->values[CHUNK][p->at[CHUNK]];
	o.read_depth = (int)t->values[DEPTH][p->at[DEPTH]];
	o.staging_buffers = (int)t->values[STAGING][p->at[STAGING]];
	o.reader = t->values[READER][p->at[READER]] ? "pread" : "uring";
	o.n_threads = (int)t->values[THREADS][p->at[THREADS]];
	o.n_seqs = (int)t->values[SEQS][p->at[SEQS]];
	o.n_batch = (int)t->values[BATCH][p->at[BATCH]];
	o.n_ctx = t->n_ctx;
	o.device_memory_bytes = t->budget;
	o.ignore_profile = true;
	o.measure = false;
	return o;
}

/* The prompts in as many passes as they take, and then a token for each sequence in every pass. */
static int predict_job(const struct hr_plan *plan, const struct hr_tuner_job *job, double *tps)
{
	const struct hr_plan_info *info = hr_plan_info(plan);
	struct hr_prediction       p;
	int                        seqs = info->n_seqs, prompts = job->n_prompt * seqs, rc = 0;
	double                     ms = 0;
	for (int left = prompts; left > 0 && !rc; left -= info->n_batch) {
		int n = left < info->n_batch ? left : info->n_batch;
		rc = hr_plan_predict(plan, n, n < seqs ? n : 1, job->n_prompt / 2.0, &p, NULL, NULL, NULL);
		ms += rc ? 0 : p.pass_ms;
	}
	if (!rc && job->n_gen)
		rc = hr_plan_predict(plan, seqs, seqs, job->n_prompt + job->n_gen / 2.0, &p, NULL, NULL, NULL);
	if (!rc && job->n_gen)
		ms += p.pass_ms * job->n_gen;
	*tps = rc ? 0 : (prompts + (double)job->n_gen * seqs) * 1e3 / ms;
	return rc;
}

/* Rates are kept by the names of reader and threads that they were measured with. */
static double predict(void *user, const struct hr_tune_point *p)
{
	struct hr_tuner       *t = user;
	struct hr_plan_options o = options_at(t, p);
	struct hr_plan        *plan;
	o.on_notice = NULL;
	if (hr_plan_new(&plan, t->model, &o, NULL))
		return -1;
	const struct hr_plan_info *info = hr_plan_info(plan);
	double                     tps = -1; /* a plan that fell short of what was asked is another point's */
	if ((o.slots == HR_AUTO || info->slots == o.slots) && info->n_seqs == o.n_seqs &&
	    info->n_batch == o.n_batch && predict_job(plan, &t->job, &tps))
		tps = 0;
	hr_plan_free(plan);
	return tps;
}

static void add_values(struct hr_tuner *t, int dim, bool fixed, const uint64_t *values, int n)
{
	for (int i = 0; i < n && !fixed; i++)
		index_of(t, dim, values[i]);
}

/* All of the job's sequences at a time, half of them, and so on. */
static void add_seqs(struct hr_tuner *t, int most)
{
	for (int n = most, i = 0; n > 0 && i < MAX_VALUES - 1; n /= 2, i++)
		index_of(t, SEQS, (uint64_t)n);
}

/* Passes from a few tokens up to all prompts at once, but with room for a token of each sequence. */
static void add_batches(struct hr_tuner *t, int least, int most)
{
	for (int n = 32; n <= 2048 && n / 2 < most; n *= 2)
		if (n >= least)
			index_of(t, BATCH, (uint64_t)n);
}

/* Everything around the planner's choice that the caller left open. */
static void make_grid(struct hr_tuner *t, const struct hr_plan_info *guess)
{
	static const uint64_t slots[] = {2, 3, 4, 6, 8}, depths[] = {2, 4, 8, 16, 32},
	                      staging[] = {4, 8, 12, 20, 36},
	                      chunks[] = {512 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20}, readers[] = {0, 1};
	const struct hr_plan_options *o = &t->options;
	bool     streams = guess->slots > 0, any_reader = !o->reader || !strcmp(o->reader, "auto");
	bool     encoder = hr_model_info(t->model)->encoder;
	int      tokens = t->job.n_prompt * guess->n_seqs;
	uint64_t threads = (uint64_t)guess->n_threads, fewer[] = {threads > 1 ? threads - 1 : 1, threads};
	uint64_t at_start[N_DIMS] = {(uint64_t)guess->slots,
	                             guess->chunk_bytes,
	                             (uint64_t)guess->read_depth,
	                             (uint64_t)guess->staging_buffers,
	                             o->reader && !strcmp(o->reader, "pread"),
	                             threads,
	                             (uint64_t)guess->n_seqs,
	                             (uint64_t)guess->n_batch};
	struct hr_tune_point start = {{0}};
	t->search.n_dims = N_DIMS;
	for (int dim = 0; dim < N_DIMS; dim++)
		t->search.is_ordered[dim] = dim != READER;
	add_values(t, SLOTS, !streams || o->slots != HR_AUTO, slots, 5);
	add_values(t, CHUNK, !streams || o->chunk_bytes, chunks, 5);
	add_values(t, DEPTH, !streams || o->read_depth, depths, 5);
	add_values(t, STAGING, !streams || !guess->staging_buffers || o->staging_buffers, staging, 5);
	add_values(t, READER, !streams || !any_reader, readers, 2);
	add_values(t, THREADS, o->n_threads > 0, fewer, 2);
	if (o->n_seqs > 1 && !encoder)
		add_seqs(t, guess->n_seqs);
	if (!o->n_batch && t->job.n_prompt)
		add_batches(t, encoder ? guess->n_ctx : guess->n_seqs, tokens);
	for (int dim = 0; dim < N_DIMS; dim++)
		start.at[dim] = index_of(t, dim, at_start[dim]);
	t->search.predict = predict;
	t->search.user = t;
	hr_tune_begin(&t->search, &start);
}

int hr_tuner_new(struct hr_tuner **out, const struct hr_model *model, const struct hr_plan_options *options,
                 const struct hr_tuner_job *job, struct hr_error *err)
{
	struct hr_plan_options o = *options;
	struct hr_plan        *plan = NULL;
	struct hr_tuner       *t = hr__calloc(1, sizeof *t);
	if (!t)
		return hr__fail(err, HR_ENOMEM, "There is no memory for a tuner.");
	if (job->n_prompt < 0 || job->n_gen < 0 || !(job->n_prompt || job->n_gen)) {
		free(t);
		return hr__fail(err, HR_EINVAL,
		                "There is nothing to tune for in %d tokens of prompt and %d to generate.",
		                job->n_prompt, job->n_gen);
	}
	o.ignore_profile = o.measure = true;
	int rc = hr_plan_new(&plan, model, &o, err);
	if (rc) {
		free(t);
		return rc;
	}
	t->model = model;
	t->options = *options;
	t->job = *job;
	t->budget = hr_plan_info(plan)->device_budget_bytes;
	t->n_ctx = hr_plan_info(plan)->n_ctx;
	make_grid(t, hr_plan_info(plan));
	hr_plan_free(plan);
	*out = t;
	return 0;
}

void hr_tuner_free(struct hr_tuner *t) { free(t); }

int hr_tuner_next(struct hr_tuner *t, struct hr_plan_options *trial, double *predicted_tps)
{
	struct hr_tune_point point;
	if (!hr_tune_next(&t->search, &point))
		return 0;
	*trial = options_at(t, &point);
	double predicted = predict(t, &point);
	*predicted_tps = predicted > 0 ? predicted : 0;
	return 1;
}

void hr_tuner_tell(struct hr_tuner *t, double tps, double noise) { hr_tune_tell(&t->search, tps, noise); }

int hr_tuner_best(const struct hr_tuner *t, struct hr_plan_options *best, double *tps, int *n_trials)
{
	*n_trials = t->search.n_trials;
	if (t->search.best < 0)
		return HR_EINVAL;
	const struct hr_tune_trial *trial = &t->search.trials[t->search.best];
	*best = options_at(t, &trial->point);
	*tps = trial->score;
	return 0;
}

int hr_tuner_store(const struct hr_tuner *t, struct hr_error *err)
{
	struct hr_plan_options best;
	struct hr_profile      profile = {0};
	time_t                 now = time(NULL);
	struct tm              utc;
	if (hr_tuner_best(t, &best, &profile.tps, &profile.n_trials))
		return hr__fail(err, HR_EINVAL, "No trial succeeded, so there is no profile to keep.");
	profile.slots = best.slots > 0 ? best.slots : 0;
	profile.chunk_bytes = best.chunk_bytes;
	profile.read_depth = best.read_depth;
	profile.n_threads = best.n_threads;
	profile.staging_buffers = t->search.n_values[STAGING] > 1 ? best.staging_buffers : 0;
	profile.n_seqs = best.n_seqs < t->options.n_seqs ? best.n_seqs : 0;
	profile.n_batch = t->search.n_values[BATCH] > 1 ? best.n_batch : 0;
	profile.device_memory_bytes = t->options.device_memory_bytes;
	profile.window_layers = t->options.window_layers;
	profile.resident_layers = t->options.resident_layers;
	snprintf(profile.reader, sizeof profile.reader, "%s", best.reader);
	strftime(profile.date, sizeof profile.date, "%Y-%m-%d", gmtime_r(&now, &utc));
	return hr__profile_store(&profile, t->model, &t->options, err);
}

int hr_model_measure_disk(const struct hr_model *model, const char *reader, double seconds,
                          hr_disk_rate_fn fn, void *user, struct hr_error *err)
{
	struct hr_rates rates = {0};
	int             rc = hr__probe_disk(&rates, model, reader, seconds, err);
	for (int i = 0; i < rates.n_disk && !rc; i++)
		fn(user, rates.disk[i].chunk_bytes, rates.disk[i].depth, rates.disk[i].rate);
	return rc;
}
