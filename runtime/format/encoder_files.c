/* What a Hugging Face directory says about the use of an encoder: labels and the
 * kind of problem out of config.json, as Transformers' pipeline reads them; and
 * pooling, normalising and the longest text out of the files of sentence-transformers:
 *
 *     modules.json -> [Transformer, Pooling -> its config.json, Normalize]
 *                     sentence_bert_config.json: max_seq_length
 *
 * A GGUF file has keys for a part of it, and keys of our own for the rest. */
#include "runtime/format/encoder_files.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/format/gguf_write.h"

#include <stdio.h>

static const struct {
	const char     *key;
	enum hr_pooling pooling;
	const char     *name;
} poolings[] = {
    {"pooling_mode_cls_token", HR_POOLING_CLS, "cls"},
    {"pooling_mode_mean_tokens", HR_POOLING_MEAN, "mean"},
    {"pooling_mode_max_tokens", HR_POOLING_MAX, "max"},
    {"pooling_mode_mean_sqrt_len_tokens", HR_POOLING_MEAN_SQRT, "mean_sqrt_len"},
    {"pooling_mode_lasttoken", HR_POOLING_LAST, "lasttoken"},
};

const char *hr__pooling_name(enum hr_pooling pooling)
{
	for (size_t i = 0; i < HR_COUNT_OF(poolings); i++)
		if (poolings[i].pooling == pooling)
			return poolings[i].name;
	return "?";
}

void hr__encoder_use_release(struct hr_encoder_use *use)
{
	for (int i = 0; use->labels && i < use->n_labels; i++)
		free(use->labels[i]);
	free(use->labels);
	*use = (struct hr_encoder_use){0};
}

/* ---- config.json ----------------------------------------------------------------- */

static int read_labels(struct hr_encoder_use *use, const struct hr_json *config, int n, struct hr_error *err)
{
	const json_t *names = json_object_get(config->object, "id2label");
	use->n_labels = n;
	use->labels = hr__calloc((size_t)n, sizeof *use->labels);
	for (int i = 0; i < n && use->labels; i++) {
		char key[16];
		snprintf(key, sizeof key, "%d", i);
		const json_t *name = json_object_get(names, key);
		if (names && !json_is_string(name))
			return hr__fail(err, HR_EFORMAT, "%s: \"id2label\" has %d labels, but none for \"%d\".",
			                config->path, n, i);
		if (name)
			use->labels[i] = strdup(json_string_value(name));
		else if (asprintf(&use->labels[i], "LABEL_%d", i) < 0)
			use->labels[i] = NULL;
		if (!use->labels[i])
			break;
	}
	if (!use->labels || !use->labels[n - 1])
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for %d labels.", config->path, n);
	return 0;
}

static const char *const problems[] = {
    [HR_PROBLEM_SOFTMAX] = "single_label_classification",
    [HR_PROBLEM_SIGMOID] = "multi_label_classification",
    [HR_PROBLEM_REGRESSION] = "regression",
};

static int set_problem(struct hr_encoder_use *use, const char *name, const char *path, struct hr_error *err)
{
	for (size_t i = 0; i < HR_COUNT_OF(problems); i++)
		if (strcmp(problems[i], name) == 0) {
			use->problem = (enum hr_problem)i;
			return 0;
		}
	return hr__fail(err, HR_EUNSUPPORTED,
	                "%s: the \"problem_type\" '%s' is not supported; supported are %s, %s and %s.", path,
	                name, problems[0], problems[1], problems[2]);
}

static int read_problem(struct hr_encoder_use *use, const struct hr_json *config, struct hr_error *err)
{
	const char *type = use->n_labels == 1 ? "multi_label_classification" : "single_label_classification";
	int         rc = hr__json_string(config, "problem_type", &type, err);
	return rc < 0 ? rc : set_problem(use, type, config->path, err);
}

/* ---- sentence-transformers --------------------------------------------------------- */

/* A file of the directory; 1 read, 0 not there. */
static int load(json_t **out, char **path, const char *directory, const char *name, struct hr_error *err)
{
	*out = NULL;
	if (asprintf(path, "%s/%s", directory, name) < 0) {
		*path = NULL;
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a path in it.", directory);
	}
	FILE *f = fopen(*path, "rb");
	if (!f)
		return 0;
	json_error_t why;
	*out = json_loadf(f, JSON_REJECT_DUPLICATES, &why);
	fclose(f);
	if (!*out)
		return hr__fail(err, HR_EFORMAT, "%s: line %d: %s.", *path, why.line, why.text);
	return 1;
}

