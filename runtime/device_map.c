/* Reads a device map: Accelerate's format, {"model.layers.0": 0, "lm_head": "cpu"}.
 *
 * Every module must be covered, by its own key or by one above it ("model.layers",
 * ""); the longest key wins; a key that covers nothing is an error, so that a
 * misspelling can't change a placement silently. On a device that the host can
 * address, "cpu" is the device itself. */
#include "base/error.h"
#include "base/mem.h"
#include "runtime/plan.h"

#include <jansson.h>
#include <stdio.h>
#include <strings.h>

static const char supported[] = "a GPU index, \"device\", \"cpu\", \"host\" or \"disk\"";

static int tier_of_value(const json_t *value, bool host_addressable, enum hr_tier *tier)
{
	const char *s = json_string_value(value);
	if (json_is_integer(value) || (s && (!strcmp(s, "device") || !strncmp(s, "cuda", 4))))
		*tier = HR_TIER_DEVICE;
	else if (s && (!strcmp(s, "cpu") || !strcmp(s, "host")))
		*tier = host_addressable ? HR_TIER_DEVICE : HR_TIER_HOST;
	else if (s && !strcmp(s, "disk"))
		*tier = HR_TIER_DISK;
	else
		return HR_EINVAL;
	return 0;
}

/* Does `key` name `module` or something above it? */
static bool key_covers(const char *key, const char *module)
{
	size_t n = strlen(key);
	return n == 0 || (!strncmp(key, module, n) && (module[n] == '\0' || module[n] == '.'));
}

/* The value of the longest key that covers `module`; NULL: none. */
static const json_t *value_for(json_t *map, const char *module)
{
	const json_t *best = NULL;
	size_t        best_length = 0;
	const char   *key;
	json_t       *value;
	json_object_foreach(map, key, value)
	{
		size_t n = strlen(key);
		if (key_covers(key, module) && (!best || n >= best_length)) {
			best = value;
			best_length = n;
		}
	}
	return best;
}

static void module_name(char *out, size_t size, int index, int n_blocks)
{
	if (index < n_blocks)
		snprintf(out, size, "model.layers.%d", index);
	else
		snprintf(out, size, "%s", index == n_blocks ? "model.embed_tokens" : "lm_head");
}

static bool key_is_known(const char *key, int n_blocks)
{
	char module[64];
	if (!strcmp(key, "model.norm") || !strcmp(key, "model.rotary_emb"))
		return true;
	for (int i = 0; i < n_blocks + 2; i++) {
		module_name(module, sizeof module, i, n_blocks);
		if (key_covers(key, module))
			return true;
	}
	return false;
}

int hr__device_map_parse(enum hr_tier *tiers, int n_blocks, const char *text, bool host_addressable,
                         struct hr_error *err)
{
	json_error_t e;
	json_t      *map = json_loads(text, JSON_REJECT_DUPLICATES, &e);
	int          rc = HR_EINVAL;
	const char  *key;
	json_t      *value;
	if (!json_is_object(map)) {
		hr__fail(err, rc, "The device map is not a JSON object (line %d: %s).", map ? 1 : e.line,
		         map ? "not an object" : e.text);
		goto done;
	}
	json_object_foreach(map, key, value)
	{
		enum hr_tier ignored;
		if (!key_is_known(key, n_blocks)) {
			hr__fail(err, rc,
			         "The device map names \"%s\", which this model does not have; its modules are "
			         "model.embed_tokens, model.layers.0 to model.layers.%d, model.norm and lm_head.",
			         key, n_blocks - 1);
			goto done;
		}
		if (tier_of_value(value, host_addressable, &ignored)) {
			hr__fail(err, rc, "The device map puts \"%s\" on something that is not %s.", key, supported);
			goto done;
		}
	}
	for (int i = 0; i < n_blocks + 2; i++) {
		char module[64];
		module_name(module, sizeof module, i, n_blocks);
		const json_t *v = value_for(map, module);
		if (!v) {
			hr__fail(err, rc, "The device map leaves out \"%s\"; give it %s.", module, supported);
			goto done;
		}
		tier_of_value(v, host_addressable, &tiers[i]);
	}
	rc = 0;
done:
	json_decref(map);
	return rc;
}
