/* CUDA's attention against the portable CPU one (tolerance 5e-6: values are in -1..1), and the
 * promise about bits: on one of its two ways, an output depends on its own sequence only.
 *
 * A world is a set of sequences with fixed random q, k and v for each position, computed in
 * passes of `step` positions of each sequence, together or one sequence after the other. Up to
 * 8 tokens a sequence and pass take one way (split), more the other (tiled). Whatever must not be
 * read is NaN, or behind a page number that would crash. */
#include "base/mem.h"
#include "ops_cuda_testing.h"

enum { MAX_SEQS = 3 };

struct world {
	int32_t         n_heads, n_kv_heads, head_dim, window;
	float           soft_cap;
	enum hr_kv_type type;
	bool            both_ways; /* every token sees all of its sequence */
	int32_t         n_seqs, length[MAX_SEQS];
	float          *q[MAX_SEQS], *k[MAX_SEQS], *v[MAX_SEQS];
};

struct way {
	int32_t page_tokens, step;
	bool    apart;
};

/* One of the two implementations with its cache. Its memory is the device's. */
struct side {
	struct gpu        *gpu; /* NULL: the CPU */
	struct rig        *cpu;
	struct hr_kv_layer kv;
	float             *out; /* host: all sequences' outputs, one after the other */
};

struct run {
	const struct world *w;
	const struct way   *way;
	int32_t             max_pages, n_pages, next_page;
	int32_t            *table;
};

static size_t row_of(const struct world *w) { return (size_t)(w->n_heads * w->head_dim); }
static size_t kv_row_of(const struct world *w) { return (size_t)(w->n_kv_heads * w->head_dim); }

static size_t out_at(const struct world *w, int32_t seq)
{
	size_t n = 0;
	for (int32_t s = 0; s < seq; s++)
		n += (size_t)w->length[s] * row_of(w);
	return n;
}

static void world_init(struct world *w)
{
	uint32_t seed = 11;
	for (int32_t s = 0; s < w->n_seqs; s++) {
		w->q[s] = random_new((size_t)w->length[s] * row_of(w), 3, &seed);
		w->k[s] = random_new((size_t)w->length[s] * kv_row_of(w), 1, &seed);
		w->v[s] = random_new((size_t)w->length[s] * kv_row_of(w), 1, &seed);
	}
}

static void world_release(struct world *w)
{
	for (int32_t s = 0; s < w->n_seqs; s++) {
		fenced_free(w->q[s], (size_t)w->length[s] * row_of(w));
		fenced_free(w->k[s], (size_t)w->length[s] * kv_row_of(w));
		fenced_free(w->v[s], (size_t)w->length[s] * kv_row_of(w));
	}
}

/* Pages in a scattered order, as positions are reached; those before every window go away. */
static void turn_pages(struct run *r, int32_t seq, int32_t begin, int32_t end)
{
	int32_t  size = r->way->page_tokens, window = r->w->window;
	int32_t *pages = r->table + seq * r->max_pages;
	for (int32_t p = 0; p * size < end; p++)
		if (pages[p] == INT32_MIN)
			pages[p] = (r->next_page++ * 7 + 3) % r->n_pages;
	for (int32_t p = 0; window && (p + 1) * size <= begin - window + 1; p++)
		pages[p] = INT32_MIN / 2;
}

struct stretch {
	int32_t seq, begin, end;
};

static float *collect(float *const from[], const struct stretch *s, int n, size_t row, size_t stride,
                      size_t n_tokens)
{
	float *x = malloc(n_tokens * stride * sizeof(*x)), *at = x;
	memset(x, 0xff, n_tokens * stride * sizeof(*x));
	for (int i = 0; i < n; i++)
		for (int32_t p = s[i].begin; p < s[i].end; p++, at += stride)
			memcpy(at, from[s[i].seq] + (size_t)p * row, row * sizeof(*x));
	return x;
}

