/* The tuner's search on landscapes that are known: it ends near the best point of the whole grid
 * in a small share of its trials, whatever fails and however much noise there is. */
#include "scheduler/tune.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { DIMS = 4 };
static const int n_values[DIMS] = {5, 5, 5, 2};

static uint32_t state;

static double random_unit(void)
{
	state = state * 1664525u + 1013904223u;
	return (state >> 8) / 16777216.0;
}

/* A smooth hill whose top depends on the seed, lower by a fifth on one side of the last dimension. */
struct hill {
	double top[DIMS], slope[DIMS];
};

static struct hill make_hill(uint32_t seed)
{
	struct hill h;
	state = seed;
	for (int i = 0; i < DIMS; i++) {
		h.top[i] = random_unit() * (n_values[i] - 1);
		h.slope[i] = 0.02 + 0.1 * random_unit();
	}
	return h;
}

static double height(const struct hill *h, const struct hr_tune_point *p)
{
	double x = 0;
	for (int i = 0; i < DIMS; i++)
		x += h->slope[i] * fabs(p->at[i] - h->top[i]);
	return 100 / (1 + x);
}

static double best_height(const struct hill *h)
{
	double               best = 0;
	struct hr_tune_point p;
	for (p.at[0] = 0; p.at[0] < 5; p.at[0]++)
		for (p.at[1] = 0; p.at[1] < 5; p.at[1]++)
			for (p.at[2] = 0; p.at[2] < 5; p.at[2]++)
				for (p.at[3] = 0; p.at[3] < 2; p.at[3]++)
					best = fmax(best, height(h, &p));
	return best;
}

static struct hr_tune make_tune(hr_tune_predict_fn predict, void *user)
{
	struct hr_tune t = {.n_dims = DIMS, .predict = predict, .user = user};
	for (int i = 0; i < DIMS; i++) {
		t.n_values[i] = n_values[i];
		t.is_ordered[i] = i < 3;
	}
	return t;
}

static double run(struct hr_tune *t, const struct hill *h, const struct hr_tune_point *start, double noise,
                  int fails)
{
	struct hr_tune_point p;
	hr_tune_begin(t, start);
	for (int i = 0; hr_tune_next(t, &p); i++) {
		for (int d = 0; d < DIMS; d++)
			assert_in_range(p.at[d], 0, n_values[d] - 1);
		double score = height(h, &p) * (1 + noise * (random_unit() - 0.5));
		hr_tune_tell(t, fails && i % fails == fails - 1 ? 0 : score, noise * score / 2);
	}
	return t->best < 0 ? 0 : height(h, &t->trials[t->best].point);
}

static double predict_roughly(void *user, const struct hr_tune_point *p)
{
	struct hill h = *(const struct hill *)user;
	h.top[0] += 0.3;
	return height(&h, p);
}

static void test_climbs(void **s)
{
	(void)s;
	for (uint32_t seed = 0; seed < 200; seed++) {
		struct hill          h = make_hill(seed);
		struct hr_tune       t = make_tune(NULL, NULL);
		struct hr_tune_point start = {{2, 2, 2, 0}};
		assert_true(run(&t, &h, &start, 0, 0) >= 0.97 * best_height(&h));
		assert_true(t.n_trials <= 40);
	}
}

static void test_a_map_saves_trials(void **s)
{
	(void)s;
	int with = 0, without = 0;
	for (uint32_t seed = 0; seed < 200; seed++) {
		struct hill          h = make_hill(seed);
		struct hr_tune       t = make_tune(predict_roughly, &h), blind = make_tune(NULL, NULL);
		struct hr_tune_point start;
		for (int i = 0; i < DIMS; i++)
			start.at[i] = (int)lround(h.top[i]); /* as a planner would guess */
		assert_true(run(&t, &h, &start, 0, 0) >= 0.97 * best_height(&h));
		run(&blind, &h, &start, 0, 0);
		assert_true(t.n_trials <= 12);
		with += t.n_trials;
		without += blind.n_trials;
	}
	assert_true(with < 0.8 * without);
}

static double forbid_the_right_half(void *user, const struct hr_tune_point *p)
{
	(void)user;
	return p->at[0] > 2 ? -1 : 0;
}

static void test_what_cannot_be_had_is_not_tried(void **s)
{
	(void)s;
	struct hill          h = {.top = {4, 2, 2, 0}, .slope = {0.1, 0.1, 0.1, 0.1}};
	struct hr_tune       t = make_tune(forbid_the_right_half, NULL);
	struct hr_tune_point start = {{1, 2, 2, 0}};
	run(&t, &h, &start, 0, 0);
	assert_int_equal(t.trials[t.best].point.at[0], 2);
	for (int i = 0; i < t.n_trials; i++)
		assert_in_range(t.trials[i].point.at[0], 0, 2);
}

static void test_noise_and_failures(void **s)
{
	(void)s;
	for (uint32_t seed = 0; seed < 200; seed++) {
		struct hill          h = make_hill(seed);
		struct hr_tune       t = make_tune(NULL, NULL);
		struct hr_tune_point start = {{2, 2, 2, 0}};
		double               at_start = height(&h, &start);
		double               got = run(&t, &h, &start, 0.04, seed % 2 ? 4 : 0);
		assert_true(got >= at_start * 0.95); /* never fooled into much worse */
		for (int i = 0; i < t.n_trials; i++)
			for (int j = 0; j < i; j++) { /* and nothing is tried twice */
				bool same = true;
				for (int d = 0; d < DIMS; d++)
					same &= t.trials[i].point.at[d] == t.trials[j].point.at[d];
				assert_false(same);
			}
	}
}

static void test_everything_fails(void **s)
{
	(void)s;
	struct hill          h = make_hill(1);
	struct hr_tune       t = make_tune(NULL, NULL);
	struct hr_tune_point start = {{0, 0, 0, 0}};
	assert_true(run(&t, &h, &start, 0, 1) == 0);
	assert_int_equal(t.best, -1);
	assert_int_equal(t.n_trials, 5); /* the start and its neighbours */
}

static void test_trials_are_bounded(void **s)
{
	(void)s;
	struct hill          h = make_hill(3);
	struct hr_tune       t = make_tune(NULL, NULL);
	struct hr_tune_point start = {{0, 0, 0, 0}};
	t.max_trials = 3;
	assert_true(run(&t, &h, &start, 0, 0) > 0);
	assert_int_equal(t.n_trials, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_climbs),
	    cmocka_unit_test(test_a_map_saves_trials),
	    cmocka_unit_test(test_what_cannot_be_had_is_not_tried),
	    cmocka_unit_test(test_noise_and_failures),
	    cmocka_unit_test(test_everything_fails),
	    cmocka_unit_test(test_trials_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
