/* The exactness matrix: a streamed run has the logits of a resident one, bit for
 * bit. Combinations of window, residents, slots, budget, chunk, depth, reader, threads
 * and tokens per pass are drawn from a fixed sequence, the same for every model; the
 * few that matter most come first, so that a short list is still a good one. */
#ifndef HR_TESTS_EXACTNESS_H
#define HR_TESTS_EXACTNESS_H

#include "model_run.h"

#include <stdlib.h>
#include <unistd.h>

/* How much of the matrix: HR_TEST_QUICK=1 in the environment asks for a subset
 * (sanitizers make everything 10 times slower), HR_TEST_THOROUGH=1 for all of it. */
enum exact_scale { EXACT_QUICK, EXACT_USUAL, EXACT_THOROUGH };

static inline bool exact_is_set(const char *name)
{
	const char *value = getenv(name);
	return value && *value && strcmp(value, "0");
}

static inline enum exact_scale exact_scale(void)
{
	return exact_is_set("HR_TEST_THOROUGH") ? EXACT_THOROUGH
	       : exact_is_set("HR_TEST_QUICK")  ? EXACT_QUICK
	                                        : EXACT_USUAL;
}

/* ---- Models ---------------------------------------------------------------------- */

#define EXACT_IDS 400

/* What hr_synth makes; the state of a test. */
struct exact_kind {
	const char *like, *type;
};

static char             exact_directory[200]; /* of exact_run() */
static int32_t          exact_ids[EXACT_IDS];
static struct hr_model *exact_model;

/* Before and after each test: the model of its kind, finely cut, and ids of its vocabulary. */
static inline int exact_open_model(void **state)
{
	const struct exact_kind *k = *state;
	struct hr_error          err = {0};
	char                     path[260];
	snprintf(path, sizeof path, "%s/%s-%s.gguf", exact_directory, k->like, k->type);
	int rc = hr_synth(path, k->like, k->type, 1, NULL, NULL, &err);
	if (!rc)
		rc = hr_model_open(&exact_model, path, &err);
	if (!rc)
		rc = run_cut_finely(exact_model);
	if (rc)
		fprintf(stderr, "%s\n", err.message);
	else
		for (int i = 0, n = hr_model_info(exact_model)->n_vocab; i < EXACT_IDS; i++)
			exact_ids[i] = (i * 7919 + i * i * 31 + 5) % n;
	unlink(path); /* the model holds it open */
	return rc;
}

static inline int exact_close_model(void **state)
{
	(void)state;
	hr_model_close(exact_model);
	exact_model = NULL;
	return 0;
}

/* Run the tests with a directory for their models; what main() returns. */
static inline int exact_run(const char *name, const struct CMUnitTest *tests, size_t n)
{
	const char *temporary = getenv("TMPDIR");
	snprintf(exact_directory, sizeof exact_directory, "%s/headrace-exactness-XXXXXX",
	         temporary ? temporary : "/var/tmp");
	if (!mkdtemp(exact_directory)) {
		perror(exact_directory);
		return 1;
	}
	int failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
	rmdir(exact_directory);
	return failed;
}

/* ---- Combinations ---------------------------------------------------------------- */

/* Where to compute. On a GPU the host tier varies as well, but the tokens per pass do not: how
 * many there are decides which kernels run. */
static const char *exact_device = "cpu";

enum exact_host_tier { EXACT_HOST_ALL, EXACT_HOST_NONE, EXACT_HOST_SOME };

struct exact_combination {
	int                  window, residents, slots; /* HR_AUTO: not said */
	bool                 smallest;                 /* the smallest budget: the ends are streamed as well */
	int                  share;                    /* a budget of so many percent; 0: not said */
	uint64_t             chunk_bytes;
	int                  depth, threads, n_batch;
	const char          *reader;
	enum exact_host_tier host;
};

static inline struct exact_combination exact_combination(int index)
{
	static const struct exact_combination first[] = {
	    {.window = HR_AUTO, .residents = 0, .slots = 2, true, 0, 65536, 2, 2, 64, "uring"},
	    {.window = HR_AUTO, .residents = HR_AUTO, .slots = HR_AUTO, false, 75, 4096, 1, 1, 7, "pread"},
	    {.window = HR_AUTO, .residents = HR_AUTO, .slots = HR_AUTO, false, 92, 0, 0, 2, 64, "uring"},
	    {.window = HR_AUTO, .residents = HR_AUTO, .slots = 2, false, 87, 1 << 20, 8, 2, 512, "uring"},
	    {.window = 3, .residents = HR_AUTO, .slots = HR_AUTO, false, 0, 0, 0, 3, 512, "uring"},
	    {.window = HR_AUTO, .residents = 1, .slots = 3, false, 0, 1 << 20, 8, 2, 512, "pread"},
	};
	static const int      windows[] = {HR_AUTO, 2, 3, 4, 5, 6}, residents[] = {HR_AUTO, 0, 1, 2, 3};
	static const int      slots[] = {HR_AUTO, 2, 3, 4}, depths[] = {0, 1, 2, 3, 8, 32};
	static const int      shares[] = {35, 50, 75, 90};
	static const int      threads[] = {1, 2, 3, 4}, batches[] = {512, 128, 64, 7};
	static const uint64_t chunks[] = {0, 4096, 12288, 65536, 1 << 20};
	static const enum exact_host_tier hosts[] = {EXACT_HOST_ALL, EXACT_HOST_NONE, EXACT_HOST_SOME};
	struct exact_combination          c;
	if (index < (int)(sizeof first / sizeof *first)) {
		c = first[index];
		c.host = (enum exact_host_tier)(index % 3);
		return c;
	}
	uint64_t random = (uint64_t)index * 0x9E3779B97F4A7C15u; /* splitmix64's mixing */
	random = (random ^ random >> 30) * 0xBF58476D1CE4E5B9u;
	random = (random ^ random >> 27) * 0x94D049BB133111EBu;
	random ^= random >> 31;
#define DRAW(from) from[(random = random >> 5 | random << 59) % (sizeof(from) / sizeof *(from))]
	c = (struct exact_combination){.window = DRAW(windows), .slots = DRAW(slots)};
	c.residents = c.window == HR_AUTO ? DRAW(residents) : HR_AUTO;
	c.smallest = index % 3 == 0;
	c.share = index % 3 == 1 ? DRAW(shares) : 0;
	c.chunk_bytes = DRAW(chunks);
	c.depth = DRAW(depths);
	c.threads = DRAW(threads);
	c.n_batch = DRAW(batches);
	c.host = DRAW(hosts);
#undef DRAW
	c.reader = index & 1 ? "pread" : "uring";
	return c;
}

