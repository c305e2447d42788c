/* Rates: points are themselves and what lies between lies between; a planner that has them
 * takes the plan with the shortest predicted pass, within every promise it made without; a file
 * is measured. */
#include "base/mem.h"
#include "scheduler/rates.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_BLOCKS = 24 };
#define BLOCK_BYTES (8ull << 20)

/* A disk on which depth matters, and small chunks do not pay. */
static const struct hr_rates some_rates = {
    .disk = {{1 << 20, 1, 0.5}, {1 << 20, 8, 2}, {4 << 20, 1, 1}, {4 << 20, 8, 3}},
    .n_disk = 4,
    .link_rate = 10,
    .compute = {{1, 1e6, 1e5}, {8, 2e6, 1e5}, {64, 8e6, 2e5}},
    .n_compute = 3,
    .head = {{1, 1e6}, {4, 4e6}},
    .n_head = 2,
    .block_bytes = BLOCK_BYTES,
    .context_ns_decode = 10,
    .context_ns_prefill = 1,
};

static void test_points_and_between(void **state)
{
	(void)state;
	const struct hr_rates *r = &some_rates;
	assert_true(hr_rates_disk(r, 1 << 20, 8) == 2);
	double between = hr_rates_disk(r, 2 << 20, 8);
	assert_true(between > 1.5 && between < 3);
	assert_true(fabs(hr_rates_disk_latency_ns(r, 4 << 20, 8) - (4 << 20) * (1 - 1 / 3.0)) < 1);

	struct hr_workload one = {1, 1, 1, 0}, four = {4, 4, 4, 0}, prompt = {128, 1, 1, 0};
	assert_true(hr_rates_block_ns(r, &one, BLOCK_BYTES) == 1e6);
	assert_true(hr_rates_block_ns(r, &one, BLOCK_BYTES / 2) == 5e5);
	double ns = hr_rates_block_ns(r, &four, BLOCK_BYTES);
	assert_true(fabs(ns - (1e6 + 1e6 * 3 / 7)) < 1);
	ns = hr_rates_block_ns(r, &prompt, BLOCK_BYTES); /* beyond the last point: as it went */
	assert_true(fabs(ns - (8e6 + 6e6 * 64 / 56)) < 1);
	one.context_tokens = 1000;
	assert_true(hr_rates_block_ns(r, &one, BLOCK_BYTES) == 1e6 + 10 * 1000);
	prompt.context_tokens = 64;
	assert_true(hr_rates_block_ns(r, &prompt, BLOCK_BYTES) == ns + 1.0 * 128 * 64);
	assert_true(hr_rates_head_ns(r, 0) == 0 && hr_rates_head_ns(r, 2) == 2e6);
}

static struct hr_layer blocks[N_BLOCKS];

static struct hr_plan_request request(bool host_addressable, uint64_t budget, const struct hr_cost *cost)
{
	for (int i = 0; i < N_BLOCKS; i++)
		blocks[i].memory_bytes = blocks[i].file_bytes = BLOCK_BYTES;
	return (struct hr_plan_request){.blocks = blocks,
	                                .n_blocks = N_BLOCKS,
	                                .head_bytes = 3 * BLOCK_BYTES,
	                                .head_part_bytes = BLOCK_BYTES,
	                                .tied = true,
	                                .device_budget_bytes = budget,
	                                .host_budget_bytes = 64ull << 20,
	                                .host_addressable = host_addressable,
	                                .window_layers = HR_PLAN_AUTO,
	                                .resident_layers = HR_PLAN_AUTO,
	                                .slots = HR_PLAN_AUTO,
	                                .cost = cost};
}

static double pass_of(const struct hr_plan_request *r, const struct hr_placement *p,
                      const struct hr_cost *cost)
{
	struct hr_sim_result result;
	assert_int_equal(hr_predict_pass(&result, r, p, cost, NULL, NULL, NULL), 0);
	assert_true(result.pass_ns >= result.ceiling_ns * 0.999);
	return result.pass_ns;
}

static void test_planner_takes_the_quickest(void **state)
{
	(void)state;
	struct hr_cost cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	for (int direct = 0; direct < 2; direct++) {
		double before = INFINITY;
		for (uint64_t layers = 3; layers < N_BLOCKS + 4; layers++) {
			struct hr_plan_request r = request(direct, layers * BLOCK_BYTES, NULL);
			struct hr_placement    by_bytes, by_time;
			assert_int_equal(hr_plan_make(&by_bytes, &r, NULL), 0);
			r.cost = &cost;
			assert_int_equal(hr_plan_make(&by_time, &r, NULL), 0);
			double ns = pass_of(&r, &by_time, &cost);
			assert_true(ns <= pass_of(&r, &by_bytes, &cost));
			assert_true(ns <= before * 1.005); /* more memory is never slower */
			assert_true(by_time.device_bytes <= r.device_budget_bytes);
			if (by_time.slots && direct && layers < N_BLOCKS / 2) { /* bound by the disk */
				assert_int_equal(by_time.read_depth, 8);
				assert_int_equal(by_time.chunk_bytes, 4 << 20);
			}
			before = ns;
			hr_plan_release(&by_bytes);
			hr_plan_release(&by_time);
		}
	}
}

