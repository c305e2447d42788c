/* Profiles: one JSON file for each model in the cache, and in it a profile for each machine (a cache may
 * be shared) under the words that describe it. A profile is used as a whole or not at all: a file that lacks
 * something, or a machine that changed, is told about, and planning goes on without it.
 *
 * Chunk, depth, reader, threads and what to take at a time belong to the machine; the number of slots
 * was right for one budget, and is left to the planner under another. */
#include "runtime/profile.h"

#include "base/error.h"
#include "base/notice.h"
#include "runtime/format/json.h"
#include "runtime/machine.h"
#include "runtime/rates_cache.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void file_name(char name[64], const struct hr_model *model)
{
	snprintf(name, 64, "profile-%016" PRIx64 ".json", hr__model_key(model));
}

/* The machine apart from what is tuned. */
static void machine_words(char *words, size_t size, const struct hr_model *model,
                          const struct hr_plan_options *o)
{
	struct hr_plan_options plain = {.cpu_isa = o->cpu_isa};
	hr__machine_key(words, size, model, &plain,
	                o->device && strcmp(o->device, "auto") ? o->device : "any device");
}

static json_t *profile_to_json(const struct hr_profile *p)
{
	return json_pack("{s:s, s:i, s:I, s:i, s:i, s:s, s:i, s:i, s:i, s:I, s:i, s:i, s:f, s:i}", "date",
	                 p->date, "slots", p->slots, "chunk_bytes", (json_int_t)p->chunk_bytes, "read_depth",
	                 p->read_depth, "staging_buffers", p->staging_buffers, "reader", p->reader, "n_threads",
	                 p->n_threads, "n_seqs", p->n_seqs, "n_batch", p->n_batch, "device_memory_bytes",
	                 (json_int_t)p->device_memory_bytes, "window_layers", p->window_layers, "resident_layers",
	                 p->resident_layers, "tps", p->tps, "n_trials", p->n_trials);
}

/* The machines of the file that is there; an empty object when there is none that can be read. */
static json_t *machines_so_far(const char *path)
{
	json_t *file = NULL;
	hr__json_load(&file, path, NULL);
	json_t *machines = json_incref(json_object_get(file, "machines"));
	json_decref(file);
	if (json_is_object(machines))
		return machines;
	json_decref(machines);
	return json_object();
}

int hr__profile_store(const struct hr_profile *p, const struct hr_model *model,
                      const struct hr_plan_options *o, struct hr_error *err)
{
	char machine[1024], name[64], path[4200];
	if (!o->cache_dir)
		return hr__fail(err, HR_EINVAL, "A profile cannot be kept without a directory for it.");
	machine_words(machine, sizeof machine, model, o);
	file_name(name, model);
	snprintf(path, sizeof path, "%s/%s", o->cache_dir, name);
	json_t *machines = machines_so_far(path);
	int     lost = json_object_set_new(machines, machine, profile_to_json(p));
	json_t *file = json_pack("{s:s, s:o}", "model", model->checkpoint.path, "machines", machines);
	int     rc = file && !lost ? hr__cache_write(o->cache_dir, name, file, err)
	                           : hr__fail(err, HR_ENOMEM, "There is no memory to write a profile.");
	json_decref(file);
	return rc;
}

static bool whole(const json_t *o, const char *key, json_int_t least, json_int_t most, json_int_t *out)
{
	const json_t *x = json_object_get(o, key);
	*out = json_integer_value(x);
	return json_is_integer(x) && *out >= least && *out <= most;
}

