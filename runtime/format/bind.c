/* Holds a model's tensors against its description.
 *
 * Each role of the family's tables is looked up by name and its shape compared
 * with what the hyperparameters ask for. What is left over at the end is refused: a tensor
 * without a role is a part of the model that the forward pass would leave out.
 *
 * A weight that is some rows of a tensor, or lies there by columns, becomes a view:
 * a tensor of its own behind the list, with the shape that the role asks for.
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
	const char                  *prefix; /* of Hugging Face names; "" where the file leaves it out */
	uint8_t                     *use;    /* [list->n] enum use */
	struct hr_tensor_list        views;
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
	bool                     by_columns = role->hf_by_columns && !b->c->is_gguf;
	int                      n_dims = role->rows ? 2 : 1;
	uint64_t rows = hr_dim_size(role->whole ? role->whole : role->rows, h), cols = hr_dim_size(role->cols, h);
	uint64_t wanted[2] = {by_columns ? cols : rows, by_columns ? rows : cols};
	if (!role->rows)
		wanted[0] = role->whole ? rows : cols;
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
	bool is_factors = role->feature == HR_ROPE_FACTORS || role->feature == HR_LONGROPE_FACTORS;
	if (is_factors && t->type != HR_TYPE_F32)
		return hr__fail(b->err, HR_EUNSUPPORTED,
		                "%s: tensor '%s' has the type %s; only f32 is supported for it.", file_of(b, t),
		                t->name, type->name);
	if (!role->rows && !hr_type_is_plain(t->type))
		return hr__fail(
		    b->err, HR_EUNSUPPORTED,
		    "%s: tensor '%s' has the quantized type %s; norms and biases must be f32, f16 or bf16.",
		    file_of(b, t), t->name, type->name);
	return 0;
}

static enum hr_presence presence_of(const struct hr_role *role, const struct hr_decoder *d)
{
	if (role->feature == HR_HEAD && !d->hparams.encoder)
		return d->tied_by_tensors || d->hparams.tied ? HR_OPTIONAL : HR_REQUIRED;
	return role->feature == HR_ALWAYS ? HR_REQUIRED : d->has[role->feature];
}

static int fail_missing(const struct binding *b, const struct hr_role *role, const char *name)
{
	if (role->feature == HR_HEAD)
		return hr__fail(
		    b->err, HR_EFORMAT,
		    "%s: config.json does not tie the head to the embedding (tie_word_embeddings), but there is no "
		    "tensor '%s'; one of the two is wrong.",
		    b->c->path, name);
	return hr__fail(b->err, HR_EFORMAT,
	                "%s: tensor '%s' is missing; the model is incomplete, or is none of the family %s.",
	                b->c->path, name, b->c->hparams.family);
}

/* The part of tensor `index` that `role` is; *out is its index behind the list. */
static int add_view(struct binding *b, const struct hr_role *role, int index, int *out)
{
	const struct hr_hparams   *h = &b->c->hparams;
	const struct hr_tensor    *t = &b->list->items[index];
	const struct hr_type_info *type = hr_type_info(t->type);
	struct hr_tensor           view = *t, *items;
	uint64_t before = role->before ? hr_dim_size(role->before, h) : 0, rows = hr_dim_size(role->rows, h);
	if (role->hf_by_columns && !b->c->is_gguf) {
		if (!hr_type_is_plain(t->type))
			return hr__fail(b->err, HR_EUNSUPPORTED,
			                "%s: tensor '%s' has the type %s, which can't be read by columns.", file_of(b, t),
			                t->name, type->name);
		uint64_t stride = t->shape[1], cols = t->shape[0];
		view.shape[0] = rows;
		view.shape[1] = cols;
		view.column_stride = stride;
		view.offset += before * type->block_bytes;
		view.bytes = ((cols - 1) * stride + rows) * type->block_bytes;
	} else {
		uint64_t row_bytes = role->rows ? t->bytes / t->shape[0] : type->block_bytes;
		view.shape[0] = role->rows ? rows : hr_dim_size(role->cols, h);
		view.offset += before * row_bytes;
		view.bytes = view.shape[0] * row_bytes;
		view.scales.skip += before;
	}
	view.name = strdup(t->name);
	items = reallocarray(b->views.items, (size_t)b->views.n + 1, sizeof *items);
	b->views.items = items ? items : b->views.items;
	if (!view.name || !items) {
		free(view.name);
		return hr__fail(b->err, HR_ENOMEM, "%s: there is no memory for the parts of tensors.", b->c->path);
	}
	items[b->views.n] = view;
	*out = b->list->n + b->views.n++;
	return 0;
}

/* Original BERT files call the parameters of a layer norm gamma and beta. */
static int find_tensor(const struct binding *b, const char *name)
{
	static const char *const endings[][2] = {{"LayerNorm.weight", "gamma"}, {"LayerNorm.bias", "beta"}};
	int                      index = hr__tensors_find(b->list, name);
	size_t                   length = strlen(name);
	for (int i = 0; i < 2 && index < 0 && !b->c->is_gguf; i++) {
		char   other[160];
		size_t end = strlen(endings[i][0]);
		if (length < end || length >= sizeof other || strcmp(name + length - end, endings[i][0]) != 0)
			continue;
		snprintf(other, sizeof other, "%.*sLayerNorm.%s", (int)(length - end), name, endings[i][1]);
		index = hr__tensors_find(b->list, other);
	}
	return index;
}