static int read_pooling(struct hr_encoder_use *use, const char *directory, const char *folder,
                        struct hr_error *err)
{
	json_t *root;
	char   *path, *name;
	int     n_modes = 0;
	if (asprintf(&name, "%s/config.json", folder) < 0)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a path in it.", directory);
	int rc = load(&root, &path, directory, name, err);
	if (rc == 0)
		rc = hr__fail(err, HR_EFORMAT, "%s is missing, though modules.json names it.", path);
	if (rc < 0)
		goto done;
	rc = 0;
	const char *key;
	json_t     *value;
	json_object_foreach(root, key, value)
	{
		size_t known = 0;
		if (strncmp(key, "pooling_mode_", 13) != 0 || !json_is_true(value))
			continue;
		while (known < HR_COUNT_OF(poolings) && strcmp(poolings[known].key, key) != 0)
			known++;
		if (known == HR_COUNT_OF(poolings) || n_modes++) {
			rc = hr__fail(
			    err, HR_EUNSUPPORTED,
			    "%s: \"%s\"%s is not supported; supported is one of cls_token, mean_tokens, max_tokens, "
			    "mean_sqrt_len_tokens and lasttoken.",
			    path, key, n_modes > 1 ? " beside another mode" : "");
			goto done;
		}
		use->pooling = poolings[known].pooling;
	}
	if (!n_modes)
		rc = hr__fail(err, HR_EFORMAT, "%s names no way of pooling.", path);
done:
	json_decref(root);
	free(path);
	free(name);
	return rc;
}

static int read_module(struct hr_encoder_use *use, const char *directory, const char *path,
                       const json_t *module, struct hr_error *err)
{
	const char *type = json_string_value(json_object_get(module, "type"));
	const char *folder = json_string_value(json_object_get(module, "path"));
	const char *kind = type ? strrchr(type, '.') : NULL;
	if (!kind || !folder)
		return hr__fail(err, HR_EFORMAT, "%s: a module has no \"type\" or no \"path\".", path);
	if (strcmp(kind, ".Transformer") == 0 && !*folder)
		return 0;
	if (strcmp(kind, ".Normalize") == 0) {
		use->normalize = true;
		return 0;
	}
	if (strcmp(kind, ".Pooling") == 0 && *folder && !strstr(folder, ".."))
		return read_pooling(use, directory, folder, err);
	return hr__fail(
	    err, HR_EUNSUPPORTED,
	    "%s: the module %s (in \"%s\") is not supported; supported are Transformer (in \"\"), Pooling "
	    "and Normalize.",
	    path, type, folder);
}

static int read_modules(struct hr_encoder_use *use, const char *directory, struct hr_error *err)
{
	json_t *root, *module;
	char   *path;
	size_t  i;
	int     rc = load(&root, &path, directory, "modules.json", err);
	if (rc > 0) {
		rc = 0;
		use->has_pooling = true;
		json_array_foreach(root, i, module) { rc = rc ? rc : read_module(use, directory, path, module, err); }
	}
	json_decref(root);
	free(path);
	return rc;
}

static int read_longest(struct hr_encoder_use *use, const char *directory, struct hr_error *err)
{
	json_t *root;
	char   *path;
	int     rc = load(&root, &path, directory, "sentence_bert_config.json", err);
	if (rc > 0) {
		struct hr_json file = {path, root};
		int32_t        n = 0;
		rc = hr__json_int(&file, "max_seq_length", &n, err);
		use->max_tokens = n;
	}
	json_decref(root);
	free(path);
	return rc < 0 ? rc : 0;
}

int hr__encoder_use_read(struct hr_encoder_use *use, const char *directory, const struct hr_json *config,
                         int n_labels, struct hr_error *err)
{
	struct hr_encoder_use got = {.pooling = HR_POOLING_MEAN};
	int                   rc = read_labels(&got, config, n_labels, err);
	if (!rc)
		rc = read_problem(&got, config, err);
	if (!rc)
		rc = read_modules(&got, directory, err);
	if (!rc)
		rc = read_longest(&got, directory, err);
	if (rc)
		hr__encoder_use_release(&got);
	else
		*use = got;
	return rc;
}

/* ---- GGUF ---------------------------------------------------------------------------- */

#define OWN_POOLING    "headrace.pooling" /* one that llama.cpp has no number for */
#define OWN_NORMALIZE  "headrace.normalize"
#define OWN_MAX_TOKENS "headrace.max_tokens"
#define OWN_PROBLEM    "headrace.problem_type"

/* llama.cpp's pooling types: none, mean, cls, last, rank (a classifier's). */
static const enum hr_pooling gguf_poolings[] = {HR_POOLING_MEAN, HR_POOLING_MEAN, HR_POOLING_CLS,
                                                HR_POOLING_LAST, HR_POOLING_CLS};