static inline struct hr_plan_options exact_options(const struct hr_model          *model,
                                                   const struct exact_combination *c, int n_seqs, int n_ctx)
{
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = exact_device;
	o.n_seqs = n_seqs;
	o.n_ctx = n_ctx;
	o.full = !c;
	o.n_threads = 2;
	if (strcmp(exact_device, "cpu"))
		o.n_batch = 64;
	if (!c)
		return o;
	o.n_threads = c->threads;
	if (!o.n_batch)
		o.n_batch = c->n_batch;
	o.window_layers = c->window;
	o.resident_layers = c->residents;
	o.slots = c->slots;
	o.chunk_bytes = c->chunk_bytes;
	o.read_depth = c->depth;
	o.reader = c->reader;
	if (strcmp(exact_device, "cpu")) {
		uint64_t staging = 128 << 10, layer = hr_model_info(model)->largest_layer_bytes;
		o.host_memory_bytes = c->host == EXACT_HOST_ALL    ? 0
		                      : c->host == EXACT_HOST_NONE ? staging
		                                                   : staging + layer;
	}
	if (c->smallest)
		o.device_memory_bytes = run_smallest_budget(model, &o);
	else if (c->share)
		o.device_memory_bytes = run_part_budget(model, &o, c->share);
	return o;
}

static inline void exact_describe(char text[260], const struct exact_combination *c,
                                  const struct run_result *r)
{
	snprintf(
	    text, 260,
	    "window %d residents %d slots %d%s share %d %% chunk %llu depth %d reader %s threads %d batch %d "
	    "(done: %d residents, %.2f of the others, %d slots, %d in the host tier)",
	    c->window, c->residents, c->slots, c->smallest ? " smallest budget" : "", c->share,
	    (unsigned long long)c->chunk_bytes, c->depth, c->reader, c->threads, c->n_batch,
	    r->plan.resident_layers, r->plan.kept_share, r->plan.slots, r->plan.host_layers);
}

static int   exact_n_cut, exact_n_in_pieces, exact_n_shares;
static float exact_shares[16]; /* the different ones that were kept of streamed layers */

static inline void exact_count_cut(const struct hr_plan_info *plan, double largest_layer_bytes)
{
	float share = (float)plan->kept_share;
	int   i = 0;
	if (share == 0)
		return;
	exact_n_cut++;
	exact_n_in_pieces += (double)plan->slot_bytes < 0.9 * (1 - plan->kept_share) * largest_layer_bytes;
	while (i < exact_n_shares && exact_shares[i] != share)
		i++;
	if (i == exact_n_shares && i < 16)
		exact_shares[exact_n_shares++] = share;
}

/* Run `prompts` together in n combinations; every hash must be that of `want`. Returns how many of
 * them streamed anything; exact_count_cut() counts those that kept a part of blocks. Chunks are no smaller
 * than an eighth of a layer: many tiny reads cost time and add no case. */
static inline int exact_check(const struct hr_model *model, const struct run_prompt *prompts, int n_prompts,
                              int n_ctx, const uint64_t *want, int n_combinations)
{
	uint64_t min_chunk_bytes = hr_model_info(model)->largest_layer_bytes / 8 & ~4095ull;
	int      n_streamed = 0;
	for (int i = 0; i < n_combinations; i++) {
		struct exact_combination c = exact_combination(i);
		if (c.chunk_bytes && c.chunk_bytes < min_chunk_bytes)
			c.chunk_bytes = min_chunk_bytes;
		struct hr_plan_options o = exact_options(model, &c, n_prompts, n_ctx);
		struct run_result      got = {0};
		if (run_prompts(&got, model, &o, prompts, n_prompts, NULL, NULL)) {
			o.reader = c.reader = "pread"; /* no io_uring here */
			assert_int_equal(run_prompts(&got, model, &o, prompts, n_prompts, NULL, NULL), 0);
		}
		n_streamed += got.streamed;
		exact_count_cut(&got.plan, (double)hr_model_info(model)->largest_layer_bytes);
		for (int s = 0; s < n_prompts; s++)
			if (got.hash[s] != want[s]) {
				char text[260];
				exact_describe(text, &c, &got);
				fail_msg("%s: prompt %d of %d has other logits than with everything resident: %s",
				         hr_model_info(model)->path, s + 1, n_prompts, text);
			}
	}
	return n_streamed;
}

#endif
