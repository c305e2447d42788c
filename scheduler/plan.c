/* The planner: splits a budget into residents and slots.
 *
 * It looks at every plan of one family and keeps the best that fits. A
 * candidate is a number of resident blocks, a cut for the others and whether the
 * head is resident; the rest follows: which blocks (spread evenly over the cycle, so
 * that the gaps between streamed ones are as equal as possible), how many slots, how
 * large. The best candidate streams the fewest bytes per pass, where bytes count more that
 * a drive which is no faster than the processor would bring too late (wasted_bytes). Because the
 * candidates and their order do not depend on the budget, which only says how
 * many of them are allowed, a larger budget can never be worse.
 *
 * Slots beyond two buy depth with bytes that could have held residents. They
 * are worth it only where layers are small, so the ring grows by one slot for
 * every third resident until it holds 32 MiB beside the slot in use or has 8 slots; what is left over
 * at the end may fill it up as well. With less, drives that end all reads in flight at the same time
 * find no room for new ones while the layer that has come is computed.
 *
 * With rates at hand that is the first guess for plan_time.c. What a number of residents and a
 * cut come to in bytes is plan_split.c's to know.
 *
 * A wish (window, residents, slots) is an upper bound: what cannot be had is
 * left out and said in a fallback sentence. A device map is taken as it is. */
#include "base/error.h"
#include "base/mem.h"
#include "scheduler/plan_internal.h"

#include <stdarg.h>
#include <stdio.h>

#define RING_BYTES     (32ull << 20)
#define DEFAULT_CHUNK  (2ull << 20)
#define DEFAULT_DEPTH  8
#define COPIES_AHEAD   4 /* staging buffers beyond the read depth */
#define SMALLEST_CHUNK (64ull << 10)
#define BESIDE_HOST    4 /* while the link brings a block from RAM, the drive brings 1 / BESIDE_HOST of one */
#define WASTE_COUNTS   8 /* wasted bytes count as much as one that is streamed: most drives are slower */

typedef unsigned long long ull;

struct candidate {
	int      n_resident; /* blocks; not used with a device map */
	int      cut;        /* of the others; -1: none */
	bool     head_resident;
	int      slots;
	uint64_t slot_bytes;
	uint64_t kept_bytes;
	uint64_t device_bytes;
	uint64_t streamed_bytes; /* per pass */
	uint64_t counted_bytes;  /* by which candidates are compared */
};

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

__attribute__((format(printf, 2, 3))) static void add_fallback(struct hr_placement *plan, const char *fmt,
                                                               ...)
{
	if (plan->n_fallbacks == (int)HR_COUNT_OF(plan->fallback))
		return;
	va_list args;
	va_start(args, fmt);
	vsnprintf(plan->fallback[plan->n_fallbacks++], sizeof plan->fallback[0], fmt, args);
	va_end(args);
}

static int fail_budget(struct hr_error *err, const char *what, const char *flag, uint64_t budget,
                       uint64_t smallest)
{
	uint64_t tenths = (smallest * 10 + (1 << 20) - 1) >> 20; /* of a MiB, rounded up */
	return hr__fail(
	    err, HR_EBUDGET,
	    "The %s budget of %llu bytes is too small for this model; the smallest budget that works is "
	    "%llu bytes (%s %llu.%lluMiB).",
	    what, (ull)budget, (ull)smallest, flag, (ull)(tenths / 10), (ull)(tenths % 10));
}

static bool is_resident(const struct hr_plan_request *r, const struct candidate *c, int block)
{
	return r->map ? r->map[block] == HR_TIER_DEVICE : hr__is_spread(block, c->n_resident, r->n_blocks);
}

static bool streams(const struct candidate *c) { return c->slot_bytes > 0; }

/* Slots that a ring of such pieces is worth, and of how many there are to fill it. */
static int slots_worth_having(const struct hr_plan_request *r, const struct candidate *c, int n_streamed)
{
	int64_t worth = 1 + (int64_t)((RING_BYTES + c->slot_bytes - 1) / c->slot_bytes);
	if (!c->head_resident && r->head_part_bytes)
		n_streamed += (int)(r->head_bytes / r->head_part_bytes);
	if (worth > n_streamed)
		worth = n_streamed;
	return worth < HR__MIN_SLOTS ? HR__MIN_SLOTS : worth > HR__MAX_SLOTS ? HR__MAX_SLOTS : (int)worth;
}

