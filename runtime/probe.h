/* How long a block, the head and the host's turn take: measured with a few blocks of the
 * very model, by the very forward pass. */
#ifndef HR_RUNTIME_PROBE_H
#define HR_RUNTIME_PROBE_H

#include "runtime/model.h"
#include "scheduler/rates.h"

/* Fill in everything of `rates` but the disk. Takes seconds, and the memory that `options` allow. What
 * hr_session_open() and hr_session_step() return. */
int hr__probe(struct hr_rates *rates, const struct hr_model *model, const struct hr_plan_options *options,
              struct hr_error *err);

#endif
