/* The CUDA operations that work row by row or element by element, against the portable
 * CPU ones: every type, odd shapes. Tolerances: 1e-6 relative where sums are made (norms),
 * 5e-7 for functions; nothing at all for copies, sums of two and decoders. */
#include "base/mem.h"
#include "kernels/half.h"
#include "ops_cuda_testing.h"

enum { N_ROWS = 5, SIZES = 8 };
static const int32_t      sizes[SIZES] = {2, 6, 30, 64, 100, 576, 1000, 4100};
static const enum hr_type floats[] = {HR_TYPE_F32, HR_TYPE_F16, HR_TYPE_BF16};

struct pair {
	struct gpu                 g;
	struct rig                 cpu;
	const struct hr_ops_table *gpu_ops, *cpu_ops;
};

static void pair_open(struct pair *p)
{
	gpu_open(&p->g, 8, 64, 4100);
	assert_true(rig_open(&p->cpu, "portable", 1));
	p->gpu_ops = p->g.ops->table;
	p->cpu_ops = p->cpu.ops->table;
}

static void pair_close(struct pair *p)
{
	rig_close(&p->cpu);
	gpu_close(&p->g);
}

/* Device y against host y, then y's memory is given up. */
static void compare(struct pair *p, const char *what, const float *gpu_y, float *y, size_t n,
                    double tolerance)
{
	rig_finish(&p->cpu);
	float *got = gpu_get(&p->g, gpu_y, n * sizeof(*got));
	for (size_t i = 0; i < n; i++)
		if (y[i] != got[i] && (!isnan(y[i]) || !isnan(got[i])))
			assert_near(what, i, (double)got[i], (double)y[i], tolerance * (fabs((double)y[i]) + 1e-3));
	free(got);
}

static void norms(void **state)
{
	(void)state;
	struct pair p;
	pair_open(&p);
	for (int s = 0; s < SIZES; s++)
		for (size_t type = 0; type < HR_COUNT_OF(floats); type++) {
			uint32_t seed = 1;
			size_t   cols = (size_t)sizes[s], n = N_ROWS * cols,
			       bytes = cols * (floats[type] == HR_TYPE_F32 ? 4 : 2);
			float *x = random_new(n, 3, &seed), *y = fenced_new(n);
			void  *w = random_bytes(floats[type], cols, NULL, &seed),
			     *b = random_bytes(floats[type], cols, NULL, &seed);
			struct hr_weight weight = {w, floats[type], 1, sizes[s], 0, {0}},
			                 bias = {b, floats[type], 1, sizes[s], 0, {0}};
			struct hr_weight none = {NULL, HR_TYPE_F32, 0, 0, 0, {0}}, gpu_weight = weight, gpu_bias = bias;
			gpu_weight.data = gpu_put(&p.g, w, bytes, type);
			gpu_bias.data = gpu_put(&p.g, b, bytes, 3);
			float *gx = gpu_floats(&p.g, x, n), *gy = gpu_new(&p.g, n * 4, 0);
			for (int with_bias = 0; with_bias < 2; with_bias++) {
				assert_int_equal(p.gpu_ops->layer_norm(p.g.ops, p.g.stream, gy, gx, &gpu_weight,
				                                       with_bias ? &gpu_bias : &none, 1e-5f, N_ROWS),
				                 0);
				p.cpu_ops->layer_norm(p.cpu.ops, p.cpu.stream, y, x, &weight, with_bias ? &bias : &none,
				                      1e-5f, N_ROWS);
				rig_finish(&p.cpu);
				float *got = gpu_get(&p.g, gy, n * sizeof(*got));
				for (size_t i = 0; i < n; i++) /* what is subtracted is as large as x */
					assert_near("layer_norm", i, (double)got[i], (double)y[i], 4e-6);
				free(got);
			}
			assert_int_equal(
			    p.gpu_ops->rms_norm(p.g.ops, p.g.stream, gy, gx, &gpu_weight, (float)type, 1e-5f, N_ROWS), 0);
			p.cpu_ops->rms_norm(p.cpu.ops, p.cpu.stream, y, x, &weight, (float)type, 1e-5f, N_ROWS);
			compare(&p, "rms_norm", gy, y, n, 1e-6);
			/* in place and a row at a time: the same bits */
			float *before = gpu_get(&p.g, gy, n * sizeof(*before));
			for (int r = 0; r < N_ROWS; r++)
				p.gpu_ops->rms_norm(p.g.ops, p.g.stream, gx + r * sizes[s], gx + r * sizes[s], &gpu_weight,
				                    (float)type, 1e-5f, 1);
			float *after = gpu_get(&p.g, gx, n * sizeof(*after));
			assert_memory_equal(before, after, n * sizeof(*after));
			free(before);
			free(after);
			free(w);
			free(b);
			fenced_free(x, n);
			fenced_free(y, n);
			gpu_release(&p.g, 1);
		}
	pair_close(&p);
}

