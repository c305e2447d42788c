/* What the parts of the planner share. */
#ifndef HR_SCHEDULER_PLAN_INTERNAL_H
#define HR_SCHEDULER_PLAN_INTERNAL_H

#include "scheduler/plan.h"

#define HR__MIN_SLOTS 2
#define HR__MAX_SLOTS 8

/* Some blocks that are resident, the others streamed under one cut: both in sums. */
struct hr__split {
	int      n_resident;
	uint64_t resident_bytes;             /* of resident blocks */
	uint64_t kept_bytes, streamed_bytes; /* of the others; streamed: as in the file */
	uint64_t piece_bytes;                /* the largest piece that goes through a slot */
	int      n_pieces;                   /* that go through slots */
	uint64_t block_bytes;                /* the largest block */
};

/* All splits of a request: every number of residents, spread evenly, with every cut that its wishes allow. */
struct hr__splits {
	struct hr__split *all; /* [1 + n_cuts][n_counts] */
	int               n_counts, n_cuts;
	bool              head_stays;    /* of them, only those with the head resident */
	int               only_resident; /* and with so many blocks; -1: any number */
};

/* HR_ENOMEM. A zeroed struct can be released. */
int  hr__splits_init(struct hr__splits *splits, const struct hr_plan_request *request, struct hr_error *err);
void hr__splits_release(struct hr__splits *splits);
const struct hr__split *hr__splits_at(const struct hr__splits *splits, int n_resident, int cut);

/* That of a device map. */
struct hr__split hr__split_of_map(const struct hr_plan_request *request);

/* Whether item `i` of `n` is one of `chosen`, spread as evenly as whole numbers allow. */
bool hr__is_spread(int i, int chosen, int n);

/* The best plan by bytes (plan.c), out of the splits of the request; errors as hr_plan_make(). */
int hr__plan_by_bytes(struct hr_placement *plan, const struct hr_plan_request *request,
                      const struct hr__splits *splits, struct hr_error *err);

#endif
