/* `headrace tune`: the tuner of the library, with each of its trials run as `headrace bench`
 * in a process of its own: one that fails, or is killed for memory, costs one trial. The
 * table grows as they end; what won is kept as the profile that later runs use. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { MAX_WORDS = 64, WORD_BYTES = 64, OUTPUT_BYTES = 1 << 16 };
static const double default_minutes = 3, trial_seconds = 0.8, longest_trial_seconds = 120;

static double now_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- One trial ------------------------------------------------------------------- */

struct trial {
	struct hr_plan_options plan;
	double                 predicted_tps;
	double                 tps, noise; /* 0: it failed */
	char                   why[200];
};

struct command {
	char  text[MAX_WORDS][WORD_BYTES];
	char *words[MAX_WORDS + 1];
	int   n;
};

__attribute__((format(printf, 3, 4))) static void add_flag(struct command *c, const char *name,
                                                           const char *fmt, ...)
{
	va_list args;
	if (c->n + 2 > MAX_WORDS)
		return;
	c->words[c->n++] = (char *)name;
	va_start(args, fmt);
	vsnprintf(c->text[c->n], WORD_BYTES, fmt, args);
	va_end(args);
	c->words[c->n] = c->text[c->n];
	c->n++;
}

/* `headrace bench` with every setting said, so that nothing is chosen twice. */
static void make_command(struct command *c, const struct hr_cli_options *o, const struct trial *t)
{
	const struct hr_plan_options *p = &t->plan;
	int                           seqs = p->n_seqs ? p->n_seqs : 1;
	double                        rate = t->predicted_tps > 0 ? t->predicted_tps / seqs : 10; /* of passes */
	int n_gen = rate * trial_seconds < 6 ? 6 : rate * trial_seconds > 64 ? 64 : (int)(rate * trial_seconds);
	c->n = 0;
	c->words[c->n++] = (char *)"headrace";
	c->words[c->n++] = (char *)"bench";
	c->words[c->n++] = (char *)"--model";
	c->words[c->n++] = (char *)o->target;
	c->words[c->n++] = (char *)"--no-full";
	c->words[c->n++] = (char *)"--no-predict";
	add_flag(c, "-p", "%d", 8);
	add_flag(c, "-n", "%d", o->gens ? atoi(o->gens) : n_gen);
	add_flag(c, "-r", "%d", o->repetitions ? o->repetitions : 3);
	add_flag(c, "-o", "jsonl");
	add_flag(c, "--batch", "%d", seqs);
	if (o->dtype)
		add_flag(c, "--dtype", "%s", o->dtype);
	if (o->quantize)
		add_flag(c, "--quantize", "%s", o->quantize);
	add_flag(c, "--device", "%s", p->device);
	add_flag(c, "--device-memory", "%llu", (unsigned long long)p->device_memory_bytes);
	add_flag(c, "--chunk", "%llu", (unsigned long long)p->chunk_bytes);
	add_flag(c, "--read-depth", "%d", p->read_depth);
	add_flag(c, "--reader", "%s", p->reader);
	add_flag(c, "-t", "%d", p->n_threads);
	if (p->slots > 0)
		add_flag(c, "--slots", "%d", p->slots);
	if (p->window_layers != HR_AUTO)
		add_flag(c, "--window", "%d", p->window_layers);
	if (p->resident_layers != HR_AUTO)
		add_flag(c, "--resident-layers", "%d", p->resident_layers);
	if (p->host_memory_bytes)
		add_flag(c, "--host-memory", "%llu", (unsigned long long)p->host_memory_bytes);
	if (p->max_disk_rate)
		add_flag(c, "--max-disk-rate", "%llu", (unsigned long long)p->max_disk_rate);
	if (p->n_batch)
		add_flag(c, "-b", "%d", p->n_batch);
	if (p->kv_type)
		add_flag(c, "--kv-type", "%s", p->kv_type);
	if (p->cpu_isa)
		add_flag(c, "--cpu-isa", "%s", p->cpu_isa);
	c->words[c->n] = NULL;
}

