/* Sampling: repetition penalty, then top-k, temperature, top-p, min-p, then a draw.
 *
 * Candidates are kept sorted by logit, ties by id, so that a seed gives the same
 * tokens everywhere. Greedy (temperature 0) is the arg max after the penalty.
 * Penalty: Keskar et al. 2019; top-p: Holtzman et al. 2020; min-p: Nguyen et al. 2024. */
#include "runtime/sampler.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>

struct hr_candidate {
	float   logit;
	int32_t id;
	double  p;
};

int hr__sampling_check(const struct hr_sampling *s, struct hr_error *err)
{
	if (!(s->temperature >= 0) || !isfinite(s->temperature))
		return hr__fail(err, HR_EINVAL, "Temperature %g is out of range; use 0 (greedy) or more.",
		                (double)s->temperature);
	if (s->top_k < 0)
		return hr__fail(err, HR_EINVAL, "Top-k %d is out of range; use 0 (off) or more.", s->top_k);
	if (!(s->top_p > 0 && s->top_p <= 1))
		return hr__fail(err, HR_EINVAL, "Top-p %g is out of range; use a value above 0 and up to 1 (off).",
		                (double)s->top_p);
	if (!(s->min_p >= 0 && s->min_p < 1))
		return hr__fail(err, HR_EINVAL, "Min-p %g is out of range; use 0 (off) to below 1.",
		                (double)s->min_p);
	if (!(s->repeat_penalty > 0) || !isfinite(s->repeat_penalty))
		return hr__fail(err, HR_EINVAL, "Repeat penalty %g is out of range; use a value above 0 (1 is off).",
		                (double)s->repeat_penalty);
	if (s->repeat_last_n < 0 || s->repeat_last_n > 1 << 20)
		return hr__fail(err, HR_EINVAL, "A repetition window of %d tokens is out of range.",
		                s->repeat_last_n);
	return 0;
}

static bool is_plain_greedy(const struct hr_sampling *o)
{
	return o->temperature == 0 && o->repeat_penalty == 1;
}

int hr__sampler_init(struct hr_sampler *s, const struct hr_sampling *options, int n_vocab)
{
	*s = (struct hr_sampler){.options = *options, .rng = options->seed, .n_vocab = n_vocab};
	if (options->repeat_penalty != 1)
		s->recent = hr__calloc((size_t)options->repeat_last_n, sizeof *s->recent);
	if (!is_plain_greedy(options))
		s->candidates = hr__calloc((size_t)n_vocab, sizeof *s->candidates);
	bool ok = (options->repeat_penalty == 1 || s->recent) && (is_plain_greedy(options) || s->candidates);
	if (!ok)
		hr__sampler_release(s);
	return ok ? 0 : HR_ENOMEM;
}

void hr__sampler_release(struct hr_sampler *s)
{
	free(s->recent);
	free(s->candidates);
	s->recent = NULL;
	s->candidates = NULL;
}

void hr__sampler_accept(struct hr_sampler *s, int32_t token)
{
	int window = s->options.repeat_last_n;
	if (!s->recent || !window)
		return;
	s->recent[s->recent_at] = token;
	s->recent_at = (s->recent_at + 1) % window;
	if (s->n_recent < window)
		s->n_recent++;
}

static double next_uniform(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t arg_max(const float *logits, int n)
{
	int32_t best = 0;
	for (int32_t i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static void apply_penalty(struct hr_sampler *s)
{
	float penalty = s->options.repeat_penalty;
	for (int i = 0; i < s->n_recent; i++) {
		int32_t id = s->recent[i];
		bool    seen = false;
		for (int j = 0; j < i && !seen; j++)
			seen = s->recent[j] == id;
		if (!seen && id >= 0 && id < s->n_vocab) {
			float *l = &s->candidates[id].logit;
			*l = *l > 0 ? *l / penalty : *l * penalty;
		}
	}
}

static int candidate_compare(const void *a, const void *b)
{
	const struct hr_candidate *p = a, *q = b;
	if (p->logit != q->logit)
		return p->logit > q->logit ? -1 : 1;
	return p->id < q->id ? -1 : p->id > q->id;
}

/* Probabilities of the n best candidates; returns how many top-p and min-p keep. */
static int weigh(struct hr_candidate *c, int n, const struct hr_sampling *o)
{
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += c[i].p = exp(((double)c[i].logit - (double)c[0].logit) / o->temperature);
	double floor = o->min_p * c[0].p, total = 0;
	int    kept = 0;
	while (kept < n && (kept == 0 || (c[kept].p >= floor && total < o->top_p * sum)))
		total += c[kept++].p;
	return kept;
}

/* Draw one of the n best candidates, which are sorted. */
static int32_t draw(struct hr_sampler *s, int n)
{
	const struct hr_candidate *c = s->candidates;
	double                     total = 0, at = 0;
	n = weigh(s->candidates, n, &s->options);
	for (int i = 0; i < n; i++)
		total += c[i].p;
	double drawn = next_uniform(&s->rng) * total;
	for (int i = 0; i < n; i++)
		if ((at += c[i].p) > drawn)
			return c[i].id;
	return c[n - 1].id;
}

int32_t hr__sampler_pick(struct hr_sampler *s, const float *logits)
{
	const struct hr_sampling *o = &s->options;
	struct hr_candidate      *c = s->candidates;
	int                       n = s->n_vocab;
	if (is_plain_greedy(o))
		return arg_max(logits, n);
	for (int i = 0; i < n; i++)
		c[i] = (struct hr_candidate){.logit = logits[i], .id = i};
	apply_penalty(s);
	qsort(c, (size_t)n, sizeof *c, candidate_compare);
	if (o->temperature == 0)
		return c[0].id;
	return draw(s, o->top_k && o->top_k < n ? o->top_k : n);
}

int hr__sampler_top(const struct hr_sampler *s)
{
	const struct hr_sampling *o = &s->options;
	if (o->repeat_penalty != 1)
		return 0;
	int n = o->temperature == 0 ? 1 : o->top_k < s->n_vocab ? o->top_k : s->n_vocab;
	return n <= HR_TOP_MAX ? n : 0;
}

int32_t hr__sampler_pick_top(struct hr_sampler *s, const struct hr_top *top)
{
	int n = hr__sampler_top(s);
	if (is_plain_greedy(&s->options))
		return top[0].id;
	for (int i = 0; i < n; i++)
		s->candidates[i] = (struct hr_candidate){.logit = top[i].value, .id = top[i].id};
	return draw(s, n);
}
