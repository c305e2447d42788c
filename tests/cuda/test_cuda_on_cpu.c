/* The layer that stands in for CUDA catches what it is there to catch. Mistakes are
 * planted here; a layer that overlooks one fails. */
#include "tests/cuda/cuda_testing.h"
#include "tests/patience.h"

#include <signal.h>
#include <sys/wait.h>

static cudaStream_t stream;
static cudaEvent_t  event;
static char        *memory, *host;

static int begin(void **state)
{
	struct cuda_on_cpu_machine m;
	(void)state;
	alarm(60);
	cuda_on_cpu_machine_init(&m);
	m.memory_bytes = 8 * MIB;
	m.copy_gb_per_s = 0.1; /* 1 MiB: 10 ms */
	if (cuda_on_cpu_reset(&m))
		return -1;
	host = map_host(2 * MIB);
	memset(host, 7, MIB);
	return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) ||
	       cudaEventCreateWithFlags(&event, cudaEventDefault) || cudaMalloc((void **)&memory, MIB) ||
	       cudaHostRegister(host, MIB, cudaHostRegisterDefault);
}

static int end(void **state)
{
	(void)state;
	cudaHostUnregister(host);
	cudaFree(memory);
	cudaEventDestroy(event);
	cudaStreamDestroy(stream);
	munmap(host, 2 * MIB);
	return cuda_on_cpu_reset(NULL); /* which also forgets the planted misuse */
}

static void expect_misuse(const char *part)
{
	assert_int_equal(cudaStreamSynchronize(stream), 0);
	if (!strstr(cuda_on_cpu_misuse(), part))
		fail_msg("\"%s\" was told instead of \"%s\"", cuda_on_cpu_misuse(), part);
}

static bool tells_early_refill(void)
{
	assert_int_equal(cudaMemcpyAsync(memory, host, MIB, cudaMemcpyDefault, stream), 0);
	host[MIB / 2]++;
	assert_int_equal(cudaStreamSynchronize(stream), 0);
	return strstr(cuda_on_cpu_misuse(), "was written while an asynchronous copy");
}

static void test_early_refill(void **state)
{
	(void)state;
	assert_true(ONE_OF_TEN(tells_early_refill()));
}

static void test_refill_in_time(void **state)
{
	(void)state;
	assert_int_equal(cudaMemcpyAsync(memory, host, MIB, cudaMemcpyDefault, stream), 0);
	assert_int_equal(cudaEventRecord(event, stream), 0);
	assert_int_equal(cudaEventSynchronize(event), 0);
	host[MIB / 2]++;
	expect_misuse("");
	assert_string_equal(cuda_on_cpu_misuse(), "");
}

static bool tells_unregistering_under_a_copy(void)
{
	assert_int_equal(cudaMemcpyAsync(memory, host, MIB, cudaMemcpyDefault, stream), 0);
	assert_int_equal(cudaHostUnregister(host), 0);
	assert_int_equal(cudaHostUnregister(host), cudaErrorHostMemoryNotRegistered);
	assert_int_equal(cudaStreamSynchronize(stream), 0);
	assert_int_equal(cudaHostRegister(host, MIB, cudaHostRegisterDefault), 0);
	return strstr(cuda_on_cpu_misuse(), "was unregistered while a copy");
}

static void test_unregistering_under_a_copy(void **state)
{
	(void)state;
	assert_true(ONE_OF_TEN(tells_unregistering_under_a_copy()));
}

static void test_copy_beyond_the_end(void **state)
{
	(void)state;
	assert_int_equal(cudaMemcpyAsync(memory + 1, host, MIB, cudaMemcpyDefault, stream),
	                 cudaErrorInvalidValue);
	expect_misuse("reaches beyond the device memory");
}

static void test_default_stream(void **state)
{
	(void)state;
	assert_int_equal(cudaMemcpyAsync(memory, host, MIB, cudaMemcpyDefault, NULL),
	                 cudaErrorInvalidResourceHandle);
	expect_misuse("the default stream");
}

static void test_memory_is_capped(void **state)
{
	(void)state;
	void *more;
	assert_int_equal(cudaMalloc(&more, 7 * MIB + 1), cudaErrorMemoryAllocation);
	cuda_on_cpu_hold(MIB);
	assert_int_equal(cudaMalloc(&more, 6 * MIB + 1), cudaErrorMemoryAllocation);
	assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
	assert_int_equal(cudaGetLastError(), cudaSuccess);
	assert_int_equal(cudaMalloc(&more, 6 * MIB), 0);
	assert_int_equal(cudaFree(more), 0);
	assert_int_equal(cudaFree(more), cudaErrorInvalidValue);
}

static void read_stale(void *at)
{
	volatile char c = *(char *)at;
	(void)c;
}
static void read_freed(void) { cudaFree(memory), read_stale(memory); }
static void read_behind(void) { read_stale(memory + MIB + 256); }
static void read_before(void) { read_stale(memory - 4096); }
static void leak_and_exit(void) { exit(0); }

/* The signal that ended a child doing this, or -(its exit status). */
static int fate_of(void (*deed)(void))
{
	int   status = 0;
	pid_t child = fork();
	if (!child) {
		signal(SIGSEGV, SIG_DFL);
		freopen("/dev/null", "w", stderr);
		deed();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void test_stray_pointers_fault(void **state)
{
	(void)state;
	assert_int_equal(fate_of(read_behind), SIGSEGV);
	assert_int_equal(fate_of(read_before), SIGSEGV);
	assert_int_equal(fate_of(read_freed), SIGSEGV);
}

static void test_leaks_end_the_process_with_99(void **state)
{
	(void)state;
	assert_int_equal(fate_of(leak_and_exit), -99);
}

static void nothing(void *ignored) { (void)ignored; }

static void test_errors_stick(void **state)
{
	(void)state;
	void *more;
	cuda_on_cpu_fail_work(1, cudaErrorIllegalAddress);
	cuda_on_cpu_launch(stream, nothing, NULL); /* may fail before this even returns */
	assert_int_equal(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
	assert_int_equal(cudaMalloc(&more, 1), cudaErrorIllegalAddress);
	assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
	assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
	    TEST(test_early_refill),
	    TEST(test_refill_in_time),
	    TEST(test_unregistering_under_a_copy),
	    TEST(test_copy_beyond_the_end),
	    TEST(test_default_stream),
	    TEST(test_memory_is_capped),
	    TEST(test_stray_pointers_fault),
	    TEST(test_leaks_end_the_process_with_99),
	    TEST(test_errors_stick),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