/* Everything that `fd` gives until it ends or the time is up. */
static size_t read_all(int fd, char *out, size_t capacity, double deadline)
{
	size_t n = 0;
	for (;;) {
		double        left = deadline - now_seconds();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (left <= 0 || n + 1 >= capacity || poll(&p, 1, (int)(left * 1e3) + 1) == 0)
			break;
		ssize_t got = read(fd, out + n, capacity - 1 - n);
		if (got < 0 && errno == EINTR && !hr_cli_interrupted())
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	out[n] = 0;
	return n;
}

/* The environment without the twins of flags: a trial is what its command line says. Allocated. */
static char **environment_of_trials(void)
{
	size_t n = 0, kept = 0;
	while (environ[n])
		n++;
	char **out = calloc(n + 1, sizeof *out);
	for (size_t i = 0; out && i < n; i++)
		if (strncmp(environ[i], "HEADRACE_", 9))
			out[kept++] = environ[i];
	return out;
}

/* Start the command with both its outputs in a pipe; its end, or -1. */
static int start(const struct command *c, pid_t *child)
{
	int                        ends[2];
	posix_spawn_file_actions_t actions;
	char                     **environment = environment_of_trials();
	if (!environment || pipe2(ends, O_CLOEXEC)) {
		free(environment);
		return -1;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
	int error = posix_spawn(child, "/proc/self/exe", &actions, NULL, c->words, environment);
	posix_spawn_file_actions_destroy(&actions);
	free(environment);
	close(ends[1]);
	if (error) {
		close(ends[0]);
		errno = error;
		return -1;
	}
	return ends[0];
}

/* The decode's row out of what the child wrote: JSON lines, and sentences in between. */
static void understand(struct trial *t, char *output)
{
	snprintf(t->why, sizeof t->why, "it said nothing");
	for (char *line, *rest = output; (line = strsep(&rest, "\n"));) {
		json_t *row = *line == '{' ? json_loads(line, 0, NULL) : NULL;
		json_t *samples = json_object_get(row, "samples_ns");
		if (json_integer_value(json_object_get(row, "n_gen")) > 0 && json_array_size(samples)) {
			t->tps = json_real_value(json_object_get(row, "median_ts"));
			t->noise = json_real_value(json_object_get(row, "stddev_ts"));
		} else if (json_string_value(json_object_get(row, "note"))) {
			snprintf(t->why, sizeof t->why, "%s", json_string_value(json_object_get(row, "note")));
		} else if (!row && *line) {
			snprintf(t->why, sizeof t->why, "%s", !strncmp(line, "headrace: ", 10) ? line + 10 : line);
		}
		json_decref(row);
	}
}

static void run_trial(struct trial *t, const struct hr_cli_options *o)
{
	static struct command command;
	static char           output[OUTPUT_BYTES];
	pid_t                 child;
	int                   status = 0;
	make_command(&command, o, t);
	t->tps = t->noise = 0;
	int fd = start(&command, &child);
	if (fd < 0) {
		snprintf(t->why, sizeof t->why, "no process could be started: %s", strerror(errno));
		return;
	}
	double deadline = now_seconds() + longest_trial_seconds;
	read_all(fd, output, sizeof output, deadline);
	if (now_seconds() >= deadline)
		kill(child, SIGKILL);
	close(fd);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	understand(t, output);
	if (WIFSIGNALED(status)) {
		t->tps = 0;
		snprintf(t->why, sizeof t->why, "%s",
		         now_seconds() >= deadline ? "it took too long" : strsignal(WTERMSIG(status)));
	}
}

/* ---- The table --------------------------------------------------------------------- */

static void print_head(void)
{
	printf("  %5s  %5s %9s %6s %7s %7s  %10s  %18s\n", "trial", "slots", "chunk", "depth", "reader",
	       "threads", "predicted", "tokens/s");
}

static void print_trial(int number, const struct trial *t, bool best)
{
	char slots[16] = "-", predicted[32] = "-", speed[64];
	if (t->plan.slots > 0)
		snprintf(slots, sizeof slots, "%d", t->plan.slots);
	if (t->predicted_tps > 0)
		snprintf(predicted, sizeof predicted, "%.2f", t->predicted_tps);
	snprintf(speed, sizeof speed, t->tps > 0 ? "%.2f ± %.2f" : "failed", t->tps, t->noise);
	printf("  %5d  %5s %5.4g MiB %6d %7s %7d  %10s  %17s%s%s%s\n", number, slots,
	       (double)t->plan.chunk_bytes / 1048576, t->plan.read_depth, t->plan.reader, t->plan.n_threads,
	       predicted, speed, best ? "  best so far" : "", t->tps > 0 ? "" : "  ", t->tps > 0 ? "" : t->why);
	fflush(stdout);
}

static json_t *trial_to_json(const struct trial *t)
{
	json_t *o =
	    json_pack("{s:I, s:i, s:s, s:i, s:f, s:f, s:f}", "chunk_bytes", (json_int_t)t->plan.chunk_bytes,
	              "read_depth", t->plan.read_depth, "reader", t->plan.reader, "n_threads", t->plan.n_threads,
	              "predicted_tps", t->predicted_tps, "tps", t->tps, "stddev_ts", t->noise);
	json_object_set_new(o, "slots", t->plan.slots > 0 ? json_integer(t->plan.slots) : json_null());
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

static int finish(struct hr_tuner *tuner, const struct hr_cli_options *o, json_t *trials, const char *reason)
{
	struct hr_plan_options best;
	struct hr_error        err;
	double                 tps;
	int                    n;
	if (hr_tuner_best(tuner, &best, &tps, &n))
		return hr_cli_fail("None of the %d trials succeeded; `headrace run %s` says what is wrong.", n,
		                   o->target);
	int code = !o->plan.cache_dir
	               ? hr_cli_fail("There is no place for a profile: set HOME or XDG_CACHE_HOME.")
	           : hr_tuner_store(tuner, &err) ? hr_cli_fail_error(&err)
	                                         : HR_EXIT_OK;
	if (o->json) {
		struct trial t = {.plan = best, .tps = tps};
		json_t      *b = trial_to_json(&t);
		json_object_del(b, "predicted_tps");
		json_object_del(b, "stddev_ts");
		json_object_del(b, "error");
		hr_cli_write_json(json_pack("{s:s, s:o, s:O, s:s, s:o}", "model", o->target, "best", b, "trials",
		                            trials, "stopped", reason, "profile",
		                            code ? json_null() : json_string(o->plan.cache_dir)),
		                  false);
	} else {
		printf("\n  %s after %d trials: %.2f tokens/s\n", reason, n, tps);
		if (!code)
			printf("  kept in %s; later runs with this model use it\n", o->plan.cache_dir);
	}
	return code;
}

static int tune(const struct hr_model *model, struct hr_cli_options *o)
{
	struct hr_tuner *tuner;
	struct hr_error  err;
	struct trial     t = {0};
	const char      *reason = "Nothing near the best is quicker";
	double           minutes = o->minutes > 0 ? (double)o->minutes : default_minutes, best_tps = 0;
	double           end = now_seconds() + 60 * minutes;
	int              n = 0;
	if (hr_tuner_new(&tuner, model, &o->plan, &err))
		return hr_cli_fail_error(&err);
	json_t *trials = json_array();
	if (!o->json)
		print_head();
	while (!hr_cli_interrupted() && hr_tuner_next(tuner, &t.plan, &t.predicted_tps) > 0) {
		if (n && now_seconds() >= end) {
			reason = "The time was used up";
			break;
		}
		run_trial(&t, o);
		if (hr_cli_interrupted())
			break;
		hr_tuner_tell(tuner, t.tps, t.noise);
		struct hr_plan_options best;
		double                 tps = 0;
		int                    n_trials;
		hr_tuner_best(tuner, &best, &tps, &n_trials);
		n++;
		if (!o->json)
			print_trial(n, &t, tps > best_tps);
		best_tps = tps;
		json_array_append_new(trials, trial_to_json(&t));
	}
	int code = hr_cli_interrupted() ? HR_EXIT_INTERRUPTED : finish(tuner, o, trials, reason);
	if (code == HR_EXIT_INTERRUPTED && !o->json)
		printf("\n  Stopped after %d trials; nothing was kept.\n", n);
	json_decref(trials);
	hr_tuner_free(tuner);
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
	if (!code && hr_model_info(model)->encoder)
		code =
		    hr_cli_fail("%s is an encoder, and `headrace tune` is for models that generate text.", o->target);
	if (!code) {
		hr_cli_hold_interrupts(true);
		code = o->io_only ? tune_io(model, o) : tune(model, o);
	}
	hr_model_close(model);
	free(map);
	return code;
}
