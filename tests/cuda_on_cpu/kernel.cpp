/* Grids, blocks and threads of the layer, see kernel.h.
 *
 * A thread is READY until it waits AT_BARRIER, IN_WARP or is DONE. The block gives
 * every READY thread a turn, again and again, until all are DONE; whoever completes
 * a meeting makes all who met READY. When nobody is READY and not all are DONE,
 * the kernel would hang or worse, and that is told.
 *
 * A host thread that runs kernels (a stream) keeps its fibers: each is a loop that
 * waits for the next thread to be. */
#include "kernel.h"
#include "fiber.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

__thread uint3 threadIdx, blockIdx;
__thread dim3  blockDim, gridDim;

namespace cuda_on_cpu
{

#if defined(__SANITIZE_ADDRESS__)
static const size_t FENCE = 0; /* the heap has better ones */
#else
static const size_t FENCE = 64;
#endif
static const int      POISON = 0xff, FENCE_BYTE = 0xa5, WARP = 32;
static const unsigned MAX_THREADS = 1024, MAX_SHARED = 99 << 10;

enum State { READY, AT_BARRIER, IN_WARP, DONE };

struct CopyAsync {
	char       *dst;
	const char *src;
	size_t      bytes;
	int         group;
};

struct Thread {
	Fiber                  fiber;
	State                  state = DONE;
	Place                  place = {};
	unsigned               mask = 0;
	uint64_t               value = 0, result = 0;
	int                    source = 0;
	uint64_t              *brought = nullptr;
	int                    n_groups = 0; /* of copies, committed */
	std::vector<CopyAsync> copies;
};

struct SharedArray {
	const void *key;
	size_t      bytes;
	char       *memory; /* with fences */
};

/* What a host thread needs to run blocks. */
struct Runner {
	Fiber                                home;
	std::vector<std::unique_ptr<Thread>> threads;
	const char                          *kernel = "";
	const std::function<void()>         *code = nullptr;
	int                                  n = 0, current = 0;
	int                                  n_at_barrier = 0, n_done = 0;
	unsigned                             arrived[MAX_THREADS / WARP] = {};
	std::vector<SharedArray>             shared;
	char                                 dynamic_key = 0;

	Runner() { fiber_adopt(&home); }
	~Runner()
	{
		for (auto &t : threads)
			fiber_release(&t->fiber);
	}
};

static thread_local std::unique_ptr<Runner> runner;
static std::atomic<uint32_t>                next_order{1};

static Thread &me() { return *runner->threads[(size_t)runner->current]; }
int            lane() { return runner->current % WARP; }

static const char *file_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : nullptr;
	return slash ? slash + 1 : path ? path : "?";
}

static void describe(int i)
{
	static const char *const names[] = {"runs", "waits at __syncthreads()", "waits for its warp", "has left"};
	const Thread            &t = *runner->threads[(size_t)i];
	fprintf(stderr, "  thread %d %s", i, names[t.state]);
	if (t.state == AT_BARRIER || t.state == IN_WARP)
		fprintf(stderr, ", %s:%d", file_name(t.place.file), t.place.line);
	if (t.state == IN_WARP)
		fprintf(stderr, ", mask %08x", t.mask);
	fprintf(stderr, "\n");
}

/* Tell what went wrong, and where threads that don't do the same stand. */
[[noreturn]] static void broken(const char *format, ...)
{
	Runner *r = runner.get();
	va_list list;
	va_start(list, format);
	fprintf(stderr, "CUDA on CPU: kernel %s, block (%u, %u, %u), thread %d: ", r->kernel, blockIdx.x,
	        blockIdx.y, blockIdx.z, r->current);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "\n");
	const Thread *last = nullptr;
	for (int i = 0, told = 0; i < r->n && told < 8; i++) {
		const Thread *t = r->threads[(size_t)i].get();
		if (last && last->state == t->state && last->place.line == t->place.line && last->mask == t->mask)
			continue;
		describe(i);
		last = t;
		told++;
	}
	abort();
}

static bool same(Place a, Place b) { return a.line == b.line && !strcmp(a.file, b.file); }

