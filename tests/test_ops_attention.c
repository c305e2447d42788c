/* Attention: against a plain reference in double, and the promise about bits.
 *
 * A world is a set of sequences with fixed random q, k and v for each position.
 * It is computed in passes, each a list of stretches of sequences; however the
 * positions are spread over passes, threads and pages, the outputs must be the
 * same, bit for bit. Whatever must not be read is NaN, or behind a page number
 * that would crash. */
#include "base/mem.h"
#include "kernels/half.h"
#include "ops_testing.h"

enum { MAX_SEQS = 4 };

struct world {
	int32_t         n_heads, n_kv_heads, head_dim;
	int32_t         window;
	float           soft_cap;
	bool            both_ways;
	enum hr_kv_type type;
	int32_t         n_seqs;
	int32_t         length[MAX_SEQS];
	float          *q[MAX_SEQS]; /* [length][n_heads * head_dim] */
	float          *k[MAX_SEQS]; /* [length][n_kv_heads * head_dim], exact in the cache's type */
	float          *v[MAX_SEQS];
};

/* How to compute it. */
struct way {
	const char *isa;
	int         n_threads;
	int32_t     page_tokens;
	int32_t     step;   /* positions of a sequence per pass; 0: all */
	bool        apart;  /* each sequence in passes of its own */
	bool        divide; /* tell the largest context and give a workspace */
};

static float *random_kv(size_t n, float size, enum hr_kv_type type, uint32_t *seed)
{
	float *p = random_new(n, size, seed);
	for (size_t i = 0; i < n && type == HR_KV_F16; i++)
		p[i] = hr__f16_to_f32(hr__f32_to_f16(p[i]));
	return p;
}

static void world_init(struct world *w)
{
	uint32_t seed = 11;
	for (int32_t s = 0; s < w->n_seqs; s++) {
		size_t n = (size_t)w->length[s] * (size_t)w->head_dim, n_kv = (size_t)w->n_kv_heads;
		w->q[s] = random_new(n * (size_t)w->n_heads, 4, &seed);
		w->k[s] = random_kv(n * n_kv, 2, w->type, &seed);
		w->v[s] = random_kv(n * n_kv, 1, w->type, &seed);
	}
}

static void world_release(struct world *w)
{
	for (int32_t s = 0; s < w->n_seqs; s++) {
		size_t n = (size_t)w->length[s] * (size_t)w->head_dim;
		fenced_free(w->q[s], n * (size_t)w->n_heads);
		fenced_free(w->k[s], n * (size_t)w->n_kv_heads);
		fenced_free(w->v[s], n * (size_t)w->n_kv_heads);
	}
}

/* Outputs of all sequences, one after the other. */
static size_t world_out(const struct world *w, int32_t seq)
{
	size_t n = 0;
	for (int32_t s = 0; s < seq; s++)
		n += (size_t)w->length[s] * (size_t)(w->n_heads * w->head_dim);
	return n;
}

static float scale_of(const struct world *w) { return 1.0f / sqrtf((float)w->head_dim); }

/* ---- computing it ---- */

struct run {
	const struct world *w;
	const struct way   *way;
	struct rig          rig;
	struct hr_kv_layer  kv;
	int32_t             max_pages;
	int32_t            *page_table;
	int32_t             next_page, n_pages;
	float              *out;
};

static int32_t *page_of(struct run *r, int32_t seq, int32_t page)
{
	return &r->page_table[seq * r->max_pages + page];
}

/* Pages in a scattered order; each position's page appears when it is reached. */
static void give_pages(struct run *r, int32_t seq, int32_t end)
{
	for (int32_t p = 0; p * r->kv.page_tokens < end; p++) {
		if (*page_of(r, seq, p) == INT32_MIN)
			*page_of(r, seq, p) = (r->next_page++ * 7 + 3) % r->n_pages;
	}
}