/* In a prompt's last block, all tokens have keys and values; one looks back, and the rest is for it. */
static void test_last_block_is_for_outputs(void **state)
{
	(void)state;
	struct hr_cost         cost = {.rates = &some_rates, .work = {64, 1, 64, 1000}};
	struct hr_plan_request r = request(true, (N_BLOCKS + 4) * BLOCK_BYTES, NULL);
	struct hr_placement    p;
	r.kv_share = 0.25;
	assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
	struct hr_sim_result all, one;
	assert_int_equal(hr_predict_pass(&all, &r, &p, &cost, NULL, NULL, NULL), 0);
	cost.work.n_outputs = 1;
	assert_int_equal(hr_predict_pass(&one, &r, &p, &cost, NULL, NULL, NULL), 0);
	double heads = hr_rates_head_ns(&some_rates, 64) - hr_rates_head_ns(&some_rates, 1);
	double back = 1.0 * 64 * 1000 - 10.0 * 1 * 1000; /* of many together, of one */
	assert_true(fabs(all.compute_ns - one.compute_ns - heads - 0.75 * (8e6 - 1e6) - back) < 1);
	hr_plan_release(&p);
}

/* Of a block of `bytes`, `kept` stay, the rest is streamed in n equal pieces. */
static struct hr_cut cut_of(uint64_t bytes, uint64_t kept, int n_pieces)
{
	uint64_t      streamed = bytes - kept;
	struct hr_cut cut = {kept, streamed, streamed, streamed / (uint64_t)n_pieces, .n_pieces = n_pieces};
	for (int p = 0; p < n_pieces; p++)
		cut.pieces[p] = streamed / (uint64_t)n_pieces;
	return cut;
}

/* Blocks of which a hundredth or a quarter can stay, and budgets between those at which another whole block
 * fits. */
static void test_a_cut_must_be_worth_it(void **state)
{
	(void)state;
	struct hr_cost cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	int            n_cut = 0, n_whole = 0;
	for (int percent = 1; percent <= 25; percent += 24) {
		struct hr_cut cuts[N_BLOCKS];
		uint64_t      kept = hr__align_up(BLOCK_BYTES * (uint64_t)percent / 100, HR_IO_ALIGN);
		for (int i = 0; i < N_BLOCKS; i++)
			cuts[i] = cut_of(BLOCK_BYTES, kept, 1);
		for (uint64_t eighths = 3 * 8; eighths < 8 * (N_BLOCKS + 4); eighths++) {
			struct hr_plan_request r = request(true, eighths * BLOCK_BYTES / 8, &cost);
			struct hr_placement    whole, plan;
			assert_int_equal(hr_plan_make(&whole, &r, NULL), 0);
			r.cuts = cuts;
			r.n_cuts = 1;
			assert_int_equal(hr_plan_make(&plan, &r, NULL), 0);
			double ns = pass_of(&r, &plan, &cost), whole_ns = pass_of(&r, &whole, &cost);
			assert_true(plan.cut < 0 ? ns <= whole_ns * 1.005 : ns < whole_ns * 0.995);
			n_cut += plan.cut >= 0;
			n_whole += plan.cut < 0 && plan.slots;
			hr_plan_release(&whole);
			hr_plan_release(&plan);
		}
	}
	assert_true(n_cut > 20 && n_whole > 20);
}

/* As request(), but of blocks that are as large as eight. */
static struct hr_plan_request large_request(uint64_t budget, const struct hr_cost *cost)
{
	struct hr_plan_request r = request(true, 8 * budget, cost);
	for (int i = 0; i < N_BLOCKS; i++)
		blocks[i].memory_bytes = blocks[i].file_bytes = 8 * BLOCK_BYTES;
	r.head_bytes *= 8;
	return r;
}