/* kv_store and attention of one pass; out[n_tokens][row] on the host. */
static void compute_on(const struct side *side, const struct world *w, const struct hr_batch *b,
                       const float *q, size_t q_stride, const float *k, const float *v, size_t kv_stride,
                       float *out)
{
	struct hr_ops             *ops = side->gpu ? side->gpu->ops : side->cpu->ops;
	struct hr_stream          *stream = side->gpu ? side->gpu->stream : side->cpu->stream;
	const struct hr_ops_table *t = ops->table;
	size_t                     n = (size_t)b->n_tokens;
	struct hr_batch            batch = *b;
	float                     *y = out;
	if (side->gpu) {
		struct gpu *g = side->gpu;
		batch.pos = gpu_put(g, b->pos, n * 4, 0);
		batch.seq = gpu_put(g, b->seq, n * 4, 0);
		batch.page_table = gpu_put(g, b->page_table, (size_t)(b->n_seqs * b->max_pages) * 4, 0);
		batch.length = b->length ? gpu_put(g, b->length, (size_t)b->n_seqs * 4, 0) : NULL;
		q = gpu_floats(g, q, n * q_stride);
		k = gpu_floats(g, k, n * kv_stride);
		v = gpu_floats(g, v, n * kv_stride);
		y = gpu_new(g, n * row_of(w) * 4, 0);
	}
	assert_int_equal(
	    t->kv_store(ops, stream, &side->kv, k, (int64_t)kv_stride, v, (int64_t)kv_stride, &batch), 0);
	assert_int_equal(t->attention(ops, stream, y, q, (int64_t)q_stride, w->n_heads, &side->kv,
	                              1 / sqrtf((float)w->head_dim), w->soft_cap, w->window, &batch),
	                 0);
	if (side->gpu) {
		gpu_copy(side->gpu, out, y, n * row_of(w) * 4);
		gpu_release(side->gpu, 3); /* workspace, k, v */
	} else {
		rig_finish(side->cpu);
	}
}

static void do_pass(struct run *r, const struct stretch *s, int n, const struct side *side)
{
	const struct world *w = r->w;
	int32_t             n_tokens = 0, context = 0, at = 0;
	for (int i = 0; i < n; i++) {
		n_tokens += s[i].end - s[i].begin;
		context = s[i].end > context ? s[i].end : context;
		turn_pages(r, s[i].seq, s[i].begin, s[i].end);
	}
	int32_t *pos = malloc(2 * (size_t)n_tokens * sizeof(*pos)), *seq = pos + n_tokens;
	for (int i = 0; i < n; i++)
		for (int32_t p = s[i].begin; p < s[i].end; p++, at++) {
			pos[at] = p;
			seq[at] = s[i].seq;
		}
	struct hr_batch b = {n_tokens, w->n_seqs,    pos,     seq,
	                     r->table, r->max_pages, context, w->both_ways ? w->length : NULL};
	size_t tokens = (size_t)n_tokens, row = row_of(w), q_stride = row + 3, kv_stride = kv_row_of(w) + 5;
	float *q = collect(w->q, s, n, row, q_stride, tokens),
	      *k = collect(w->k, s, n, kv_row_of(w), kv_stride, tokens);
	float *v = collect(w->v, s, n, kv_row_of(w), kv_stride, tokens),
	      *out = malloc(tokens * row * sizeof(*out)), *from = out;
	compute_on(side, w, &b, q, q_stride, k, v, kv_stride, out);
	for (int i = 0; i < n; i++) {
		size_t count = (size_t)(s[i].end - s[i].begin) * row;
		memcpy(side->out + out_at(w, s[i].seq) + (size_t)s[i].begin * row, from, count * sizeof(*out));
		from += count;
	}
	free(q);
	free(k);
	free(v);
	free(out);
	free(pos);
}

static void do_passes(struct run *r, const struct side *side)
{
	int32_t done[MAX_SEQS] = {0};
	for (;;) {
		struct stretch s[MAX_SEQS];
		int            n = 0;
		for (int32_t i = r->w->n_seqs - 1; i >= 0; i--) {
			int32_t left = r->w->length[i] - done[i], step = r->way->step;
			if (!left || (r->way->apart && n))
				continue;
			s[n++] = (struct stretch){i, done[i], done[i] + (step && step < left ? step : left)};
			done[i] = s[n - 1].end;
		}
		if (!n)
			return;
		do_pass(r, s, n, side);
	}
}

