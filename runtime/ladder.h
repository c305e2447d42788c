/* The ladder: what happens when a plan needs more memory than there is, see ladder.c. */
#ifndef HR_RUNTIME_LADDER_H
#define HR_RUNTIME_LADDER_H

#include "runtime/plan.h"

/* Where the rates of a device come from. */
struct hr_rates_source {
	/* 1: *rates are those of `device`; 0: there are none; or a negative code. Asked once for each. */
	int (*find)(void *user, const struct hr_device *device, struct hr_rates *rates, struct hr_error *err);
	void *user;
};

struct hr_ladder {
	const struct hr_model        *model;
	const struct hr_plan_options *asked;
	/* Take all the memory that *plan says, on *backend; NULL: the plan is all that is wanted. */
	int (*take)(void *user, struct hr_error *err);
	/* Give back what take() took, whether it succeeded or failed. */
	void (*give_back)(void *user);
	void                         *user;
	struct hr_backend            *backend; /* zeroed; the caller closes it, whatever comes of it */
	struct hr_plan              **plan;
	const struct hr_rates_source *rates; /* NULL: there are none */
};

/* Open a backend, make a plan and take what it needs, or less where there is less, each
 * step told through the plan's fallbacks once it holds. When it fails, nothing is taken
 * and there is no plan. HR_EBUDGET, HR_EDEVMEM, HR_ENOMEM: the last step was too much,
 * too; and whatever else opening and planning return. */
int hr__ladder_climb(const struct hr_ladder *ladder, struct hr_error *err);

#endif
