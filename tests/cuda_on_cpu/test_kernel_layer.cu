/* The kernel half of the CUDA-on-CPU layer, tested for what it is there for: right
 * kernels give right results, and every planted mistake is found: a barrier or a
 * wait that is missing, an index out of bounds, threads that do not meet. */
#include "kernels/cuda/cuda.h"

#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

enum { N = 256, BLOCKS = 5 };

enum Mistake {
	NO_MISTAKE,
	NO_BARRIER_AFTER_WRITE,
	NO_BARRIER_BEFORE_REUSE,
	NO_WARP_BARRIER,
	BARRIER_IN_A_BRANCH,
	LEAVES_BEFORE_BARRIER,
	SHUFFLE_IN_A_BRANCH,
	SHUFFLE_FROM_OUTSIDE,
	INDEX_BEHIND_SHARED,
	INDEX_BEHIND_GLOBAL,
	NO_WAIT_FOR_COPY,
};

/* y[block][i] = sum of x[block][0..i], twice over; a tree of shuffles, then one of barriers. */
template <int MISTAKE> static void prefix_sums(float *y, const float *x)
{
	HR_SHARED(float, sums, N);
	HR_SHARED(float, copies, N);
	int          i = (int)threadIdx.x, lane = i % HR_WARP;
	const float *row = x + blockIdx.x * N;
	if (i % 4 == 0)
		hr_copy16_async(copies + i, row + i);
	hr_copies_commit();
	if (MISTAKE != NO_WAIT_FOR_COPY)
		hr_copies_wait<0>();
	if (MISTAKE == LEAVES_BEFORE_BARRIER && i == 77)
		return;
	__syncthreads();
	for (int turn = 0; turn < 2; turn++) {
		sums[i] = copies[MISTAKE == INDEX_BEHIND_SHARED && i == N - 1 ? N : i];
		if (MISTAKE == INDEX_BEHIND_SHARED && i == 0)
			sums[N] = 0;
		if (MISTAKE != NO_BARRIER_AFTER_WRITE)
			__syncthreads();
		for (int d = 1; d < N; d *= 2) {
			float other = i >= d ? sums[i - d] : 0;
			if (MISTAKE != NO_BARRIER_BEFORE_REUSE && (MISTAKE != BARRIER_IN_A_BRANCH || i >= d))
				__syncthreads();
			sums[i] += other;
			__syncthreads();
		}
		y[blockIdx.x * N + i + (MISTAKE == INDEX_BEHIND_GLOBAL && blockIdx.x == BLOCKS - 1 ? 1024 : 0)] =
		    sums[i];
		__syncthreads();
	}
	float v = y[blockIdx.x * N + i];
	if (MISTAKE == SHUFFLE_IN_A_BRANCH && lane == 3)
		return;
	float other = __shfl_sync(MISTAKE == SHUFFLE_FROM_OUTSIDE ? 1u << lane : HR_ALL_LANES, v, lane ^ 5);
	copies[i] = v;
	if (MISTAKE != NO_WARP_BARRIER)
		__syncwarp();
	y[blockIdx.x * N + i] = v + (copies[i ^ 5] - other);
}

/* 0: right; 1: wrong. */
template <int MISTAKE> static int run()
{
	std::vector<float> x(N * BLOCKS), y;
	int                bad = 0;
	void              *memory;
	for (int i = 0; i < N * BLOCKS; i++)
		x[(size_t)i] = (float)(i * 7 % 11);
	if (cudaMalloc(&memory, N * BLOCKS * sizeof(float)))
		return 2;
	float *out = (float *)memory;
	float *in = (float *)aligned_alloc(64, x.size() * sizeof(float));
	memcpy(in, x.data(), x.size() * sizeof(float));
	for (int times = 0; times < 8; times++) {
		cuda_on_cpu::run_grid("prefix_sums", BLOCKS, N, 0, [=] { prefix_sums<MISTAKE>(out, in); });
		for (int b = 0; b < BLOCKS; b++) {
			float want = 0;
			for (int i = 0; i < N; i++) {
				want += x[(size_t)(b * N + i)];
				bad += !(out[b * N + i] == want);
			}
		}
	}
	free(in);
	cudaFree(memory);
	return bad ? 1 : 0;
}

static void right_kernels_are_right(void **) { assert_int_equal(run<NO_MISTAKE>(), 0); }

/* How a process that runs it ends, and what it says: 0 right, 1 wrong, 256 killed. */
template <int MISTAKE> static int outcome(std::string *said)
{
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	pid_t child = fork();
	if (!child) {
		dup2(pipes[1], 2);
		close(pipes[0]);
		signal(SIGABRT, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		_exit(run<MISTAKE>());
	}
	close(pipes[1]);
	char    text[4096];
	ssize_t n;
	said->clear();
	while ((n = read(pipes[0], text, sizeof text)) > 0)
		said->append(text, (size_t)n);
	close(pipes[0]);
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) < 2 ? WEXITSTATUS(status) : 256;
}

/* By the layer, or by a sanitizer. */
template <int MISTAKE> static void is_stopped(const char *words)
{
	std::string said;
	int         got = outcome<MISTAKE>(&said);
	if (said.find("Sanitizer") == std::string::npos && (got != 256 || said.find(words) == std::string::npos))
		fail_msg("mistake %d: %d, said \"%s\", which lacks \"%s\"", MISTAKE, got, said.c_str(), words);
}

/* The sanitizers may stop it before the wrong result is there. */
template <int MISTAKE> static void is_noticed()
{
	std::string said;
	if (!outcome<MISTAKE>(&said))
		fail_msg("mistake %d went unnoticed", MISTAKE);
}

static void a_missing_barrier_changes_results(void **)
{
	is_noticed<NO_BARRIER_AFTER_WRITE>();
	is_noticed<NO_BARRIER_BEFORE_REUSE>();
	is_noticed<NO_WARP_BARRIER>();
	is_noticed<NO_WAIT_FOR_COPY>();
}

static void threads_that_do_not_meet_are_stopped(void **)
{
	is_stopped<BARRIER_IN_A_BRANCH>("different barriers");
	is_stopped<LEAVES_BEFORE_BARRIER>("thread 77 has left");
	is_stopped<SHUFFLE_IN_A_BRANCH>("lanes wait for others");
	is_stopped<SHUFFLE_FROM_OUTSIDE>("not in mask");
}

static void indices_out_of_bounds_are_stopped(void **)
{
	is_stopped<INDEX_BEHIND_SHARED>("beside an array of 1024 bytes");
	is_stopped<INDEX_BEHIND_GLOBAL>("");
}

int main()
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(right_kernels_are_right),
	    cmocka_unit_test(a_missing_barrier_changes_results),
	    cmocka_unit_test(threads_that_do_not_meet_are_stopped),
	    cmocka_unit_test(indices_out_of_bounds_are_stopped),
	};
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
