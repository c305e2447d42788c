/* Lays a model's tensors out as layers: which byte ranges of which files a layer
 * is read from, and where in the layer's memory each weight then lies.
 *
 * Tensors that stand next to each other in a file are read as one extent (gaps
 * up to MERGE_GAP_BYTES are read along: cheaper than another request). An extent
 * lands on the HR_IO_ALIGN grid congruent to its file offset, so a weight's
 * address follows from its file offset and nothing is moved after the read.
 *
 * The scales of f8 matrices are ranges of their own in the same layer. Most files have those of a block side
 * by side, some distance from its matrices: one extent more.
 *
 * The head also comes in parts of whole rows, each an eighth of a block or so: it can be
 * streamed through the same slots, also where these hold no more than a part of a block. */
#include "base/error.h"
#include "base/mem.h"
#include "runtime/model.h"

#include <stdio.h>

#define MERGE_GAP_BYTES  (64u << 10)
#define PARTS_PER_BLOCK  8
#define LEAST_PART_BYTES (1u << 20)

/* The weights of a block or of the ends, and their tensors, are used as arrays in the order of the list. */
enum { N_END_WEIGHTS = sizeof(struct hr_ends) / sizeof(struct hr_weight) };
#define ALL UINT64_MAX

/* A range of a file that becomes a weight, or the scales of one. */
struct range {
	const struct hr_file *file;
	uint64_t              offset, bytes;
	const void          **data; /* gets its offset in the layer's memory */
};

static int range_compare(const void *a, const void *b)
{
	const struct range *p = a, *q = b;
	if (p->file != q->file)
		return p->file < q->file ? -1 : 1;
	return p->offset < q->offset ? -1 : p->offset > q->offset;
}

static bool range_joins(const struct hr_extent *extent, const struct range *range)
{
	return extent->file == range->file && range->offset <= extent->offset + extent->length + MERGE_GAP_BYTES;
}

/* Fill `layer` (named already) from ranges; sets each range's *data. */
static int place_ranges(struct hr_layer *layer, struct range *ranges, int n)
{
	qsort(ranges, (size_t)n, sizeof *ranges, range_compare);
	layer->extents = hr__calloc((size_t)n, sizeof *layer->extents);
	if (!layer->extents)
		return HR_ENOMEM;
	struct hr_extent *extent = NULL;
	uint64_t          memory = 0;
	for (int i = 0; i < n; i++) {
		struct range *p = &ranges[i];
		if (!extent || !range_joins(extent, p)) {
			extent = &layer->extents[layer->n_extents++];
			*extent = (struct hr_extent){p->file, p->offset, p->bytes, memory};
		} else if (p->offset + p->bytes > extent->offset + extent->length) {
			extent->length = p->offset + p->bytes - extent->offset;
		}
		uint64_t in_extent = p->offset - hr__align_down(extent->offset, HR_IO_ALIGN);
		*p->data = (const void *)(uintptr_t)(extent->memory_offset + in_extent);
		memory =
		    hr__align_up(extent->memory_offset + extent->offset % HR_IO_ALIGN + extent->length, HR_IO_ALIGN);
	}
	for (int e = 0; e < layer->n_extents; e++)
		layer->file_bytes += layer->extents[e].length;
	layer->memory_bytes = memory;
	return 0;
}

/* The scales of rows [first, first + weight->rows) of a tensor. */
static struct range scale_range(const struct hr_tensor *t, uint64_t first, struct hr_weight *weight)
{
	const struct hr_scales *s = &t->scales;
	uint64_t                begin = (s->skip + first) / s->rows,
	         last = (s->skip + first + (uint64_t)weight->rows - 1) / s->rows;
	uint64_t row_bytes =
	    ((uint64_t)weight->cols + s->cols - 1) / s->cols * hr_type_info(s->type)->block_bytes;
	weight->scale = (struct hr_scale){.type = s->type,
	                                  .rows = (int32_t)s->rows,
	                                  .cols = (int32_t)s->cols,
	                                  .skip = (int32_t)(s->skip + first - begin * s->rows)};
	return (struct range){s->file, s->offset + begin * row_bytes, (last - begin + 1) * row_bytes,
	                      &weight->scale.data};
}

/* Rows [first, first + rows) of tensor `index` as a weight; rows < 0: all. One range or two, and how many. */
static int weight_ranges(const struct hr_checkpoint *c, int index, int64_t first, int64_t rows,
                         struct hr_weight *weight, struct range out[2])
{
	const struct hr_tensor *t = &c->tensors[index];
	uint64_t                n_rows = t->n_dims > 1 ? t->shape[0] : 1;
	uint64_t                cols = t->shape[t->n_dims - 1];
	uint64_t                row_bytes = t->bytes / n_rows;
	bool                    all = rows < 0;
	if (all)
		rows = (int64_t)n_rows;
	*weight = (struct hr_weight){.type = t->type,
	                             .rows = (int32_t)rows,
	                             .cols = (int32_t)cols,
	                             .column_stride = (int32_t)t->column_stride};
	out[0] = (struct range){t->file, t->offset + (uint64_t)first * row_bytes,
	                        all ? t->bytes : (uint64_t)rows * row_bytes, &weight->data};
	if (!t->scales.file)
		return 1;
	out[1] = scale_range(t, (uint64_t)first, weight);
	return 2;
}