/* Bytes of a pass that come too late from a drive as fast as the processor, one that would bring all of them
 * in just the time that the blocks take. While a run of residents is computed, it could bring that run's
 * share of them; but only what fits into the ring beside the slot in use has room. The rest is read later,
 * while the processor waits. Where parts of all blocks are streamed there is no such run. */
static uint64_t wasted_bytes(const struct hr_plan_request *r, const struct candidate *c, int n_resident)
{
	int      n_streamed = r->n_blocks - n_resident;
	int      n_runs = n_resident < n_streamed ? n_resident : n_streamed; /* of residents */
	uint64_t ahead = (uint64_t)(c->slots - 1) * c->slot_bytes;
	if (!n_resident)
		return 0;
	if (!n_runs)
		n_runs = 1; /* all blocks; only the head is streamed */
	uint64_t share = c->streamed_bytes / (uint64_t)r->n_blocks * (uint64_t)n_resident / (uint64_t)n_runs;
	return share > ahead ? (share - ahead) * (uint64_t)n_runs : 0;
}

/* Fill in what follows from the split and the head. `slots` 0: by the rule. Returns
 * the number of slots that would be worth having, 0 when nothing is streamed. */
static int complete(const struct hr_plan_request *r, struct candidate *c, const struct hr__split *split,
                    int slots)
{
	uint64_t resident_bytes = split->resident_bytes + split->kept_bytes;
	c->slot_bytes = split->piece_bytes;
	c->streamed_bytes = split->streamed_bytes;
	c->kept_bytes = split->kept_bytes;
	c->device_bytes = r->globals_bytes + r->fixed_bytes + resident_bytes;
	if (c->head_resident) {
		c->device_bytes += r->head_bytes;
	} else {
		c->streamed_bytes += r->head_bytes;
		if (c->slot_bytes < r->head_part_bytes)
			c->slot_bytes = r->head_part_bytes;
	}
	c->slots = 0;
	c->counted_bytes = 0;
	if (!streams(c))
		return 0;
	int worth = slots_worth_having(r, c, split->n_pieces);
	int rule = HR__MIN_SLOTS + (split->block_bytes ? (int)(resident_bytes / split->block_bytes / 3) : 0);
	c->slots = slots ? slots : rule < worth ? rule : worth;
	c->device_bytes += (uint64_t)c->slots * c->slot_bytes;
	c->counted_bytes = c->streamed_bytes + wasted_bytes(r, c, split->n_resident) / WASTE_COUNTS;
	return worth;
}

static bool is_within_wishes(const struct hr_plan_request *r, const struct candidate *c)
{
	if (r->resident_layers != HR_PLAN_AUTO && c->n_resident > r->resident_layers)
		return false;
	if (r->window_layers == HR_PLAN_AUTO || r->window_layers >= r->n_blocks)
		return true;
	return c->n_resident + c->slots <= r->window_layers;
}

static bool is_better(const struct candidate *a, const struct candidate *b)
{
	if (a->counted_bytes != b->counted_bytes)
		return a->counted_bytes < b->counted_bytes;
	return a->head_resident && !b->head_resident;
}

static bool is_looked_at(const struct hr__splits *splits, const struct candidate *c)
{
	if (splits->only_resident >= 0 && c->n_resident != splits->only_resident)
		return false;
	return c->head_resident || !splits->head_stays;
}

/* The best candidate that fits, and the least bytes that any needs. */
static bool find_best(const struct hr_plan_request *r, const struct hr__splits *splits, int slots,
                      struct candidate *best, uint64_t *smallest)
{
	bool found = false;
	int  n_counts = splits->n_counts;
	*smallest = UINT64_MAX;
	for (int i = 0; i < (splits->n_cuts + 1) * 2 * n_counts; i++) {
		struct candidate c = {.n_resident = i % n_counts,
		                      .cut = i / n_counts / 2 - 1,
		                      .head_resident = i / n_counts % 2 || r->head_bytes == 0};
		if (!is_looked_at(splits, &c))
			continue;
		complete(r, &c, hr__splits_at(splits, c.n_resident, c.cut), slots);
		if (!is_within_wishes(r, &c))
			continue;
		if (*smallest > c.device_bytes)
			*smallest = c.device_bytes;
		if (c.device_bytes <= r->device_budget_bytes && (!found || is_better(&c, best))) {
			*best = c;
			found = true;
		}
	}
	return found;
}

