/* GGUF models: one file, or the shards that gguf-split writes.
 *
 * The first shard, NAME-00001-of-00003.gguf, has all the metadata; the others
 * are found by their names. split.no, split.count and split.tensors.count of
 * every shard must fit together, so that a mixture of two models, or a shard that was
 * renamed, is found before a weight is read. */
#include "runtime/format/assemble.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>

#define MAX_SHARDS 9999

static int read_header(struct hr_gguf *g, const struct hr_file *file, struct hr_error *err)
{
	struct hr_source *s = malloc(sizeof *s);
	if (!s)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a buffer.", file->path);
	hr__source_init_file(s, file);
	int rc = hr_gguf_read(g, s, err);
	free(s);
	return rc;
}

/* Which shard of how many a file says it is; a file that is not split is 0 of 1. */
static int read_split(const struct hr_gguf *g, int32_t *no, int32_t *count, struct hr_error *err)
{
	*no = 0;
	*count = 1;
	int rc = hr_gguf_get_i32(g, "split.count", count, err);
	if (rc >= 0)
		rc = hr_gguf_get_i32(g, "split.no", no, err);
	if (rc < 0)
		return rc;
	if (*count == 0)
		*count = 1;
	if (*count > MAX_SHARDS || *no >= *count)
		return hr__fail(err, HR_EFORMAT,
		                "%s: split.no is %d and split.count %d, which makes no sense; the header is damaged.",
		                g->path, *no, *count);
	return 0;
}

/* "dir/name" of "dir/name-00001-of-00003.gguf", for the caller to free. */
static int shard_prefix(char **out, const char *path, int count, struct hr_error *err)
{
	char   suffix[32];
	int    n = snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", 1, count);
	size_t length = strlen(path);
	if (length < (size_t)n || strcmp(path + length - n, suffix) != 0)
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: this is the first of %d shards, but its name does not end in %s, so the others cannot be "
		    "found; give the shards their names back.",
		    path, count, suffix);
	*out = strndup(path, length - (size_t)n);
	return *out ? 0 : hr__fail(err, HR_ENOMEM, "%s: there is no memory for its path.", path);
}

/* Open shard `no` > 0 and append its tensors. */
static int open_shard(struct hr_checkpoint *c, struct hr_tensor_list *list, const char *prefix, int no,
                      int count, struct hr_error *err)
{
	struct hr_gguf g = {0};
	char          *path;
	int32_t        got_no, got_count;
	if (asprintf(&path, "%s-%05d-of-%05d.gguf", prefix, no + 1, count) < 0)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for its path.", c->path);
	int rc = hr_file_open(&c->files[no], path, err);
	if (rc == HR_ENOENT)
		hr__fail(err, rc,
		         "%s: this shard is missing; the model has %d of them, and all must lie beside the first.",
		         path, count);
	if (rc)
		goto done;
	c->n_files = no + 1;
	rc = read_header(&g, &c->files[no], err);
	if (!rc)
		rc = read_split(&g, &got_no, &got_count, err);
	if (!rc && (got_no != no || got_count != count))
		rc = hr__fail(err, HR_EFORMAT,
		              "%s: by its metadata this is shard %d of %d, by its name %d of %d; it belongs to "
		              "another model, or "
		              "was renamed.",
		              path, got_no + 1, got_count, no + 1, count);
	if (!rc)
		rc = hr__tensors_append(list, &g.tensors, err);
done:
	hr_gguf_release(&g);
	free(path);
	return rc;
}

static int open_shards(struct hr_checkpoint *c, struct hr_tensor_list *list, const struct hr_gguf *g,
                       int count, struct hr_error *err)
{
	char *prefix;
	int   rc = shard_prefix(&prefix, c->path, count, err);
	if (rc)
		return rc;
	struct hr_file *files = realloc(c->files, (size_t)count * sizeof *files);
	if (!files) {
		rc = hr__fail(err, HR_ENOMEM, "%s: there is no memory for %d shards.", c->path, count);
		goto done;
	}
	c->files = files;
	for (int i = 0; i < list->n; i++)
		list->items[i].file = &files[0]; /* which has just moved */
	for (int no = 1; no < count && !rc; no++)
		rc = open_shard(c, list, prefix, no, count, err);
	int32_t n_tensors = list->n;
	if (!rc)
		rc = hr_gguf_get_i32(g, "split.tensors.count", &n_tensors, err);
	if (rc >= 0)
		rc = n_tensors == list->n
		         ? 0
		         : hr__fail(err, HR_EFORMAT,
		                    "%s: split.tensors.count is %d, but the %d shards hold %d tensors; they are "
		                    "not all from the same model.",
		                    c->path, n_tensors, count, list->n);
done:
	free(prefix);
	return rc;
}

