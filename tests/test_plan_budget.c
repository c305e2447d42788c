/* The planner's promises over thousands of random requests: never over budget, a
 * larger budget never streams more, wishes are upper bounds, and the smallest budget that an
 * error names works while the next smaller one does not. */
#include "base/mem.h"
#include "scheduler/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MAX_BLOCKS 40
#define MAX_CUTS   6
#define PAGE       ((uint64_t)HR_IO_ALIGN)

static uint32_t state;

static uint32_t random_below(uint32_t n)
{
	state = state * 1664525u + 1013904223u;
	return (state >> 8) % n;
}

struct made {
	struct hr_plan_request request;
	struct hr_layer        blocks[MAX_BLOCKS];
	struct hr_cut          cuts[MAX_CUTS * MAX_BLOCKS];
	enum hr_tier           map[MAX_BLOCKS + 2];
	uint64_t               total_bytes; /* everything resident */
};

/* A cut that streams `streamed` bytes in n pieces, each in no more memory than they all need. */
static struct hr_cut cut_of(uint64_t kept_bytes, uint64_t memory_bytes, uint64_t streamed, int n_pieces)
{
	struct hr_cut cut = {kept_bytes, memory_bytes, streamed, .n_pieces = n_pieces};
	cut.slot_bytes = hr__align_up(memory_bytes / (uint64_t)n_pieces, PAGE);
	for (int p = 0; p < n_pieces; p++)
		cut.pieces[p] =
		    streamed * (uint64_t)(p + 1) / (uint64_t)n_pieces - streamed * (uint64_t)p / (uint64_t)n_pieces;
	return cut;
}

/* A random part of every block stays, and both parts are a page longer than they need be. */
static void make_cuts(struct made *m, int n_blocks)
{
	m->request.cuts = m->cuts;
	m->request.n_cuts = (int)random_below(MAX_CUTS + 1);
	for (int i = 0; i < m->request.n_cuts; i++) {
		uint64_t share = 1 + random_below(99);
		for (int k = 0; k < n_blocks; k++) {
			const struct hr_layer *b = &m->blocks[k];
			uint64_t               streamed = 1 + b->file_bytes * share / 100;
			int n_pieces = streamed < HR_MAX_PIECES ? 1 : 1 + (int)random_below(HR_MAX_PIECES);
			m->cuts[i * n_blocks + k] =
			    cut_of(hr__align_up(b->file_bytes - b->file_bytes * share / 100, PAGE) + PAGE,
			           hr__align_up(streamed, PAGE) + PAGE, streamed, n_pieces);
		}
	}
}

static void make_request(struct made *m, uint32_t seed)
{
	state = seed;
	int  n = 1 + (int)random_below(MAX_BLOCKS);
	bool uniform = random_below(2);
	memset(m, 0, sizeof *m);
	uint64_t pages = 1 + random_below(random_below(2) ? 50 : 20000);
	for (int i = 0; i < n; i++) {
		struct hr_layer *b = &m->blocks[i];
		b->memory_bytes = PAGE * (uniform ? pages : 1 + random_below((uint32_t)pages));
		b->file_bytes = b->memory_bytes - random_below(HR_IO_ALIGN);
		m->total_bytes += b->memory_bytes;
	}
	uint64_t largest = 0;
	for (int i = 0; i < n; i++)
		largest = largest < m->blocks[i].memory_bytes ? m->blocks[i].memory_bytes : largest;
	struct hr_plan_request *r = &m->request;
	*r = (struct hr_plan_request){.blocks = m->blocks, .n_blocks = n};
	r->head_bytes = PAGE * random_below(50000);
	r->head_part_bytes = r->head_bytes < largest ? r->head_bytes : largest;
	r->tied = random_below(2);
	r->embedding_bytes = r->tied ? 0 : PAGE * random_below(50000);
	r->globals_bytes = PAGE * random_below(4);
	r->fixed_bytes = random_below(1 << 24);
	m->total_bytes += r->head_bytes + r->embedding_bytes + r->globals_bytes + r->fixed_bytes;
	r->device_budget_bytes = m->total_bytes / 1000 * random_below(1200);
	r->host_budget_bytes = (uint64_t)random_below(1 << 24) * 16;
	r->host_addressable = random_below(2);
	r->window_layers = random_below(2) ? HR_PLAN_AUTO : (int)random_below(MAX_BLOCKS + 5);
	r->resident_layers = random_below(2) ? HR_PLAN_AUTO : (int)random_below(MAX_BLOCKS + 5);
	r->slots = random_below(2) ? HR_PLAN_AUTO : 2 + (int)random_below(6);
	r->chunk_bytes = random_below(2) ? 0 : 1 + random_below(1 << 22);
	r->read_depth = (int)random_below(20);
	make_cuts(m, n);
	if (random_below(4) == 0) {
		for (int i = 0; i < n + 2; i++)
			m->map[i] = (enum hr_tier)random_below(3);
		r->map = m->map;
	}
}

