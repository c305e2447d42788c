/* The tuner behind the public header: turns points of the search into plan options and back.
 *
 * The grid has five dimensions: slots, chunk, depth, reader and threads; what the caller's options
 * fix has one value. The first point is the planner's choice, and the simulator predicts the
 * others where it has rates: those of the reader and the threads that were measured. */
#include "base/error.h"
#include "base/mem.h"
#include "runtime/profile.h"
#include "runtime/rates_cache.h"
#include "scheduler/tune.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SLOTS, CHUNK, DEPTH, READER, THREADS, N_DIMS };
enum { MAX_VALUES = 8 };

struct hr_tuner {
	const struct hr_model *model; /* borrowed */
	struct hr_plan_options options;
	uint64_t               budget;
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
	o.reader = t->values[READER][p->at[READER]] ? "pread" : "uring";
	o.n_threads = (int)t->values[THREADS][p->at[THREADS]];
	o.device_memory_bytes = t->budget;
	o.ignore_profile = true;
	o.measure = false;
	return o;
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
	bool   same = o.slots == HR_AUTO || info->slots == o.slots; /* otherwise it is another point's plan */
	double tps = same ? info->predicted_decode_tps : -1;
	hr_plan_free(plan);
	return tps;
}

static void add_values(struct hr_tuner *t, int dim, bool fixed, const uint64_t *values, int n)
{
	for (int i = 0; i < n && !fixed; i++)
		index_of(t, dim, values[i]);
}

/* Everything around the planner's choice that the caller left open. */
static void make_grid(struct hr_tuner *t, const struct hr_plan_info *guess)
{
	static const uint64_t slots[] = {2, 3, 4, 6, 8}, depths[] = {2, 4, 8, 16, 32},
	                      chunks[] = {512 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20}, readers[] = {0, 1};
	const struct hr_plan_options *o = &t->options;
	bool     streams = guess->slots > 0, any_reader = !o->reader || !strcmp(o->reader, "auto");
	uint64_t threads = (uint64_t)guess->n_threads, fewer[] = {threads > 1 ? threads - 1 : 1, threads};
	uint64_t at_start[N_DIMS] = {(uint64_t)guess->slots, guess->chunk_bytes, (uint64_t)guess->read_depth,
	                             o->reader && !strcmp(o->reader, "pread"), threads};
	struct hr_tune_point start = {{0}};
	t->search.n_dims = N_DIMS;
	for (int dim = 0; dim < N_DIMS; dim++)
		t->search.is_ordered[dim] = dim != READER;
	add_values(t, SLOTS, !streams || o->slots != HR_AUTO, slots, 5);
	add_values(t, CHUNK, !streams || o->chunk_bytes, chunks, 5);
	add_values(t, DEPTH, !streams || o->read_depth, depths, 5);
	add_values(t, READER, !streams || !any_reader, readers, 2);
	add_values(t, THREADS, o->n_threads > 0, fewer, 2);
	for (int dim = 0; dim < N_DIMS; dim++)
		start.at[dim] = index_of(t, dim, at_start[dim]);
	t->search.predict = predict;
	t->search.user = t;
	hr_tune_begin(&t->search, &start);
}

int hr_tuner_new(struct hr_tuner **out, const struct hr_model *model, const struct hr_plan_options *options,
                 struct hr_error *err)
{
	struct hr_plan_options o = *options;
	struct hr_plan        *plan = NULL;
	struct hr_tuner       *t = hr__calloc(1, sizeof *t);
	if (!t)
		return hr__fail(err, HR_ENOMEM, "There is no memory for a tuner.");
	o.ignore_profile = o.measure = true;
	int rc = hr_plan_new(&plan, model, &o, err);
	if (rc) {
		free(t);
		return rc;
	}
	t->model = model;
	t->options = *options;
	t->budget = hr_plan_info(plan)->device_budget_bytes;
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
	profile.device_memory_bytes = t->options.device_memory_bytes;
	snprintf(profile.reader, sizeof profile.reader, "%s", best.reader);
	strftime(profile.date, sizeof profile.date, "%Y-%m-%d", gmtime_r(&now, &utc));
	return hr__profile_store(&profile, t->model, &t->options, err);
}

int hr_model_measure_disk(const struct hr_model *model, const char *reader, double seconds,
                          hr_disk_rate_fn fn, void *user, struct hr_error *err)
{
	struct hr_rates rates = {0};
	int             rc = hr__rates_measure_disk(&rates, model, reader, seconds, err);
	for (int i = 0; i < rates.n_disk && !rc; i++)
		fn(user, rates.disk[i].chunk_bytes, rates.disk[i].depth, rates.disk[i].rate);
	return rc;
}