/* More slots out of what is left over, while they are worth having. */
static void grow_ring(const struct hr_plan_request *r, struct candidate *c, int most)
{
	while (streams(c) && c->slots < most && c->device_bytes + c->slot_bytes <= r->device_budget_bytes) {
		struct candidate more = *c;
		more.slots++;
		more.device_bytes += c->slot_bytes;
		if (!r->map && !is_within_wishes(r, &more))
			break;
		*c = more;
	}
}

static int choose_by_budget(struct hr_placement *plan, const struct hr_plan_request *r,
                            const struct hr__splits *splits, struct candidate *best, struct hr_error *err)
{
	uint64_t smallest;
	int      slots = r->slots == HR_PLAN_AUTO ? 0 : r->slots;
	bool     found = find_best(r, splits, slots, best, &smallest);
	while (!found && slots > HR__MIN_SLOTS)
		found = find_best(r, splits, --slots, best, &smallest);
	if (!found)
		return fail_budget(err, "device", "--device-memory", r->device_budget_bytes, smallest);
	if (!streams(best))
		return 0;
	if (slots == 0) {
		struct candidate same = *best;
		grow_ring(r, best,
		          complete(r, &same, hr__splits_at(splits, best->n_resident, best->cut), best->slots));
	} else if (slots < r->slots) {
		add_fallback(plan, "%d slots were asked for; the device budget of %.1f MiB has room for %d.",
		             r->slots, mib(r->device_budget_bytes), slots);
	}
	return 0;
}

static int choose_by_map(struct hr_placement *plan, const struct hr_plan_request *r, struct candidate *c,
                         struct hr_error *err)
{
	enum hr_tier embedding = r->map[r->n_blocks], head = r->map[r->n_blocks + 1];
	*c = (struct candidate){.cut = -1,
	                        .head_resident = head == HR_TIER_DEVICE || r->head_bytes == 0 ||
	                                         (r->tied && embedding == HR_TIER_DEVICE)};
	struct hr__split split = hr__split_of_map(r);
	int              worth = complete(r, c, &split, HR__MIN_SLOTS);
	int              wish = r->slots == HR_PLAN_AUTO ? worth : r->slots;
	if (!r->tied && embedding == HR_TIER_DEVICE)
		c->device_bytes += r->embedding_bytes;
	if (c->device_bytes > r->device_budget_bytes)
		return fail_budget(err, "device", "--device-memory", r->device_budget_bytes, c->device_bytes);
	grow_ring(r, c, wish);
	if (streams(c) && c->slots < r->slots)
		add_fallback(plan,
		             "%d slots were asked for; the device budget of %.1f MiB has room for %d beside the map.",
		             r->slots, mib(r->device_budget_bytes), c->slots);
	return 0;
}

