/* `headrace tune`: the tuner of the library, with each of its trials in a process of its own
 * (tune_trial.c). The table grows as they end; what won is kept as the profile that later runs use. */
#include "cli/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_GEN = 128, CONTEXT_ROOM = 64 };
static const double default_minutes = 3;

/* ---- The table --------------------------------------------------------------------- */

static void print_head(void)
{
	printf("  %5s  %12s %9s %6s %7s %7s %7s %5s %6s  %10s  %18s\n", "trial", "split", "chunk", "depth",
	       "staging", "reader", "threads", "seqs", "batch", "predicted", "tokens/s");
}

static void print_trial(int number, const struct hr_cli_trial *t, bool best)
{
	char split[32] = "-", predicted[32] = "-", staging[16] = "-", speed[64];
	if (t->slots > 0 && t->kept_share >= HR_CLI_KEPT_SHOWN)
		snprintf(split, sizeof split, "%d (%.0f %%) + %d", t->resident_layers, 100 * t->kept_share, t->slots);
	else if (t->slots > 0)
		snprintf(split, sizeof split, "%d + %d", t->resident_layers, t->slots);
	else if (t->tps > 0)
		snprintf(split, sizeof split, "full");
	if (t->predicted_tps > 0)
		snprintf(predicted, sizeof predicted, "%.2f", t->predicted_tps);
	if (t->plan.staging_buffers)
		snprintf(staging, sizeof staging, "%d", t->plan.staging_buffers);
	snprintf(speed, sizeof speed, t->tps > 0 ? "%.2f ± %.2f" : "failed", t->tps, t->noise);
	hr_cli_hide_status();
	printf("  %5d  %12s %5.4g MiB %6d %7s %7s %7d %5d %6d  %10s  %*s%s%s%s\n", number, split,
	       (double)t->plan.chunk_bytes / 1048576, t->plan.read_depth, staging, t->plan.reader,
	       t->plan.n_threads, t->plan.n_seqs, t->plan.n_batch, predicted, t->tps > 0 ? 19 : 18, speed,
	       best ? "  best so far" : "", t->tps > 0 ? "" : "  ", t->tps > 0 ? "" : t->why);
	fflush(stdout);
}

/* The settings of a trial as flags of `headrace run`. */
static void write_flags(char *text, size_t size, const struct hr_plan_options *p)
{
	int n = snprintf(text, size, "--chunk %llu --read-depth %d --reader %s -t %d -b %d",
	                 (unsigned long long)p->chunk_bytes, p->read_depth, p->reader, p->n_threads, p->n_batch);
	if (p->slots > 0)
		n += snprintf(text + n, size - (size_t)n, " --slots %d", p->slots);
	if (p->staging_buffers)
		snprintf(text + n, size - (size_t)n, " --staging %d", p->staging_buffers);
}

static json_t *settings_to_json(const struct hr_plan_options *p)
{
	json_t *o = json_pack("{s:I, s:i, s:s, s:i, s:i, s:i}", "chunk_bytes", (json_int_t)p->chunk_bytes,
	                      "read_depth", p->read_depth, "reader", p->reader, "n_threads", p->n_threads,
	                      "n_seqs", p->n_seqs, "n_batch", p->n_batch);
	json_object_set_new(o, "staging_buffers",
	                    p->staging_buffers ? json_integer(p->staging_buffers) : json_null());
	json_object_set_new(o, "slots", p->slots > 0 ? json_integer(p->slots) : json_null());
	return o;
}

static json_t *trial_to_json(const struct hr_cli_trial *t)
{
	json_t *o = settings_to_json(&t->plan);
	json_object_set_new(o, "resident_layers", t->tps > 0 ? json_integer(t->resident_layers) : json_null());
	json_object_set_new(o, "kept_share", json_real(t->kept_share));
	json_object_set_new(o, "predicted_tps", json_real(t->predicted_tps));
	json_object_set_new(o, "tps", json_real(t->tps));
	json_object_set_new(o, "stddev_ts", json_real(t->noise));
	json_object_set_new(o, "error", t->tps > 0 ? json_null() : hr_cli_json_text(t->why));
	return o;
}