/* All outputs, free() them. */
static float *compute(const struct world *w, const struct way *way, bool on_gpu)
{
	struct run  r = {.w = w, .way = way};
	struct gpu  g;
	struct rig  cpu;
	struct side side = {on_gpu ? &g : NULL, &cpu, {0}, malloc(out_at(w, w->n_seqs) * sizeof(float))};
	for (int32_t s = 0; s < w->n_seqs; s++) {
		int32_t pages = (w->length[s] + way->page_tokens - 1) / way->page_tokens;
		r.max_pages = pages + 1 > r.max_pages ? pages + 1 : r.max_pages;
		r.n_pages += pages;
	}
	r.n_pages += r.n_pages % 7 == 0;
	r.table = malloc((size_t)(w->n_seqs * r.max_pages) * sizeof(*r.table));
	for (int32_t i = 0; i < w->n_seqs * r.max_pages; i++)
		r.table[i] = INT32_MIN;
	size_t bytes = (size_t)(r.n_pages * way->page_tokens) * kv_row_of(w) * (w->type == HR_KV_F16 ? 2 : 4);
	side.kv = (struct hr_kv_layer){NULL, NULL, w->type, w->n_kv_heads, w->head_dim, way->page_tokens};
	if (on_gpu) {
		gpu_open(&g, 8, 64, w->n_heads * w->head_dim + 64);
		side.kv.k = gpu_new(&g, bytes, 0);
		side.kv.v = gpu_new(&g, bytes, 0);
	} else {
		assert_true(rig_open(&cpu, "portable", 1));
		side.kv.k = malloc(bytes);
		side.kv.v = malloc(bytes);
		memset(side.kv.k, 0xff, bytes);
		memset(side.kv.v, 0xff, bytes);
	}
	do_passes(&r, &side);
	if (on_gpu) {
		gpu_close(&g);
	} else {
		rig_close(&cpu);
		free(side.kv.k);
		free(side.kv.v);
	}
	free(r.table);
	return side.out;
}

/* Sanitizers take their time: every third of a list will do. */
static size_t stride_of_lists(void) { return getenv("HR_TEST_QUICK") ? 3 : 1; }

/* Ways of one kind give the same bits; all are near the CPU. */
static void check_world(struct world w, const struct way *ways, int n_ways)
{
	const struct way whole = {32, 0, false};
	world_init(&w);
	size_t n = out_at(&w, w.n_seqs);
	float *want = compute(&w, &whole, false), *first[2] = {NULL, NULL};
	for (int i = 0; i<n_ways; i += n_ways> 2 && stride_of_lists() > 1 ? 2 : 1) {
		int    kind = ways[i].step && ways[i].step <= 8;
		float *out = compute(&w, &ways[i], true);
		for (size_t e = 0; e < n; e++) {
			assert_near("out", e, (double)out[e], (double)want[e], 5e-6);
			if (first[kind] && memcmp(&out[e], &first[kind][e], sizeof(*out)))
				fail_msg("way %d: out[%zu] is %.9g, was %.9g", i, e, (double)out[e], (double)first[kind][e]);
		}
		if (first[kind])
			free(out);
		else
			first[kind] = out;
	}
	free(first[0]);
	free(first[1]);
	free(want);
	world_release(&w);
}

static const struct way all_ways[] = {
    {32, 0, true}, {16, 0, false}, {5, 30, false}, {32, 1, true}, {16, 1, false}, {7, 3, false},
};
enum { N_WAYS = 6 };

static void grouped_heads(void **state)
{
	(void)state;
	check_world((struct world){6, 2, 32, 0, 0, HR_KV_F16, false, 3, {90, 50, 30}, {0}, {0}, {0}}, all_ways,
	            N_WAYS);
	check_world((struct world){7, 1, 64, 0, 0, HR_KV_F16, false, 1, {40}, {0}, {0}, {0}}, all_ways, N_WAYS);
}

static void one_head_each_and_full_precision(void **state)
{
	(void)state;
	check_world((struct world){2, 2, 64, 0, 0, HR_KV_F32, false, 2, {33, 60}, {0}, {0}, {0}}, all_ways,
	            N_WAYS);
}

