/* Holds a model's tensors against its description.
 *
 * Each role of the decoder's table is looked up by name and its shape compared
 * with what the hyperparameters ask for. What is left over at the end is refused: a tensor
 * without a role is a part of the model that the forward pass would leave out.
 *
 * After this every index in struct hr_checkpoint is -1 or a tensor of the right
 * shape and of a type that its operation takes. */
#include "runtime/format/assemble.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum use { UNUSED, USED, IGNORED };

struct binding {
	struct hr_checkpoint        *c;
	const struct hr_tensor_list *list;
	const struct hr_decoder     *d;
	uint8_t                     *use; /* [list->n] enum use */
	struct hr_error             *err;
};

static const char *file_of(const struct binding *b, const struct hr_tensor *t)
{
	return t->file ? t->file->path : b->c->path;
}

static void format_shape(char text[96], int n_dims, const uint64_t *shape)
{
	size_t used = 0;
	for (int i = 0; i < n_dims; i++)
		used += (size_t)snprintf(text + used, 96 - used, "%s%" PRIu64, i ? ", " : "", shape[i]);
}

static int check_shape(const struct binding *b, const struct hr_role *role, const struct hr_tensor *t)
{
	const struct hr_hparams *h = &b->c->hparams;
	int                      n_dims = role->rows ? 2 : 1;
	uint64_t wanted[2] = {hr_dim_size(role->rows ? role->rows : role->cols, h), hr_dim_size(role->cols, h)};
	if (t->n_dims == n_dims && memcmp(t->shape, wanted, (size_t)n_dims * sizeof *wanted) == 0)
		return 0;
	char want[96], got[96];
	format_shape(want, n_dims, wanted);
	format_shape(got, t->n_dims, t->shape);
	return hr__fail(
	    b->err, HR_EFORMAT,
	    "%s: tensor '%s' has the shape [%s], but the model's description asks for [%s]; they are not from "
	    "the same model.",
	    file_of(b, t), t->name, got, want);
}

/* Everything but a matrix is used element by element. */
static int check_type(const struct binding *b, const struct hr_role *role, const struct hr_tensor *t)
{
	const struct hr_type_info *type = hr_type_info(t->type);
	if (role->kind == HR_ROLE_ROPE_FACTORS && t->type != HR_TYPE_F32)
		return hr__fail(b->err, HR_EUNSUPPORTED,
		                "%s: tensor '%s' has the type %s; only f32 is supported for it.", file_of(b, t),
		                t->name, type->name);
	if (!role->rows && type->block_elems != 1)
		return hr__fail(
		    b->err, HR_EUNSUPPORTED,
		    "%s: tensor '%s' has the quantized type %s; norms and biases must be f32, f16 or bf16.",
		    file_of(b, t), t->name, type->name);
	return 0;
}

static enum hr_presence presence_of(const struct hr_role *role, const struct hr_decoder *d)
{
	switch (role->kind) {
	case HR_ROLE_QKV_BIAS:
		return d->qkv_bias;
	case HR_ROLE_O_BIAS:
		return d->o_bias;
	case HR_ROLE_HEAD:
		return d->tied_by_tensors || d->hparams.tied ? HR_OPTIONAL : HR_REQUIRED;
	case HR_ROLE_ROPE_FACTORS:
		return HR_OPTIONAL;
	case HR_ROLE_MATRIX:
	case HR_ROLE_NORM:
		break;
	}
	return HR_REQUIRED;
}

static int fail_missing(const struct binding *b, const struct hr_role *role, const char *name)
{
	if (role->kind == HR_ROLE_HEAD)
		return hr__fail(
		    b->err, HR_EFORMAT,
		    "%s: config.json does not tie the head to the embedding (tie_word_embeddings), but there is no "
		    "tensor '%s'; one of the two is wrong.",
		    b->c->path, name);
	return hr__fail(b->err, HR_EFORMAT,
	                "%s: tensor '%s' is missing; the model is incomplete, or is none of the family %s.",
	                b->c->path, name, b->c->hparams.family);
}

/* Find the tensor `name` of `role`; *out is its index or -1. */
static int bind_role(const struct binding *b, const struct hr_role *role, const char *name, int *out)
{
	enum hr_presence presence = presence_of(role, b->d);
	int              index = hr__tensors_find(b->list, name);
	*out = -1;
	if (index < 0)
		return presence == HR_REQUIRED ? fail_missing(b, role, name) : 0;
	const struct hr_tensor *t = &b->list->items[index];
	if (presence == HR_ABSENT)
		return hr__fail(b->err, HR_EFORMAT,
		                "%s: there is a tensor '%s', but the model's description rules such a bias out.",
		                file_of(b, t), name);
	if (role->kind == HR_ROLE_HEAD && b->d->hparams.tied) {
		b->use[index] = IGNORED; /* Transformers, too, then takes the embedding */
		return 0;
	}
	int rc = check_shape(b, role, t);
	if (!rc)
		rc = check_type(b, role, t);
	if (rc)
		return rc;
	b->use[index] = USED;
	*out = index;
	return 0;
}

