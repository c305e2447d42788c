/* Picks the device and its operations by the name that the user gave. */
#include "runtime/backend.h"

#include "base/error.h"

#include <string.h>

int hr__backend_open(struct hr_backend *backend, const struct hr_plan_options *o, struct hr_error *err)
{
	const char *name = o->device ? o->device : "auto";
	if (!strncmp(name, "cuda", 4))
		return hr__fail(err, HR_EUNSUPPORTED,
		                "Device \"%s\" was asked for, but this build has no CUDA device; use --device cpu.",
		                name);
	if (strcmp(name, "auto") && strcmp(name, "cpu"))
		return hr__fail(err, HR_EINVAL, "Device \"%s\" is unknown; use auto, cpu, cuda or cuda:N.", name);
	struct hr_device_host_options host = {
	    .n_threads = o->n_threads,
	    .bind = true,
	    .notices = {o->on_notice, o->user},
	};
	int rc = hr_device_host_open(&backend->device, &host, err);
	if (!rc)
		rc = hr_ops_cpu_open(&backend->ops, backend->device, o->cpu_isa, err);
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
