/* Hill climbing with a map. From the best point so far the neighbours are tried, first the one
 * in the direction that paid last, then in the order of what they are predicted to reach; those
 * that are predicted to be clearly slower are left out. A point takes over when it is
 * better by more than the noise of both. The search is over when no neighbour is left, so
 * that a good first guess costs one trial and one for each promising neighbour. */
#include "scheduler/tune.h"

#include <math.h>
#include <string.h>

#define CLEARLY_SLOWER 0.04 /* of the best's prediction */
#define LEAST_GAIN     0.01 /* of a score: less is noise, whatever the samples say */

void hr_tune_begin(struct hr_tune *t, const struct hr_tune_point *start)
{
	if (t->max_trials < 1 || t->max_trials > HR_TUNE_MAX_TRIALS)
		t->max_trials = HR_TUNE_MAX_TRIALS;
	t->trials[0].point = *start;
	t->n_trials = t->step = 0;
	t->best = -1;
}

static bool is_tried(const struct hr_tune *t, const struct hr_tune_point *p)
{
	for (int i = 0; i < t->n_trials; i++)
		if (!memcmp(t->trials[i].point.at, p->at, (size_t)t->n_dims * sizeof p->at[0]))
			return true;
	return false;
}

static double predicted(const struct hr_tune *t, const struct hr_tune_point *p)
{
	return t->predict ? t->predict(t->user, p) : 0;
}

/* The neighbour of `from` in a dimension, `value` there; false: there is none, or it was tried. */
static bool neighbour(const struct hr_tune *t, const struct hr_tune_point *from, int dim, int value,
                      struct hr_tune_point *out)
{
	*out = *from;
	out->at[dim] = value;
	bool near = !t->is_ordered[dim] || value - from->at[dim] == 1 || value - from->at[dim] == -1;
	return value >= 0 && value < t->n_values[dim] && near && !is_tried(t, out);
}

/* The untried neighbour of `from` that promises most. */
static bool find_neighbour(const struct hr_tune *t, const struct hr_tune_point *from,
                           struct hr_tune_point *found)
{
	double here = predicted(t, from), most = -1;
	for (int dim = 0; dim < t->n_dims; dim++) {
		for (int value = 0; value < t->n_values[dim]; value++) {
			struct hr_tune_point p;
			if (!neighbour(t, from, dim, value, &p))
				continue;
			double score = predicted(t, &p);
			if (score < 0 || (score > 0 && here > 0 && score < here * (1 - CLEARLY_SLOWER)))
				continue;
			if (t->step && dim == t->dim && value - from->at[dim] == t->step)
				score = INFINITY;
			if (score > most) {
				most = score;
				*found = p;
			}
		}
	}
	return most >= 0;
}

bool hr_tune_next(struct hr_tune *t, struct hr_tune_point *point)
{
	if (t->n_trials == t->max_trials)
		return false;
	t->asked = t->trials[0].point;
	if (t->n_trials && !find_neighbour(t, &t->trials[t->best < 0 ? 0 : t->best].point, &t->asked))
		return false;
	*point = t->asked;
	return true;
}

void hr_tune_tell(struct hr_tune *t, double score, double noise)
{
	struct hr_tune_point  point = t->asked;
	struct hr_tune_trial *trial = &t->trials[t->n_trials];
	*trial = (struct hr_tune_trial){point, score};
	int                         old = t->best;
	const struct hr_tune_trial *best = old < 0 ? NULL : &t->trials[old];
	double margin = best ? fmax(fmax(noise, t->best_noise), best->score * LEAST_GAIN) : 0;
	if (score > 0 && (!best || score > best->score + margin)) {
		t->best = t->n_trials;
		t->best_noise = noise;
		t->step = 0;
		for (int dim = 0; best && dim < t->n_dims; dim++) {
			if (point.at[dim] != best->point.at[dim]) {
				t->dim = dim;
				t->step = point.at[dim] - best->point.at[dim];
			}
		}
	}
	t->n_trials++;
}
