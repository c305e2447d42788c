/* Measured rates, kept in a file for the next time. */
#ifndef HR_RUNTIME_RATES_CACHE_H
#define HR_RUNTIME_RATES_CACHE_H

#include "runtime/model.h"
#include "scheduler/rates.h"

/* The rates of this machine with this model: out of options->cache_dir, or, where options->measure
 * says so, measured now and kept there. `device`: kind and name. `*found` false: neither. A file that
 * can't be used or written is a notice; what measuring fails with is an error. */
int hr__rates_get(struct hr_rates *rates, bool *found, const struct hr_model *model,
                  const struct hr_plan_options *options, const char *device,
                  const struct hr_notice_sink *notices, struct hr_error *err);

/* Only the disk, with a reader by name. */
int hr__rates_measure_disk(struct hr_rates *rates, const struct hr_model *model, const char *reader,
                           double seconds, struct hr_error *err);

/* mkdir -p: 0, or an errno. */
int hr__cache_make_directory(const char *path);

/* Write `object` to directory/name (the directory is made if need be) by way of a temporary file;
 * HR_EIO leaves what was there. */
int hr__cache_write(const char *directory, const char *name, const void *json_object, struct hr_error *err);

#endif
