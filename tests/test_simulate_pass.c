/* The simulator: cases that can be worked out by hand, bounds that hold for every pipeline,
 * and a trade that others measured and published. */
#include "base/mem.h"
#include "scheduler/simulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MAX_LAYERS 64

static struct hr_sim_result simulate(const struct hr_sim_pipeline *p, const struct hr_sim_layer *layers,
                                     int n)
{
	struct hr_sim_result r;
	struct hr_error      err = {0};
	int                  rc = hr_simulate(&r, p, layers, n, NULL, NULL, &err);
	if (rc)
		fail_msg("%s", err.message);
	return r;
}

/* Layers of 100 bytes, a disk of 1 byte per ns, a link twice as fast. */
static struct hr_sim_pipeline pipeline(bool host_addressable)
{
	return (struct hr_sim_pipeline){.host_addressable = host_addressable,
	                                .slots = 2,
	                                .slot_bytes = 100,
	                                .staging_buffers = 2,
	                                .read_depth = 4,
	                                .chunk_bytes = 100,
	                                .disk_rate = 1,
	                                .link_rate = 2};
}

static double pass_of(const struct hr_sim_pipeline *p, const char *tiers, double compute_ns)
{
	struct hr_sim_layer layers[MAX_LAYERS];
	int                 n = (int)strlen(tiers);
	for (int i = 0; i < n; i++)
		layers[i] = (struct hr_sim_layer){100, compute_ns,
		                                  tiers[i] == 'D'   ? HR_TIER_DEVICE
		                                  : tiers[i] == 'H' ? HR_TIER_HOST
		                                                    : HR_TIER_DISK};
	return simulate(p, layers, n).pass_ns;
}

#define assert_ns(got, wanted)                                                                               \
	do {                                                                                                     \
		double got_ = (got), wanted_ = (wanted);                                                             \
		if (fabs(got_ - wanted_) > 1e-6 * wanted_)                                                           \
			fail_msg("line %d: %g ns instead of %g", __LINE__, got_, wanted_);                               \
	} while (0)

static void test_direct_by_hand(void **state)
{
	(void)state;
	struct hr_sim_pipeline p = pipeline(true);
	assert_ns(pass_of(&p, "DDD", 10), 30);
	assert_ns(pass_of(&p, "SS", 10), 200);  /* the disk works all the time */
	assert_ns(pass_of(&p, "SS", 150), 300); /* so does compute */
	assert_ns(pass_of(&p, "DSDS", 50), 200);
	p.between_ns = 50;
	assert_ns(pass_of(&p, "SS", 10), 200); /* reads cross the end of the pass */
	assert_ns(pass_of(&p, "DDD", 10), 80);
	p.between_ns = 0;
	p.slots = 1; /* guard 2: nothing is read into a slot that is computed with */
	assert_ns(pass_of(&p, "SS", 10), 220);
}

static void test_chunks_and_latency(void **state)
{
	(void)state;
	struct hr_sim_pipeline p = pipeline(true);
	p.chunk_bytes = 25;
	p.disk_latency_ns = 10;
	assert_ns(pass_of(&p, "SS", 1), 200); /* hidden behind the other reads in flight */
	p.read_depth = 1;
	assert_ns(pass_of(&p, "SS", 1), 280);
	p.chunk_bytes = 40; /* 40, 40, 20 */
	assert_ns(pass_of(&p, "SS", 1), 260);
}

static void test_staged_by_hand(void **state)
{
	(void)state;
	struct hr_sim_pipeline p = pipeline(false);
	assert_ns(pass_of(&p, "SS", 10), 200);
	p.staging_buffers = 1; /* guard 1: a read waits for the copy out of the buffer */
	assert_ns(pass_of(&p, "SS", 10), 300);
	assert_ns(pass_of(&p, "HH", 10), 100); /* the link alone */
	p.slots = 1;                           /* guard 2 */
	assert_ns(pass_of(&p, "HH", 10), 120);
	p.link_latency_ns = 5;
	p.chunk_bytes = 50;
	assert_ns(pass_of(&p, "HH", 10), 140);
	p.slots = 2;
	assert_ns(pass_of(&p, "HDD", 50), 150);
}

static uint32_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % n;
}

static int random_layers(struct hr_sim_layer *layers, bool host_addressable)
{
	int n = 1 + (int)random_below(MAX_LAYERS);
	for (int i = 0; i < n; i++) {
		enum hr_tier tier = (enum hr_tier)random_below(3);
		layers[i] = (struct hr_sim_layer){1 + random_below(5000), 1 + random_below(3000),
		                                  tier == HR_TIER_HOST && host_addressable ? HR_TIER_DISK : tier};
	}
	return n;
}