/* What the plan takes, counted by hand. */
static void check_plan(const struct made *m, const struct hr_placement *p)
{
	const struct hr_plan_request *r = &m->request;
	uint64_t device = r->globals_bytes + r->fixed_bytes, host = 0, streamed = 0, disk = 0, largest = 0;
	uint64_t kept = 0;
	int      n[3] = {0};
	assert_true(p->cut >= -1 && p->cut < r->n_cuts);
	for (int i = 0; i < r->n_blocks; i++) {
		const struct hr_layer *b = &m->blocks[i];
		enum hr_tier           tier = p->block_tier[i];
		assert_in_range(tier, HR_TIER_DEVICE, HR_TIER_DISK);
		struct hr_cut part = {0, b->memory_bytes, b->file_bytes, .slot_bytes = b->memory_bytes};
		if (p->cut >= 0)
			part = m->cuts[p->cut * r->n_blocks + i];
		n[tier]++;
		device += tier == HR_TIER_DEVICE ? b->memory_bytes : part.kept_bytes;
		kept += tier == HR_TIER_DEVICE ? 0 : part.kept_bytes;
		host += tier == HR_TIER_HOST ? part.memory_bytes : 0;
		streamed += tier != HR_TIER_DEVICE ? part.file_bytes : 0;
		disk += tier == HR_TIER_DISK ? part.file_bytes : 0;
		if (tier != HR_TIER_DEVICE && largest < part.slot_bytes)
			largest = part.slot_bytes;
	}
	device += p->head_tier == HR_TIER_DEVICE ? r->head_bytes : 0;
	host += p->head_tier == HR_TIER_HOST ? r->head_bytes : 0;
	streamed += p->head_tier != HR_TIER_DEVICE ? r->head_bytes : 0;
	disk += p->head_tier == HR_TIER_DISK ? r->head_bytes : 0;
	if (p->head_tier != HR_TIER_DEVICE && largest < r->head_part_bytes)
		largest = r->head_part_bytes;
	if (!r->tied && p->embedding_tier == HR_TIER_DEVICE)
		device += r->embedding_bytes;
	if (r->tied && r->head_bytes)
		assert_int_equal(p->embedding_tier == HR_TIER_DEVICE, p->head_tier == HR_TIER_DEVICE);
	device += largest * (uint64_t)p->slots;
	host += (uint64_t)p->staging_buffers * p->chunk_bytes;

	assert_int_equal(p->slot_bytes, largest);
	assert_int_equal(p->kept_bytes, kept);
	assert_int_equal(p->device_bytes, device);
	assert_true(p->device_bytes <= r->device_budget_bytes);
	assert_int_equal(p->streamed_bytes_per_pass, streamed);
	assert_int_equal(p->disk_bytes_per_pass, disk);
	assert_int_equal(p->n_resident, n[HR_TIER_DEVICE]);
	assert_int_equal(p->n_host, n[HR_TIER_HOST]);
	assert_int_equal(p->n_disk, n[HR_TIER_DISK]);
	assert_int_equal(p->host_bytes, host);
	assert_true(streamed ? p->slots >= 2 : p->slots == 0);
	assert_true(p->slots <= 8);
	assert_true(p->chunk_bytes && p->chunk_bytes % HR_IO_ALIGN == 0 && p->read_depth > 0);
	if (r->host_addressable) {
		assert_int_equal(p->host_bytes, 0);
	} else {
		assert_true(p->host_bytes <= r->host_budget_bytes);
		assert_true(p->staging_buffers >= 2);
	}
	bool windowed = r->window_layers != HR_PLAN_AUTO && r->window_layers < r->n_blocks;
	if (r->map || r->resident_layers != HR_PLAN_AUTO || windowed)
		assert_int_equal(p->cut, -1); /* what was wished for are whole layers */
	for (int i = 0; i < p->n_fallbacks; i++)
		assert_int_equal(p->fallback[i][strlen(p->fallback[i]) - 1], '.'); /* whole, not cut off */
	if (r->map)
		return;
	if (r->resident_layers != HR_PLAN_AUTO)
		assert_true(p->n_resident <= r->resident_layers);
	int window = r->window_layers == HR_PLAN_AUTO ? r->n_blocks : r->window_layers < 2 ? 2 : r->window_layers;
	if (window < r->n_blocks)
		assert_true(p->n_resident + p->slots <= window);
	if (r->slots != HR_PLAN_AUTO)
		assert_true(p->slots <= r->slots);
}

