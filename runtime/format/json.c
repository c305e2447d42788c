/* JSON through jansson: duplicate keys are refused, and each accessor turns a
 * wrong type into a sentence that names file, key and what was there. A null
 * counts as absent, as it does for Transformers. */
#include "runtime/format/json.h"

#include "base/error.h"
#include "io/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES (64u << 20)

int hr__json_parse(json_t **out, const char *path, const char *text, size_t bytes, struct hr_error *err)
{
	json_error_t where;
	json_t      *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return hr__fail(err, HR_EFORMAT, "%s: this is not valid JSON (line %d, column %d: %s).", path,
		                where.line, where.column, where.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return hr__fail(err, HR_EFORMAT, "%s: the JSON text is not an object.", path);
	}
	*out = root;
	return 0;
}

int hr__json_load(json_t **out, const char *path, struct hr_error *err)
{
	struct hr_file file = {0};
	char          *text = NULL;
	int            rc = hr_file_open(&file, path, err);
	if (rc)
		return rc;
	if (file.size_bytes > MAX_FILE_BYTES) {
		rc = hr__fail(err, HR_EFORMAT, "%s: %" PRIu64 " bytes are too many for this file (%u at most).", path,
		              file.size_bytes, MAX_FILE_BYTES);
		goto done;
	}
	text = malloc((size_t)file.size_bytes + 1);
	if (!text) {
		rc = hr__fail(err, HR_ENOMEM, "%s: there is no memory for its %" PRIu64 " bytes.", path,
		              file.size_bytes);
		goto done;
	}
	rc = hr_file_read_exact(&file, 0, text, (size_t)file.size_bytes, err);
	if (!rc)
		rc = hr__json_parse(out, path, text, (size_t)file.size_bytes, err);
done:
	free(text);
	hr_file_close(&file);
	return rc;
}

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number with a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a bool";
	default:
		return "null";
	}
}

/* NULL: absent or null. */
static const json_t *find(const struct hr_json *j, const char *key)
{
	const json_t *value = json_object_get(j->object, key);
	return json_is_null(value) ? NULL : value;
}

static int fail_type(const struct hr_json *j, const char *key, const char *wanted, struct hr_error *err)
{
	return hr__fail(err, HR_EFORMAT, "%s: \"%s\" is %s, but %s is needed.", j->path, key,
	                type_name(json_object_get(j->object, key)), wanted);
}

int hr__json_int(const struct hr_json *j, const char *key, int32_t *out, struct hr_error *err)
{
	const json_t *value = find(j, key);
	if (!value)
		return 0;
	if (!json_is_integer(value))
		return fail_type(j, key, "an integer", err);
	json_int_t n = json_integer_value(value);
	if (n < 0 || n > HR_JSON_MAX_INT)
		return hr__fail(err, HR_EFORMAT, "%s: \"%s\" is %" JSON_INTEGER_FORMAT ", which is %s.", j->path, key,
		                n, n < 0 ? "negative" : "absurdly large");
	*out = (int32_t)n;
	return 1;
}

int hr__json_float(const struct hr_json *j, const char *key, float *out, struct hr_error *err)
{
	const json_t *value = find(j, key);
	if (!value)
		return 0;
	if (!json_is_number(value))
		return fail_type(j, key, "a number", err);
	double x = json_number_value(value);
	if (!isfinite(x) || fabs(x) > 3.0e38)
		return hr__fail(err, HR_EFORMAT, "%s: \"%s\" is %g, which is absurd.", j->path, key, x);
	*out = (float)x;
	return 1;
}

int hr__json_bool(const struct hr_json *j, const char *key, bool *out, struct hr_error *err)
{
	const json_t *value = find(j, key);
	if (!value)
		return 0;
	if (!json_is_boolean(value))
		return fail_type(j, key, "true or false", err);
	*out = json_is_true(value);
	return 1;
}

int hr__json_string(const struct hr_json *j, const char *key, const char **out, struct hr_error *err)
{
	const json_t *value = find(j, key);
	if (!value)
		return 0;
	if (!json_is_string(value))
		return fail_type(j, key, "a string", err);
	*out = json_string_value(value);
	return 1;
}

int hr__json_need_int(const struct hr_json *j, const char *key, int32_t *out, struct hr_error *err)
{
	int rc = hr__json_int(j, key, out, err);
	if (rc == 0)
		return hr__fail(err, HR_EFORMAT, "%s: \"%s\" is missing; the file is incomplete.", j->path, key);
	return rc < 0 ? rc : 0;
}

int hr__json_fail_option(const struct hr_json *j, const char *key, const char *value, const char *supported,
                         struct hr_error *err)
{
	return hr__fail(err, HR_EUNSUPPORTED, "%s: \"%s\" is %s, which is not supported; %s.", j->path, key,
	                value, supported);
}
