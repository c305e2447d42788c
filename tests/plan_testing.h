/* Plans through the public header, and what is said on the way to them. */
#ifndef HR_TESTS_PLAN_TESTING_H
#define HR_TESTS_PLAN_TESTING_H

#include "headrace/headrace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static char notices[4096]; /* one after the other */

static inline void keep_notice(void *user, const char *sentence)
{
	(void)user;
	strncat(notices, sentence, sizeof notices - strlen(notices) - 1);
}

static inline struct hr_plan *plan_of(const struct hr_model *model, const struct hr_plan_options *o)
{
	struct hr_plan *plan;
	struct hr_error err = {0};
	if (hr_plan_new(&plan, model, o, &err))
		fail_msg("%s", err.message);
	return plan;
}

#endif
