/* One trial of the tuner: `headrace bench` with every setting said, in a process of its own,
 * so that one that fails, or is killed for memory, costs no more than itself. */
#include "cli/tune.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
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

enum { MAX_WORDS = 64, WORD_BYTES = 64, OUTPUT_BYTES = 1 << 16, STATUS_MS = 250 };
static const double trial_seconds = 0.8, longest_trial_seconds = 120;

double hr_cli_now_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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

/* A trial generates as many tokens as take a second, and no more than the job. */
static int tokens_of_trial(const struct hr_cli_trial *t, const struct hr_tuner_job *job)
{
	int    seqs = t->plan.n_seqs ? t->plan.n_seqs : 1;
	double rate = t->predicted_tps > 0 ? t->predicted_tps / seqs : 10; /* of passes */
	double n = fmin(fmax(rate * trial_seconds, 6), 64);
	return (int)fmin(n, job->n_gen);
}

/* `headrace bench` with every setting said, so that nothing is chosen twice. */
static void make_command(struct command *c, const struct hr_cli_options *o, const struct hr_cli_trial *t,
                         const struct hr_tuner_job *job)
{
	const struct hr_plan_options *p = &t->plan;
	c->n = 0;
	c->words[c->n++] = (char *)"headrace";
	c->words[c->n++] = (char *)"bench";
	c->words[c->n++] = (char *)"--model";
	c->words[c->n++] = (char *)o->target;
	c->words[c->n++] = (char *)"--no-full";
	c->words[c->n++] = (char *)"--no-predict";
	add_flag(c, "-p", "%d", job->n_prompt ? job->n_prompt : 8);
	add_flag(c, "-n", "%d", tokens_of_trial(t, job));
	add_flag(c, "-r", "%d", o->repetitions ? o->repetitions : 3);
	add_flag(c, "-o", "jsonl");
	add_flag(c, "--batch", "%d", p->n_seqs ? p->n_seqs : 1);
	add_flag(c, "-b", "%d", p->n_batch);
	add_flag(c, "-c", "%d", p->n_ctx);
	if (o->dtype)
		add_flag(c, "--dtype", "%s", o->dtype);
	if (o->quantize)
		add_flag(c, "--quantize", "%s", o->quantize);
	add_flag(c, "--device", "%s", p->device);
	add_flag(c, "--device-memory", "%llu", (unsigned long long)p->device_memory_bytes);
	add_flag(c, "--chunk", "%llu", (unsigned long long)p->chunk_bytes);
	add_flag(c, "--read-depth", "%d", p->read_depth);
	add_flag(c, "--reader", "%s", p->reader);
	if (p->staging_buffers)
		add_flag(c, "--staging", "%d", p->staging_buffers);
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
	if (p->kv_type)
		add_flag(c, "--kv-type", "%s", p->kv_type);
	if (p->cpu_isa)
		add_flag(c, "--cpu-isa", "%s", p->cpu_isa);
	c->words[c->n] = NULL;
}

/* Everything that `fd` gives until it ends, the time is up or Ctrl-C comes. */
static void read_all(int fd, char *out, size_t capacity, double deadline, void (*status)(void *), void *user)
{
	size_t n = 0;
	while (n + 1 < capacity && hr_cli_now_seconds() < deadline && !hr_cli_interrupted()) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		status(user);
		if (poll(&p, 1, STATUS_MS) <= 0)
			continue;
		ssize_t got = read(fd, out + n, capacity - 1 - n);
		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	out[n] = 0;
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

/* What the phases of the job took, as a trial's rows say; its decode may be a part of the job's. */
struct sums {
	double ns, variance, tokens;
	int    n_phases;
};

static void add_row(struct sums *sums, const json_t *row, const struct hr_tuner_job *job)
{
	json_int_t n_gen = json_integer_value(json_object_get(row, "n_gen"));
	double     ns = json_number_value(json_object_get(row, "median_ns"));
	double     noise = json_number_value(json_object_get(row, "stddev_ns"));
	double     share = n_gen ? (double)job->n_gen / (double)n_gen : job->n_prompt ? 1 : 0;
	if (!share)
		return;
	sums->ns += ns * share;
	sums->variance += noise * share * noise * share;
	sums->tokens += ns * share * 1e-9 * json_number_value(json_object_get(row, "median_ts"));
	sums->n_phases++;
}

/* The rows out of what the child wrote: JSON lines, and sentences in between. */
static void understand(struct hr_cli_trial *t, const struct hr_tuner_job *job, char *output)
{
	struct sums sums = {0};
	snprintf(t->why, sizeof t->why, "it said nothing");
	for (char *line, *rest = output; (line = strsep(&rest, "\n"));) {
		json_t *row = *line == '{' ? json_loads(line, 0, NULL) : NULL;
		if (json_array_size(json_object_get(row, "samples_ns"))) {
			add_row(&sums, row, job);
			t->resident_layers = (int)json_integer_value(json_object_get(row, "resident_layers"));
			t->kept_share = json_number_value(json_object_get(row, "kept_share"));
			t->slots = (int)json_integer_value(json_object_get(row, "slots"));
		} else if (!row && *line) {
			snprintf(t->why, sizeof t->why, "%s", !strncmp(line, "headrace: ", 10) ? line + 10 : line);
		}
		json_decref(row);
	}
	if (sums.n_phases == (job->n_prompt > 0) + (job->n_gen > 0)) {
		t->tps = sums.tokens * 1e9 / sums.ns;
		t->noise = t->tps * sqrt(sums.variance) / sums.ns;
	}
}

void hr_cli_run_trial(struct hr_cli_trial *t, const struct hr_cli_options *o, const struct hr_tuner_job *job,
                      void (*status)(void *), void *user)
{
	static struct command command;
	static char           output[OUTPUT_BYTES];
	pid_t                 child;
	int                   how = 0;
	make_command(&command, o, t, job);
	t->tps = t->noise = 0;
	t->resident_layers = t->slots = 0;
	t->kept_share = 0;
	int fd = start(&command, &child);
	if (fd < 0) {
		snprintf(t->why, sizeof t->why, "no process could be started: %s", strerror(errno));
		return;
	}
	double deadline = hr_cli_now_seconds() + longest_trial_seconds;
	read_all(fd, output, sizeof output, deadline, status, user);
	bool too_long = hr_cli_now_seconds() >= deadline;
	if (too_long || hr_cli_interrupted())
		kill(child, SIGKILL); /* it holds nothing that could be lost */
	close(fd);
	while (waitpid(child, &how, 0) < 0 && errno == EINTR)
		;
	understand(t, job, output);
	if (WIFSIGNALED(how)) {
		t->tps = 0;
		snprintf(t->why, sizeof t->why, "%s", too_long ? "it took too long" : strsignal(WTERMSIG(how)));
	}
}