/* Wait until somebody makes this thread READY. */
static void yield_turn()
{
	Runner *r = runner.get();
	Thread &t = me();
	fiber_switch(&t.fiber, &r->home);
}

void barrier(Place place)
{
	Runner *r = runner.get();
	Thread &t = me();
	t.state = AT_BARRIER;
	t.place = place;
	if (++r->n_at_barrier < r->n) {
		yield_turn();
		return;
	}
	for (int i = 0; i < r->n; i++) {
		if (!same(r->threads[(size_t)i]->place, place))
			broken("threads of a block stand at different barriers.");
		r->threads[(size_t)i]->state = READY;
	}
	r->n_at_barrier = 0;
}

static void complete_meeting(int first, unsigned mask)
{
	Runner *r = runner.get();
	Thread &self = me();
	for (int i = 0; i < WARP; i++) {
		if (!(mask >> i & 1))
			continue;
		Thread &t = *r->threads[(size_t)(first + i)];
		if (t.mask != mask || !same(t.place, self.place))
			broken("lanes of a warp stand at different places or have different masks.");
		if (!(mask >> t.source & 1))
			broken("lane %d reads from lane %d, which is not in mask %08x.", i, t.source, mask);
		t.result = r->threads[(size_t)(first + t.source)]->value;
		for (int j = 0; t.brought && j < WARP; j++)
			t.brought[j] = mask >> j & 1 ? r->threads[(size_t)(first + j)]->value : 0;
	}
	for (int i = 0; i < WARP; i++)
		if (mask >> i & 1)
			r->threads[(size_t)(first + i)]->state = READY;
}

uint64_t meet(unsigned mask, uint64_t value, int source, uint64_t *brought, Place place)
{
	Runner   *r = runner.get();
	Thread   &t = me();
	int       warp = r->current / WARP;
	unsigned &arrived = r->arrived[warp];
	t.state = IN_WARP;
	t.place = place;
	t.mask = mask;
	t.value = value;
	t.source = source & (WARP - 1);
	t.brought = brought;
	if (!(mask >> lane() & 1))
		broken("mask %08x does not hold the lane itself.", mask);
	if (r->n - warp * WARP < WARP && mask >> (r->n - warp * WARP))
		broken("mask %08x holds lanes that the block does not have.", mask);
	arrived |= 1u << lane();
	if ((arrived & mask) != mask) {
		yield_turn();
		return t.result;
	}
	complete_meeting(warp * WARP, mask);
	arrived &= ~mask;
	return t.result;
}

/* ---- Shared memory ---- */

void *shared_array(const void *key, size_t bytes)
{
	for (const SharedArray &a : runner->shared)
		if (a.key == key)
			return a.memory + FENCE;
	SharedArray a = {key, bytes, nullptr};
	if (posix_memalign((void **)&a.memory, 128, bytes + 2 * FENCE + !bytes))
		abort();
	memset(a.memory, FENCE_BYTE, bytes + 2 * FENCE);
	memset(a.memory + FENCE, POISON, bytes);
	runner->shared.push_back(a);
	return a.memory + FENCE;
}

void *dynamic_shared() { return shared_array(&runner->dynamic_key, 0); }

static void release_shared()
{
	size_t total = 0;
	for (const SharedArray &a : runner->shared) {
		for (size_t i = 0; i < FENCE; i++)
			if ((unsigned char)a.memory[i] != FENCE_BYTE ||
			    (unsigned char)a.memory[FENCE + a.bytes + i] != FENCE_BYTE)
				broken("shared memory was written beside an array of %zu bytes.", a.bytes);
		total += a.bytes;
		free(a.memory);
	}
	runner->shared.clear();
	if (total > MAX_SHARED)
		broken("%zu bytes of shared memory are more than every card has.", total);
}

void copy_async(void *shared, const void *global, size_t bytes)
{
	Thread &t = me();
	if ((uintptr_t)shared % bytes || (uintptr_t)global % bytes)
		broken("an asynchronous copy of %zu bytes is not aligned.", bytes);
	memset(shared, POISON, bytes);
	t.copies.push_back(CopyAsync{(char *)shared, (const char *)global, bytes, t.n_groups});
}