/* Find the tensor `name` of `role`; *out is its index or -1. */
static int bind_role(struct binding *b, const struct hr_role *role, const char *name, int *out)
{
	enum hr_presence presence = presence_of(role, b->d);
	int              index = find_tensor(b, name);
	*out = -1;
	if (index < 0)
		return presence == HR_REQUIRED ? fail_missing(b, role, name) : 0;
	const struct hr_tensor *t = &b->list->items[index];
	if (presence == HR_ABSENT)
		return hr__fail(b->err, HR_EFORMAT,
		                "%s: there is a tensor '%s', but the model's description rules it out.",
		                file_of(b, t), name);
	if (role->feature == HR_HEAD && b->d->hparams.tied) {
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
	return role->whole || (role->hf_by_columns && !b->c->is_gguf) ? add_view(b, role, index, out) : 0;
}

/* Bind all roles, whose names follow `block` (NULL: the ends); absent ones become -1. */
static int bind_roles(struct binding *b, const struct hr_role *roles, const char *block, void *fields,
                      size_t n_fields)
{
	memset(fields, 0xff, n_fields * sizeof(int)); /* -1 each */
	for (; roles->gguf || roles->hf; roles++) {
		const char *suffix = b->c->is_gguf ? roles->gguf : roles->hf;
		int        *field = (int *)((char *)fields + roles->field);
		char        name[128];
		if (!suffix || *field >= 0)
			continue;
		bool outside = *suffix == '/';
		snprintf(name, sizeof name, "%s%s%s", outside ? "" : b->prefix, block ? block : "", suffix + outside);
		int rc = bind_role(b, roles, name, field);
		if (rc)
			return rc;
	}
	return 0;
}

static int bind_blocks(struct binding *b)
{
	struct hr_checkpoint *c = b->c;
	const char           *format = c->is_gguf ? HR_GGUF_BLOCK : b->d->family->hf_block;
	c->blocks = hr__calloc((size_t)c->hparams.n_layers, sizeof *c->blocks);
	if (!c->blocks)
		return hr__fail(b->err, HR_ENOMEM, "%s: there is no memory for %d layers.", c->path,
		                c->hparams.n_layers);
	for (int i = 0; i < c->hparams.n_layers; i++) {
		char block[64], number[16];
		snprintf(number, sizeof number, "%d", i);
		const char *at = strstr(format, "%d");
		snprintf(block, sizeof block, "%.*s%s%s", (int)(at - format), format, number, at + 2);
		int rc =
		    bind_roles(b, b->d->family->block_roles, block, &c->blocks[i], sizeof c->blocks[i] / sizeof(int));
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
	int index = hr__tensors_find(b->list, b->d->family->end_roles[0].gguf);
	if (index < 0)
		return 0; /* about to be named as missing */
	uint64_t rows = b->list->items[index].shape[0];
	if (rows > 1 << 24)
		return hr__fail(b->err, HR_EFORMAT, "%s: an embedding of %" PRIu64 " rows is absurdly large.",
		                b->c->path, rows);
	h->n_vocab = (int32_t)rows;
	return 0;
}

/* Models are saved with and without a head around them, which puts a prefix before their names. */
static const char *choose_prefix(const struct binding *b)
{
	const char *prefix = b->d->family->hf_prefix;
	char        name[128];
	if (b->c->is_gguf || !prefix)
		return "";
	snprintf(name, sizeof name, "%s%s", prefix, b->d->family->end_roles[0].hf);
	return hr__tensors_find(b->list, name) >= 0 ? prefix : "";
}

static int refuse_leftovers(const struct binding *b)
{
	for (int i = 0; i < b->list->n; i++) {
		const struct hr_tensor *t = &b->list->items[i];
		if (b->use[i] == UNUSED && !hr_tensor_is_ignorable(b->d->family, t->name))
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
	b.prefix = choose_prefix(&b);
	rc = infer_vocab(&b);
	if (!rc)
		rc = bind_roles(&b, d->family->end_roles, NULL, &c->ends, sizeof c->ends / sizeof(int));
	if (!rc)
		rc = bind_blocks(&b);
	if (!rc)
		rc = refuse_leftovers(&b);
	if (rc)
		goto done;
	sum_up(&b);
	c->hparams.tied = c->ends.head < 0 && !c->hparams.encoder;
	if (c->hparams.tied)
		c->ends.head = c->ends.embedding;
	int n = list->n, n_views = b.views.n;
	rc = hr__tensors_append(list, &b.views, err);
	if (rc)
		goto done;
	c->tensors = list->items;
	c->n_tensors = n;
	c->n_views = n_views;
	list->items = NULL;
	list->n = 0;
done:
	hr__tensors_release(&b.views);
	free(b.use);
	return rc;
}
