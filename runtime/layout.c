/* Lays a model's tensors out as layers: which byte ranges of which files a layer
 * is read from, and where in the layer's memory each weight then lies.
 *
 * Tensors that stand next to each other in a file are read as one extent (gaps
 * up to MERGE_GAP_BYTES are read along: cheaper than another request). An extent
 * lands on the HR_IO_ALIGN grid congruent to its file offset, so a weight's
 * address follows from its file offset and nothing is moved after the read.
 *
 * A head larger than the largest block is also cut into parts of whole rows, so
 * that it can be streamed through slots of block size. */
#include "base/error.h"
#include "base/mem.h"
#include "runtime/model.h"

#include <stdio.h>

#define MERGE_GAP_BYTES (64u << 10)
#define MAX_PIECES      16

/* A range of a file that becomes a weight. */
struct piece {
	const struct hr_file *file;
	uint64_t              offset, bytes;
	struct hr_weight     *weight; /* gets its offset in the layer's memory */
};

static int piece_compare(const void *a, const void *b)
{
	const struct piece *p = a, *q = b;
	if (p->file != q->file)
		return p->file < q->file ? -1 : 1;
	return p->offset < q->offset ? -1 : p->offset > q->offset;
}

static bool piece_joins(const struct hr_extent *extent, const struct piece *piece)
{
	return extent->file == piece->file && piece->offset <= extent->offset + extent->length + MERGE_GAP_BYTES;
}

/* Fill `layer` (named already) from pieces; sets each piece's weight->data. */
static int place_pieces(struct hr_layer *layer, struct piece *pieces, int n)
{
	qsort(pieces, (size_t)n, sizeof *pieces, piece_compare);
	layer->extents = hr__calloc((size_t)n, sizeof *layer->extents);
	if (!layer->extents)
		return HR_ENOMEM;
	struct hr_extent *extent = NULL;
	uint64_t          memory = 0;
	for (int i = 0; i < n; i++) {
		struct piece *p = &pieces[i];
		if (!extent || !piece_joins(extent, p)) {
			extent = &layer->extents[layer->n_extents++];
			*extent = (struct hr_extent){p->file, p->offset, p->bytes, memory};
		} else if (p->offset + p->bytes > extent->offset + extent->length) {
			extent->length = p->offset + p->bytes - extent->offset;
		}
		uint64_t in_extent = p->offset - hr__align_down(extent->offset, HR_IO_ALIGN);
		p->weight->data = (const void *)(uintptr_t)(extent->memory_offset + in_extent);
		memory =
		    hr__align_up(extent->memory_offset + extent->offset % HR_IO_ALIGN + extent->length, HR_IO_ALIGN);
	}
	for (int e = 0; e < layer->n_extents; e++)
		layer->file_bytes += layer->extents[e].length;
	layer->memory_bytes = memory;
	return 0;
}

/* Rows [first, first + rows) of tensor `index` as a weight; rows < 0: all. */
static struct piece weight_piece(const struct hr_checkpoint *c, int index, int64_t first, int64_t rows,
                                 struct hr_weight *weight)
{
	const struct hr_tensor *t = &c->tensors[index];
	uint64_t                n_rows = t->n_dims > 1 ? t->shape[0] : 1;
	uint64_t                cols = t->shape[t->n_dims - 1];
	uint64_t                row_bytes = t->bytes / n_rows;
	if (rows < 0)
		rows = (int64_t)n_rows;
	*weight = (struct hr_weight){.type = t->type, .rows = (int32_t)rows, .cols = (int32_t)cols};
	return (struct piece){t->file, t->offset + (uint64_t)first * row_bytes, (uint64_t)rows * row_bytes,
	                      weight};
}