void commit_copies() { me().n_groups++; }

void wait_for_copies(int n_pending_groups)
{
	Thread &t = me();
	auto    late = std::stable_partition(t.copies.begin(), t.copies.end(), [&](const CopyAsync &c) {
        return c.group < t.n_groups - n_pending_groups;
    });
	for (auto c = t.copies.begin(); c != late; ++c)
		memcpy(c->dst, c->src, c->bytes);
	t.copies.erase(t.copies.begin(), late);
}

/* ---- Blocks and grids ---- */

static uint32_t random_next(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Upwards, downwards or shuffled. */
static void put_in_order(std::vector<unsigned> &order, unsigned n, uint32_t *seed)
{
	order.resize(n);
	for (unsigned i = 0; i < n; i++)
		order[i] = i;
	switch (random_next(seed) % 3) {
	case 1:
		std::reverse(order.begin(), order.end());
		break;
	case 2:
		for (unsigned i = n; i > 1; i--)
			std::swap(order[i - 1], order[random_next(seed) % i]);
		break;
	}
}

static void fiber_main(void *argument)
{
	Thread *t = (Thread *)argument;
	fiber_begin(&t->fiber, &runner->home);
	for (;;) {
		(*runner->code)();
		t->state = DONE;
		t->copies.clear();
		t->n_groups = 0;
		runner->n_done++;
		fiber_switch(&t->fiber, &runner->home);
	}
}

static void take_turn(int i)
{
	Runner *r = runner.get();
	r->current = i;
	unsigned u = (unsigned)i;
	threadIdx = {u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
	fiber_switch(&r->home, &r->threads[u]->fiber);
}

static void run_block(size_t shared_bytes, const std::vector<unsigned> &order)
{
	Runner *r = runner.get();
	r->n_done = r->n_at_barrier = 0;
	std::fill(std::begin(r->arrived), std::end(r->arrived), 0);
	for (int i = 0; i < r->n; i++)
		r->threads[(size_t)i]->state = READY;
	if (shared_bytes)
		shared_array(&r->dynamic_key, shared_bytes);
	while (r->n_done < r->n) {
		bool moved = false;
		for (unsigned i : order)
			if (r->threads[i]->state == READY) {
				take_turn((int)i);
				moved = true;
			}
		if (!moved)
			broken(r->n_at_barrier ? "threads wait at a barrier that others never reach."
			                       : "lanes wait for others of their warp that never come.");
	}
	release_shared();
}

void run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()> &thread)
{
	if (!runner)
		runner.reset(new Runner);
	Runner               *r = runner.get();
	uint32_t              seed = (next_order++ * 2654435761u) | 1;
	unsigned              n_blocks = grid.x * grid.y * grid.z;
	std::vector<unsigned> blocks, threads;
	r->kernel = kernel;
	r->code = &thread;
	r->n = (int)(block.x * block.y * block.z);
	while ((int)r->threads.size() < r->n) {
		r->threads.emplace_back(new Thread);
		Thread *t = r->threads.back().get();
		fiber_init(&t->fiber, fiber_main, t);
	}
	gridDim = grid;
	blockDim = block;
	put_in_order(blocks, n_blocks, &seed);
	for (unsigned b : blocks) {
		blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
		put_in_order(threads, (unsigned)r->n, &seed);
		run_block(shared_bytes, threads);
	}
}

void launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::function<void()> thread)
{
	uint64_t n_threads = (uint64_t)block.x * block.y * block.z;
	if (!n_threads || n_threads > MAX_THREADS || !grid.x || !grid.y || !grid.z || grid.x > INT32_MAX ||
	    grid.y > 65535 || grid.z > 65535 || shared_bytes > MAX_SHARED) {
		cuda_on_cpu_return(cudaErrorInvalidConfiguration);
		return;
	}
	cuda_on_cpu_enqueue(stream, [=] { run_grid(kernel, grid, block, shared_bytes, thread); });
}

void seed_orders(uint32_t seed) { next_order = seed; }

} // namespace cuda_on_cpu
