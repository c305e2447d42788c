/* Cuts: ways to divide every block into weights that are kept on the device and weights
 * that are streamed.
 *
 * Whole matrices go to one side or the other, at least one to each; norms and biases are
 * kept. All blocks are cut alike, so that one slot fits each. Of several cuts that stream equally many bytes
 * of a block, the one that reads them in the fewest pieces is offered: 34 of seven matrices of one type, all
 * 126 where no two sets of them are equally large. Which cut is taken is the planner's decision; to it a cut
 * is no more than its bytes.
 *
 * The two parts are layers like all others: what is kept is a resident. */
#include "runtime/cut.h"

#include "base/mem.h"

#define MAX_MATRICES 8
#define MAX_WAYS     (1 << MAX_MATRICES)

struct way {
	uint64_t streamed; /* weights */
	uint64_t bytes;
	int      n_extents;
};

/* The matrices of a block, as bits: the first MAX_MATRICES; later ones are kept. */
static int find_matrices(const struct hr_block *block, uint64_t out[MAX_MATRICES])
{
	const struct hr_weight *w = (const struct hr_weight *)block;
	int                     n = 0;
	for (int i = 0; i < HR_N_BLOCK_WEIGHTS && n < MAX_MATRICES; i++)
		if (w[i].rows > 1)
			out[n++] = 1ull << i;
	return n;
}

/* Put `way` into its place among n ways, fewest bytes first; returns how many there are then. */
static int insert(struct way *ways, int n, struct way way)
{
	int i = 0;
	while (i < n && ways[i].bytes < way.bytes)
		i++;
	if (i < n && ways[i].bytes == way.bytes) {
		if (way.n_extents < ways[i].n_extents)
			ways[i] = way;
		return n;
	}
	memmove(&ways[i + 1], &ways[i], (size_t)(n - i) * sizeof *ways);
	ways[i] = way;
	return n + 1;
}

/* All ways to cut the first block, by the bytes that they stream. */
static int find_ways(const struct hr_model *m, struct way ways[MAX_WAYS])
{
	uint64_t matrices[MAX_MATRICES];
	int      n_matrices = find_matrices(&m->blocks[0], matrices), n = 0;
	for (int subset = 1; subset + 1 < 1 << n_matrices; subset++) {
		struct way      way = {0};
		struct hr_layer part = {0};
		struct hr_block ignored;
		for (int i = 0; i < n_matrices; i++)
			way.streamed |= subset >> i & 1 ? matrices[i] : 0;
		if (hr__layout_block(&part, &ignored, &m->checkpoint, 0, way.streamed))
			return HR_ENOMEM;
		way.bytes = part.file_bytes;
		way.n_extents = part.n_extents;
		free(part.extents);
		if (way.bytes < m->block_layers[0].file_bytes)
			n = insert(ways, n, way);
	}
	return n;
}

/* Both parts of block i. */
static int cut_block(struct hr_part *part, const struct hr_model *m, int i, uint64_t kept)
{
	int rc = hr__layout_block(&part->layer, &part->offsets, &m->checkpoint, i, ~kept);
	if (!rc)
		rc = hr__layout_block(&part->kept, &part->offsets, &m->checkpoint, i, kept);
	part->kept_weights = kept;
	return rc;
}

static void release_part(struct hr_part *part)
{
	free(part->layer.extents);
	free(part->kept.extents);
}

/* The bytes of cut `index` in all blocks. Blocks may differ; that one of them has nothing left to be
 * streamed makes the cut unfit: HR_EINVAL. */
static int measure_cut(struct hr_model *m, int index, uint64_t kept)
{
	int rc = 0;
	m->cuts.kept[index] = kept;
	for (int i = 0; i < m->n_blocks && !rc; i++) {
		struct hr_part part = {0};
		rc = cut_block(&part, m, i, kept);
		m->cuts.bytes[(size_t)index * (size_t)m->n_blocks + (size_t)i] =
		    (struct hr_cut){part.kept.memory_bytes, part.layer.memory_bytes, part.layer.file_bytes};
		if (!rc && !part.layer.file_bytes)
			rc = HR_EINVAL;
		release_part(&part);
	}
	return rc;
}

int hr__cuts_init(struct hr_model *m)
{
	struct way ways[MAX_WAYS];
	int        n = find_ways(m, ways), rc = n < 0 ? n : 0;
	if (n <= 0)
		return rc;
	m->cuts.kept = hr__calloc((size_t)n, sizeof *m->cuts.kept);
	m->cuts.bytes = hr__calloc((size_t)n * (size_t)m->n_blocks, sizeof *m->cuts.bytes);
	if (!m->cuts.kept || !m->cuts.bytes)
		return HR_ENOMEM;
	for (int i = n - 1; i >= 0 && rc != HR_ENOMEM; i--) {
		rc = measure_cut(m, m->cuts.n, ~ways[i].streamed);
		m->cuts.n += !rc;
	}
	return rc == HR_ENOMEM ? rc : 0;
}

void hr__cuts_release(struct hr_cuts *cuts)
{
	free(cuts->kept);
	free(cuts->bytes);
}

struct hr_part *hr__parts_new(const struct hr_model *m, const struct hr_placement *p)
{
	struct hr_part *parts = hr__calloc((size_t)m->n_blocks, sizeof *parts);
	int             rc = parts ? 0 : HR_ENOMEM;
	for (int i = 0; i < m->n_blocks && !rc; i++) {
		bool whole = p->cut < 0 || p->block_tier[i] == HR_TIER_DEVICE;
		rc = cut_block(&parts[i], m, i, whole ? 0 : m->cuts.kept[p->cut]);
	}
	if (!rc)
		return parts;
	hr__parts_free(parts, m->n_blocks);
	return NULL;
}

void hr__parts_free(struct hr_part *parts, int n_blocks)
{
	for (int i = 0; parts && i < n_blocks; i++)
		release_part(&parts[i]);
	free(parts);
}

struct hr_block hr__part_at(const struct hr_part *part, const void *base, const void *kept)
{
	struct hr_block         at;
	struct hr_weight       *out = (struct hr_weight *)&at;
	const struct hr_weight *in = (const struct hr_weight *)&part->offsets;
	for (int i = 0; i < HR_N_BLOCK_WEIGHTS; i++)
		out[i] = hr_weight_at(in[i], part->kept_weights >> i & 1 ? kept : base);
	return at;
}