/* ---- The drive alone ----------------------------------------------------------------- */

struct io_table {
	const char *reader;
	json_t     *rows; /* NULL: text */
};

static void show_rate(void *user, uint64_t chunk_bytes, int depth, double gbps)
{
	struct io_table *table = user;
	if (table->rows)
		json_array_append_new(table->rows,
		                      json_pack("{s:s, s:I, s:i, s:f}", "reader", table->reader, "chunk_bytes",
		                                (json_int_t)chunk_bytes, "read_depth", depth, "gbps", gbps));
	else
		printf("  %7s %7.4g MiB %6d %10.2f\n", table->reader, (double)chunk_bytes / 1048576, depth, gbps);
}

static int tune_io(const struct hr_model *model, const struct hr_cli_options *o)
{
	static const char *const readers[] = {"uring", "pread"};
	struct io_table          table = {.rows = o->json ? json_array() : NULL};
	struct hr_error          err;
	int                      code = HR_EXIT_OK, n_done = 0;
	if (!o->json)
		printf("  %7s %11s %6s %10s\n", "reader", "chunk", "depth", "GB/s");
	for (int i = 0; i < 2 && !code; i++) {
		table.reader = readers[i];
		if (o->plan.reader && strcmp(o->plan.reader, "auto") && strcmp(o->plan.reader, readers[i]))
			continue;
		if (!hr_model_measure_disk(model, readers[i], 6, show_rate, &table, &err))
			n_done++;
		else if (err.code == HR_EUNSUPPORTED)
			hr_cli_note("%s", err.message);
		else
			code = hr_cli_fail_error(&err);
	}
	if (!code && !n_done)
		code = HR_EXIT_ERROR; /* the sentence was said */
	if (!code && o->json)
		hr_cli_write_json(json_incref(table.rows), false);
	json_decref(table.rows);
	return code;
}

/* ---- The command ----------------------------------------------------------------------- */

struct course {
	const struct hr_cli_options *o;
	struct hr_tuner_job          job;
	struct hr_tuner             *tuner;
	json_t                      *trials;
	int                          n;
	double                       begin, end;
	const char                  *stopped; /* why */
};

static void show_course(void *user)
{
	const struct course *c = user;
	double               now = hr_cli_now_seconds();
	hr_cli_show_status("trial %d, %.0f s of at most %.0f s", c->n + 1, now - c->begin, c->end - c->begin);
}

/* The trials, until nothing is left to try, the time is used up or Ctrl-C comes. */
static void run_trials(struct course *c)
{
	struct hr_cli_trial t = {0};
	double              best_tps = 0;
	c->stopped = "Nothing near the best is quicker";
	while (!hr_cli_interrupted() && hr_tuner_next(c->tuner, &t.plan, &t.predicted_tps) > 0) {
		struct hr_plan_options best;
		double                 tps = 0;
		int                    n_trials;
		if (c->n && hr_cli_now_seconds() >= c->end) {
			c->stopped = "The time was used up";
			break;
		}
		hr_cli_run_trial(&t, c->o, &c->job, show_course, c);
		if (hr_cli_interrupted())
			break;
		hr_tuner_tell(c->tuner, t.tps, t.noise);
		hr_tuner_best(c->tuner, &best, &tps, &n_trials);
		c->n++;
		if (!c->o->json)
			print_trial(c->n, &t, tps > best_tps);
		best_tps = tps;
		json_array_append_new(c->trials, trial_to_json(&t));
	}
	hr_cli_hide_status();
	if (hr_cli_interrupted())
		c->stopped = "It was interrupted";
}