static void functions(void **state)
{
	(void)state;
	enum { N = 1003 };
	struct pair p;
	uint32_t    seed = 2;
	pair_open(&p);
	float *x = random_new(N, 20, &seed), *up = random_new(N, 2, &seed), *y = fenced_new(N);
	x[0] = 0, x[1] = -88, x[2] = 1000, x[3] = -1000, x[4] = NAN, x[5] = INFINITY;
	float *gx = gpu_floats(&p.g, x, N), *gup = gpu_floats(&p.g, up, N), *gy = gpu_new(&p.g, N * 4, 0);
	for (int act = 0; act < HR_ACT_COUNT; act++)
		for (int gated = 0; gated < 2; gated++) {
			enum hr_activation a = (enum hr_activation)act;
			assert_int_equal(p.gpu_ops->activate(p.g.ops, p.g.stream, a, gy, gx, gated ? gup : NULL, N), 0);
			p.cpu_ops->activate(p.cpu.ops, p.cpu.stream, a, y, x, gated ? up : NULL, N);
			compare(&p, "activate", gy, y, N, act == HR_ACT_GELU || act == HR_ACT_GELU_TANH ? 2e-6 : 1e-6);
		}
	assert_int_equal(p.gpu_ops->activate(p.g.ops, p.g.stream, HR_ACT_COUNT, gy, gx, NULL, N), HR_EINVAL);
	gpu_copy(&p.g, gy, y, N * sizeof(*y));
	assert_int_equal(p.gpu_ops->add(p.g.ops, p.g.stream, gy, gup, N), 0);
	p.cpu_ops->add(p.cpu.ops, p.cpu.stream, y, up, N);
	compare(&p, "add", gy, y, N, 0);
	assert_int_equal(p.gpu_ops->soft_cap(p.g.ops, p.g.stream, gx, 7, N), 0);
	p.cpu_ops->soft_cap(p.cpu.ops, p.cpu.stream, x, 7, N);
	compare(&p, "soft_cap", gx, x, N, 1e-6);
	assert_int_equal(p.gpu_ops->soft_cap(p.g.ops, p.g.stream, gx, 0, N), HR_EINVAL);
	fenced_free(x, N);
	fenced_free(up, N);
	fenced_free(y, N);
	pair_close(&p);
}

static void gather(void **state)
{
	(void)state;
	enum { ROWS = 9, COLS = 101 };
	const int32_t rows[] = {8, 0, 3, 3, 7};
	uint32_t      seed = 4;
	struct pair   p;
	pair_open(&p);
	float   *x = random_new(ROWS * COLS, 1, &seed), *gx = gpu_floats(&p.g, x, ROWS * COLS);
	int32_t *grows = gpu_put(&p.g, rows, sizeof(rows), 0);
	float   *gy = gpu_new(&p.g, HR_COUNT_OF(rows) * COLS * 4, 0);
	assert_int_equal(p.gpu_ops->gather_rows(p.g.ops, p.g.stream, gy, gx, grows, HR_COUNT_OF(rows), COLS), 0);
	float *y = gpu_get(&p.g, gy, HR_COUNT_OF(rows) * COLS * 4);
	for (size_t i = 0; i < HR_COUNT_OF(rows); i++)
		assert_memory_equal(y + i * COLS, x + rows[i] * COLS, COLS * sizeof(*y));
	free(y);
	fenced_free(x, ROWS * COLS);
	pair_close(&p);
}

