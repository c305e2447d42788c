/* What the two halves of the planner share. */
#ifndef HR_SCHEDULER_PLAN_INTERNAL_H
#define HR_SCHEDULER_PLAN_INTERNAL_H

#include "scheduler/plan.h"

#define HR__MIN_SLOTS 2
#define HR__MAX_SLOTS 8

/* The plan that streams the fewest bytes; errors as hr_plan_make(). */
int hr__plan_by_bytes(struct hr_placement *plan, const struct hr_plan_request *request, struct hr_error *err);

#endif
