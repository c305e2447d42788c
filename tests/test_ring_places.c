/* Where uses of streamed layers lie in the slots: what every sequence of sizes must keep, and
 * the cases that matter by hand. */
#include "scheduler/ring.h"

#include "tests/window_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MAX_USES 2000

static void test_any_sizes(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 300; seed++) {
		static uint64_t begins[MAX_USES], ends[MAX_USES];
		uint32_t        random = seed;
		int             slots = 1 + (int)rig_random(&random, 5), cycle = 1 + (int)rig_random(&random, 40);
		uint64_t        sizes[40], smallest = UINT64_MAX, over = 0;
		struct hr_ring  ring;
		for (int i = 0; i < cycle; i++) {
			sizes[i] = 1 + rig_random(&random, rig_random(&random, 2) ? 1000 : 100);
			smallest = sizes[i] < smallest ? sizes[i] : smallest;
		}
		hr_ring_init(&ring, slots, 1000, smallest);
		assert_in_range(ring.n_places, 1, HR_RING_MAX_PLACES);
		for (uint64_t use = 0; use < MAX_USES; use++) {
			uint64_t bytes = sizes[use % (uint64_t)cycle];
			begins[use] = hr_ring_place(&ring, bytes);
			ends[use] = begins[use] + bytes;
			assert_in_range(ends[use], 1, 1000 * (uint64_t)slots);
			assert_int_equal(begins[use] / 1000, (ends[use] - 1) / 1000); /* in one slot */
			assert_in_range(ring.n_over, over, use);
			over = ring.n_over;
			assert_true(use - over < (uint64_t)ring.n_places);
			for (uint64_t k = over; k < use; k++)
				assert_true(ends[k] <= begins[use] || ends[use] <= begins[k]);
		}
	}
}

/* As many as there are slots never wait for each other, whatever their sizes. */
static void test_slots_can_be_held(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 300; seed++) {
		uint32_t       random = seed;
		int            slots = 1 + (int)rig_random(&random, 5);
		struct hr_ring ring;
		hr_ring_init(&ring, slots, 1000, 20);
		for (uint64_t use = 0; use < MAX_USES; use++) {
			hr_ring_place(&ring, 20 + rig_random(&random, 981));
			assert_true(use + 1 - ring.n_over >= (uint64_t)slots || ring.n_over == 0);
		}
	}
}

/* Two slots: two blocks, then eight parts of an eighth. */
static void test_parts_share_a_slot(void **state)
{
	(void)state;
	struct hr_ring ring;
	hr_ring_init(&ring, 2, 800, 100);
	assert_int_equal(ring.n_places, 16);
	assert_int_equal(hr_ring_place(&ring, 800), 0);
	assert_int_equal(hr_ring_place(&ring, 790), 800);
	assert_int_equal(ring.n_over, 0);
	for (uint64_t part = 0; part < 12; part++) {
		assert_int_equal(hr_ring_place(&ring, 100), 100 * part);
		assert_int_equal(ring.n_over, part < 8 ? 1 : 2);
	}
	/* A block does not begin in the middle of a slot; it waits for the last part in its way. */
	assert_int_equal(hr_ring_place(&ring, 790), 0);
	assert_int_equal(ring.n_over, 2 + 8);
	assert_int_equal(hr_ring_place(&ring, 800), 800);
	assert_int_equal(ring.n_over, 2 + 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_any_sizes),
	    cmocka_unit_test(test_slots_can_be_held),
	    cmocka_unit_test(test_parts_share_a_slot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
