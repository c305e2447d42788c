/* The kernels' own e^x, as this test is compiled (the baseline): within 2 ulp,
 * and the values that others rely on. */
#include "kernels/cpu/simd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static float exp_of(float x) { return vf_exp(vf_set1(x))[0]; }

static void within_two_ulp(void **state)
{
	(void)state;
	double worst = 0;
	for (float x = -87.3f; x < 88.7f; x += 0.00037f) {
		double want = exp((double)x), ulp = (double)(nextafterf((float)want, INFINITY) - (float)want);
		worst = fmax(worst, fabs((double)exp_of(x) - want) / ulp);
	}
	if (worst > 2)
		fail_msg("%.2f ulp off", worst);
}

static void special_values(void **state)
{
	(void)state;
	assert_true(exp_of(0) == 1);
	assert_true(exp_of(-0.0f) == 1);
	assert_true(exp_of(-INFINITY) == 0);
	assert_true(exp_of(-88) == 0);
	assert_true(exp_of(INFINITY) == INFINITY);
	assert_true(exp_of(89) == INFINITY);
	assert_true(exp_of(88.7f) < INFINITY);
	assert_true(isnan(exp_of(NAN)));
}

static void lanes_are_independent(void **state)
{
	(void)state;
	float x[VF_LANES], y[VF_LANES];
	for (int i = 0; i < VF_LANES; i++)
		x[i] = (float)i * 7 - 20;
	vf_store(y, vf_exp(vf_load(x)));
	for (int i = 0; i < VF_LANES; i++)
		assert_true(y[i] == exp_of(x[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(within_two_ulp),
	    cmocka_unit_test(special_values),
	    cmocka_unit_test(lanes_are_independent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