/* Pieces of a block need a smaller ring than blocks, so less is streamed and the pass is shorter. */
static void test_pieces_take_smaller_slots(void **state)
{
	(void)state;
	struct hr_cost cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	for (uint64_t layers = 7; layers < 20; layers++) {
		struct hr_placement p[2];
		double              ns[2];
		for (int k = 0; k < 2; k++) {
			struct hr_plan_request r = large_request(layers * BLOCK_BYTES, &cost);
			struct hr_cut          cuts[N_BLOCKS];
			for (int i = 0; i < N_BLOCKS; i++)
				cuts[i] = cut_of(8 * BLOCK_BYTES, BLOCK_BYTES, k ? 4 : 1);
			r.cuts = cuts;
			r.n_cuts = 1;
			assert_int_equal(hr_plan_make(&p[k], &r, NULL), 0);
			ns[k] = pass_of(&r, &p[k], &cost);
		}
		assert_int_equal(p[1].slot_bytes, 7 * BLOCK_BYTES / 4);
		assert_true(p[1].streamed_bytes_per_pass + 3 * BLOCK_BYTES <= p[0].streamed_bytes_per_pass);
		assert_true(ns[1] < ns[0]);
		hr_plan_release(&p[0]);
		hr_plan_release(&p[1]);
	}
}

enum { N_CUTS = 63 };
static struct hr_cut fine_cuts[N_CUTS][N_BLOCKS];

/* Large blocks that can be cut anywhere, nearly, into pieces for equal slots. */
static struct hr_plan_request finely_cut_request(uint64_t budget, const struct hr_cost *cost)
{
	struct hr_plan_request r = large_request(budget, cost);
	for (int k = 0; k < N_CUTS; k++)
		for (int i = 0; i < N_BLOCKS; i++) {
			fine_cuts[k][i] = cut_of(8 * BLOCK_BYTES, BLOCK_BYTES * (uint64_t)(k + 1) / 8, 4);
			fine_cuts[k][i].slot_bytes = 2 * BLOCK_BYTES;
		}
	r.cuts = fine_cuts[0];
	r.n_cuts = N_CUTS;
	return r;
}

/* A plan is made for a slow drive, and what counts there is bytes. On a drive that is as fast as the
 * processor, it keeps both busy: what is streamed is spread over the blocks. */
static void test_what_is_streamed_is_spread(void **state)
{
	(void)state;
	struct hr_cost cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	double         sum = 0;
	for (uint64_t layers = 10; layers < 26; layers++) {
		struct hr_plan_request r = finely_cut_request(layers * BLOCK_BYTES, &cost);
		struct hr_sim_result   slow, fast;
		struct hr_rates        rates = some_rates;
		struct hr_cost         balanced = {.rates = &rates, .work = cost.work};
		struct hr_placement    p;
		assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
		assert_int_equal(hr_predict_pass(&slow, &r, &p, &cost, NULL, NULL, NULL), 0);
		for (int i = 0; i < rates.n_disk; i++)
			rates.disk[i].rate *= slow.disk_ns / slow.compute_ns;
		assert_int_equal(hr_predict_pass(&fast, &r, &p, &balanced, NULL, NULL, NULL), 0);
		assert_true(fast.pass_ns < 1.1 * fast.ceiling_ns);
		sum += fast.pass_ns / fast.ceiling_ns;
		hr_plan_release(&p);
	}
	assert_true(sum / 16 < 1.04); /* 1.07, and 1.25 at worst, if only the slow drive counted */
}

/* Without rates, too: while residents are computed, a drive finds room in the ring for its share of the pass.
 */
static void test_what_is_streamed_is_spread_by_bytes(void **state)
{
	(void)state;
	for (uint64_t layers = 10; layers < 26; layers++) {
		struct hr_plan_request r = finely_cut_request(layers * BLOCK_BYTES, NULL);
		struct hr_placement    p;
		assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
		int      n_gaps = p.n_resident < p.n_disk ? p.n_resident : p.n_disk;
		uint64_t share =
		    n_gaps ? p.streamed_bytes_per_pass / N_BLOCKS * (uint64_t)p.n_resident / (uint64_t)n_gaps : 0;
		assert_true(p.n_resident <= 3 || share <= (uint64_t)(p.slots - 1) * p.slot_bytes);
		hr_plan_release(&p);
	}
}

/* What the head takes of the budget is then taken from blocks, and no pass is the longer for it. */
static void test_head_stays_where_it_costs_nothing(void **state)
{
	(void)state;
	struct hr_cost cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	int            n_away = 0;
	for (uint64_t thirds = 3 * 5; thirds < 3 * 20; thirds++) {
		struct hr_plan_request r = finely_cut_request(thirds * BLOCK_BYTES / 3, &cost);
		struct hr_placement    p;
		r.head_bytes += BLOCK_BYTES / 2;
		assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
		n_away += p.head_tier != HR_TIER_DEVICE;
		hr_plan_release(&p);
	}
	assert_in_range(n_away, 0, 7); /* of 45; 14 if only bytes counted */
}

