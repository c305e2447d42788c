/* hr_model_open_as(): a model whose weights are wanted in another type.
 *
 * Streaming needs the weights on the disk as they are computed with, so they are converted once, into a GGUF
 * in the cache, by the same code as hr_quantize(). Its name holds a hash of where the model's files lie, how
 * large they are and when they were changed: a model that changed is another one, whose older conversions to
 * the type are removed. Since a file gets its name when it is whole, what has the name can be
 * used; one that was cut short later can't be opened, and is made anew.
 *
 * Only the weights are taken from there. The tokenizer, and an encoder's labels and pooling, are the model's
 * own, with all that GGUF has no words for. */
#include "headrace/headrace.h"

#include "base/error.h"
#include "base/notice.h"
#include "runtime/format/quantize.h"
#include "runtime/model.h"
#include "runtime/rates_cache.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define FORMAT "headrace conversion 1" /* goes up when the same source would give another file */

struct place {
	char directory[4096];
	char stem[320]; /* of the model and type: what older conversions of it share */
	char path[4096 + 400];
};

static void describe_file(FILE *to, const char *path)
{
	struct stat st = {0};
	stat(path, &st);
	fprintf(to, "%s %lld %lld.%09ld\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
	        st.st_mtim.tv_nsec);
}

/* 0: there is no memory. */
static uint64_t identify(const struct hr_checkpoint *c, const char *real_path)
{
	char  *text = NULL, config[PATH_MAX + 16];
	size_t bytes;
	FILE  *to = open_memstream(&text, &bytes);
	if (!to)
		return 0;
	fprintf(to, FORMAT "\n%s\n", real_path);
	for (int i = 0; i < c->n_files; i++)
		describe_file(to, c->files[i].path);
	snprintf(config, sizeof config, "%s/config.json", real_path);
	if (!c->is_gguf)
		describe_file(to, config);
	uint64_t hash = fclose(to) ? 0 : XXH64(text, bytes, 0);
	free(text);
	return hash;
}

static int find_place(struct place *p, const struct hr_checkpoint *c, const struct hr_quantize_options *o,
                      const struct hr_mix *mix, const char *cache_dir, struct hr_error *err)
{
	char real_path[PATH_MAX];
	if (!realpath(c->path, real_path))
		return hr__fail(err, HR_EIO, "%s: its place could not be found out.", c->path);
	const char *name = strrchr(real_path, '/');
	uint64_t    identity = identify(c, real_path);
	if (!identity)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a name.", c->path);
	snprintf(p->directory, sizeof p->directory, "%s/converted", cache_dir);
	snprintf(p->stem, sizeof p->stem, "%.100s-%08x-%s%s-", name[1] ? name + 1 : "model",
	         (unsigned)XXH64(real_path, strlen(real_path), 0), mix->name, o->pure ? "-pure" : "");
	int n = snprintf(p->path, sizeof p->path, "%s/%s%016" PRIx64 ".gguf", p->directory, p->stem, identity);
	return n < (int)sizeof p->path
	           ? 0
	           : hr__fail(err, HR_EINVAL, "%s: the path is too long for a cache.", cache_dir);
}

static void remove_older(const struct place *p)
{
	DIR *d = opendir(p->directory);
	for (struct dirent *e; d && (e = readdir(d));) {
		char path[sizeof p->directory + sizeof e->d_name + 2];
		snprintf(path, sizeof path, "%s/%s", p->directory, e->d_name);
		if (!strncmp(e->d_name, p->stem, strlen(p->stem)) && strcmp(path, p->path) != 0)
			unlink(path);
	}
	if (d)
		closedir(d);
}

/* Open what is in the cache; or else write it, then open it. */
static int open_converted(struct hr_checkpoint *out, const struct hr_checkpoint *c, const struct place *p,
                          const struct hr_quantize_options *o, const struct hr_mix *mix, struct hr_error *err)
{
	struct hr_notice_sink     notices = {o->on_notice, o->user};
	struct hr_quantize_result result;
	struct hr_error           why = {0};
	int                       rc = hr_checkpoint_open(out, p->path, &why);
	if (!rc)
		return 0;
	if (rc != HR_ENOENT)
		hr__notice(&notices, "%s can't be used and is made anew: %s", p->path, why.message);
	struct hr_quantize_job job = {
	    .out = p->path, .mix = mix, .options = *o, .source_key = c->path, .weights_only = !c->is_gguf};
	job.options.replace = true;
	int errnum = hr__cache_make_directory(p->directory);
	if (errnum)
		return hr__fail(err, HR_EIO, "%s could not be made: %s.", p->directory, strerror(errnum));
	remove_older(p);
	rc = hr__quantize(c, &job, &result, err);
	if (rc)
		return rc;
	hr__notice(&notices,
	           "%s was converted to %s once: this and later runs stream from %s (%" PRIu64
	           " bytes), which may be removed at any time.",
	           c->path, mix->name, p->path, result.bytes);
	return hr_checkpoint_open(out, p->path, err);
}

/* The tokenizer, and how an encoder is used. */
static void swap_descriptions(struct hr_checkpoint *to, struct hr_checkpoint *from)
{
	struct hr_encoder_use use = to->use;
	to->use = from->use;
	from->use = use;
	struct hr_vocab vocab = to->vocab;
	bool            has = to->has_vocab;
	to->vocab = from->vocab;
	to->has_vocab = from->has_vocab;
	to->vocab_error = from->vocab_error;
	from->vocab = vocab;
	from->has_vocab = has;
}

int hr_model_open_as(struct hr_model **out, const char *model, const struct hr_quantize_options *o,
                     const char *cache_dir, struct hr_error *err)
{
	if (!out || !model || !*model || !o || !o->type)
		return hr__fail(err, HR_EINVAL, "A model and a type are needed; types are %s.", hr_quantize_types());
	bool                  as_it_is = !strcmp(o->type, "auto");
	const struct hr_mix  *mix = as_it_is ? NULL : hr__mix_of_name(o->type);
	struct hr_checkpoint  source, converted = {0};
	struct place          place;
	struct hr_notice_sink notices = {o->on_notice, o->user};
	if (!mix && !as_it_is)
		return hr__fail(err, HR_EINVAL, "The type '%s' is unknown; known are %s.", o->type,
		                hr_quantize_types());
	int rc = hr_checkpoint_open(&source, model, err);
	if (rc)
		return rc;
	if (as_it_is)
		return hr__model_of_checkpoint(out, &source, err);
	if (!strcmp(source.dtype, hr_type_info(mix->type)->name)) {
		hr__notice(&notices, "%s: its weights are %s already, and are used as they are.", model,
		           source.dtype);
		return hr__model_of_checkpoint(out, &source, err);
	}
	rc = hr__quantize_check(&source, mix, o->allow_requantize, err);
	if (!rc && !cache_dir)
		rc = hr__fail(
		    err, HR_EINVAL,
		    "%s: there is no place to keep the converted weights: set XDG_CACHE_HOME or HOME, or write a "
		    "file of your own with `headrace quantize`.",
		    model);
	if (!rc)
		rc = find_place(&place, &source, o, mix, cache_dir, err);
	if (!rc)
		rc = open_converted(&converted, &source, &place, o, mix, err);
	if (!rc) {
		swap_descriptions(&converted, &source);
		rc = hr__model_of_checkpoint(out, &converted, err);
	}
	hr_checkpoint_release(&source);
	return rc;
}
