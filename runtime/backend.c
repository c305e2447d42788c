/* Picks the device and its operations by the name that the user gave. "auto" is the
 * first GPU that can be used, and else the CPU: with the reason, where a GPU was to be
 * expected. */
#include "runtime/backend.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HEADRACE_CUDA
#include "kernels/device/device_cuda.h"

static int open_cuda(struct hr_backend *backend, int ordinal, const struct hr_plan_options *o,
                     struct hr_error *err)
{
	struct hr_device_cuda_options options = {.ordinal = ordinal, .notices = {o->on_notice, o->user}};
	int                           rc = hr_device_cuda_open(&backend->device, &options, err);
	return rc ? rc : hr_ops_cuda_open(&backend->ops, backend->device, err);
}
#else
static int open_cuda(struct hr_backend *backend, int ordinal, const struct hr_plan_options *o,
                     struct hr_error *err)
{
	(void)backend, (void)o;
	return hr__fail(err, HR_EUNSUPPORTED,
	                "This build has no CUDA device, so there is no cuda:%d; use --device cpu.", ordinal);
}
#endif

static int open_cpu(struct hr_backend *backend, const struct hr_plan_options *o, struct hr_error *err)
{
	struct hr_device_host_options options = {
	    .n_threads = o->n_threads,
	    .bind = true,
	    .notices = {o->on_notice, o->user},
	};
	int rc = hr_device_host_open(&backend->device, &options, err);
	return rc ? rc : hr_ops_cpu_open(&backend->ops, backend->device, o->cpu_isa, err);
}

/* A GPU or the CPU; that a build has no CUDA, or a machine no GPU, is no news to its user. */
static int open_any(struct hr_backend *backend, const struct hr_plan_options *o, struct hr_error *err)
{
#ifdef HEADRACE_CUDA
	struct hr_error why;
	if (!open_cuda(backend, 0, o, &why))
		return 0;
	hr__backend_close(backend);
	if (hr_device_cuda_expected())
		snprintf(backend->fallback, sizeof backend->fallback, "The CPU is used: %.900s", why.message);
#endif
	return open_cpu(backend, o, err);
}

/* N of "cuda:N", 0 of "cuda"; -1 for anything else. */
static int cuda_ordinal(const char *name)
{
	if (!strcmp(name, "cuda"))
		return 0;
	if (strncmp(name, "cuda:", 5) || name[5] < '0' || name[5] > '9')
		return -1;
	char *end;
	long  ordinal = strtol(name + 5, &end, 10);
	return *end || ordinal > 1024 ? -1 : (int)ordinal;
}

int hr__backend_open(struct hr_backend *backend, const struct hr_plan_options *o, struct hr_error *err)
{
	const char *name = o->device ? o->device : "auto";
	int         ordinal = cuda_ordinal(name);
	int         rc;
	if (!strcmp(name, "auto"))
		rc = open_any(backend, o, err);
	else if (!strcmp(name, "cpu"))
		rc = open_cpu(backend, o, err);
	else if (ordinal >= 0)
		rc = open_cuda(backend, ordinal, o, err);
	else
		rc = hr__fail(err, HR_EINVAL, "Device \"%s\" is unknown; use auto, cpu, cuda or cuda:N.", name);
	if (rc)
		hr__backend_close(backend);
	return rc;
}

void hr__backend_close(struct hr_backend *backend)
{
	if (backend->ops)
		backend->ops->table->close(backend->ops);
	if (backend->device)
		backend->device->ops->close(backend->device);
	*backend = (struct hr_backend){0};
}
