/* How far a model drifts from another one of the same weights: what quantising costs.
 *
 * Both read the same text; at every position their distributions of the next token are compared. On
 * stdout, a JSON object for each model: the perplexity of the text, the mean divergence (Kullback-Leibler,
 * nats) from the first model, the root mean square difference of the logits (their mean taken off), and how
 * often the likeliest token is the same.
 *
 *   bench_drift REFERENCE MODEL... TEXT [N_TOKENS] */
#include "headrace/headrace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 512 };

struct drift {
	const int32_t *ids;
	size_t         n_ids;
	size_t         begin;     /* of the piece being read */
	float         *reference; /* [n_ids][n_vocab] logits of the first model */
	bool           first;
	double         nats, divergence, squares, same;
	size_t         n_scored;
};

static double log_sum(const float *x, int n, double *mean, int *best)
{
	double sum = 0, total = 0;
	*best = 0;
	for (int i = 1; i < n; i++)
		if (x[i] > x[*best])
			*best = i;
	for (int i = 0; i < n; i++) {
		sum += exp((double)x[i] - x[*best]);
		total += x[i];
	}
	*mean = total / n;
	return x[*best] + log(sum);
}

static void on_logits(void *user, uint64_t id, int position, const float *logits, int n_vocab)
{
	struct drift *d = user;
	size_t        at = d->begin + (size_t)position;
	double        mean, mean_reference;
	int           best, best_reference;
	float        *reference = d->reference + at * (size_t)n_vocab;
	(void)id;
	if (at + 1 >= d->n_ids || position + 1 >= CONTEXT)
		return;
	if (d->first)
		memcpy(reference, logits, (size_t)n_vocab * sizeof *logits);
	double sum = log_sum(logits, n_vocab, &mean, &best);
	double sum_reference = log_sum(reference, n_vocab, &mean_reference, &best_reference);
	d->nats += sum - logits[d->ids[at + 1]];
	d->n_scored++;
	for (int i = 0; i < n_vocab; i++) {
		double difference = (logits[i] - mean) - (reference[i] - mean_reference);
		d->divergence +=
		    exp(reference[i] - sum_reference) * ((reference[i] - sum_reference) - (logits[i] - sum));
		d->squares += difference * difference / n_vocab;
	}
	d->same += best == best_reference;
}

static int read_text(struct hr_session *session, struct drift *d, struct hr_error *err)
{
	int rc = 0;
	for (d->begin = 0; d->begin < d->n_ids && rc >= 0; d->begin += CONTEXT) {
		struct hr_request request;
		uint64_t          id;
		hr_request_init(&request);
		request.ids = d->ids + d->begin;
		request.n_ids = d->n_ids - d->begin < CONTEXT ? d->n_ids - d->begin : CONTEXT;
		request.max_new_tokens = 1;
		request.ignore_eos = request.logits_all = true;
		request.on_logits = on_logits;
		request.user = d;
		rc = hr_session_submit(session, &request, &id, err);
		while (!rc && (rc = hr_session_step(session, err)) > 0)
			rc = 0;
		hr_session_forget(session, id);
	}
	return rc;
}

static int measure(const char *path, const char *text, size_t limit, struct drift *d, int32_t **ids,
                   struct hr_error *err)
{
	struct hr_model       *model = NULL;
	struct hr_session     *session = NULL;
	struct hr_plan_options options;
	hr_plan_options_init(&options);
	options.device = "cpu";
	options.n_ctx = CONTEXT + 1;
	int rc = hr_model_open(&model, path, err);
	if (!rc && !*ids) {
		int64_t n = hr_model_tokenize(model, text, strlen(text), true, false, NULL, 0, err);
		rc = n < 0 ? (int)n : 0;
		*ids = rc ? NULL : malloc((size_t)n * sizeof **ids);
		if (*ids)
			hr_model_tokenize(model, text, strlen(text), true, false, *ids, (size_t)n, err);
		d->ids = *ids;
		d->n_ids = rc ? 0 : (size_t)n < limit ? (size_t)n : limit;
		d->reference = rc ? NULL : malloc(d->n_ids * (size_t)hr_model_info(model)->n_vocab * sizeof(float));
		d->first = true;
	}
	if (!rc)
		rc = hr_session_open(&session, model, &options, err);
	if (!rc)
		rc = read_text(session, d, err);
	if (!rc)
		printf(
		    "{\"model\": \"%s\", \"tokens\": %zu, \"perplexity\": %.5f, \"divergence\": %.6f, \"logit_rms\": "
		    "%.5f, \"same_top\": %.4f}\n",
		    path, d->n_scored, exp(d->nats / (double)d->n_scored), d->divergence / (double)d->n_scored,
		    sqrt(d->squares / (double)d->n_scored), d->same / (double)d->n_scored);
	fflush(stdout);
	hr_session_close(session);
	hr_model_close(model);
	d->first = false;
	d->nats = d->divergence = d->squares = d->same = 0;
	d->n_scored = 0;
	return rc;
}

int main(int argc, char **argv)
{
	static char     text[1 << 20];
	struct drift    d = {0};
	struct hr_error err = {0};
	int32_t        *ids = NULL;
	bool            has_limit = argc > 3 && strspn(argv[argc - 1], "0123456789") == strlen(argv[argc - 1]);
	int             last = argc - 1 - has_limit; /* TEXT */
	size_t          limit = has_limit ? (size_t)atol(argv[argc - 1]) : 2048;
	FILE           *f = last > 1 ? fopen(argv[last], "r") : NULL;
	if (!f) {
		fprintf(stderr, "usage: bench_drift REFERENCE MODEL... TEXT [N_TOKENS]\n");
		return 2;
	}
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	int rc = 0;
	for (int i = 1; i < last && !rc; i++)
		rc = measure(argv[i], text, limit, &d, &ids, &err);
	if (rc)
		fprintf(stderr, "bench_drift: %s\n", err.message);
	free(ids);
	free(d.reference);
	return rc ? 1 : 0;
}
