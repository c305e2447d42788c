/* JSON files and typed access to their objects, with sentences for what is wrong. */
#ifndef HR_RUNTIME_JSON_H
#define HR_RUNTIME_JSON_H

#include "headrace/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An object out of a file; `path` is borrowed, for the sentences. */
struct hr_json {
	const char   *path;
	const json_t *object;
};

/* Parse `bytes` of text whose root must be an object; *out is a new reference. HR_EFORMAT names line and
 * column. */
int hr__json_parse(json_t **out, const char *path, const char *text, size_t bytes, struct hr_error *err);

/* The same for a whole file of at most 64 MiB. HR_ENOENT, HR_EIO, HR_EFORMAT, HR_ENOMEM. */
int hr__json_load(json_t **out, const char *path, struct hr_error *err);

/* The value of a key: 1 and *out written; 0: absent or null; HR_EFORMAT: another type, or out of range. */
#define HR_JSON_MAX_INT (1 << 30) /* twice as much still is a number */
int hr__json_int(const struct hr_json *j, const char *key, int32_t *out, struct hr_error *err); /* >= 0 */
int hr__json_float(const struct hr_json *j, const char *key, float *out, struct hr_error *err); /* finite */
int hr__json_bool(const struct hr_json *j, const char *key, bool *out, struct hr_error *err);
int hr__json_string(const struct hr_json *j, const char *key, const char **out, struct hr_error *err);

/* The same, but absent is HR_EFORMAT; 0 on success. */
int hr__json_need_int(const struct hr_json *j, const char *key, int32_t *out, struct hr_error *err);

/* HR_EUNSUPPORTED: `key` is `value`; `supported` is a clause that says what is. */
int hr__json_fail_option(const struct hr_json *j, const char *key, const char *value, const char *supported,
                         struct hr_error *err);

#endif