/* Whichever plan wins, with cuts or without. */
static void test_a_rounded_chunk_is_told(void **state)
{
	(void)state;
	struct hr_cost cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	struct hr_cut  cuts[N_BLOCKS];
	int            n_cut = 0, n_whole = 0;
	for (int i = 0; i < N_BLOCKS; i++)
		cuts[i] = cut_of(BLOCK_BYTES, BLOCK_BYTES / 4, 1);
	for (uint64_t quarters = 3 * 4; quarters < 4 * (N_BLOCKS + 3); quarters++) {
		struct hr_plan_request r = request(true, quarters * BLOCK_BYTES / 4, &cost);
		struct hr_placement    p;
		r.cuts = cuts;
		r.n_cuts = 1;
		r.chunk_bytes = 1000000;
		assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
		assert_int_equal(p.chunk_bytes, 1003520);
		assert_int_equal(p.n_fallbacks, 1);
		assert_non_null(strstr(p.fallback[0], "Chunks of 1000000 bytes were asked for; 1003520 are used"));
		n_cut += p.cut >= 0;
		n_whole += p.cut < 0 && p.slots;
		hr_plan_release(&p);
	}
	assert_true(n_cut > 5 && n_whole > 5);
}

static void test_wishes_bind_it(void **state)
{
	(void)state;
	struct hr_cost         cost = {.rates = &some_rates, .work = {1, 1, 1, 100}};
	struct hr_plan_request r = request(true, 12 * BLOCK_BYTES, &cost);
	struct hr_placement    p;
	r.chunk_bytes = 1 << 20;
	r.read_depth = 3;
	r.slots = 4;
	r.resident_layers = 5;
	assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
	assert_int_equal(p.chunk_bytes, 1 << 20);
	assert_int_equal(p.read_depth, 3);
	assert_int_equal(p.slots, 4);
	assert_true(p.n_resident <= 5);
	assert_int_equal(p.n_fallbacks, 0);
	hr_plan_release(&p);
}

static void test_a_throttle_hides_the_disk(void **state)
{
	(void)state;
	struct hr_cost         cost = {.rates = &some_rates, .work = {1, 1, 1, 0}, .max_disk_rate = 1000000000};
	struct hr_plan_request r = request(true, 3 * BLOCK_BYTES, &cost);
	struct hr_placement    p;
	assert_int_equal(hr_plan_make(&p, &r, NULL), 0);
	double streamed = (double)p.disk_bytes_per_pass;
	assert_true(fabs(pass_of(&r, &p, &cost) - streamed) < 0.01 * streamed); /* a byte per ns */
	hr_plan_release(&p);
}

static void test_measures_a_file(void **state)
{
	(void)state;
	char            path[] = "/tmp/headrace-rates-XXXXXX";
	char           *bytes = malloc(3 << 20);
	int             fd = mkstemp(path);
	struct hr_file  file = {0};
	struct hr_rates rates = {0};
	memset(bytes, 7, 3 << 20);
	assert_int_equal(write(fd, bytes, (3 << 20) - 5), (3 << 20) - 5);
	close(fd);
	free(bytes);
	assert_int_equal(hr_file_open(&file, path, NULL), 0);
	assert_int_equal(hr_rates_measure_disk(&rates, &file, HR_READER_PREAD, 0.5, NULL), 0);
	assert_true(rates.n_disk > 0);
	for (int i = 0; i < rates.n_disk; i++)
		assert_true(rates.disk[i].rate > 1e-4 && rates.disk[i].rate < 1e3 && rates.disk[i].depth > 0);
	hr_file_close(&file);
	unlink(path);
}

/* The host can play the device with a link: copies are real. */
static void test_measures_a_link(void **state)
{
	(void)state;
	struct hr_device             *device;
	struct hr_device_host_options options = {.n_threads = 1};
	struct hr_rates               rates = {0};
	assert_int_equal(hr_device_host_open(&device, &options, NULL), 0);
	assert_int_equal(hr_rates_measure_link(&rates, device, NULL), 0);
	assert_true(rates.link_rate > 0.01 && rates.link_rate < 1e4);
	assert_true(rates.link_latency_ns >= 0 && rates.link_latency_ns < 1e9);
	device->ops->close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_points_and_between),
	    cmocka_unit_test(test_planner_takes_the_quickest),
	    cmocka_unit_test(test_last_block_is_for_outputs),
	    cmocka_unit_test(test_a_rounded_chunk_is_told),
	    cmocka_unit_test(test_wishes_bind_it),
	    cmocka_unit_test(test_a_cut_must_be_worth_it),
	    cmocka_unit_test(test_pieces_take_smaller_slots),
	    cmocka_unit_test(test_what_is_streamed_is_spread),
	    cmocka_unit_test(test_what_is_streamed_is_spread_by_bytes),
	    cmocka_unit_test(test_head_stays_where_it_costs_nothing),
	    cmocka_unit_test(test_a_throttle_hides_the_disk),
	    cmocka_unit_test(test_measures_a_file),
	    cmocka_unit_test(test_measures_a_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
