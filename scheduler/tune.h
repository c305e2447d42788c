/* The search of the tuner: which setting to try next. It knows settings as points of a small
 * grid and how quick each turned out to be; running them is somebody else's business. */
#ifndef HR_SCHEDULER_TUNE_H
#define HR_SCHEDULER_TUNE_H

#include <stdbool.h>

#define HR_TUNE_MAX_DIMS   8
#define HR_TUNE_MAX_TRIALS 64

struct hr_tune_point {
	int at[HR_TUNE_MAX_DIMS]; /* an index in each dimension */
};

struct hr_tune_trial {
	struct hr_tune_point point;
	double               score; /* tokens/s; 0: it failed */
};

/* What a point is predicted to reach; 0: nobody knows, try it; below 0: it can't be had. */
typedef double (*hr_tune_predict_fn)(void *user, const struct hr_tune_point *point);

struct hr_tune {
	int                n_dims, n_values[HR_TUNE_MAX_DIMS];
	bool               is_ordered[HR_TUNE_MAX_DIMS]; /* neighbours are alike; otherwise all are neighbours */
	hr_tune_predict_fn predict;                      /* NULL: nothing is predicted */
	void              *user;
	int                max_trials;
	struct hr_tune_trial trials[HR_TUNE_MAX_TRIALS];
	int                  n_trials, best; /* best: its index, -1: none succeeded yet */
	double               best_noise;     /* of its score, absolute */
	int                  dim, step;      /* of the last move that paid; step 0: none */
	struct hr_tune_point asked;          /* by the last hr_tune_next() */
};

/* Begin at `start`. The first five fields and predict are the caller's, set before. */
void hr_tune_begin(struct hr_tune *t, const struct hr_tune_point *start);

/* The point to try; false: nothing near the best is left that could beat it, or the trials are used. */
bool hr_tune_next(struct hr_tune *t, struct hr_tune_point *point);

/* What it reached, and how far off that may be. */
void hr_tune_tell(struct hr_tune *t, double score, double noise);

#endif