/* Wishes that contradict each other or themselves are brought in order first. */
static int settle_wishes(struct hr_placement *plan, struct hr_plan_request *r, struct hr_error *err)
{
	if (r->slots != HR_PLAN_AUTO && r->slots < HR__MIN_SLOTS)
		return hr__fail(err, HR_EINVAL, "%d slots cannot stream while a layer computes; ask for at least %d.",
		                r->slots, HR__MIN_SLOTS);
	if (r->window_layers < HR_PLAN_AUTO || r->resident_layers < HR_PLAN_AUTO || r->read_depth < 0)
		return hr__fail(err, HR_EINVAL,
		                "A number of layers or reads is negative: window %d, residents %d, depth %d.",
		                r->window_layers, r->resident_layers, r->read_depth);
	bool windowed = !r->map && r->window_layers != HR_PLAN_AUTO && r->window_layers < r->n_blocks;
	if (windowed && r->window_layers < HR__MIN_SLOTS) {
		add_fallback(plan, "A window of %d layers was asked for; the smallest that streams is %d slots.",
		             r->window_layers, HR__MIN_SLOTS);
		r->window_layers = HR__MIN_SLOTS;
	}
	if (windowed && r->slots > r->window_layers) {
		add_fallback(plan, "%d slots were asked for; a window of %d layers has room for %d.", r->slots,
		             r->window_layers, r->window_layers);
		r->slots = r->window_layers;
	}
	uint64_t chunk = r->chunk_bytes ? hr__align_up(r->chunk_bytes, HR_IO_ALIGN) : DEFAULT_CHUNK;
	if (r->chunk_bytes && chunk != r->chunk_bytes)
		add_fallback(plan, "Chunks of %zu bytes were asked for; %llu are used, a multiple of %u.",
		             r->chunk_bytes, (ull)chunk, HR_IO_ALIGN);
	r->chunk_bytes = (size_t)chunk;
	r->read_depth = r->read_depth ? r->read_depth : DEFAULT_DEPTH;
	return 0;
}

static void say_missed_residency(struct hr_placement *plan, const struct hr_plan_request *r)
{
	int room = plan->n_resident + plan->slots;
	if (r->map || plan->n_resident == r->n_blocks)
		return;
	if (r->window_layers >= r->n_blocks && r->resident_layers == HR_PLAN_AUTO)
		add_fallback(plan,
		             "A window of all %d layers was asked for; the device budget of %.1f MiB holds %d%s, the "
		             "%s streamed through %d slots.",
		             r->n_blocks, mib(r->device_budget_bytes), plan->n_resident,
		             plan->cut < 0 ? "" : " and a part of each other one",
		             plan->cut < 0 ? "others are" : "rest is", plan->slots);
	else if (r->window_layers > room && r->resident_layers == HR_PLAN_AUTO)
		add_fallback(
		    plan,
		    "A window of %d layers was asked for; the device budget of %.1f MiB holds %d residents and "
		    "%d slots.",
		    r->window_layers, mib(r->device_budget_bytes), plan->n_resident, plan->slots);
	if (r->resident_layers > plan->n_resident)
		add_fallback(plan, "%d resident layers were asked for; the %s holds %d.", r->resident_layers,
		             r->window_layers == HR_PLAN_AUTO ? "device budget" : "window", plan->n_resident);
}

static void fill_device_tiers(struct hr_placement *plan, const struct hr_plan_request *r,
                              const struct candidate *c)
{
	for (int i = 0; i < r->n_blocks; i++) {
		bool resident = is_resident(r, c, i);
		plan->block_tier[i] = resident ? HR_TIER_DEVICE : HR_TIER_DISK;
		plan->n_resident += resident;
	}
	plan->head_tier = c->head_resident ? HR_TIER_DEVICE : HR_TIER_DISK;
	plan->slots = c->slots;
	plan->slot_bytes = c->slot_bytes;
	plan->cut = streams(c) ? c->cut : -1;
	plan->kept_bytes = c->kept_bytes;
	plan->device_bytes = c->device_bytes;
	plan->streamed_bytes_per_pass = c->streamed_bytes;

	plan->embedding_tier = HR_TIER_DISK;
	if (r->tied) {
		plan->embedding_tier = c->head_resident ? HR_TIER_DEVICE : HR_TIER_DISK;
	} else if (r->map) {
		if (r->map[r->n_blocks] == HR_TIER_DEVICE)
			plan->embedding_tier = HR_TIER_DEVICE; /* counted by choose_by_map() */
	} else if (plan->device_bytes + r->embedding_bytes <= r->device_budget_bytes) {
		plan->embedding_tier = HR_TIER_DEVICE;
		plan->device_bytes += r->embedding_bytes;
	}
}

/* Where some blocks come from RAM and some from disk, the drive reads on while the link brings what is in
 * RAM, as far as there is staging. `room`: of the host budget, without what a map puts there. */