/* Is a before b, among the numbers of a row? */
static bool is_before(const float *x, int32_t a, int32_t b)
{
	bool a_is = !isnan(x[a]), b_is = !isnan(x[b]);
	if (a_is != b_is)
		return a_is;
	return a_is && x[a] != x[b] ? x[a] > x[b] : a < b;
}

static void top_finds_the_largest(void **state)
{
	(void)state;
	enum { ROWS = 3 };
	static const int32_t cols[] = {1, 33, 4096, 4097, 70000}, ks[] = {1, 1, 40, 64, 64};
	static const float   odd[] = {INFINITY, -INFINITY, NAN, -0.0f, 0.0f, 1e-42f, -1e-42f};
	uint32_t             seed = 9;
	struct gpu           g;
	gpu_open(&g, 1, 70000, 64);
	for (int c = 0; c < 5; c++) {
		size_t         n = (size_t)cols[c], k = (size_t)ks[c];
		float         *x = random_new(ROWS * n, 1, &seed);
		struct hr_top *gpu_top = gpu_new(&g, ROWS * k * sizeof *gpu_top, 0), *top;
		for (size_t i = 0; i < ROWS * n; i++) /* many equal ones, odd ones, and a row of hardly any number */
			x[i] = i >= 2 * n ? (i % 50 ? NAN : 1) : i % 11 ? (float)(int)(x[i] * 64) : odd[i % 7];
		int rc =
		    g.ops->table->top(g.ops, g.stream, gpu_top, gpu_floats(&g, x, ROWS * n), ROWS, cols[c], ks[c]);
		assert_int_equal(rc, 0);
		top = gpu_get(&g, gpu_top, ROWS * k * sizeof *top);
		for (size_t row = 0; row < ROWS; row++) {
			const float *of = x + row * n;
			bool         taken[70000] = {false};
			for (size_t i = 0; i < k; i++) {
				int32_t best = -1;
				for (int32_t j = 0; j < cols[c]; j++)
					if (!taken[j] && (best < 0 || is_before(of, j, best)))
						best = j;
				taken[best] = true;
				assert_int_equal(top[row * k + i].id, best);
				assert_true(top[row * k + i].value == of[best] ||
				            (isnan(top[row * k + i].value) && isnan(of[best])));
			}
		}
		free(top);
		fenced_free(x, ROWS * n);
		gpu_release(&g, 1);
	}
	assert_int_equal(g.ops->table->top(g.ops, g.stream, NULL, NULL, 1, 8, 9), HR_EINVAL);
	assert_int_equal(g.ops->table->top(g.ops, g.stream, NULL, NULL, 1, 100, HR_TOP_MAX + 1), HR_EINVAL);
	gpu_close(&g);
}