static uint64_t number_after(const char *text, const char *words)
{
	const char *at = strstr(text, words);
	assert_non_null(at);
	return strtoull(at + strlen(words), NULL, 10);
}

/* The budget that the message names works, one page less does not. */
static void check_smallest(struct made *m, const struct hr_error *err)
{
	struct hr_plan_request *r = &m->request;
	bool                    host = strstr(err->message, "--host-memory") != NULL;
	uint64_t               *budget = host ? &r->host_budget_bytes : &r->device_budget_bytes;
	uint64_t                smallest = number_after(err->message, "smallest budget that works is ");
	double                  mib = strtod(strstr(err->message, host ? "--host-memory " : "--device-memory ") +
	                                         strlen(host ? "--host-memory " : "--device-memory "),
	                                     NULL);
	struct hr_placement     p;
	struct hr_error         again = {0};
	assert_true(*budget < smallest);
	assert_true(mib * 1048576 >= (double)smallest);
	*budget = smallest;
	int rc = hr_plan_make(&p, r, &again);
	if (rc == 0) {
		check_plan(m, &p);
		hr_plan_release(&p);
	} else { /* the device now suffices, the host may not */
		assert_int_equal(rc, HR_EBUDGET);
		assert_true(!host && strstr(again.message, "--host-memory"));
	}
	*budget = smallest - PAGE;
	assert_int_equal(hr_plan_make(&p, r, &again), HR_EBUDGET);
	assert_int_equal(number_after(again.message, "smallest budget that works is "), smallest);
}

static void test_random_requests(void **unused)
{
	(void)unused;
	int n_made = 0, n_refused = 0, n_cut = 0;
	for (uint32_t seed = 1; seed <= 4000; seed++) {
		static struct made  m;
		struct hr_placement p;
		struct hr_error     err = {0};
		make_request(&m, seed);
		int rc = hr_plan_make(&p, &m.request, &err);
		if (rc == 0) {
			n_made++;
			n_cut += p.cut >= 0;
			check_plan(&m, &p);
			hr_plan_release(&p);
		} else {
			n_refused++;
			assert_int_equal(rc, HR_EBUDGET);
			check_smallest(&m, &err);
		}
	}
	assert_true(n_made > 500 && n_refused > 500 && n_cut > 100);
}

static void test_larger_budget_never_streams_more(void **unused)
{
	(void)unused;
	for (uint32_t seed = 1; seed <= 300; seed++) {
		static struct made m;
		make_request(&m, seed);
		m.request.slots = HR_PLAN_AUTO; /* an exact wish for slots may cost residents as soon as it fits */
		m.request.map = NULL;
		m.request.host_budget_bytes = 1ull << 40;
		uint64_t before = UINT64_MAX;
		for (uint64_t step = 0; step <= 60; step++) {
			struct hr_placement p;
			m.request.device_budget_bytes = m.total_bytes / 50 * step + random_below(HR_IO_ALIGN);
			if (hr_plan_make(&p, &m.request, NULL)) {
				assert_true(before == UINT64_MAX);
				continue;
			}
			/* Promised is that no budget is worse by counted bytes (plan.c); of these none streams more. */
			assert_true(p.streamed_bytes_per_pass <= before);
			before = p.streamed_bytes_per_pass;
			hr_plan_release(&p);
		}
		assert_true(before != UINT64_MAX);
		if (m.request.window_layers == HR_PLAN_AUTO && m.request.resident_layers == HR_PLAN_AUTO)
			assert_int_equal(before, 0);
	}
}