/* Pages before every window are taken away. */
static void take_pages(struct run *r, int32_t seq, int32_t begin)
{
	for (int32_t p = 0; r->w->window && (p + 1) * r->kv.page_tokens <= begin - r->w->window + 1; p++)
		*page_of(r, seq, p) = INT32_MIN / 2;
}

struct stretch {
	int32_t seq, begin, end;
};

/* Rows of n floats with `stride`, taken from the sequences. */
static float *collect(float *const from[], const struct stretch *s, int n, size_t row, size_t stride,
                      size_t n_tokens)
{
	float *x = fenced_new(n_tokens * stride), *at = x;
	for (int i = 0; i < n; i++)
		for (int32_t p = s[i].begin; p < s[i].end; p++, at += stride)
			memcpy(at, from[s[i].seq] + (size_t)p * row, row * sizeof(*x));
	return x;
}

static void do_pass(struct run *r, const struct stretch *s, int n)
{
	const struct world        *w = r->w;
	const struct hr_ops_table *t = r->rig.ops->table;
	int32_t                    n_tokens = 0, context = 0;
	for (int i = 0; i < n; i++) {
		n_tokens += s[i].end - s[i].begin;
		context = s[i].end > context ? s[i].end : context;
		give_pages(r, s[i].seq, s[i].end);
		take_pages(r, s[i].seq, s[i].begin);
	}
	int32_t *pos = malloc(2 * (size_t)n_tokens * sizeof(*pos)), *seq = pos + n_tokens, at = 0;
	for (int i = 0; i < n; i++)
		for (int32_t p = s[i].begin; p < s[i].end; p++, at++) {
			pos[at] = p;
			seq[at] = s[i].seq;
		}
	struct hr_batch b = {n_tokens,
	                     w->n_seqs,
	                     pos,
	                     seq,
	                     r->page_table,
	                     r->max_pages,
	                     r->way->divide ? context : 0,
	                     w->both_ways ? w->length : NULL};
	size_t          row = (size_t)(w->n_heads * w->head_dim), kv_row = (size_t)(w->n_kv_heads * w->head_dim);
	size_t          tokens = (size_t)n_tokens, q_stride = row + 3, kv_stride = kv_row + 5;
	float          *q = collect(w->q, s, n, row, q_stride, tokens), *out = fenced_new(tokens * row);
	float          *k = collect(w->k, s, n, kv_row, kv_stride, tokens),
	      *v = collect(w->v, s, n, kv_row, kv_stride, tokens);
	assert_int_equal(
	    t->kv_store(r->rig.ops, r->rig.stream, &r->kv, k, (int64_t)kv_stride, v, (int64_t)kv_stride, &b), 0);
	assert_int_equal(t->attention(r->rig.ops, r->rig.stream, out, q, (int64_t)q_stride, w->n_heads, &r->kv,
	                              scale_of(w), w->soft_cap, w->window, &b),
	                 0);
	rig_finish(&r->rig);
	float *from = out;
	for (int i = 0; i < n; i++) {
		size_t count = (size_t)(s[i].end - s[i].begin) * row;
		memcpy(r->out + world_out(w, s[i].seq) + (size_t)s[i].begin * row, from, count * sizeof(*out));
		from += count;
	}
	fenced_free(q, tokens * q_stride);
	fenced_free(k, tokens * kv_stride);
	fenced_free(v, tokens * kv_stride);
	fenced_free(out, tokens * row);
	free(pos);
}

static void do_passes(struct run *r)
{
	const struct world *w = r->w;
	int32_t             done[MAX_SEQS] = {0};
	for (;;) {
		struct stretch s[MAX_SEQS];
		int            n = 0;
		for (int32_t i = w->n_seqs - 1; i >= 0; i--) {
			int32_t left = w->length[i] - done[i], step = r->way->step + (r->way->step > 1 ? i : 0);
			if (!left || (r->way->apart && n))
				continue;
			s[n++] = (struct stretch){i, done[i], done[i] + (r->way->step && step < left ? step : left)};
			done[i] = s[n - 1].end;
		}
		if (!n)
			return;
		do_pass(r, s, n);
	}
}