static void odd_head_dims(void **state)
{
	(void)state;
	const int32_t dims[] = {2, 6, 17, 80, 128, 160, 256};
	for (size_t i = 0; i < HR_COUNT_OF(dims); i += stride_of_lists())
		check_world(
		    (struct world){
		        3, 1, dims[i], 0, 0, i % 2 ? HR_KV_F32 : HR_KV_F16, false, 2, {60, 20}, {0}, {0}, {0}},
		    all_ways + 1, 4);
}

static void a_group_larger_than_a_block(void **state)
{
	(void)state;
	check_world((struct world){35, 1, 16, 0, 0, HR_KV_F16, false, 1, {20}, {0}, {0}, {0}}, all_ways, N_WAYS);
}

static void windows_and_caps(void **state)
{
	(void)state;
	const int32_t sizes[] = {1, 5, 32, 1000};
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i += stride_of_lists())
		check_world(
		    (struct world){
		        4, 2, 16, sizes[i], i ? 0.5f * (float)i : 0, HR_KV_F16, false, 2, {80, 50}, {0}, {0}, {0}},
		    all_ways, N_WAYS);
}

static void tokens_that_see_all(void **state)
{
	(void)state;
	const struct way ways[] = {{16, 0, true}, {8, 0, false}};
	check_world((struct world){4, 2, 16, 0, 0, HR_KV_F16, true, 2, {70, 33}, {0}, {0}, {0}}, ways, 2);
	check_world((struct world){4, 2, 16, 0, 0, HR_KV_F16, true, 2, {5, 3}, {0}, {0}, {0}}, ways, 2);
}

/* More chunks than one, which must not be seen. */
static void long_context(void **state)
{
	(void)state;
	const struct way ways[] = {{32, 100, false}, {32, 77, true}, {64, 8, false}, {32, 8, true}};
	if (stride_of_lists() == 1)
		check_world((struct world){2, 1, 8, 0, 0, HR_KV_F16, false, 2, {530, 300}, {0}, {0}, {0}}, ways, 4);
	check_world((struct world){2, 1, 8, 270, 0, HR_KV_F16, false, 1, {600}, {0}, {0}, {0}}, ways, 4);
}

static void broken_shapes_are_refused(void **state)
{
	(void)state;
	struct gpu g;
	gpu_open(&g, 8, 64, 64);
	float                     *x = gpu_new(&g, 4096, 0);
	int32_t                    length = 1;
	struct hr_batch            b = {.n_tokens = 1}, all = {.n_tokens = 1, .length = &length};
	struct hr_kv_layer         kv = {x, x, HR_KV_F16, 3, 8, 16};
	const struct hr_ops_table *t = g.ops->table;
	assert_int_equal(t->attention(g.ops, g.stream, x, x, 64, 4, &kv, 1, 0, 0, &b), HR_EINVAL);
	kv.n_kv_heads = 2;
	assert_int_equal(t->attention(g.ops, g.stream, x, x, 31, 4, &kv, 1, 0, 0, &b), HR_EINVAL);
	assert_int_equal(t->attention(g.ops, g.stream, x, x, 32, 4, &kv, 1, 0, -1, &b), HR_EINVAL);
	assert_int_equal(t->attention(g.ops, g.stream, x, x, 32, 4, &kv, 1, -1, 0, &b), HR_EINVAL);
	assert_int_equal(t->attention(g.ops, g.stream, x, x, 32, 4, &kv, 1, 0, 7, &all), HR_EINVAL);
	kv.head_dim = 257;
	assert_int_equal(t->attention(g.ops, g.stream, x, x, 1 << 20, 4, &kv, 1, 0, 0, &b), HR_EINVAL);
	gpu_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grouped_heads),    cmocka_unit_test(one_head_each_and_full_precision),
	    cmocka_unit_test(odd_head_dims),    cmocka_unit_test(a_group_larger_than_a_block),
	    cmocka_unit_test(windows_and_caps), cmocka_unit_test(tokens_that_see_all),
	    cmocka_unit_test(long_context),     cmocka_unit_test(broken_shapes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
