/* Measured rates, kept in a file for the next time. */
#ifndef HR_RUNTIME_RATES_CACHE_H
#define HR_RUNTIME_RATES_CACHE_H

#include "runtime/model.h"
#include "scheduler/rates.h"

/* The rates of this machine with this model, out of options->cache_dir. `device`: kind and name. HR_ENOENT:
 * there are none; HR_EFORMAT and others: a file that can't be used. */
int hr__rates_load(struct hr_rates *rates, const struct hr_model *model,
                   const struct hr_plan_options *options, const char *device, struct hr_error *err);

/* Keep them there; HR_EIO leaves what was there. */
int hr__rates_store(const struct hr_rates *rates, const struct hr_model *model,
                    const struct hr_plan_options *options, const char *device, struct hr_error *err);

/* mkdir -p: 0, or an errno. */
int hr__cache_make_directory(const char *path);

/* Write `object` to directory/name (the directory is made if need be) by way of a temporary file;
 * HR_EIO leaves what was there. */
int hr__cache_write(const char *directory, const char *name, const void *json_object, struct hr_error *err);

#endif