static int layout_block(struct hr_model *m, int i)
{
	const struct hr_checkpoint    *c = &m->checkpoint;
	const struct hr_block_tensors *t = &c->blocks[i];
	struct hr_block               *b = &m->blocks[i];
	struct {
		int               tensor;
		struct hr_weight *weight;
	} roles[] = {
	    {t->attn_norm, &b->attn_norm},
	    {t->q, &b->q},
	    {t->k, &b->k},
	    {t->v, &b->v},
	    {t->o, &b->o},
	    {t->q_bias, &b->q_bias},
	    {t->k_bias, &b->k_bias},
	    {t->v_bias, &b->v_bias},
	    {t->o_bias, &b->o_bias},
	    {t->ffn_norm, &b->ffn_norm},
	    {t->gate, &b->gate},
	    {t->up, &b->up},
	    {t->down, &b->down},
	};
	struct piece pieces[MAX_PIECES];
	int          n = 0;
	for (size_t r = 0; r < HR_COUNT_OF(roles); r++)
		if (roles[r].tensor >= 0)
			pieces[n++] = weight_piece(c, roles[r].tensor, 0, -1, roles[r].weight);
	snprintf(m->block_layers[i].name, sizeof m->block_layers[i].name, "model.layers.%d", i);
	return place_pieces(&m->block_layers[i], pieces, n);
}

static int layout_matrix(struct hr_model *m, struct hr_matrix_layer *out, int tensor, int64_t first,
                         int64_t rows)
{
	struct piece piece = weight_piece(&m->checkpoint, tensor, first, rows, &out->weight);
	out->first_row = (int32_t)first;
	return place_pieces(&out->layer, &piece, 1);
}

static int layout_head_parts(struct hr_model *m)
{
	uint64_t block_bytes = 1;
	for (int i = 0; i < m->n_blocks; i++)
		if (m->block_layers[i].file_bytes > block_bytes)
			block_bytes = m->block_layers[i].file_bytes;
	int64_t  rows = m->head.weight.rows;
	uint64_t parts = (m->head.layer.file_bytes + block_bytes - 1) / block_bytes;
	int64_t  rows_per_part = (rows + (int64_t)parts - 1) / (int64_t)parts;
	m->n_head_parts = (int)((rows + rows_per_part - 1) / rows_per_part);
	m->head_parts = hr__calloc((size_t)m->n_head_parts, sizeof *m->head_parts);
	if (!m->head_parts)
		return HR_ENOMEM;
	for (int p = 0; p < m->n_head_parts; p++) {
		int64_t first = p * rows_per_part;
		int64_t n = rows - first < rows_per_part ? rows - first : rows_per_part;
		snprintf(m->head_parts[p].layer.name, sizeof m->head_parts[p].layer.name, "lm_head.%d", p);
		int rc = layout_matrix(m, &m->head_parts[p], m->checkpoint.head, first, n);
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
		if ((rc = layout_block(m, i)))
			goto done;

	snprintf(m->embedding.layer.name, sizeof m->embedding.layer.name, "model.embed_tokens");
	snprintf(m->head.layer.name, sizeof m->head.layer.name, "lm_head");
	snprintf(m->globals.name, sizeof m->globals.name, "model.norm");
	struct piece norm = weight_piece(c, c->final_norm, 0, -1, &m->final_norm);
	if ((rc = layout_matrix(m, &m->embedding, c->embedding, 0, -1)) ||
	    (rc = layout_matrix(m, &m->head, c->head, 0, -1)) || (rc = place_pieces(&m->globals, &norm, 1)))
		goto done;
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

struct hr_block hr_block_at(const struct hr_block *o, const void *base)
{
	return (struct hr_block){
	    .attn_norm = hr_weight_at(o->attn_norm, base),
	    .q = hr_weight_at(o->q, base),
	    .k = hr_weight_at(o->k, base),
	    .v = hr_weight_at(o->v, base),
	    .o = hr_weight_at(o->o, base),
	    .q_bias = hr_weight_at(o->q_bias, base),
	    .k_bias = hr_weight_at(o->k_bias, base),
	    .v_bias = hr_weight_at(o->v_bias, base),
	    .o_bias = hr_weight_at(o->o_bias, base),
	    .ffn_norm = hr_weight_at(o->ffn_norm, base),
	    .gate = hr_weight_at(o->gate, base),
	    .up = hr_weight_at(o->up, base),
	    .down = hr_weight_at(o->down, base),
	};
}
