/* Sampling: what each setting keeps, ties, seeds, and the share each token gets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sampler.h"

static const struct hr_sampling off = {.top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64};

/* How often each of 4 tokens is drawn in n tries. */
static void draw(struct hr_sampling o, const float *logits, int n, int counts[4])
{
	struct hr_sampler s;
	assert_int_equal(hr__sampler_init(&s, &o, 4), 0);
	for (int i = 0; i < 4; i++)
		counts[i] = 0;
	for (int i = 0; i < n; i++)
		counts[hr__sampler_pick(&s, logits)]++;
	hr__sampler_release(&s);
}

static void greedy_takes_the_largest_and_the_lower_id_of_two(void **state)
{
	(void)state;
	struct hr_sampler s;
	assert_int_equal(hr__sampler_init(&s, &off, 4), 0);
	assert_int_equal(hr__sampler_pick(&s, (float[]){1, 3, 3, 2}), 1);
	assert_int_equal(hr__sampler_pick(&s, (float[]){-5, -3, -4, -2}), 3);
	hr__sampler_release(&s);
}

static void temperature_draws_in_proportion(void **state)
{
	(void)state;
	struct hr_sampling o = off;
	int                counts[4];
	o.temperature = 1;
	o.seed = 7;
	draw(o, (float[]){logf(0.5f), logf(0.3f), logf(0.15f), logf(0.05f)}, 20000, counts);
	const double want[4] = {0.5, 0.3, 0.15, 0.05};
	for (int i = 0; i < 4; i++)
		assert_true(fabs(counts[i] / 20000.0 - want[i]) < 0.015);
}

static void each_filter_keeps_what_it_should(void **state)
{
	(void)state;
	const float        logits[4] = {logf(0.05f), logf(0.5f), logf(0.15f), logf(0.3f)};
	struct hr_sampling o = off;
	int                counts[4];
	o.temperature = 1;

	o.top_k = 2;
	draw(o, logits, 2000, counts);
	assert_true(counts[1] && counts[3] && !counts[0] && !counts[2]);

	o.top_k = 0;
	o.top_p = 0.75f; /* 0.5 + 0.3 reach it */
	draw(o, logits, 2000, counts);
	assert_true(counts[1] && counts[3] && !counts[0] && !counts[2]);

	o.top_p = 1;
	o.min_p = 0.25f; /* of 0.5: 0.15 stays, 0.05 goes */
	draw(o, logits, 2000, counts);
	assert_true(counts[1] && counts[3] && counts[2] && !counts[0]);
}

static void a_seed_repeats_itself_and_another_does_not(void **state)
{
	(void)state;
	struct hr_sampling o = off;
	const float        logits[4] = {0, 0.1f, 0.2f, 0.3f};
	int32_t            first[64], again = 0, other = 0;
	o.temperature = 1;
	for (int run = 0; run < 3; run++) {
		struct hr_sampler s;
		o.seed = run == 2 ? 2 : 1;
		assert_int_equal(hr__sampler_init(&s, &o, 4), 0);
		for (int i = 0; i < 64; i++) {
			int32_t id = hr__sampler_pick(&s, logits);
			if (run == 0)
				first[i] = id;
			again += run == 1 && id == first[i];
			other += run == 2 && id == first[i];
		}
		hr__sampler_release(&s);
	}
	assert_int_equal(again, 64);
	assert_true(other < 50);
}

static void penalty_moves_away_from_recent_tokens_only(void **state)
{
	(void)state;
	struct hr_sampling o = off;
	struct hr_sampler  s;
	o.repeat_penalty = 2;
	o.repeat_last_n = 2;
	assert_int_equal(hr__sampler_init(&s, &o, 4), 0);
	const float logits[4] = {3, 2, -1, -1.5f};
	hr__sampler_accept(&s, 0);
	assert_int_equal(hr__sampler_pick(&s, logits), 1); /* 3/2 < 2 */
	hr__sampler_accept(&s, 0);                         /* counted once, not twice: 1.5, not 0.75 */
	assert_int_equal(hr__sampler_pick(&s, (float[]){3, 1, -1, -1}), 0);
	hr__sampler_accept(&s, 2);
	hr__sampler_accept(&s, 2); /* 0 has left the window of two */
	assert_int_equal(hr__sampler_pick(&s, logits), 0);
	assert_int_equal(hr__sampler_pick(&s, (float[]){-9, -9, -1, -1.5f}), 3); /* -1 * 2 < -1.5 */
	hr__sampler_release(&s);
}

static void settings_out_of_range_are_named(void **state)
{
	(void)state;
	struct hr_error err = {0};
	for (int i = 0; i < 6; i++) {
		struct hr_sampling o = off;
		const char        *words[6] = {"Temperature", "Top-k", "Top-p", "Min-p", "penalty", "Temperature"};
		switch (i) {
		case 0:
			o.temperature = -1;
			break;
		case 1:
			o.top_k = -1;
			break;
		case 2:
			o.top_p = 0;
			break;
		case 3:
			o.min_p = 1;
			break;
		case 4:
			o.repeat_penalty = 0;
			break;
		default:
			o.temperature = NAN;
		}
		assert_int_equal(hr__sampling_check(&o, &err), HR_EINVAL);
		assert_non_null(strstr(err.message, words[i]));
	}
	assert_int_equal(hr__sampling_check(&off, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(greedy_takes_the_largest_and_the_lower_id_of_two),
	    cmocka_unit_test(temperature_draws_in_proportion),
	    cmocka_unit_test(each_filter_keeps_what_it_should),
	    cmocka_unit_test(a_seed_repeats_itself_and_another_does_not),
	    cmocka_unit_test(penalty_moves_away_from_recent_tokens_only),
	    cmocka_unit_test(settings_out_of_range_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