static int read_gguf_labels(struct hr_encoder_use *use, const struct hr_gguf *g, int n, struct hr_error *err)
{
	const struct hr_gguf_kv *kv = NULL;
	int rc = hr_gguf_get_array(g, "bert.classifier.output_labels", HR_GGUF_STRING, &kv, err);
	if (rc < 0)
		return rc;
	const uint8_t *at = rc && kv->n == (uint64_t)n ? kv->data : NULL;
	use->labels = hr__calloc((size_t)n, sizeof *use->labels);
	for (use->n_labels = 0; use->labels && use->n_labels < n; use->n_labels++) {
		char   **label = &use->labels[use->n_labels];
		uint64_t length = 0;
		if (at) {
			memcpy(&length, at, sizeof length); /* which was held against the file when it was read */
			*label = strndup((const char *)at + sizeof length, (size_t)length);
			at += sizeof length + length;
		} else if (asprintf(label, "LABEL_%d", use->n_labels) < 0) {
			*label = NULL;
		}
		if (!*label)
			break;
	}
	return use->labels && use->n_labels == n
	           ? 0
	           : hr__fail(err, HR_ENOMEM, "%s: there is no memory for %d labels.", g->path, n);
}

static int read_own_keys(struct hr_encoder_use *use, const struct hr_gguf *g, struct hr_error *err)
{
	const char *name;
	int32_t     most = 0;
	int         rc = hr_gguf_get_string(g, OWN_POOLING, &name, err);
	for (size_t i = 0; rc > 0 && i < HR_COUNT_OF(poolings); i++)
		if (strcmp(poolings[i].name, name) == 0) {
			use->pooling = poolings[i].pooling;
			use->has_pooling = true;
		}
	if (rc >= 0)
		rc = hr_gguf_get_bool(g, OWN_NORMALIZE, &use->normalize, err);
	if (rc >= 0)
		rc = hr_gguf_get_i32(g, OWN_MAX_TOKENS, &most, err);
	use->max_tokens = most;
	if (rc >= 0)
		rc = hr_gguf_get_string(g, OWN_PROBLEM, &name, err);
	return rc <= 0 ? rc : set_problem(use, name, g->path, err);
}

int hr__encoder_use_read_gguf(struct hr_encoder_use *use, const struct hr_gguf *g, int n_labels,
                              struct hr_error *err)
{
	struct hr_encoder_use got = {.pooling = HR_POOLING_MEAN, .normalize = true};
	int32_t               type = 0;
	int                   rc = hr_gguf_get_i32(g, "bert.pooling_type", &type, err);
	if (rc > 0 && type >= (int32_t)HR_COUNT_OF(gguf_poolings))
		rc = hr__fail(
		    err, HR_EUNSUPPORTED,
		    "%s: the pooling type %d is not supported; supported are 0 to %zu (none, mean, cls, last, rank).",
		    g->path, type, HR_COUNT_OF(gguf_poolings) - 1);
	if (rc >= 0) {
		got.pooling = gguf_poolings[type];
		got.has_pooling = type != 0;
		got.problem = n_labels == 1 ? HR_PROBLEM_SIGMOID : HR_PROBLEM_SOFTMAX;
		rc = read_gguf_labels(&got, g, n_labels, err);
	}
	if (!rc)
		rc = read_own_keys(&got, g, err);
	if (rc)
		hr__encoder_use_release(&got);
	else
		*use = got;
	return rc;
}

void hr__encoder_use_write(struct hr_gguf_writer *w, const struct hr_encoder_use *use)
{
	uint32_t type = 3;
	while (type && gguf_poolings[type] != use->pooling)
		type--;
	if (use->has_pooling)
		hr_gguf_write_u32(w, "bert.pooling_type", use->pooling == HR_POOLING_MEAN ? 1 : type);
	if (use->has_pooling && gguf_poolings[type] != use->pooling)
		hr_gguf_write_string(w, OWN_POOLING, hr__pooling_name(use->pooling));
	hr_gguf_write_bool(w, OWN_NORMALIZE, use->normalize);
	if (use->max_tokens)
		hr_gguf_write_u32(w, OWN_MAX_TOKENS, (uint32_t)use->max_tokens);
	hr_gguf_write_string(w, OWN_PROBLEM, problems[use->problem]);
	hr_gguf_write_array(w, "bert.classifier.output_labels", HR_GGUF_STRING, (uint64_t)use->n_labels);
	for (int i = 0; i < use->n_labels; i++)
		hr_gguf_write_array_text(w, use->labels[i]);
}