/* The outputs; NULL: no such instruction set here. */
static float *compute(const struct world *w, const struct way *way)
{
	struct run r = {.w = w, .way = way};
	if (!rig_open(&r.rig, way->isa, way->n_threads))
		return NULL;
	int32_t longest = 0;
	for (int32_t s = 0; s < w->n_seqs; s++) {
		longest = w->length[s] > longest ? w->length[s] : longest;
		r.n_pages += (w->length[s] + way->page_tokens - 1) / way->page_tokens;
	}
	while (r.n_pages % 7 == 0)
		r.n_pages++;
	r.max_pages = (longest + way->page_tokens - 1) / way->page_tokens + 1;
	r.page_table = malloc((size_t)(w->n_seqs * r.max_pages) * sizeof(*r.page_table));
	for (int32_t i = 0; i < w->n_seqs * r.max_pages; i++)
		r.page_table[i] = INT32_MIN;
	size_t bytes = (size_t)r.n_pages * (size_t)(w->n_kv_heads * way->page_tokens * w->head_dim) *
	               (w->type == HR_KV_F16 ? 2 : 4);
	void *k = malloc(bytes), *v = malloc(bytes);
	memset(k, 0xff, bytes); /* NaN in both types */
	memset(v, 0xff, bytes);
	r.kv = (struct hr_kv_layer){k, v, w->type, w->n_kv_heads, w->head_dim, way->page_tokens};
	if (way->divide) {
		r.rig.ops->workspace_bytes = r.rig.ops->table->workspace_bytes(r.rig.ops, 1, 32, 32);
		r.rig.ops->workspace = malloc(r.rig.ops->workspace_bytes);
		memset(r.rig.ops->workspace, 0xff, r.rig.ops->workspace_bytes);
	}
	r.out = fenced_new(world_out(w, w->n_seqs));
	do_passes(&r);
	free(r.rig.ops->workspace);
	rig_close(&r.rig);
	free(k);
	free(v);
	free(r.page_table);
	return r.out;
}

/* ---- the reference ---- */