/* A tokenizer of an unsupported kind is no reason not to run on token ids: the reason is kept. */
static int read_vocab(struct hr_checkpoint *c, const struct hr_gguf *g, struct hr_error *err)
{
	struct hr_error why = {0};
	int             rc = hr__vocab_read_gguf(&c->vocab, g, &why);
	c->has_vocab = rc > 0;
	if (rc == HR_EUNSUPPORTED)
		c->vocab_error = why;
	else if (rc < 0)
		return hr__fail(err, rc, "%s", why.message);
	return 0;
}

static int read_factors(const struct hr_checkpoint *c, int tensor, float *factors, struct hr_error *err)
{
	const struct hr_tensor *t = &c->tensors[tensor];
	if (t->shape[0] > HR_MAX_ROPE_FACTORS)
		return hr__fail(err, HR_EUNSUPPORTED, "%s: '%s' has %d factors; up to %d are supported.", c->path,
		                t->name, c->hparams.n_rot / 2, HR_MAX_ROPE_FACTORS);
	int rc = hr_file_read_exact(t->file, t->offset, factors, (size_t)t->bytes, err);
	return rc ? rc : hr__rope_check_factors(factors, c->hparams.n_rot / 2, c->path, t->name, err);
}

/* The two lists of longrope. Whether there are any is for the tensors to say. */
static int read_longrope(struct hr_checkpoint *c, struct hr_error *err)
{
	struct hr_hparams           *h = &c->hparams;
	const struct hr_end_tensors *e = &c->ends;
	if (h->rope_scaling != HR_ROPE_SCALING_LONGROPE && e->rope_short < 0 && e->rope_long < 0)
		return 0;
	if (e->rope_short < 0 || e->rope_long < 0)
		return hr__fail(err, HR_EFORMAT,
		                "%s: the longrope RoPE scaling needs a tensor '%s', which is missing; the model is "
		                "incomplete.",
		                c->path,
		                e->rope_short < 0 ? "rope_factors_short.weight" : "rope_factors_long.weight");
	h->rope_scaling = HR_ROPE_SCALING_LONGROPE;
	h->rope_original_context = h->rope_original_context ? h->rope_original_context : h->n_ctx_train;
	int rc = read_factors(c, e->rope_short, h->rope_short, err);
	return rc ? rc : read_factors(c, e->rope_long, h->rope_long, err);
}

int hr__checkpoint_open_gguf(struct hr_checkpoint *c, struct hr_error *err)
{
	struct hr_gguf        g = {0};
	struct hr_tensor_list list = {0};
	struct hr_decoder     d;
	int32_t               no, count;
	c->files = hr__calloc(1, sizeof *c->files);
	if (!c->files)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for a file.", c->path);
	int rc = hr_file_open(&c->files[0], c->path, err);
	if (rc)
		return rc;
	c->n_files = 1;
	rc = read_header(&g, &c->files[0], err);
	if (!rc)
		rc = read_split(&g, &no, &count, err);
	if (!rc && no)
		rc = hr__fail(
		    err, HR_EINVAL,
		    "%s: this is shard %d of %d; open the first one, whose name ends in -00001-of-%05d.gguf.",
		    c->path, no + 1, count, count);
	if (!rc)
		rc = hr_family_from_gguf(&d, &g, err);
	if (!rc)
		rc = hr__tensors_append(&list, &g.tensors, err);
	if (!rc && count > 1)
		rc = open_shards(c, &list, &g, count, err);
	if (!rc)
		rc = hr__checkpoint_bind(c, &list, &d, err);
	if (!rc)
		rc = read_longrope(c, err);
	if (!rc && c->hparams.encoder)
		rc = hr__encoder_use_read_gguf(&c->use, &g, c->hparams.n_labels, err);
	if (!rc)
		rc = read_vocab(c, &g, err);
	hr__tensors_release(&list);
	hr_gguf_release(&g);
	return rc;
}