/* With at most so many buffers, reads in flight and bytes in a chunk. */
static struct hr_sim_pipeline random_pipeline(bool host_addressable, uint32_t buffers, uint32_t depth,
                                              uint32_t chunk_bytes)
{
	return (struct hr_sim_pipeline){.host_addressable = host_addressable,
	                                .slots = 1 + (int)random_below(6),
	                                .slot_bytes = 5000,
	                                .staging_buffers = 1 + (int)random_below(buffers),
	                                .read_depth = 1 + (int)random_below(depth),
	                                .chunk_bytes = 1 + random_below(chunk_bytes),
	                                .disk_rate = 0.1 * (1 + random_below(100)),
	                                .disk_latency_ns = random_below(100),
	                                .link_rate = 0.1 * (1 + random_below(100)),
	                                .link_latency_ns = random_below(20),
	                                .between_ns = random_below(2000)};
}

static void test_bounds(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 4000; seed++) {
		struct hr_sim_layer layers[MAX_LAYERS];
		random_state = seed;
		bool                   direct = random_below(2);
		int                    n = random_layers(layers, direct);
		struct hr_sim_pipeline p = random_pipeline(direct, 6, 8, 2000);
		struct hr_sim_result   r = simulate(&p, layers, n), better;
		double                 chunks = 0;
		for (int i = 0; i < n; i++)
			chunks += ceil((double)layers[i].bytes / (double)p.chunk_bytes);
		assert_true(r.pass_ns >= r.ceiling_ns * (1 - 1e-3));
		assert_true(r.pass_ns >= (r.compute_ns + r.stall_ns + p.between_ns) * (1 - 1e-9));
		assert_true(r.pass_ns <=
		            (r.disk_ns + r.link_ns + r.compute_ns + p.between_ns + chunks * p.disk_latency_ns) *
		                (1 + 1e-3));

		/* Nothing gets slower by having more. */
		struct hr_sim_pipeline more = p;
		switch (random_below(4)) {
		case 0:
			more.slots++;
			break;
		case 1:
			more.staging_buffers++;
			break;
		case 2:
			more.disk_rate *= 2;
			break;
		default:
			more.link_rate *= 2;
		}
		better = simulate(&more, layers, n);
		assert_true(better.pass_ns <= r.pass_ns * (1 + 1e-3));
	}
}

static void add_up(void *user, const struct hr_sim_span *span)
{
	double *sums = user;
	sums[span->lane] += span->end_ns - span->begin_ns;
	if (span->lane == HR_LANE_COMPUTE)
		assert_true(span->begin_ns >= 0);
}

/* The drive does not stop while the link brings layers from RAM, as far as there is staging. */
static void test_disk_and_host_tier_together(void **state)
{
	(void)state;
	struct hr_sim_pipeline p = pipeline(false);
	p.chunk_bytes = 25;
	p.staging_buffers = 40;
	assert_ns(pass_of(&p, "SSSSHHHH", 1), 400); /* both the disk and the link work all the time */
	assert_ns(pass_of(&p, "SSHHHHHH", 1), 400); /* the link does */
	p.staging_buffers = 5;
	assert_ns(pass_of(&p, "SSSSHHHH", 1), 500);
}

static void test_spans_are_those_of_one_pass(void **state)
{
	(void)state;
	struct hr_sim_pipeline p = pipeline(false);
	struct hr_sim_layer    layers[] = {
	       {100, 70, HR_TIER_DISK}, {100, 30, HR_TIER_DEVICE}, {90, 9, HR_TIER_HOST}};
	struct hr_sim_result r;
	double               sums[4] = {0};
	p.between_ns = 12;
	assert_int_equal(hr_simulate(&r, &p, layers, 3, add_up, sums, NULL), 0);
	assert_ns(sums[HR_LANE_DISK], 100);
	assert_ns(sums[HR_LANE_LINK], 95);
	assert_ns(sums[HR_LANE_COMPUTE], 109);
	assert_ns(sums[HR_LANE_HOST], 12);
	assert_int_equal(r.bound, HR_LANE_COMPUTE);
}

/* Rounds of equal chunks are skipped where nobody wants to see them, and that makes no difference. */
static void test_long_layers(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 500; seed++) {
		struct hr_sim_layer  layers[MAX_LAYERS];
		struct hr_sim_result quick, each;
		double               sums[4] = {0};
		random_state = seed;
		bool                   direct = random_below(2);
		int                    n = random_layers(layers, direct);
		struct hr_sim_pipeline p = random_pipeline(direct, 30, 30, 10);
		quick = simulate(&p, layers, n);
		assert_int_equal(hr_simulate(&each, &p, layers, n, add_up, sums, NULL), 0);
		assert_ns(quick.pass_ns, each.pass_ns);
		assert_true(fabs(quick.stall_ns - each.stall_ns) <= 1e-6 * each.pass_ns);
	}
}