static double dot(const float *a, const float *b, int32_t n)
{
	double sum = 0;
	for (int32_t i = 0; i < n; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

static double score(const struct world *w, const float *q, const float *k)
{
	double s = (double)scale_of(w) * dot(q, k, w->head_dim), cap = (double)w->soft_cap;
	return cap > 0 ? cap * tanh(s / cap) : s;
}

static void reference_row(const struct world *w, int32_t seq, int32_t pos, int32_t head, double *out)
{
	int32_t      d = w->head_dim, kv_head = head / (w->n_heads / w->n_kv_heads);
	int32_t      first = w->window && pos >= w->window ? pos - w->window + 1 : 0;
	const float *q = w->q[seq] + (pos * w->n_heads + head) * d;
	int32_t      last = w->both_ways ? w->length[seq] - 1 : pos;
	double       total = 0, largest = -1e300;
	for (int32_t p = first; p <= last; p++)
		largest = fmax(largest, score(w, q, w->k[seq] + (p * w->n_kv_heads + kv_head) * d));
	memset(out, 0, (size_t)d * sizeof(*out));
	for (int32_t p = first; p <= last; p++) {
		int32_t at = (p * w->n_kv_heads + kv_head) * d;
		double  weight = exp(score(w, q, w->k[seq] + at) - largest);
		total += weight;
		for (int32_t i = 0; i < d; i++)
			out[i] += weight * (double)w->v[seq][at + i];
	}
	for (int32_t i = 0; i < d; i++)
		out[i] /= total;
}

/* The first and last positions, and some between. */
static void compare_to_reference(const struct world *w, const float *out)
{
	double *want = malloc((size_t)w->head_dim * sizeof(*want));
	for (int32_t s = 0; s < w->n_seqs; s++) {
		for (int32_t pos = 0; pos < w->length[s]; pos += pos < 4 || pos + 4 > w->length[s] ? 1 : 37) {
			for (int32_t h = 0; h < w->n_heads; h++) {
				reference_row(w, s, pos, h, want);
				size_t at = world_out(w, s) + (size_t)((pos * w->n_heads + h) * w->head_dim);
				for (int32_t i = 0; i < w->head_dim; i++)
					assert_near("out", at + (size_t)i, (double)out[at + (size_t)i], want[i], 3e-6);
			}
		}
	}
	free(want);
}

static void check_world(struct world w, const struct way *ways, size_t n_ways)
{
	world_init(&w);
	size_t n = world_out(&w, w.n_seqs);
	for (size_t i = 0; i < HR_COUNT_OF(test_isas); i++) {
		float *first = NULL;
		for (size_t j = 0; j < n_ways; j++) {
			struct way way = ways[j];
			way.isa = test_isas[i];
			float *out = compute(&w, &way);
			if (!out)
				break;
			if (!first) {
				first = out;
				compare_to_reference(&w, out);
				continue;
			}
			for (size_t e = 0; e < n; e++)
				if (memcmp(first + e, out + e, sizeof(*out)))
					fail_msg("%s, way %zu: out[%zu] is %.9g, was %.9g", way.isa, j, e, (double)out[e],
					         (double)first[e]);
			fenced_free(out, n);
		}
		if (first)
			fenced_free(first, n);
	}
	world_release(&w);
}

/* ---- the worlds ---- */

/* threads, page_tokens, step, apart, divide */
static const struct way all_ways[] = {
    {NULL, 1, 32, 0, false, false},  {NULL, 2, 32, 0, false, true}, {NULL, 3, 16, 0, true, false},
    {NULL, 2, 64, 100, false, true}, {NULL, 3, 24, 33, true, true}, {NULL, 1, 16, 1, false, false},
    {NULL, 2, 16, 1, true, true},    {NULL, 1, 1, 7, false, false},
};

static void grouped_heads(void **state)
{
	(void)state;
	check_world((struct world){6, 2, 32, 0, 0, false, HR_KV_F16, 3, {150, 70, 1}, {0}, {0}, {0}}, all_ways,
	            HR_COUNT_OF(all_ways));
}

static void one_head_each_and_full_precision(void **state)
{
	(void)state;
	check_world((struct world){3, 3, 64, 0, 0, false, HR_KV_F32, 2, {33, 97}, {0}, {0}, {0}}, all_ways,
	            HR_COUNT_OF(all_ways));
}

static void odd_head_dims(void **state)
{
	(void)state;
	const int32_t dims[] = {2, 6, 18, 80, 128};
	for (size_t i = 0; i < HR_COUNT_OF(dims); i++)
		for (int type = 0; type < 2; type++)
			check_world(
			    (struct world){
			        5, 1, dims[i], 0, 0, false, type ? HR_KV_F32 : HR_KV_F16, 2, {40, 35}, {0}, {0}, {0}},
			    all_ways, 4);
}

static void a_group_larger_than_an_item(void **state)
{
	(void)state;
	check_world((struct world){71, 1, 16, 0, 0, false, HR_KV_F16, 1, {40}, {0}, {0}, {0}}, all_ways, 4);
}

static void windows(void **state)
{
	(void)state;
	const int32_t sizes[] = {1, 5, 32, 50, 1000};
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i++)
		check_world((struct world){4, 2, 16, sizes[i], 0, false, HR_KV_F16, 2, {120, 65}, {0}, {0}, {0}},
		            all_ways, HR_COUNT_OF(all_ways));
}

static void soft_caps(void **state)
{
	(void)state;
	check_world((struct world){4, 2, 16, 20, 1.5f, false, HR_KV_F32, 2, {70, 41}, {0}, {0}, {0}}, all_ways,
	            HR_COUNT_OF(all_ways));
}

/* Tokens that see all of their sequence, which must come in one pass; pages of one token are what
 * attention over the keys and values of that very pass looks like. */
static void both_ways(void **state)
{
	(void)state;
	const struct way ways[] = {
	    {NULL, 1, 16, 0, false, false},
	    {NULL, 3, 1, 0, false, false},
	    {NULL, 2, 32, 0, true, false},
	    {NULL, 2, 32, 0, false, true},
	};
	check_world((struct world){4, 4, 32, 0, 0, true, HR_KV_F32, 4, {70, 1, 33, 5}, {0}, {0}, {0}}, ways,
	            HR_COUNT_OF(ways));
	check_world((struct world){2, 1, 8, 0, 0, true, HR_KV_F16, 2, {600, 9}, {0}, {0}, {0}}, ways,
	            HR_COUNT_OF(ways));
}

static void long_context(void **state)
{
	(void)state;
	const struct way ways[] = {
	    {NULL, 1, 32, 0, false, false}, {NULL, 2, 64, 0, false, true},  {NULL, 3, 16, 500, true, true},
	    {NULL, 2, 32, 97, false, true}, {NULL, 2, 48, 300, true, true},
	};
	check_world((struct world){4, 2, 16, 0, 0, false, HR_KV_F16, 2, {1300, 520}, {0}, {0}, {0}}, ways,
	            HR_COUNT_OF(ways));
	check_world((struct world){2, 1, 8, 700, 0, false, HR_KV_F16, 1, {1700}, {0}, {0}, {0}}, ways,
	            HR_COUNT_OF(ways));
}

static void long_context_one_by_one(void **state)
{
	(void)state;
	const struct way ways[] = {
	    {NULL, 1, 32, 0, false, false},
	    {NULL, 2, 16, 1, false, true},
	    {NULL, 2, 16, 1, false, false},
	};
	check_world((struct world){2, 1, 8, 0, 0, false, HR_KV_F16, 1, {1100}, {0}, {0}, {0}}, ways,
	            HR_COUNT_OF(ways));
}

static void broken_shapes_are_refused(void **state)
{
	(void)state;
	struct rig         r;
	float              x[64];
	struct hr_batch    b = {.n_tokens = 1};
	struct hr_kv_layer kv = {x, x, HR_KV_F16, 3, 8, 16};
	assert_true(rig_open(&r, NULL, 1));
	const struct hr_ops_table *t = r.ops->table;
	assert_int_equal(t->attention(r.ops, r.stream, x, x, 64, 4, &kv, 1, 0, 0, &b), HR_EINVAL);
	kv.n_kv_heads = 2;
	assert_int_equal(t->attention(r.ops, r.stream, x, x, 31, 4, &kv, 1, 0, 0, &b), HR_EINVAL);
	assert_int_equal(t->attention(r.ops, r.stream, x, x, 32, 4, &kv, 1, 0, -1, &b), HR_EINVAL);
	assert_int_equal(t->attention(r.ops, r.stream, x, x, 32, 4, &kv, 1, -1, 0, &b), HR_EINVAL);
	b.length = (const int32_t *)x; /* a window and all of the sequence */
	assert_int_equal(t->attention(r.ops, r.stream, x, x, 32, 4, &kv, 1, 0, 4, &b), HR_EINVAL);
	kv.head_dim = 1 << 20;
	assert_int_equal(t->attention(r.ops, r.stream, x, x, 1 << 24, 4, &kv, 1, 0, 0, &b), HR_EINVAL);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grouped_heads),
	    cmocka_unit_test(one_head_each_and_full_precision),
	    cmocka_unit_test(odd_head_dims),
	    cmocka_unit_test(a_group_larger_than_an_item),
	    cmocka_unit_test(windows),
	    cmocka_unit_test(soft_caps),
	    cmocka_unit_test(both_ways),
	    cmocka_unit_test(long_context),
	    cmocka_unit_test(long_context_one_by_one),
	    cmocka_unit_test(broken_shapes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