static int bind_roles(const struct binding *b, const struct hr_role *roles, int n_roles, const char *prefix,
                      void *fields)
{
	for (int i = 0; i < n_roles; i++) {
		const char *suffix = b->c->is_gguf ? roles[i].gguf : roles[i].hf;
		int        *field = (int *)((char *)fields + roles[i].field);
		char        name[128];
		*field = -1;
		if (!suffix)
			continue;
		snprintf(name, sizeof name, "%s%s", prefix, suffix);
		int rc = bind_role(b, &roles[i], name, field);
		if (rc)
			return rc;
	}
	return 0;
}

static int bind_blocks(const struct binding *b)
{
	struct hr_checkpoint *c = b->c;
	c->blocks = hr__calloc((size_t)c->hparams.n_layers, sizeof *c->blocks);
	if (!c->blocks)
		return hr__fail(b->err, HR_ENOMEM, "%s: there is no memory for %d layers.", c->path,
		                c->hparams.n_layers);
	for (int i = 0; i < c->hparams.n_layers; i++) {
		char prefix[32];
		snprintf(prefix, sizeof prefix, c->is_gguf ? HR_GGUF_BLOCK : HR_HF_BLOCK, i);
		int rc = bind_roles(b, hr_block_roles, hr_n_block_roles, prefix, &c->blocks[i]);
		if (rc)
			return rc;
	}
	return 0;
}

/* A GGUF without the key takes the vocabulary's size from the embedding. */
static int infer_vocab(const struct binding *b)
{
	struct hr_hparams *h = &b->c->hparams;
	if (h->n_vocab)
		return 0;
	int index = hr__tensors_find(b->list, hr_end_roles[0].gguf);
	if (index < 0)
		return 0; /* about to be named as missing */
	uint64_t rows = b->list->items[index].shape[0];
	if (rows > 1 << 24)
		return hr__fail(b->err, HR_EFORMAT, "%s: an embedding of %" PRIu64 " rows is absurdly large.",
		                b->c->path, rows);
	h->n_vocab = (int32_t)rows;
	return 0;
}

static int refuse_leftovers(const struct binding *b)
{
	for (int i = 0; i < b->list->n; i++) {
		const struct hr_tensor *t = &b->list->items[i];
		if (b->use[i] == UNUSED && !hr_tensor_is_ignorable(t->name))
			return hr__fail(
			    b->err, HR_EUNSUPPORTED,
			    "%s: tensor '%s' has no place in a %s model of %d layers as it is supported; the output "
			    "without it would be wrong.",
			    file_of(b, t), t->name, b->c->hparams.family, b->c->hparams.n_layers);
	}
	return 0;
}

static void sum_up(const struct binding *b)
{
	uint64_t bytes[HR_TYPE_COUNT] = {0};
	int      most = 0;
	for (int i = 0; i < b->list->n; i++) {
		const struct hr_tensor *t = &b->list->items[i];
		if (b->use[i] != USED)
			continue;
		uint64_t elems = 1;
		for (int k = 0; k < t->n_dims; k++)
			elems *= t->shape[k];
		b->c->n_params += elems;
		b->c->weight_bytes += t->bytes;
		bytes[t->type] += t->bytes;
	}
	for (int i = 1; i < HR_TYPE_COUNT; i++)
		if (bytes[i] > bytes[most])
			most = i;
	snprintf(b->c->dtype, sizeof b->c->dtype, "%s", hr_type_info(most)->name);
}

int hr__checkpoint_bind(struct hr_checkpoint *c, struct hr_tensor_list *list, const struct hr_decoder *d,
                        struct hr_error *err)
{
	struct binding b = {.c = c, .list = list, .d = d, .err = err};
	int            rc = hr__tensors_index(list, c->path, err);
	if (rc)
		return rc;
	b.use = hr__calloc((size_t)list->n, 1);
	if (!b.use)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for %d tensors.", c->path, list->n);
	c->hparams = d->hparams;
	rc = infer_vocab(&b);
	if (!rc)
		rc = bind_roles(&b, hr_end_roles, hr_n_end_roles, "", c);
	if (!rc)
		rc = bind_blocks(&b);
	if (!rc)
		rc = refuse_leftovers(&b);
	if (rc)
		goto done;
	sum_up(&b);
	c->hparams.tied = c->head < 0;
	if (c->hparams.tied)
		c->head = c->embedding;
	c->tensors = list->items;
	c->n_tensors = list->n;
	list->items = NULL;
	list->n = 0;
done:
	free(b.use);
	return rc;
}