static int staging_wanted(const struct hr_placement *plan, const struct hr_plan_request *r, uint64_t room)
{
	uint64_t part = 0;
	bool     from_disk = false, from_ram = false;
	int      usual = r->read_depth + COPIES_AHEAD;
	if (r->staging_buffers)
		return r->staging_buffers;
	for (int i = 0; i < r->n_blocks; i++) {
		from_disk |= plan->block_tier[i] == HR_TIER_DISK;
		from_ram |= plan->block_tier[i] == HR_TIER_HOST;
		if (plan->block_tier[i] != HR_TIER_DEVICE)
			part = hr_plan_cut(r, plan->cut, i).memory_bytes;
	}
	if (!r->map) { /* not yet distributed */
		from_ram = room / 4 > part;
		from_disk = room < plan->streamed_bytes_per_pass + (uint64_t)usual * plan->chunk_bytes;
	}
	uint64_t bytes = part / BESIDE_HOST < room / 4 ? part / BESIDE_HOST : room / 4;
	int      beside = from_disk && from_ram ? (int)(bytes / plan->chunk_bytes) : 0;
	return beside > usual ? beside : usual;
}

/* Staging buffers, fewer and smaller ones where the host budget asks for it;
 * `mapped_bytes` of it belong to what a device map puts into the host tier. */
static int fill_staging(struct hr_placement *plan, const struct hr_plan_request *r, uint64_t mapped_bytes,
                        struct hr_error *err)
{
	uint64_t least = r->chunk_bytes < SMALLEST_CHUNK ? r->chunk_bytes : SMALLEST_CHUNK;
	uint64_t smallest = mapped_bytes + 2 * least;
	if (r->host_budget_bytes < smallest)
		return fail_budget(err, "host", "--host-memory", r->host_budget_bytes, smallest);

	uint64_t room = r->host_budget_bytes - mapped_bytes;
	uint64_t half = hr__align_down(room / 2, HR_IO_ALIGN);
	if (plan->chunk_bytes > half)
		plan->chunk_bytes = (size_t)half;
	int      wanted = staging_wanted(plan, r, room);
	uint64_t fit = room / plan->chunk_bytes;
	plan->staging_buffers = fit < (uint64_t)wanted ? (int)fit : wanted;
	plan->host_bytes = (uint64_t)plan->staging_buffers * plan->chunk_bytes;
	if (plan->staging_buffers < wanted)
		add_fallback(plan,
		             "The host budget of %.1f MiB has room for %d staging buffers of %zu KiB instead of %d "
		             "of %zu KiB.",
		             mib(r->host_budget_bytes), plan->staging_buffers, plan->chunk_bytes >> 10, wanted,
		             r->chunk_bytes >> 10);
	return 0;
}

/* Of the streamed blocks, the `chosen` ones that would move to the host tier
 * (bytes), or move them (`move`). */
static uint64_t host_share(struct hr_placement *plan, const struct hr_plan_request *r, int chosen, bool move)
{
	int      n_streamed = r->n_blocks - plan->n_resident, at = 0;
	uint64_t bytes = 0;
	for (int i = 0; i < r->n_blocks; i++) {
		if (plan->block_tier[i] == HR_TIER_DEVICE || !hr__is_spread(at++, chosen, n_streamed))
			continue;
		bytes += hr_plan_cut(r, plan->cut, i).memory_bytes;
		if (move)
			plan->block_tier[i] = HR_TIER_HOST;
	}
	return bytes;
}

static void fill_host_tier(struct hr_placement *plan, const struct hr_plan_request *r)
{
	uint64_t left = r->host_budget_bytes - plan->host_bytes, most = 0;
	int      chosen = 0;
	if (plan->head_tier == HR_TIER_DISK && r->head_bytes <= left) {
		plan->head_tier = HR_TIER_HOST;
		plan->host_bytes += r->head_bytes;
		left -= r->head_bytes;
	}
	for (int n = 1; n <= r->n_blocks - plan->n_resident; n++) {
		uint64_t bytes = host_share(plan, r, n, false);
		if (bytes <= left && bytes > most) {
			most = bytes;
			chosen = n;
		}
	}
	plan->host_bytes += host_share(plan, r, chosen, true);
}