/* 30 equal blocks of 4 MiB, a head of 20 MiB in parts of 4 MiB. */
static struct made equal_blocks(void)
{
	struct made m = {.request = {.n_blocks = 30,
	                             .window_layers = HR_PLAN_AUTO,
	                             .resident_layers = HR_PLAN_AUTO,
	                             .slots = HR_PLAN_AUTO,
	                             .host_addressable = true,
	                             .tied = true}};
	for (int i = 0; i < 30; i++)
		m.blocks[i].file_bytes = m.blocks[i].memory_bytes = 4 << 20;
	m.request.head_bytes = 20 << 20;
	m.request.head_part_bytes = 4 << 20;
	m.request.device_budget_bytes = 1 << 30;
	return m;
}

static void make(struct hr_placement *p, struct made *m)
{
	struct hr_error err = {0};
	m->request.blocks = m->blocks;
	hr_plan_make(p, &m->request, &err);
	assert_string_equal(err.message, "");
}

static void test_residents_are_spread_evenly(void **unused)
{
	(void)unused;
	for (int wish = 1; wish < 28; wish++) {
		struct made         m = equal_blocks();
		struct hr_placement p;
		int                 first = -1, last = -1, shortest = 99, longest = 0;
		m.request.resident_layers = wish;
		make(&p, &m);
		assert_int_equal(p.n_resident, wish);
		for (int i = 0; i < 60; i++) { /* twice around: the gap over the end of the pass counts */
			if (p.block_tier[i % 30] != HR_TIER_DEVICE)
				continue;
			if (first >= 0) {
				shortest = i - last < shortest ? i - last : shortest;
				longest = i - last > longest ? i - last : longest;
			}
			first = first < 0 ? i : first;
			last = i;
		}
		assert_true(longest - shortest <= 1);
		hr_plan_release(&p);
	}
}

static void test_window_is_split(void **unused)
{
	(void)unused;
	const struct {
		int window, residents, slots, fallbacks;
	} cases[] = {{0, 0, 2, 1}, {1, 0, 2, 1},   {2, 0, 2, 0},   {3, 1, 2, 0},  {4, 2, 2, 0},
	             {6, 3, 3, 0}, {29, 21, 8, 0}, {30, 30, 0, 0}, {99, 30, 0, 0}};
	for (size_t i = 0; i < HR_COUNT_OF(cases); i++) {
		struct made         m = equal_blocks();
		struct hr_placement p;
		m.request.window_layers = cases[i].window;
		make(&p, &m);
		assert_int_equal(p.n_resident, cases[i].residents);
		assert_int_equal(p.slots, cases[i].slots);
		assert_int_equal(p.n_fallbacks, cases[i].fallbacks);
		hr_plan_release(&p);
	}
}

/* Two slots take two blocks from a budget of 25, a fifteenth of what must be streamed is lost to
 * them; cut blocks lose a part of that, and the finest cut that fits loses least. */
static void test_cut_blocks_stream_less(void **unused)
{
	(void)unused;
	struct made m = equal_blocks();
	m.request.head_bytes = m.request.head_part_bytes = 0;
	m.request.device_budget_bytes = 100 << 20;
	m.request.slots = 2;
	struct hr_placement whole, cut;
	make(&whole, &m);
	assert_int_equal(whole.cut, -1);
	assert_int_equal(whole.n_resident, 23);
	m.request.cuts = m.cuts;
	m.request.n_cuts = 3;
	for (int i = 0; i < 90; i++) /* a quarter, a half, or three quarters of a block stay */
		m.cuts[i] = cut_of((1 + (uint64_t)i / 30) << 20, (3 - (uint64_t)i / 30) << 20,
		                   (3 - (uint64_t)i / 30) << 20, 1);
	make(&cut, &m);
	assert_int_equal(cut.cut, 2);
	assert_int_equal(cut.n_resident, 8); /* 8 * 4 + 22 * 3 + 2 * 1 MiB */
	assert_int_equal(cut.streamed_bytes_per_pass, 22 << 20);
	assert_int_equal(whole.streamed_bytes_per_pass, 28 << 20);
	hr_plan_release(&whole);
	hr_plan_release(&cut);
}