/* A layer named `name` of those of n tensors that are there and in `which`. */
static int layout_weights(struct hr_layer *layer, const struct hr_checkpoint *c, const int *tensors,
                          struct hr_weight *weights, int n, uint64_t which, const char *name)
{
	struct range ranges[2 * (HR_N_BLOCK_WEIGHTS + N_END_WEIGHTS)];
	int          n_ranges = 0;
	for (int i = 0; i < n; i++)
		if (tensors[i] >= 0 && which >> i & 1)
			n_ranges += weight_ranges(c, tensors[i], 0, -1, &weights[i], ranges + n_ranges);
	snprintf(layer->name, sizeof layer->name, "%s", name);
	return n_ranges ? place_ranges(layer, ranges, n_ranges) : 0;
}

int hr__layout_block(struct hr_layer *layer, struct hr_block *offsets, const struct hr_checkpoint *c, int i,
                     uint64_t which)
{
	char name[32];
	snprintf(name, sizeof name, "model.layers.%d", i);
	return layout_weights(layer, c, (const int *)&c->blocks[i], (struct hr_weight *)offsets,
	                      HR_N_BLOCK_WEIGHTS, which, name);
}

/* What is neither the embedding nor a head over the vocabulary. */
static int layout_globals(struct hr_model *m)
{
	struct hr_end_tensors ends = m->checkpoint.ends;
	ends.embedding = ends.rope_factors = ends.rope_short = ends.rope_long = -1;
	if (!m->checkpoint.hparams.encoder)
		ends.head = -1;
	return layout_weights(&m->globals, &m->checkpoint, (const int *)&ends, (struct hr_weight *)&m->ends,
	                      N_END_WEIGHTS, ALL, "model.norm");
}

static int layout_matrix(struct hr_model *m, struct hr_matrix_layer *out, int tensor, int64_t first,
                         int64_t rows)
{
	struct range ranges[2];
	int          n = weight_ranges(&m->checkpoint, tensor, first, rows, &out->weight, ranges);
	out->first_row = (int32_t)first;
	return place_ranges(&out->layer, ranges, n);
}

static int layout_head_parts(struct hr_model *m)
{
	uint64_t block_bytes = 1;
	for (int i = 0; i < m->n_blocks; i++)
		if (m->block_layers[i].file_bytes > block_bytes)
			block_bytes = m->block_layers[i].file_bytes;
	uint64_t least = block_bytes < LEAST_PART_BYTES ? block_bytes : LEAST_PART_BYTES;
	uint64_t part = block_bytes / PARTS_PER_BLOCK < least ? least : block_bytes / PARTS_PER_BLOCK;
	int64_t  rows = m->head.weight.rows;
	uint64_t parts = (m->head.layer.file_bytes + part - 1) / part;
	int64_t  rows_per_part = (rows + (int64_t)parts - 1) / (int64_t)parts;
	m->n_head_parts = (int)((rows + rows_per_part - 1) / rows_per_part);
	m->head_parts = hr__calloc((size_t)m->n_head_parts, sizeof *m->head_parts);
	if (!m->head_parts)
		return HR_ENOMEM;
	for (int p = 0; p < m->n_head_parts; p++) {
		int64_t first = p * rows_per_part;
		int64_t n = rows - first < rows_per_part ? rows - first : rows_per_part;
		snprintf(m->head_parts[p].layer.name, sizeof m->head_parts[p].layer.name, "lm_head.%d", p);
		int rc = layout_matrix(m, &m->head_parts[p], m->checkpoint.ends.head, first, n);
		if (rc)
			return rc;
	}
	return 0;
}

int hr__layout_model(struct hr_model *m, struct hr_error *err)
{
	const struct hr_checkpoint *c = &m->checkpoint;
	int                         rc = HR_ENOMEM;
	m->n_blocks = c->hparams.n_layers;
	m->block_layers = hr__calloc((size_t)m->n_blocks, sizeof *m->block_layers);
	m->blocks = hr__calloc((size_t)m->n_blocks, sizeof *m->blocks);
	if (!m->block_layers || !m->blocks)
		goto done;
	for (int i = 0; i < m->n_blocks; i++)
		if ((rc = hr__layout_block(&m->block_layers[i], &m->blocks[i], c, i, ALL)))
			goto done;

	snprintf(m->embedding.layer.name, sizeof m->embedding.layer.name, "model.embed_tokens");
	snprintf(m->head.layer.name, sizeof m->head.layer.name, "lm_head");
	if ((rc = layout_matrix(m, &m->embedding, c->ends.embedding, 0, -1)) || (rc = layout_globals(m)))
		goto done;
	if (!c->hparams.encoder && !(rc = layout_matrix(m, &m->head, c->ends.head, 0, -1)))
		rc = layout_head_parts(m);
done:
	return rc ? hr__fail(err, rc, "%s: out of memory while laying out %d layers.", c->path, m->n_blocks) : 0;
}

void hr__layout_release(struct hr_model *m)
{
	for (int i = 0; m->block_layers && i < m->n_blocks; i++)
		free(m->block_layers[i].extents);
	for (int p = 0; m->head_parts && p < m->n_head_parts; p++)
		free(m->head_parts[p].layer.extents);
	free(m->embedding.layer.extents);
	free(m->head.layer.extents);
	free(m->globals.extents);
	free(m->block_layers);
	free(m->blocks);
	free(m->head_parts);
}

struct hr_ends hr_ends_at(const struct hr_ends *offsets, const void *base)
{
	struct hr_ends          at;
	struct hr_weight       *out = (struct hr_weight *)&at;
	const struct hr_weight *in = (const struct hr_weight *)offsets;
	for (int i = 0; i < N_END_WEIGHTS; i++)
		out[i] = hr_weight_at(in[i], base);
	return at;
}