/* What a device map puts into the host tier; returns its bytes. */
static uint64_t fill_host_tier_from_map(struct hr_placement *plan, const struct hr_plan_request *r)
{
	uint64_t bytes = 0;
	for (int i = 0; i < r->n_blocks; i++) {
		if (r->map[i] == HR_TIER_HOST) {
			plan->block_tier[i] = HR_TIER_HOST;
			bytes += r->blocks[i].memory_bytes;
		}
	}
	if (plan->head_tier != HR_TIER_DEVICE && r->map[r->n_blocks + 1] == HR_TIER_HOST) {
		plan->head_tier = HR_TIER_HOST;
		bytes += r->head_bytes;
	}
	return bytes;
}

/* What the plan takes on the host: nothing where the host can address the device. */
static int fill_host(struct hr_placement *plan, const struct hr_plan_request *r, struct hr_error *err)
{
	plan->chunk_bytes = r->chunk_bytes;
	plan->read_depth = r->read_depth;
	if (r->host_addressable)
		return 0;
	uint64_t mapped_bytes = r->map ? fill_host_tier_from_map(plan, r) : 0;
	int      rc = fill_staging(plan, r, mapped_bytes, err);
	if (rc)
		return rc;
	plan->host_bytes += mapped_bytes;
	if (!r->map)
		fill_host_tier(plan, r);
	return 0;
}

/* Where the host can address the device there is one memory: "host" in a map means that. */
static enum hr_tier *merge_host_into_device(struct hr_placement *plan, const struct hr_plan_request *r)
{
	int           n_host = 0, n = r->n_blocks + 2;
	enum hr_tier *map = hr__calloc((size_t)n, sizeof *map);
	for (int i = 0; map && i < n; i++) {
		map[i] = r->map[i] == HR_TIER_HOST ? HR_TIER_DEVICE : r->map[i];
		n_host += r->map[i] == HR_TIER_HOST;
	}
	if (n_host)
		add_fallback(plan,
		             "%d modules are mapped to host memory, which on this device is device memory: they are "
		             "resident.",
		             n_host);
	return map;
}

static void count_tiers(struct hr_placement *plan, const struct hr_plan_request *r)
{
	for (int i = 0; i < r->n_blocks; i++) {
		plan->n_host += plan->block_tier[i] == HR_TIER_HOST;
		plan->n_disk += plan->block_tier[i] == HR_TIER_DISK;
		if (plan->block_tier[i] == HR_TIER_DISK)
			plan->disk_bytes_per_pass += hr_plan_cut(r, plan->cut, i).file_bytes;
	}
	if (plan->head_tier == HR_TIER_DISK)
		plan->disk_bytes_per_pass += r->head_bytes;
}

int hr__plan_by_bytes(struct hr_placement *out, const struct hr_plan_request *request,
                      const struct hr__splits *splits, struct hr_error *err)
{
	struct hr_plan_request r = *request;
	struct hr_placement    plan = {.n_blocks = r.n_blocks};
	struct candidate       best;
	enum hr_tier          *merged = NULL;
	plan.block_tier = hr__calloc((size_t)r.n_blocks, sizeof *plan.block_tier);
	int rc =
	    plan.block_tier ? 0 : hr__fail(err, HR_ENOMEM, "There is no memory to plan %d layers.", r.n_blocks);
	if (rc == 0 && r.map && r.host_addressable) {
		r.map = merged = merge_host_into_device(&plan, request);
		if (!merged)
			rc = hr__fail(err, HR_ENOMEM, "There is no memory to plan %d layers.", r.n_blocks);
	}
	if (rc == 0)
		rc = settle_wishes(&plan, &r, err);
	if (rc == 0)
		rc = r.map ? choose_by_map(&plan, &r, &best, err) : choose_by_budget(&plan, &r, splits, &best, err);
	if (rc)
		goto done;
	fill_device_tiers(&plan, &r, &best);
	say_missed_residency(&plan, &r);
	rc = fill_host(&plan, &r, err);
	if (rc)
		goto done;
	count_tiers(&plan, &r);
	*out = plan;
	plan = (struct hr_placement){0};
done:
	free(merged);
	hr_plan_release(&plan);
	return rc;
}

void hr_plan_release(struct hr_placement *plan)
{
	free(plan->block_tier);
	*plan = (struct hr_placement){0};
}
