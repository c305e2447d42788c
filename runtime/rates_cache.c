/* The cache of rates: one small JSON file for each machine and model.
 *
 * The file's name is a hash of both, and the words that were hashed stand in it. A file that can't be
 * read, is no JSON, or lacks a figure is an error; it is never half used. */
#include "runtime/rates_cache.h"

#include "base/error.h"
#include "runtime/format/json.h"
#include "runtime/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- Files --------------------------------------------------------------------- */

int hr__cache_make_directory(const char *path)
{
	char   part[4096];
	size_t n = strlen(path);
	if (n >= sizeof part)
		return ENAMETOOLONG;
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i])
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		if (mkdir(part, 0777) && errno != EEXIST)
			return errno;
	}
	return 0;
}

int hr__cache_write(const char *directory, const char *name, const void *json_object, struct hr_error *err)
{
	char path[4200], temporary[4240];
	int  error = hr__cache_make_directory(directory);
	snprintf(path, sizeof path, "%s/%s", directory, name);
	snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid());
	char *text = json_dumps(json_object, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	FILE *f = text && !error ? fopen(temporary, "we") : NULL;
	if (!f) {
		error = error ? error : text ? errno : ENOMEM;
	} else {
		bool bad = fputs(text, f) < 0 || fputc('\n', f) < 0 || fflush(f) || fsync(fileno(f));
		error = bad ? errno : 0;
		if (fclose(f) && !error)
			error = errno;
		if (!error && rename(temporary, path))
			error = errno;
		if (error)
			unlink(temporary);
	}
	free(text);
	return error ? hr__fail(err, HR_EIO, "%s could not be written: %s; nothing there was changed.", path,
	                        strerror(error))
	             : 0;
}

/* ---- Rates as JSON ------------------------------------------------------------- */

static json_t *rates_to_json(const struct hr_rates *r)
{
	json_t *disk = json_array(), *compute = json_array(), *head = json_array();
	for (int i = 0; i < r->n_disk; i++)
		json_array_append_new(disk, json_pack("[I, i, f]", (json_int_t)r->disk[i].chunk_bytes,
		                                      r->disk[i].depth, r->disk[i].rate));
	for (int i = 0; i < r->n_compute; i++)
		json_array_append_new(compute, json_pack("[i, f, f]", r->compute[i].n_tokens, r->compute[i].block_ns,
		                                         r->compute[i].between_ns));
	for (int i = 0; i < r->n_head; i++)
		json_array_append_new(head, json_pack("[i, f]", r->head[i].n_outputs, r->head[i].ns));
	return json_pack("{s:o, s:f, s:f, s:o, s:f, s:f, s:f, s:o}", "disk_chunk_depth_gbps", disk, "link_gbps",
	                 r->link_rate, "link_latency_ns", r->link_latency_ns, "compute_tokens_ns_between",
	                 compute, "block_bytes", r->block_bytes, "context_ns_decode", r->context_ns_decode,
	                 "context_ns_prefill", r->context_ns_prefill, "head_outputs_ns", head);
}

/* Number `i` of an array, finite and within reason. */
static bool number(const json_t *row, size_t i, double least, double *out)
{
	const json_t *x = json_array_get(row, i);
	*out = json_number_value(x);
	return json_is_number(x) && *out >= least && *out < 1e15;
}

static bool named(const json_t *o, const char *key, double *out)
{
	const json_t *x = json_object_get(o, key);
	*out = json_number_value(x);
	return json_is_number(x) && *out >= 0 && *out < 1e15;
}

static bool rates_from_json(const json_t *o, struct hr_rates *r)
{
	const json_t *disk = json_object_get(o, "disk_chunk_depth_gbps"),
	             *compute = json_object_get(o, "compute_tokens_ns_between"),
	             *head = json_object_get(o, "head_outputs_ns");
	size_t n_disk = json_array_size(disk), n_compute = json_array_size(compute),
	       n_head = json_array_size(head);
	double a, b;
	*r = (struct hr_rates){.n_disk = (int)n_disk, .n_compute = (int)n_compute, .n_head = (int)n_head};
	bool good = n_disk > 0 && n_disk <= HR_RATES_MAX_DISK && n_compute > 0 &&
	            n_compute <= HR_RATES_MAX_COMPUTE && n_head > 0 && n_head <= HR_RATES_MAX_HEAD;
	for (size_t i = 0; good && i < n_disk; i++) {
		const json_t *row = json_array_get(disk, i);
		good = number(row, 0, 1, &a) && number(row, 1, 1, &b) && number(row, 2, 1e-6, &r->disk[i].rate) &&
		       b < 1e6;
		r->disk[i].chunk_bytes = good ? (uint64_t)a : 0;
		r->disk[i].depth = good ? (int)b : 0;
	}
	for (size_t i = 0; good && i < n_compute; i++) {
		const json_t *row = json_array_get(compute, i);
		good = number(row, 0, 1, &a) && a < 1e6 && number(row, 1, 0, &r->compute[i].block_ns) &&
		       number(row, 2, 0, &r->compute[i].between_ns);
		r->compute[i].n_tokens = good ? (int)a : 0;
		good = good && (!i || r->compute[i].n_tokens > r->compute[i - 1].n_tokens);
	}
	for (size_t i = 0; good && i < n_head; i++) {
		const json_t *row = json_array_get(head, i);
		good = number(row, 0, 1, &a) && a < 1e6 && number(row, 1, 0, &r->head[i].ns);
		r->head[i].n_outputs = good ? (int)a : 0;
		good = good && (!i || r->head[i].n_outputs > r->head[i - 1].n_outputs);
	}
	return good && named(o, "link_gbps", &r->link_rate) && named(o, "link_latency_ns", &r->link_latency_ns) &&
	       named(o, "block_bytes", &r->block_bytes) && named(o, "context_ns_decode", &r->context_ns_decode) &&
	       named(o, "context_ns_prefill", &r->context_ns_prefill);
}

/* ---- Keeping them --------------------------------------------------------------- */

static void file_name(char name[64], const char *machine, const struct hr_model *model)
{
	snprintf(name, 64, "rates-%016" PRIx64 ".json", XXH64(machine, strlen(machine), hr__model_key(model)));
}

int hr__rates_load(struct hr_rates *rates, const struct hr_model *model, const struct hr_plan_options *o,
                   const char *device, struct hr_error *err)
{
	char    machine[1024], name[64], path[4200];
	json_t *file = NULL;
	hr__machine_key(machine, sizeof machine, model, o, device);
	file_name(name, machine, model);
	snprintf(path, sizeof path, "%s/%s", o->cache_dir, name);
	int rc = hr__json_load(&file, path, err);
	if (rc)
		return rc;
	const char *of = json_string_value(json_object_get(file, "machine"));
	if (!of || strcmp(of, machine) || !rates_from_json(json_object_get(file, "rates"), rates))
		rc = hr__fail(err, HR_EFORMAT, "%s: a figure of the measured rates is missing or absurd.", path);
	json_decref(file);
	return rc;
}

int hr__rates_store(const struct hr_rates *rates, const struct hr_model *model,
                    const struct hr_plan_options *o, const char *device, struct hr_error *err)
{
	char machine[1024], name[64];
	hr__machine_key(machine, sizeof machine, model, o, device);
	file_name(name, machine, model);
	json_t *file = json_pack("{s:s, s:s, s:o}", "machine", machine, "model", model->checkpoint.path, "rates",
	                         rates_to_json(rates));
	int     rc = hr__cache_write(o->cache_dir, name, file, err);
	json_decref(file);
	return rc;
}
