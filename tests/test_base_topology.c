/* Topology: plausible on any machine, and binding binds. */
#include "base/topology.h"
#include "headrace/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

static int n_allowed(void)
{
	cpu_set_t set;
	assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
	return CPU_COUNT(&set);
}

static void cores_are_within_what_is_allowed(void **state)
{
	(void)state;
	assert_in_range(hr_topology_n_cores(), 1, n_allowed());
	assert_true(hr_topology_n_nodes() >= 1);
}

static void binding_a_thread_narrows_and_undoing_it_widens(void **state)
{
	(void)state;
	int before = n_allowed();
	for (int i = 0; i < 2 * hr_topology_n_cores(); i++) {
		if (hr_topology_bind_thread_to_core(i) == HR_EUNSUPPORTED)
			skip();
		assert_true(n_allowed() <= before - hr_topology_n_cores() + 1);
	}
	hr_topology_unbind_thread();
	assert_int_equal(n_allowed(), before);
	assert_int_equal(hr_topology_bind_thread_to_core(-1), HR_EUNSUPPORTED);
}

static void unknown_places_are_harmless(void **state)
{
	(void)state;
	void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(hr_topology_node_of_pci("ffff:ff:1f.7"), -1);
	assert_int_equal(hr_topology_node_of_pci("nonsense"), -1);
	assert_int_equal(hr_topology_node_of_pci(NULL), -1);
	assert_int_equal(hr_topology_bind_memory(p, 1 << 20, -1), 0);
	assert_int_equal(hr_topology_bind_memory(p, 1 << 20, 12345), HR_EUNSUPPORTED);
	munmap(p, 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cores_are_within_what_is_allowed),
	    cmocka_unit_test(binding_a_thread_narrows_and_undoing_it_widens),
	    cmocka_unit_test(unknown_places_are_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