static void embed_decodes_every_type(void **state)
{
	(void)state;
	enum { COLS = 512, ROWS = 11 };
	const int32_t ids[] = {10, 0, 3, 3, 7};
	uint32_t      seed = 5;
	for (int type = 0; type < HR_TYPE_COUNT; type++) {
		struct pair p;
		float      *values;
		pair_open(&p);
		const struct hr_type_info *info = hr_type_info((enum hr_type)type);
		void                      *data = random_bytes((enum hr_type)type, ROWS * COLS, &values, &seed);
		size_t                     bytes = ROWS * hr_type_row_bytes(info, COLS);
		struct hr_weight           at_host = {data, (enum hr_type)type, ROWS, COLS, 0, {0}};
		struct hr_weight           table = {
		              gpu_put(&p.g, data, bytes, (size_t)type % 4), (enum hr_type)type, ROWS, COLS, 0, {0}};
		int32_t *gids = gpu_put(&p.g, ids, sizeof(ids), 0);
		uint8_t  scales[2 * 2 * COLS / 32];
		if (type == HR_TYPE_F8_E4M3) { /* a bf16 for 16 x 32 of them */
			at_host.scale = table.scale = random_sharings[5];
			random_scales(HR_TYPE_BF16, scales, sizeof(scales) / 2, &seed);
			at_host.scale.data = scales;
			table.scale.data = gpu_put(&p.g, scales, sizeof(scales), 1);
			weight_to_f32(&at_host, values);
		}
		float *gy = gpu_new(&p.g, HR_COUNT_OF(ids) * COLS * 4, 0);
		assert_int_equal(p.gpu_ops->embed(p.g.ops, p.g.stream, gy, &table, 3, gids, HR_COUNT_OF(ids)), 0);
		float *y = gpu_get(&p.g, gy, HR_COUNT_OF(ids) * COLS * 4);
		for (size_t i = 0; i < HR_COUNT_OF(ids); i++)
			for (size_t c = 0; c < COLS; c++)
				assert_true(y[i * COLS + c] == 3 * values[(size_t)ids[i] * COLS + c]);
		free(y);
		free(values);
		free(data);
		pair_close(&p);
	}
}

static void rope_rotates(void **state)
{
	(void)state;
	enum { TOKENS = 5, HEADS = 3, DIM = 66, STRIDE = HEADS * DIM + 7, N = TOKENS * STRIDE };
	const int32_t pos[TOKENS] = {0, 1, 77, 2047, 100000};
	for (int style = 0; style < 2; style++)
		for (int32_t n_freqs = 0; n_freqs <= DIM / 2; n_freqs += 11) {
			uint32_t    seed = 6;
			struct pair p;
			float       inv_freq[DIM], magnitude = n_freqs == 22 ? 1.19f : 1;
			pair_open(&p);
			for (int i = 0; i < DIM; i++)
				inv_freq[i] = powf(10000, -(float)i / 33);
			float          *x = random_new(N, 1, &seed), *gx = gpu_floats(&p.g, x, N);
			float          *gf = gpu_floats(&p.g, inv_freq, DIM);
			struct hr_batch b = {.n_tokens = TOKENS, .pos = pos}, gb = {.n_tokens = TOKENS};
			gb.pos = gpu_put(&p.g, pos, sizeof(pos), 0);
			assert_int_equal(p.gpu_ops->rope(p.g.ops, p.g.stream, gx, STRIDE, HEADS, DIM,
			                                 (enum hr_rope_style)style, gf, n_freqs, magnitude, &gb),
			                 0);
			p.cpu_ops->rope(p.cpu.ops, p.cpu.stream, x, STRIDE, HEADS, DIM, (enum hr_rope_style)style,
			                inv_freq, n_freqs, magnitude, &b);
			rig_finish(&p.cpu);
			float *got = gpu_get(&p.g, gx, N * sizeof(*got));
			for (size_t i = 0; i < N; i++)
				assert_near("rope", i, (double)got[i], (double)x[i], i % STRIDE < HEADS * DIM ? 6e-7 : 0);
			free(got);
			fenced_free(x, N);
			pair_close(&p);
		}
}

