/* A vocabulary from a Hugging Face directory: tokenizer.json says how text becomes
 * ids (tokenizer_json.c); the smaller files beside it, each optional, name the
 * special tokens, the tokens that end a generation, and the chat template. Where two
 * files name the same token, the one that is read first decides. */
#include "runtime/tokenizer/vocab_hf.h"

#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

struct reading {
	struct hr_vocab *v;
	const char      *directory;
	struct hr_error *err;
};

/* *out NULL: an optional file that is not there. */
static int load(const struct reading *r, const char *name, bool optional, json_t **out)
{
	char *path;
	*out = NULL;
	if (asprintf(&path, "%s/%s", r->directory, name) < 0)
		return HR_ENOMEM;
	int          rc = 0;
	json_error_t reason;
	FILE        *f = fopen(path, "rb");
	if (!f && optional && errno == ENOENT)
		goto done;
	if (!f) {
		rc = hr__fail(r->err, errno == ENOENT ? HR_ENOENT : HR_EIO, "%s: %s.", path, strerror(errno));
		goto done;
	}
	*out = json_loadf(f, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &reason);
	if (!*out && json_error_code(&reason) == json_error_numeric_overflow) {
		/* "model_max_length" is 1e30, digit by digit, where a tokenizer sets no limit; no integer of such a
		 * file is read. */
		rewind(f);
		*out = json_loadf(f, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &reason);
	}
	if (!*out)
		rc = hr__fail(r->err, HR_EFORMAT, "%s: line %d: %s.", path, reason.line, reason.text);
done:
	if (f)
		fclose(f);
	free(path);
	return rc;
}

/* "bos_token": "<s>" or {"content": "<s>"}. */
static void read_special(struct hr_vocab *v, const json_t *file, const char *key, int32_t *id)
{
	const json_t *token = json_object_get(file, key);
	if (json_is_object(token))
		token = json_object_get(token, "content");
	if (*id < 0 && json_is_string(token))
		*id = hr__vocab_find(v, json_string_value(token), json_string_length(token));
}

static void read_specials(struct hr_vocab *v, const json_t *file)
{
	read_special(v, file, "bos_token", &v->bos);
	read_special(v, file, "eos_token", &v->eos);
	read_special(v, file, "unk_token", &v->unk);
	read_special(v, file, "pad_token", &v->pad);
}

/* "eos_token_id": 2 or [2, 3]. */
static int read_end_ids(const struct reading *r, const char *name, const json_t *file)
{
	struct hr_vocab *v = r->v;
	const json_t    *ids = json_object_get(file, "eos_token_id");
	size_t           n = json_is_array(ids) ? json_array_size(ids) : json_is_integer(ids);
	for (size_t i = 0; i < n; i++) {
		json_int_t id = json_integer_value(json_is_array(ids) ? json_array_get(ids, i) : ids);
		bool       known = id == v->eos;
		if (id < 0 || id >= v->n_tokens)
			return hr__fail(r->err, HR_EFORMAT, "%s/%s: eos_token_id is %lld, but the vocabulary ends at %d.",
			                r->directory, name, (long long)id, v->n_tokens - 1);
		if (v->eos < 0)
			v->eos = (int32_t)id;
		for (int32_t k = 0; k < v->n_eog; k++)
			known |= v->eog[k] == id;
		if (!known && id != v->eos && v->n_eog < (int32_t)HR_COUNT_OF(v->eog))
			v->eog[v->n_eog++] = (int32_t)id;
	}
	return 0;
}

/* Llama's tokenizer class lets its own flags decide over tokenizer.json's template. */
static void read_llama_flags(struct hr_vocab *v, const json_t *config)
{
	const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
	if (!name || strncmp(name, "LlamaTokenizer", 14) != 0)
		return;
	v->add_bos = hr__json_is_true_or(config, "add_bos_token", v->add_bos) && v->bos >= 0;
	v->add_eos = hr__json_is_true_or(config, "add_eos_token", v->add_eos) && v->eos >= 0;
}

/* The template, or of several the one named "default". */
static int read_chat_template(struct hr_vocab *v, const json_t *config)
{
	const json_t *t = json_object_get(config, "chat_template"), *named;
	size_t        i;
	json_array_foreach(t, i, named)
	{
		if (hr__json_is_text(json_object_get(named, "name"), "default"))
			t = json_object_get(named, "template");
	}
	if (!json_is_string(t))
		return 0;
	v->chat_template = strdup(json_string_value(t));
	return v->chat_template ? 0 : HR_ENOMEM;
}

static int read_chat_template_file(const struct reading *r)
{
	char  *path, *text = NULL;
	size_t size = 0;
	if (asprintf(&path, "%s/chat_template.jinja", r->directory) < 0)
		return HR_ENOMEM;
	FILE *f = fopen(path, "rb");
	free(path);
	if (!f)
		return 0;
	if (getdelim(&text, &size, 0, f) >= 0) {
		free(r->v->chat_template);
		r->v->chat_template = text;
	} else {
		free(text);
	}
	fclose(f);
	return 0;
}

static int read_tokenizer_json(const struct reading *r)
{
	json_t *root;
	int     rc = load(r, "tokenizer.json", false, &root);
	rc = rc ? rc : hr__vocab_read_tokenizer_json(r->v, r->directory, root, r->err);
	json_decref(root);
	return rc;
}

static int read_side_files(struct reading *r)
{
	static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json",
	                                    "generation_config.json", "config.json"};
	json_t                  *files[HR_COUNT_OF(names)] = {NULL};
	int                      rc = 0;
	for (size_t i = 0; i < HR_COUNT_OF(names) && !rc; i++)
		rc = load(r, names[i], true, &files[i]);
	if (!rc) {
		read_specials(r->v, files[0]);
		read_specials(r->v, files[1]);
		read_llama_flags(r->v, files[0]);
		rc = read_chat_template(r->v, files[0]);
		rc = rc ? rc : read_chat_template_file(r);
		rc = rc ? rc : read_end_ids(r, names[2], files[2]);
		rc = rc ? rc : read_end_ids(r, names[3], files[3]);
	}
	for (size_t i = 0; i < HR_COUNT_OF(names); i++)
		json_decref(files[i]);
	return rc;
}

int hr_vocab_read_hf(struct hr_vocab *vocab, const char *directory, struct hr_error *err)
{
	struct hr_vocab v = {.bos = -1, .eos = -1, .unk = -1, .pad = -1};
	struct reading  r = {.v = &v, .directory = directory, .err = err};
	int             rc = read_tokenizer_json(&r);
	rc = rc ? rc : read_side_files(&r);
	if (rc == HR_ENOMEM)
		hr__fail(err, rc, "Out of memory while reading the tokenizer in %s.", directory);
	if (rc) {
		hr_vocab_release(&v);
		return rc;
	}
	*vocab = v;
	return 0;
}