static bool read_profile(const json_t *o, struct hr_profile *p)
{
	json_int_t  slots, chunk, depth, threads, memory, trials, seqs, batch, window, residents, staging;
	const char *reader = json_string_value(json_object_get(o, "reader"));
	const char *date = json_string_value(json_object_get(o, "date"));
	if (!whole(o, "slots", 0, 64, &slots) || !whole(o, "chunk_bytes", HR_IO_ALIGN, 1 << 30, &chunk) ||
	    !whole(o, "read_depth", 1, 1024, &depth) || !whole(o, "n_threads", 1, 1024, &threads) ||
	    !whole(o, "device_memory_bytes", 0, INT64_MAX, &memory) ||
	    !whole(o, "n_trials", 0, 1 << 20, &trials) || !whole(o, "staging_buffers", 0, 4096, &staging) ||
	    !whole(o, "n_seqs", 0, 1 << 20, &seqs) || !whole(o, "n_batch", 0, 1 << 20, &batch) ||
	    !whole(o, "window_layers", HR_AUTO, INT32_MAX, &window) ||
	    !whole(o, "resident_layers", HR_AUTO, INT32_MAX, &residents))
		return false;
	if (chunk % HR_IO_ALIGN || !reader || (strcmp(reader, "uring") && strcmp(reader, "pread")) || !date ||
	    strlen(date) != 10)
		return false;
	*p = (struct hr_profile){.slots = (int)slots,
	                         .read_depth = (int)depth,
	                         .n_threads = (int)threads,
	                         .n_trials = (int)trials,
	                         .chunk_bytes = (uint64_t)chunk,
	                         .staging_buffers = (int)staging,
	                         .n_seqs = (int)seqs,
	                         .n_batch = (int)batch,
	                         .device_memory_bytes = (uint64_t)memory,
	                         .window_layers = (int)window,
	                         .resident_layers = (int)residents,
	                         .tps = json_number_value(json_object_get(o, "tps"))};
	snprintf(p->reader, sizeof p->reader, "%s", reader);
	snprintf(p->date, sizeof p->date, "%s", date);
	return true;
}

/* The profile for this machine, or why there is none in `err`; HR_ENOENT: there never was one. */
static int load(struct hr_profile *p, const struct hr_model *model, const struct hr_plan_options *o,
                struct hr_error *err)
{
	char    machine[1024], name[64], path[4200];
	json_t *file = NULL;
	file_name(name, model);
	snprintf(path, sizeof path, "%s/%s", o->cache_dir, name);
	int rc = hr__json_load(&file, path, err);
	if (rc)
		return rc;
	machine_words(machine, sizeof machine, model, o);
	const json_t *machines = json_object_get(file, "machines"), *profile = json_object_get(machines, machine);
	if (json_object_size(machines) && !profile)
		rc = hr__fail(err, HR_ECHANGED, "%s: the profile was tuned on another machine than this one is now.",
		              path);
	else if (!read_profile(profile, p))
		rc = hr__fail(err, HR_EFORMAT, "%s: a setting of the profile is missing or absurd.", path);
	json_decref(file);
	return rc;
}

__attribute__((format(printf, 2, 3))) static void append(char words[160], const char *fmt, ...)
{
	size_t  n = strlen(words);
	va_list args;
	va_start(args, fmt);
	vsnprintf(words + n, 160 - n, fmt, args);
	va_end(args);
}

static void say_in_words(char words[160], const struct hr_profile *p, bool same_budget)
{
	append(words, "tuned on %s in %d trials: %s, chunks of %" PRIu64 " KiB, %d reads in flight, %d threads",
	       p->date, p->n_trials, p->reader, p->chunk_bytes >> 10, p->read_depth, p->n_threads);
	if (p->n_seqs)
		append(words, ", %d sequences at a time", p->n_seqs);
	if (p->n_batch)
		append(words, ", %d tokens a pass", p->n_batch);
	if (!same_budget)
		append(words, "; slots as planned");
}

void hr__profile_apply(struct hr_plan_options *o, const struct hr_model *model, char words[160])
{
	struct hr_profile     p;
	struct hr_error       err;
	struct hr_notice_sink sink = {o->on_notice, o->user};
	words[0] = 0;
	if (!o->cache_dir || o->ignore_profile || o->assume)
		return;
	int rc = load(&p, model, o, &err);
	if (rc && rc != HR_ENOENT)
		hr__notice(&sink, "%s It is not used; `headrace tune` makes a new one.", err.message);
	if (rc)
		return;
	bool same_budget = o->device_memory_bytes == p.device_memory_bytes &&
	                   o->window_layers == p.window_layers && !o->full &&
	                   o->resident_layers == p.resident_layers && !o->device_map;
	if (!o->chunk_bytes)
		o->chunk_bytes = p.chunk_bytes;
	if (!o->read_depth)
		o->read_depth = p.read_depth;
	if (!o->staging_buffers)
		o->staging_buffers = p.staging_buffers;
	if (!o->n_threads)
		o->n_threads = p.n_threads;
	if (!o->reader || !strcmp(o->reader, "auto"))
		o->reader = !strcmp(p.reader, "pread") ? "pread" : "auto"; /* auto: io_uring where it is permitted */
	if (o->slots == HR_AUTO && same_budget && p.slots >= 2)
		o->slots = p.slots;
	if (!o->n_batch)
		o->n_batch = p.n_batch;
	if (o->seqs_may_wait && p.n_seqs && o->n_seqs > p.n_seqs)
		o->n_seqs = p.n_seqs;
	say_in_words(words, &p, same_budget);
}
