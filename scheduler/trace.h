/* The trace: what happened when, as spans on four lanes. Bounded memory:
 * recording is wait-free, and spans beyond the capacity are counted, not kept. */
#ifndef HR_SCHEDULER_TRACE_H
#define HR_SCHEDULER_TRACE_H

#include "headrace/error.h"

#include <stdint.h>

enum hr_lane { HR_LANE_DISK, HR_LANE_LINK, HR_LANE_COMPUTE, HR_LANE_HOST };

struct hr_trace;

const char *hr_trace_lane_name(enum hr_lane lane); /* "disk", "link", "compute", "host" */

int  hr_trace_new(struct hr_trace **out, int max_spans, struct hr_error *err);
void hr_trace_free(struct hr_trace *trace);

/* `name` is copied (63 bytes). NULL trace: nothing. Any thread. Times are hr__now_ns(). */
void hr_trace_span(struct hr_trace *trace, enum hr_lane lane, const char *name, uint64_t begin_ns,
                   uint64_t end_ns, uint64_t bytes);

/* What was recorded, in order of begin; whoever still records may be missed. HR_ENOMEM. */
typedef void (*hr_trace_fn)(void *user, enum hr_lane lane, const char *name, uint64_t begin_ns,
                            uint64_t end_ns, uint64_t bytes);
int hr_trace_visit(struct hr_trace *trace, hr_trace_fn fn, void *user, struct hr_error *err);

/* Chrome/Perfetto JSON ("traceEvents", complete events, microseconds), written to
 * a temporary file beside `path` and renamed. HR_EIO with the reason. */
int hr_trace_write(struct hr_trace *trace, const char *path, struct hr_error *err);

#endif
