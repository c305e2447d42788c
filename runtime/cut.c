/* Cuts: ways to divide every block into weights that are kept on the device and weights
 * that are streamed.
 *
 * Whole matrices go to one side or the other, at least one is streamed; norms and biases are
 * kept. All blocks are cut alike, so that one slot fits each. Of several cuts that stream equally many bytes
 * of a block, the one with the smallest slots is offered, and of those the one that is read in the fewest
 * extents: 34 of seven matrices of one type, all 126 where no two sets of them are equally large. Which cut
 * is taken is the planner's decision; to it a cut is no more than its bytes.
 *
 * What is streamed of a large block comes in pieces, each of the matrices of some steps of its computation.
 * A piece is given back when the next one is needed, so the ring need not be larger than some pieces, and
 * of a large block two take much less than two blocks. A block may then also be streamed whole but for
 * its norms. Steps share a piece as long as it is no larger than the largest step's or than
 * piece_bytes: smaller pieces would make slots no smaller, or only make more reads.
 *
 * All parts are layers like all others: what is kept is a resident. */
#include "runtime/cut.h"

#include "base/mem.h"

#include <assert.h>

#define MAX_MATRICES 8
#define MAX_WAYS     (1 << MAX_MATRICES)

#define BIT(name) (1ull << offsetof(struct hr_block, name) / sizeof(struct hr_weight))
static const uint64_t step_weights[HR_N_STEPS] = {
    [HR_STEP_QKV] = BIT(q) | BIT(k) | BIT(v) | BIT(qkv),
    [HR_STEP_O] = BIT(o),
    [HR_STEP_UP] = BIT(up),
    [HR_STEP_GATE] = BIT(gate),
    [HR_STEP_DOWN] = BIT(down),
};

static_assert(HR_N_STEPS <= HR_MAX_PIECES, "a piece has at least one step");

struct way {
	uint64_t streamed; /* weights */
	uint64_t bytes, slot_bytes;
	int      n_pieces, n_extents;
};

static uint64_t all_steps(void)
{
	uint64_t all = 0;
	for (int step = 0; step < HR_N_STEPS; step++)
		all |= step_weights[step];
	return all;
}

/* The matrices of a block, as bits: the first MAX_MATRICES; later ones are kept. */
static int find_matrices(const struct hr_block *block, uint64_t out[MAX_MATRICES])
{
	const struct hr_weight *w = (const struct hr_weight *)block;
	int                     n = 0;
	for (int i = 0; i < HR_N_BLOCK_WEIGHTS && n < MAX_MATRICES; i++)
		if (w[i].rows > 1 && all_steps() >> i & 1)
			out[n++] = 1ull << i;
	return n;
}

static uint64_t bytes_of(const struct hr_block *block, uint64_t weights)
{
	const struct hr_weight *w = (const struct hr_weight *)block;
	uint64_t                bytes = 0;
	for (int i = 0; i < HR_N_BLOCK_WEIGHTS; i++)
		if (weights >> i & 1)
			bytes += hr_weight_bytes(&w[i]);
	return bytes;
}

/* Bytes that a piece of block i may have. */
static uint64_t limit_of(const struct hr_model *m, int i, uint64_t streamed)
{
	uint64_t limit = m->cuts.piece_bytes;
	for (int step = 0; step < HR_N_STEPS; step++) {
		uint64_t bytes = bytes_of(&m->blocks[i], step_weights[step] & streamed);
		limit = limit && limit < bytes ? bytes : limit;
	}
	return limit;
}

/* The steps of block i in pieces: the matrices of each, and which step is computed with which. */
static void find_pieces(struct hr_part *part, const struct hr_model *m, int i, uint64_t streamed)
{
	uint64_t limit = limit_of(m, i, streamed), in_piece = 0;
	int      n = 0;
	for (int step = 0; step < HR_N_STEPS; step++) {
		uint64_t weights = step_weights[step] & streamed, bytes = bytes_of(&m->blocks[i], weights);
		if (in_piece && bytes && (in_piece > limit || bytes > limit - in_piece)) {
			in_piece = 0;
			n++;
		}
		in_piece += bytes;
		part->weights[n] |= weights;
		part->piece_of[step] = n;
	}
	part->n_pieces = n + 1;
}

