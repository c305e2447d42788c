/* Times prefill and decode of one setting through the public API, one JSON object
 * per repetition on stdout. Prompts are fixed pseudo-random token ids, so any
 * model can be timed, with or without a tokenizer; decode figures leave out the
 * prefill passes. bench/measure runs several settings in turns. */
#include "headrace/headrace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct setting {
	const char            *model;
	double                 budget_fraction; /* of the weights; 0: as options say */
	int                    n_prompt, n_gen, repetitions, n_seqs;
	struct hr_plan_options plan;
};

static int fail(const struct hr_error *err)
{
	fprintf(stderr, "bench_session: %s\n", err->message);
	return 1;
}

static int usage(void)
{
	fprintf(
	    stderr,
	    "usage: bench_session -m MODEL [-p TOKENS] [-n TOKENS] [-r REPETITIONS] [--seqs N] [--full]\n"
	    "  [--budget FRACTION_OF_WEIGHTS] [--device-memory BYTES] [--max-disk-rate BYTES] [--reader NAME]\n"
	    "  [--chunk BYTES] [--depth N] [--slots N] [-t THREADS] [--isa NAME]\n");
	return 2;
}

static int set_option(struct setting *s, const char *name, const char *v)
{
	struct {
		const char  *name;
		int         *i;
		uint64_t    *u;
		const char **text;
	} options[] = {
	    {"-m", NULL, NULL, &s->model},
	    {"-p", &s->n_prompt, NULL, NULL},
	    {"-n", &s->n_gen, NULL, NULL},
	    {"-r", &s->repetitions, NULL, NULL},
	    {"-t", &s->plan.n_threads, NULL, NULL},
	    {"--seqs", &s->n_seqs, NULL, NULL},
	    {"--depth", &s->plan.read_depth, NULL, NULL},
	    {"--slots", &s->plan.slots, NULL, NULL},
	    {"--device-memory", NULL, &s->plan.device_memory_bytes, NULL},
	    {"--max-disk-rate", NULL, &s->plan.max_disk_rate, NULL},
	    {"--chunk", NULL, &s->plan.chunk_bytes, NULL},
	    {"--reader", NULL, NULL, &s->plan.reader},
	    {"--isa", NULL, NULL, &s->plan.cpu_isa},
	};
	if (!strcmp(name, "--budget")) {
		s->budget_fraction = atof(v);
		return 0;
	}
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		if (strcmp(name, options[i].name))
			continue;
		if (options[i].i)
			*options[i].i = atoi(v);
		else if (options[i].u)
			*options[i].u = strtoull(v, NULL, 10);
		else
			*options[i].text = v;
		return 0;
	}
	return usage();
}

static int parse(struct setting *s, int argc, char **argv)
{
	*s = (struct setting){.n_prompt = 512, .n_gen = 32, .repetitions = 3, .n_seqs = 1};
	hr_plan_options_init(&s->plan);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--full"))
			s->plan.full = true;
		else if (i + 1 == argc || set_option(s, argv[i], argv[i + 1]))
			return usage();
		else
			i++;
	}
	bool sane = s->model && s->n_prompt > 0 && s->n_gen >= 0 && s->repetitions > 0 && s->n_seqs > 0;
	return sane ? 0 : usage();
}

static int submit(struct hr_session *session, const struct setting *s, int n_vocab, int seq, uint64_t *id,
                  struct hr_error *err)
{
	int32_t *ids = calloc((size_t)s->n_prompt, sizeof *ids);
	uint64_t x = 88172645463325252u + (uint64_t)seq;
	for (int i = 0; i < s->n_prompt; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		ids[i] = (int32_t)(x % (uint64_t)n_vocab);
	}
	struct hr_request r;
	hr_request_init(&r);
	r.ids = ids;
	r.n_ids = (size_t)s->n_prompt;
	r.max_new_tokens = s->n_gen + 1; /* the prefill itself samples the first */
	r.ignore_eos = true;
	r.hash_logits = false;
	int rc = hr_session_submit(session, &r, id, err);
	free(ids);
	return rc;
}

