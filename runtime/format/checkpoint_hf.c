/* Hugging Face directories: config.json, the weights as one safetensors file or
 * as shards with an index, and the tokenizer's files where there are any.
 *
 * As in Transformers, model.safetensors comes before an index. Other kinds of weights
 * are named (foreign.c), and never opened. */
#include "runtime/format/assemble.h"
#include "runtime/format/f8.h"
#include "runtime/format/safetensors.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

#define ONE_FILE "model.safetensors"
#define INDEX    ONE_FILE ".index.json"

static int join(char **out, const char *directory, const char *name, struct hr_error *err)
{
	if (asprintf(out, "%s/%s", directory, name) >= 0)
		return 0;
	*out = NULL;
	return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a path in it.", directory);
}

static bool has(const char *directory, const char *name)
{
	char *path;
	if (join(&path, directory, name, NULL))
		return false;
	bool found = access(path, F_OK) == 0;
	free(path);
	return found;
}

/* ---- Weights ---------------------------------------------------------------- */

/* Open `name` as the next of c->files, which has room for it, and append its tensors. */
static int open_weights(struct hr_checkpoint *c, struct hr_tensor_list *list, const char *name,
                        struct hr_error *err)
{
	struct hr_tensor_list part = {0};
	struct hr_file       *file = &c->files[c->n_files];
	struct hr_source     *s = NULL;
	char                 *path;
	int                   rc = join(&path, c->path, name, err);
	if (rc)
		return rc;
	rc = hr_file_open(file, path, err);
	if (rc == HR_ENOENT)
		hr__fail(err, rc, "%s: this file of weights is missing; get it from where the model came from.",
		         path);
	if (rc)
		goto done;
	c->n_files++;
	s = malloc(sizeof *s);
	if (!s) {
		rc = hr__fail(err, HR_ENOMEM, "%s: there is no memory for a buffer.", path);
		goto done;
	}
	hr__source_init_file(s, file);
	rc = hr_safetensors_read(&part, s, err);
	if (!rc)
		rc = hr__tensors_append(list, &part, err);
done:
	hr__tensors_release(&part);
	free(s);
	free(path);
	return rc;
}

static int reserve_files(struct hr_checkpoint *c, int n, struct hr_error *err)
{
	c->files = hr__calloc((size_t)n, sizeof *c->files);
	return c->files ? 0 : hr__fail(err, HR_ENOMEM, "%s: there is no memory for %d files.", c->path, n);
}

static int open_sharded(struct hr_checkpoint *c, struct hr_tensor_list *list, struct hr_error *err)
{
	struct hr_safetensors_index index = {0};
	json_t                     *root;
	char                       *path;
	int                         rc = join(&path, c->path, INDEX, err);
	if (rc)
		return rc;
	rc = hr__json_load(&root, path, err);
	if (!rc)
		rc = hr_safetensors_index_read(&index, path, root, err);
	if (!rc)
		rc = reserve_files(c, index.n_files, err);
	for (int i = 0; i < index.n_files && !rc; i++)
		rc = open_weights(c, list, index.files[i], err);
	if (!rc)
		rc = hr__tensors_index(list, c->path, err);
	if (!rc)
		rc = hr_safetensors_index_check(&index, path, list, err);
	hr_safetensors_index_release(&index);
	free(path);
	return rc;
}

static int open_all_weights(struct hr_checkpoint *c, struct hr_tensor_list *list, struct hr_error *err)
{
	if (has(c->path, ONE_FILE)) {
		int rc = reserve_files(c, 1, err);
		return rc ? rc : open_weights(c, list, ONE_FILE, err);
	}
	if (has(c->path, INDEX))
		return open_sharded(c, list, err);
	int rc = hr__refuse_foreign_directory(c->path, err);
	if (rc)
		return rc;
	return hr__fail(err, HR_ENOENT, "%s: there is neither " ONE_FILE " nor " INDEX " in this directory.",
	                c->path);
}

/* ---- Description and tokenizer -------------------------------------------------- */

static int read_config(struct hr_checkpoint *c, struct hr_decoder *d, struct hr_f8_block *block,
                       struct hr_error *err)
{
	const char *directory = c->path;
	json_t     *root = NULL;
	char       *path;
	int         rc = join(&path, directory, "config.json", err);
	if (rc)
		return rc;
	rc = hr__json_load(&root, path, err);
	if (rc == HR_ENOENT && hr__refuse_foreign_directory(directory, err))
		rc = HR_EUNSUPPORTED;
	else if (rc == HR_ENOENT)
		hr__fail(
		    err, rc,
		    "%s: there is no config.json, so this is no Hugging Face model; for GGUF, give the file itself.",
		    directory);
	struct hr_json config = {.path = path, .object = root};
	if (!rc)
		rc = hr_family_from_hf(d, &config, err);
	if (!rc)
		rc = hr__f8_read_config(block, &config, err);
	if (!rc && d->hparams.encoder)
		rc = hr__encoder_use_read(&c->use, directory, &config, d->hparams.n_labels, err);
	json_decref(root);
	free(path);
	return rc;
}

/* A tokenizer of an unsupported kind is no reason not to run on token ids: the reason is kept. */
static int read_vocab(struct hr_checkpoint *c, struct hr_error *err)
{
	struct hr_error why = {0};
	if (!has(c->path, "tokenizer.json"))
		return 0;
	int rc = hr_vocab_read_hf(&c->vocab, c->path, &why);
	c->has_vocab = rc == 0;
	if (rc == HR_EUNSUPPORTED)
		c->vocab_error = why;
	else if (rc)
		return hr__fail(err, rc, "%s", why.message);
	return 0;
}

int hr__checkpoint_open_hf(struct hr_checkpoint *c, struct hr_error *err)
{
	struct hr_tensor_list list = {0};
	struct hr_decoder     d;
	struct hr_f8_block    block;
	int                   rc = read_config(c, &d, &block, err);
	if (!rc)
		rc = open_all_weights(c, &list, err);
	if (!rc)
		rc = hr__f8_attach_scales(&list, &block, c->path, err);
	if (!rc)
		rc = hr__checkpoint_bind(c, &list, &d, err);
	if (!rc)
		rc = read_vocab(c, err);
	hr__tensors_release(&list);
	return rc;
}
