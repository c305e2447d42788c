/* The device and its operations: the one place that picks a backend. */
#ifndef HR_RUNTIME_BACKEND_H
#define HR_RUNTIME_BACKEND_H

#include "headrace/headrace.h"
#include "kernels/ops.h"

struct hr_backend {
	struct hr_device *device;
	struct hr_ops    *ops;
	char              fallback[1000]; /* why "auto" is not a GPU; "": it is, or this build knows none */
};

/* Open what options->device asks for. HR_EUNSUPPORTED, HR_EINVAL. */
int hr__backend_open(struct hr_backend *backend, const struct hr_plan_options *options, struct hr_error *err);
void hr__backend_close(struct hr_backend *backend); /* a zeroed struct is fine */

#endif