static void test_refuses_what_cannot_run(void **state)
{
	(void)state;
	struct hr_sim_layer    layer = {100, 1, HR_TIER_DISK};
	struct hr_sim_pipeline p = pipeline(true);
	struct hr_sim_result   r;
	p.slots = 0;
	assert_int_equal(hr_simulate(&r, &p, &layer, 1, NULL, NULL, NULL), HR_EINVAL);
	p = pipeline(true);
	p.disk_rate = 0;
	assert_int_equal(hr_simulate(&r, &p, &layer, 1, NULL, NULL, NULL), HR_EINVAL);
	p = pipeline(false);
	p.link_rate = NAN;
	assert_int_equal(hr_simulate(&r, &p, &layer, 1, NULL, NULL, NULL), HR_EINVAL);
}

/* Published (stable-diffusion serving, 60 equal layers streamed from RAM to one card):
 * one layer prefetched 56.6 s, 16 prefetched 56.1 s, 30 resident and one prefetched, in the
 * memory of the second, 36.7 s. Link and compute are fitted to two of the three. */
enum { PUBLISHED_LAYERS = 60 };
struct published {
	int    resident, prefetched;
	double seconds;
};
static const struct published one = {0, 1, 56.6}, sixteen = {0, 16, 56.1}, pinned = {30, 1, 36.7};

static double predict(const struct published *point, double link_rate, double compute_ns)
{
	struct hr_sim_layer    layers[PUBLISHED_LAYERS];
	struct hr_sim_pipeline p = pipeline(false);
	for (int i = 0; i < PUBLISHED_LAYERS; i++) {
		bool stays = (i + 1) * point->resident / PUBLISHED_LAYERS > i * point->resident / PUBLISHED_LAYERS;
		layers[i] = (struct hr_sim_layer){635000000, compute_ns, stays ? HR_TIER_DEVICE : HR_TIER_HOST};
	}
	p.slots = point->prefetched + 1; /* those on their way, and the one that is computed with */
	p.slot_bytes = layers[0].bytes;
	p.chunk_bytes = 2 << 20;
	p.link_rate = link_rate;
	return simulate(&p, layers, PUBLISHED_LAYERS).pass_ns;
}

/* Fit by turns: the link to the point that streams all, compute to the one that pins. */
static double fit_and_predict(const struct published *a, const struct published *b,
                              const struct published *wanted)
{
	double rate = 1, compute_ns = 1e8;
	for (int i = 0; i < 60; i++) {
		rate *= predict(a, rate, compute_ns) / (a->seconds * 1e9);
		compute_ns *= b->seconds * 1e9 / predict(b, rate, compute_ns);
	}
	assert_true(fabs(predict(a, rate, compute_ns) * 1e-9 - a->seconds) < 0.01 * a->seconds);
	assert_true(fabs(predict(b, rate, compute_ns) * 1e-9 - b->seconds) < 0.01 * b->seconds);
	return predict(wanted, rate, compute_ns) * 1e-9;
}

static void test_published_trade(void **state)
{
	(void)state;
	double got = fit_and_predict(&sixteen, &pinned, &one);
	assert_true(fabs(got - one.seconds) < 0.15 * one.seconds);
	got = fit_and_predict(&one, &pinned, &sixteen);
	assert_true(fabs(got - sixteen.seconds) < 0.15 * sixteen.seconds);
	/* And the reason for the third, which the other two leave open: with the link the bound of
	 * both, half the bytes take half the time until compute is the bound. */
	double rate = 60 * 635e6 / (sixteen.seconds * 1e9);
	assert_ns(predict(&pinned, rate, 1e6), sixteen.seconds * 1e9 / 2);
	assert_ns(predict(&pinned, rate, pinned.seconds * 1e9 / 60), pinned.seconds * 1e9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_direct_by_hand),
	    cmocka_unit_test(test_chunks_and_latency),
	    cmocka_unit_test(test_staged_by_hand),
	    cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_disk_and_host_tier_together),
	    cmocka_unit_test(test_spans_are_those_of_one_pass),
	    cmocka_unit_test(test_long_layers),
	    cmocka_unit_test(test_refuses_what_cannot_run),
	    cmocka_unit_test(test_published_trade),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