/* Block i in its parts. Of a block in one piece nothing is kept. */
static int cut_block(struct hr_part *part, const struct hr_model *m, int i, uint64_t kept)
{
	part->kept_weights = kept;
	part->n_pieces = 1;
	part->weights[0] = ~kept;
	if (kept) {
		part->weights[0] = 0;
		find_pieces(part, m, i, ~kept);
	}
	int rc = hr__layout_block(&part->kept, &part->offsets, &m->checkpoint, i, kept);
	for (int p = 0; p < part->n_pieces && !rc; p++)
		rc = hr__layout_block(&part->pieces[p], &part->offsets, &m->checkpoint, i, part->weights[p]);
	return rc;
}

static void release_part(struct hr_part *part)
{
	for (int p = 0; p < part->n_pieces; p++)
		free(part->pieces[p].extents);
	free(part->kept.extents);
}

static struct hr_cut bytes_of_part(const struct hr_part *part)
{
	struct hr_cut cut = {.kept_bytes = part->kept.memory_bytes, .n_pieces = part->n_pieces};
	for (int p = 0; p < part->n_pieces; p++) {
		const struct hr_layer *piece = &part->pieces[p];
		cut.memory_bytes += piece->memory_bytes;
		cut.file_bytes += piece->file_bytes;
		cut.pieces[p] = piece->file_bytes;
		if (cut.slot_bytes < piece->memory_bytes)
			cut.slot_bytes = piece->memory_bytes;
	}
	return cut;
}

static bool is_better(const struct way *a, const struct way *b)
{
	return a->slot_bytes != b->slot_bytes ? a->slot_bytes < b->slot_bytes : a->n_extents < b->n_extents;
}

/* Put `way` into its place among n ways, fewest bytes first; returns how many there are then. */
static int insert(struct way *ways, int n, struct way way)
{
	int i = 0;
	while (i < n && ways[i].bytes < way.bytes)
		i++;
	if (i < n && ways[i].bytes == way.bytes) {
		if (is_better(&way, &ways[i]))
			ways[i] = way;
		return n;
	}
	memmove(&ways[i + 1], &ways[i], (size_t)(n - i) * sizeof *ways);
	ways[i] = way;
	return n + 1;
}

/* What comes of streaming those weights of the first block. HR_ENOMEM. */
static int measure_way(struct way *way, const struct hr_model *m, uint64_t streamed)
{
	struct hr_part part = {0};
	int            rc = cut_block(&part, m, 0, ~streamed);
	struct hr_cut  cut = bytes_of_part(&part);
	*way = (struct way){streamed, cut.file_bytes, cut.slot_bytes, cut.n_pieces, 0};
	for (int p = 0; p < part.n_pieces; p++)
		way->n_extents += part.pieces[p].n_extents;
	release_part(&part);
	return rc;
}

/* All ways to cut the first block, by the bytes that they stream. To stream all matrices is one of them only
 * if they come in pieces. */
static int find_ways(const struct hr_model *m, struct way ways[MAX_WAYS])
{
	uint64_t matrices[MAX_MATRICES];
	int      n_matrices = find_matrices(&m->blocks[0], matrices), n = 0;
	for (int subset = 1; subset < 1 << n_matrices; subset++) {
		struct way way;
		uint64_t   streamed = 0;
		bool       all = subset + 1 == 1 << n_matrices;
		for (int i = 0; i < n_matrices; i++)
			streamed |= subset >> i & 1 ? matrices[i] : 0;
		if (measure_way(&way, m, streamed))
			return HR_ENOMEM;
		if (all ? way.n_pieces > 1 : way.bytes < m->block_layers[0].file_bytes)
			n = insert(ways, n, way);
	}
	return n;
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
		struct hr_cut cut = bytes_of_part(&part);
		m->cuts.bytes[(size_t)index * (size_t)m->n_blocks + (size_t)i] = cut;
		if (!rc && !cut.file_bytes)
			rc = HR_EINVAL;
		release_part(&part);
	}
	return rc;
}

int hr__cuts_init(struct hr_model *m, uint64_t piece_bytes)
{
	struct way ways[MAX_WAYS];
	m->cuts.piece_bytes = piece_bytes;
	int n = find_ways(m, ways), rc = n < 0 ? n : 0;
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

void hr__part_place(struct hr_block *at, const struct hr_part *part, uint64_t which, const void *base)
{
	struct hr_weight       *out = (struct hr_weight *)at;
	const struct hr_weight *in = (const struct hr_weight *)&part->offsets;
	for (int i = 0; i < HR_N_BLOCK_WEIGHTS; i++)
		if (which >> i & 1)
			out[i] =
			    base ? hr_weight_at(in[i], base) : (struct hr_weight){.rows = in[i].rows, .cols = in[i].cols};
}