static void print_figures(struct hr_session *session, const struct hr_report *prefill,
                          const struct hr_report *decode)
{
	const struct hr_plan_info *p = hr_plan_info(hr_session_plan(session));
	double                     decode_s = decode->decode_ms / 1000, prefill_s = prefill->prefill_ms / 1000;
	printf("{\"window_layers\": %d, \"resident_layers\": %d, \"slots\": %d, \"disk_layers\": %d, \"reader\": "
	       "\"%s\", "
	       "\"chunk_bytes\": %llu, \"read_depth\": %d, \"device_bytes\": %llu, ",
	       p->window_layers, p->resident_layers, p->slots, p->disk_layers, p->reader,
	       (unsigned long long)p->chunk_bytes, p->read_depth, (unsigned long long)p->device_bytes);
	printf("\"prefill_tps\": %.3f, \"prefill_efficiency\": %.4f, \"decode_tps\": %.3f, \"decode_pass_ms\": "
	       "%.3f, "
	       "\"decode_efficiency\": %.4f, \"compute_ms\": %.2f, \"stall_ms\": %.2f, \"ceiling_ms\": %.2f, "
	       "\"decode_ms\": %.2f, ",
	       prefill_s > 0 ? (double)prefill->prefill_tokens / prefill_s : 0, prefill->efficiency,
	       decode_s > 0 ? (double)decode->decode_tokens / decode_s : 0, decode->decode_pass_ms_median,
	       decode->efficiency, decode->compute_ms, decode->stall_ms, decode->ceiling_ms, decode->decode_ms);
	printf("\"disk_bytes\": %llu, \"disk_busy_gbps\": %.3f, \"disk_gbps\": %.3f, \"rss_peak_bytes\": %llu}\n",
	       (unsigned long long)decode->disk_bytes, decode->disk_gbps,
	       decode_s > 0 ? (double)decode->disk_bytes * 1e-9 / decode_s : 0,
	       (unsigned long long)decode->rss_peak_bytes);
	fflush(stdout);
}

/* One prompt (per sequence) and its generation; prints a line. */
static int repeat(struct hr_session *session, const struct setting *s, int n_vocab, struct hr_error *err)
{
	struct hr_report prefill = {0}, decode = {0};
	int              rc = 0;
	bool             generating = false;
	uint64_t        *ids = calloc((size_t)s->n_seqs, sizeof *ids);
	for (int i = 0; i < s->n_seqs && !rc; i++)
		rc = submit(session, s, n_vocab, i, &ids[i], err);
	hr_session_reset_report(session);
	while (!rc && (rc = hr_session_step(session, err)) >= 0) {
		struct hr_request_state last;
		hr_session_state(session, ids[s->n_seqs - 1], &last);
		if (!generating && last.n_new_tokens) {
			generating = true;
			hr_session_report(session, &prefill);
			hr_session_reset_report(session);
		}
		if (rc == 0)
			break;
		rc = 0;
	}
	if (!rc) {
		hr_session_report(session, &decode);
		print_figures(session, &prefill, &decode);
	}
	for (int i = 0; i < s->n_seqs; i++)
		hr_session_forget(session, ids[i]);
	free(ids);
	return rc;
}

int main(int argc, char **argv)
{
	struct setting     s;
	struct hr_error    err;
	struct hr_model   *model;
	struct hr_session *session;
	int                rc = parse(&s, argc, argv);
	if (rc)
		return rc;
	if (hr_model_open(&model, s.model, &err))
		return fail(&err);
	const struct hr_model_info *info = hr_model_info(model);
	if (s.budget_fraction > 0)
		s.plan.device_memory_bytes = (uint64_t)(s.budget_fraction * (double)info->weight_bytes);
	s.plan.n_ctx = s.n_prompt + s.n_gen + 2;
	s.plan.n_seqs = s.n_seqs;
	s.plan.n_batch = s.n_prompt < 4096 ? s.n_prompt : 4096;
	rc = hr_session_open(&session, model, &s.plan, &err);
	if (!rc) {
		for (int r = 0; r < s.repetitions && !rc; r++)
			rc = repeat(session, &s, info->n_vocab, &err);
		hr_session_close(session);
	}
	hr_model_close(model);
	return rc ? fail(&err) : 0;
}