/* Keep what won, and say it. */
static int finish(const struct course *c)
{
	const struct hr_cli_options *o = c->o;
	struct hr_plan_options       best;
	struct hr_error              err;
	double                       tps = 0;
	int                          n, code = HR_EXIT_INTERRUPTED;
	char                         flags[200] = "";
	bool                         found = !hr_tuner_best(c->tuner, &best, &tps, &n);
	if (!found && !hr_cli_interrupted())
		return hr_cli_fail("None of the %d trials succeeded; `headrace run %s` says what is wrong.", n,
		                   o->target);
	if (!hr_cli_interrupted())
		code = !o->plan.cache_dir
		           ? hr_cli_fail("There is no place for a profile: set HOME or XDG_CACHE_HOME.")
		       : hr_tuner_store(c->tuner, &err) ? hr_cli_fail_error(&err)
		                                        : HR_EXIT_OK;
	if (found)
		write_flags(flags, sizeof flags, &best);
	if (o->json) {
		json_t *b = found ? settings_to_json(&best) : json_null();
		json_object_set_new(b, "tps", json_real(tps));
		json_object_set_new(b, "flags", json_string(flags));
		hr_cli_write_json(json_pack("{s:s, s:o, s:O, s:s, s:o}", "model", o->target, "best", b, "trials",
		                            c->trials, "stopped", c->stopped, "profile",
		                            code ? json_null() : json_string(o->plan.cache_dir)),
		                  false);
	} else {
		printf("\n  %s after %d trials", c->stopped, n);
		if (found)
			printf(": %.2f tokens/s with\n  %s\n", tps, flags);
		printf("%s", !code ? "" : found ? "  Nothing was kept.\n" : ".\n");
		if (!code)
			printf("  Kept in %s; later runs with this model use it.\n", o->plan.cache_dir);
	}
	return code;
}

/* What to tune for: the flags, or what is usual. */
static struct hr_tuner_job settle_job(struct hr_cli_options *o, const struct hr_model_info *m)
{
	struct hr_tuner_job job = {o->tune_prompt, o->tune_gen < 0 ? DEFAULT_GEN : o->tune_gen};
	if (m->encoder) {
		int usual = m->max_tokens > 0 && m->max_tokens < HR_CLI_ENCODER_TOKENS ? m->max_tokens
		                                                                       : HR_CLI_ENCODER_TOKENS;
		job = (struct hr_tuner_job){job.n_prompt ? job.n_prompt : usual, 0};
		o->plan.n_seqs = o->plan.n_seqs ? o->plan.n_seqs : HR_CLI_ENCODER_TEXTS;
	} else if (!o->plan.n_ctx && (job.n_prompt || o->plan.n_seqs > 1)) {
		int need = job.n_prompt + job.n_gen + CONTEXT_ROOM;
		o->plan.n_ctx = m->n_ctx_train > 0 && need > m->n_ctx_train ? m->n_ctx_train : need;
	}
	return job;
}

static int tune(const struct hr_model *model, struct hr_cli_options *o)
{
	double          minutes = o->minutes > 0 ? (double)o->minutes : default_minutes;
	struct hr_error err;
	struct course   c = {.o = o, .job = settle_job(o, hr_model_info(model)), .begin = hr_cli_now_seconds()};
	c.end = c.begin + 60 * minutes;
	hr_cli_show_status("measuring the disk and the layers, unless that was done before");
	if (hr_tuner_new(&c.tuner, model, &o->plan, &c.job, &err))
		return hr_cli_fail_error(&err);
	hr_cli_hide_status();
	c.trials = json_array();
	if (!o->json)
		print_head();
	run_trials(&c);
	int code = finish(&c);
	json_decref(c.trials);
	hr_tuner_free(c.tuner);
	return code;
}

int hr_cli_tune(struct hr_cli_options *o)
{
	struct hr_model *model = NULL;
	char            *map = NULL;
	int              code = hr_cli_resolve(o, &map);
	if (!code && o->plan.full)
		code = hr_cli_fail_usage("--window full leaves nothing to tune: all layers stay.");
	if (!code)
		code = hr_cli_open_model(&model, o);
	if (!code) {
		hr_cli_hold_interrupts(true);
		code = o->io_only ? tune_io(model, o) : tune(model, o);
	}
	hr_model_close(model);
	free(map);
	return code;
}
