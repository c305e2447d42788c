/* Measuring a machine with a model: the disk with its largest file; and how long a block, the head and the
 * host's turn take with a few of its blocks, by the very forward pass. */
#ifndef HR_RUNTIME_PROBE_H
#define HR_RUNTIME_PROBE_H

#include "runtime/model.h"
#include "scheduler/rates.h"

/* All of `rates`. Takes seconds, and the memory that `options` allow. What
 * hr_session_open() and hr_session_step() return. */
int hr__probe(struct hr_rates *rates, const struct hr_model *model, const struct hr_plan_options *options,
              struct hr_error *err);

/* Only the disk, with a reader by name. */
int hr__probe_disk(struct hr_rates *rates, const struct hr_model *model, const char *reader, double seconds,
                   struct hr_error *err);

#endif
