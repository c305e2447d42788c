/* Splits of the blocks: how many are resident and how the others are cut, in sums of bytes.
 *
 * The planner compares thousands of splits, again and again with other slots, budgets and
 * reads, none of which a split's sums depend on. They are therefore added up once for each plan
 * that is asked for; from then on a split costs the same for any number of blocks. */
#include "base/error.h"
#include "base/mem.h"
#include "scheduler/plan_internal.h"

bool hr__is_spread(int i, int chosen, int n)
{
	return (int64_t)(i + 1) * chosen / n > (int64_t)i * chosen / n;
}

struct hr_cut hr_plan_cut(const struct hr_plan_request *r, int cut, int block)
{
	const struct hr_layer *b = &r->blocks[block];
	if (cut < 0)
		return (struct hr_cut){.memory_bytes = b->memory_bytes,
		                       .file_bytes = b->file_bytes,
		                       .slot_bytes = b->memory_bytes,
		                       .pieces = {b->file_bytes},
		                       .n_pieces = 1};
	return r->cuts[(size_t)cut * (size_t)r->n_blocks + (size_t)block];
}

static void add_block(struct hr__split *s, const struct hr_layer *block, struct hr_cut part, bool resident)
{
	if (s->block_bytes < block->memory_bytes)
		s->block_bytes = block->memory_bytes;
	if (resident) {
		s->n_resident++;
		s->resident_bytes += block->memory_bytes;
		return;
	}
	s->kept_bytes += part.kept_bytes;
	s->streamed_bytes += part.file_bytes;
	s->n_pieces += part.n_pieces;
	if (s->piece_bytes < part.slot_bytes)
		s->piece_bytes = part.slot_bytes;
}

static size_t index_of(const struct hr__splits *splits, int n_resident, int cut)
{
	return (size_t)(cut + 1) * (size_t)splits->n_counts + (size_t)n_resident;
}

const struct hr__split *hr__splits_at(const struct hr__splits *splits, int n_resident, int cut)
{
	return &splits->all[index_of(splits, n_resident, cut)];
}

/* Layers that are wished for are whole ones. */
static int n_cuts_allowed(const struct hr_plan_request *r)
{
	bool windowed = r->window_layers != HR_PLAN_AUTO && r->window_layers < r->n_blocks;
	return r->map || windowed || r->resident_layers != HR_PLAN_AUTO ? 0 : r->n_cuts;
}

int hr__splits_init(struct hr__splits *splits, const struct hr_plan_request *r, struct hr_error *err)
{
	struct hr__splits s = {.n_counts = r->n_blocks + 1, .n_cuts = n_cuts_allowed(r), .only_resident = -1};
	s.all = hr__calloc((size_t)s.n_counts * (size_t)(s.n_cuts + 1), sizeof *s.all);
	if (!s.all)
		return hr__fail(err, HR_ENOMEM, "There is no memory to plan %d layers.", r->n_blocks);
	for (int n = 0; n < s.n_counts; n++)
		for (int i = 0; i < r->n_blocks; i++) {
			bool resident = hr__is_spread(i, n, r->n_blocks);
			for (int cut = -1; cut < s.n_cuts; cut++)
				add_block(&s.all[index_of(&s, n, cut)], &r->blocks[i], hr_plan_cut(r, cut, i), resident);
		}
	*splits = s;
	return 0;
}

void hr__splits_release(struct hr__splits *splits)
{
	free(splits->all);
	*splits = (struct hr__splits){0};
}

struct hr__split hr__split_of_map(const struct hr_plan_request *r)
{
	struct hr__split s = {0};
	for (int i = 0; i < r->n_blocks; i++)
		add_block(&s, &r->blocks[i], hr_plan_cut(r, -1, i), r->map[i] == HR_TIER_DEVICE);
	return s;
}