static void test_missed_wishes_are_told(void **unused)
{
	(void)unused;
	struct made         m = equal_blocks();
	struct hr_placement p;
	m.request.device_budget_bytes = 60 << 20;
	m.request.resident_layers = 20;
	make(&p, &m);
	assert_true(p.n_resident < 20);
	assert_int_equal(p.n_fallbacks, 1);
	assert_non_null(strstr(p.fallback[0], "20 resident layers were asked for"));
	hr_plan_release(&p);

	m = equal_blocks();
	m.request.device_budget_bytes = 12 << 20;
	m.request.slots = 5;
	make(&p, &m);
	assert_int_equal(p.slots, 3);
	assert_non_null(strstr(p.fallback[0], "5 slots were asked for"));
	hr_plan_release(&p);

	struct hr_error err = {0};
	m.request.slots = 1;
	assert_int_equal(hr_plan_make(&p, &m.request, &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "at least 2"));
}

/* The host tier takes streamed blocks, spread among them, within its budget. */
static void test_host_tier_takes_streamed_blocks(void **unused)
{
	(void)unused;
	struct made         m = equal_blocks();
	struct hr_placement p;
	m.request.host_addressable = false;
	m.request.device_budget_bytes = 40 << 20;
	m.request.host_budget_bytes = 24 << 20; /* the staging alone: 12 buffers of 2 MiB */
	make(&p, &m);
	assert_int_equal(p.staging_buffers, 12);
	assert_int_equal(p.n_host, 0);
	hr_plan_release(&p);
	m.request.staging_buffers = 3;
	make(&p, &m);
	assert_int_equal(p.staging_buffers, 3);
	assert_int_equal(p.n_fallbacks, 0);
	hr_plan_release(&p);
	m.request.staging_buffers = 13; /* more than the budget holds */
	make(&p, &m);
	assert_int_equal(p.staging_buffers, 12);
	assert_non_null(strstr(p.fallback[0], "staging buffers"));
	hr_plan_release(&p);
	m.request.staging_buffers = 0;
	m.request.host_budget_bytes += (20 + 16) << 20; /* the head and four blocks */
	make(&p, &m);
	assert_int_equal(p.n_host, p.head_tier == HR_TIER_DEVICE ? 9 : 4);
	hr_plan_release(&p);
	m.request.host_budget_bytes = 1 << 30;
	make(&p, &m);
	assert_int_equal(p.n_disk, 0);
	assert_int_equal(p.disk_bytes_per_pass, 0);
	assert_true(p.streamed_bytes_per_pass > 0);
	hr_plan_release(&p);
}

/* While the link brings a block from RAM, the drive reads into staging a quarter of one; where all blocks
 * come from one of both, or only a few from RAM, there is no more of it than copies need. */
static void test_mixed_tiers_have_staging(void **unused)
{
	(void)unused;
	static const struct {
		uint64_t host_mib;
		int      staging;
	} cases[] = {{1, 8 + 4}, {12, 8 + 4}, {40, 16}, {1000, 8 + 4}};
	for (size_t i = 0; i < HR_COUNT_OF(cases); i++) {
		struct made         m = equal_blocks();
		struct hr_placement p;
		m.request.host_addressable = false;
		m.request.device_budget_bytes = 60 << 20;
		m.request.host_budget_bytes = cases[i].host_mib << 20;
		m.request.chunk_bytes = 64 << 10;
		m.request.read_depth = 8;
		make(&p, &m);
		assert_int_equal(p.staging_buffers, cases[i].staging);
		hr_plan_release(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_requests),
	    cmocka_unit_test(test_larger_budget_never_streams_more),
	    cmocka_unit_test(test_residents_are_spread_evenly),
	    cmocka_unit_test(test_window_is_split),
	    cmocka_unit_test(test_cut_blocks_stream_less),
	    cmocka_unit_test(test_missed_wishes_are_told),
	    cmocka_unit_test(test_host_tier_takes_streamed_blocks),
	    cmocka_unit_test(test_mixed_tiers_have_staging),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