static void kv_store_finds_the_page(void **state)
{
	(void)state;
	enum { TOKENS = 9, HEADS = 2, DIM = 6, PAGES = 7, PAGE = 3, COLS = HEADS * DIM, STRIDE = COLS + 5 };
	const int32_t pos[TOKENS] = {0, 1, 2, 3, 4, 5, 6, 1, 2}, seq[TOKENS] = {1, 1, 1, 1, 1, 1, 1, 0, 0};
	const int32_t table[] = {5, -1, -1, 2, 6, 0};
	for (int type = 0; type < 2; type++) {
		uint32_t    seed = 7;
		struct pair p;
		pair_open(&p);
		size_t bytes = PAGES * PAGE * COLS * (type == HR_KV_F16 ? 2 : 4);
		float *k = random_new(TOKENS * STRIDE, 10, &seed), *v = random_new(TOKENS * STRIDE, 1e-5f, &seed);
		void  *kp = malloc(bytes), *vp = malloc(bytes);
		memset(kp, 0xff, bytes);
		memset(vp, 0xff, bytes);
		struct hr_kv_layer kv = {kp, vp, (enum hr_kv_type)type, HEADS, DIM, PAGE}, gkv = kv;
		struct hr_batch    b = {TOKENS, 2, pos, seq, table, 3, 7, NULL}, gb = b;
		gkv.k = gpu_new(&p.g, bytes, 0);
		gkv.v = gpu_new(&p.g, bytes, 0);
		gb.pos = gpu_put(&p.g, pos, sizeof(pos), 0);
		gb.seq = gpu_put(&p.g, seq, sizeof(seq), 0);
		gb.page_table = gpu_put(&p.g, table, sizeof(table), 0);
		float *gk = gpu_floats(&p.g, k, TOKENS * STRIDE), *gv = gpu_floats(&p.g, v, TOKENS * STRIDE);
		assert_int_equal(p.gpu_ops->kv_store(p.g.ops, p.g.stream, &gkv, gk, STRIDE, gv, STRIDE, &gb), 0);
		p.cpu_ops->kv_store(p.cpu.ops, p.cpu.stream, &kv, k, STRIDE, v, STRIDE, &b);
		rig_finish(&p.cpu);
		void *got_k = gpu_get(&p.g, gkv.k, bytes), *got_v = gpu_get(&p.g, gkv.v, bytes);
		assert_memory_equal(got_k, kp, bytes);
		assert_memory_equal(got_v, vp, bytes);
		free(got_k);
		free(got_v);
		free(kp);
		free(vp);
		fenced_free(k, TOKENS * STRIDE);
		fenced_free(v, TOKENS * STRIDE);
		pair_close(&p);
	}
}

static void broken_shapes_are_refused(void **state)
{
	(void)state;
	struct gpu g;
	gpu_open(&g, 8, 64, 64);
	const struct hr_ops_table *t = g.ops->table;
	float                     *x = gpu_new(&g, 256, 0);
	struct hr_weight quantised = {x, HR_TYPE_Q8_0, 1, 32, 0, {0}}, ragged = {x, HR_TYPE_Q8_0, 1, 33, 0, {0}};
	struct hr_batch  batch = {.n_tokens = 1};
	assert_string_equal(t->name, "cuda");
	assert_int_equal(t->rms_norm(g.ops, g.stream, x, x, &quantised, 0, 0, 1), HR_EUNSUPPORTED);
	assert_int_equal(t->embed(g.ops, g.stream, x, &ragged, 1, NULL, 1), HR_EINVAL);
	assert_int_equal(t->gather_rows(g.ops, g.stream, x, x, NULL, 1, 0), HR_EINVAL);
	assert_int_equal(t->add(g.ops, g.stream, x, x, -1), HR_EINVAL);
	assert_int_equal(t->rope(g.ops, g.stream, x, 8, 1, 8, HR_ROPE_NORM, x, 5, 1, &batch), HR_EINVAL);
	assert_int_equal(t->rope(g.ops, g.stream, x, 7, 1, 8, HR_ROPE_NORM, x, 4, 1, &batch), HR_EINVAL);
	gpu_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(norms),
	    cmocka_unit_test(functions),
	    cmocka_unit_test(gather),
	    cmocka_unit_test(top_finds_the_largest),
	    cmocka_unit_test(embed_decodes_every_type),
	    cmocka_unit_test(rope_rotates),
	    cmocka_unit_test(kv_store_finds_the_page),
	    cmocka_unit_test(broken_shapes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
