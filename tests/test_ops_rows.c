/* The operations of a pass that work row by row or element by element: each
 * against a plain reference in double, under every instruction set, in odd
 * shapes, with any number of threads giving the same bits. */
#include "base/mem.h"
#include "kernels/half.h"
#include "ops_testing.h"

static const int32_t odd_sizes[] = {2, 6, 16, 30, 64, 66, 100, 576, 1000};

/* Run `test` under each instruction set and 1 to 3 threads; results of more
 * threads must equal the first. */
static void for_all(void (*test)(struct rig *r, int32_t cols, float *out, size_t n_out), size_t n_rows)
{
	for (size_t i = 0; i < HR_COUNT_OF(test_isas); i++) {
		for (size_t s = 0; s < HR_COUNT_OF(odd_sizes); s++) {
			size_t n = n_rows * (size_t)odd_sizes[s];
			float *first = NULL;
			for (int n_threads = 1; n_threads <= 3; n_threads++) {
				struct rig r;
				if (!rig_open(&r, test_isas[i], n_threads))
					break;
				float *out = fenced_new(n);
				test(&r, odd_sizes[s], out, n);
				rig_close(&r);
				if (!first) {
					first = out;
					continue;
				}
				assert_memory_equal(first, out, n * sizeof(*out));
				fenced_free(out, n);
			}
			if (first)
				fenced_free(first, n);
		}
	}
}

enum { N_ROWS = 37 };

/* ---- norms ---- */

static enum hr_type weight_type;
static size_t       weight_shift;
static float        norm_shift;

static void check_rms_norm(struct rig *r, int32_t cols, float *y, size_t n)
{
	const struct hr_type_info *type = hr_type_info(weight_type);
	uint32_t                   seed = 1;
	float                     *x = random_new(n, 3, &seed), *w = random_new((size_t)cols, 2, &seed);
	char                      *bytes = malloc((size_t)cols * 4 + weight_shift);
	type->from_f32(w, bytes + weight_shift, (size_t)cols);
	type->to_f32(bytes + weight_shift, w, (size_t)cols);
	struct hr_weight weight = {bytes + weight_shift, weight_type, 1, cols, 0, {0}};
	assert_int_equal(r->ops->table->rms_norm(r->ops, r->stream, y, x, &weight, norm_shift, 1e-5f, N_ROWS), 0);
	rig_finish(r);
	for (size_t row = 0; row < N_ROWS; row++) {
		double sum = 0;
		for (int32_t c = 0; c < cols; c++)
			sum += (double)x[row * (size_t)cols + (size_t)c] * (double)x[row * (size_t)cols + (size_t)c];
		for (int32_t c = 0; c < cols; c++) {
			size_t i = row * (size_t)cols + (size_t)c;
			double want =
			    (double)x[i] / sqrt(sum / cols + (double)1e-5f) * ((double)norm_shift + (double)w[c]);
			assert_near("y", i, (double)y[i], want, 1e-6 * fabs(want) + 1e-6 * (norm_shift > 0));
		}
	}
	/* in place, and each row alone: the same bits */
	for (int32_t row = 0; row < N_ROWS; row++)
		assert_int_equal(r->ops->table->rms_norm(r->ops, r->stream, x + row * cols, x + row * cols, &weight,
		                                         norm_shift, 1e-5f, 1),
		                 0);
	rig_finish(r);
	assert_memory_equal(x, y, n * sizeof(*x));
	fenced_free(x, n);
	fenced_free(w, (size_t)cols);
	free(bytes);
}

static void rms_norm_of_every_weight_type(void **state)
{
	(void)state;
	const enum hr_type types[] = {HR_TYPE_F32, HR_TYPE_F16, HR_TYPE_BF16};
	for (size_t i = 0; i < HR_COUNT_OF(types); i++) {
		weight_type = types[i];
		weight_shift = i; /* also off alignment */
		norm_shift = i == 1;
		for_all(check_rms_norm, N_ROWS);
	}
}

static bool norm_bias;

static void check_layer_norm(struct rig *r, int32_t cols, float *y, size_t n)
{
	uint32_t seed = 7;
	float   *x = random_new(n, 3, &seed), *w = random_new((size_t)cols, 2, &seed);
	float   *b = random_new((size_t)cols, 2, &seed);
	for (size_t i = 0; i < n; i++)
		x[i] += 100; /* a mean that would swallow the variance of sums of squares */
	struct hr_weight weight = {w, HR_TYPE_F32, 1, cols, 0, {0}},
	                 bias = {norm_bias ? b : NULL, HR_TYPE_F32, 1, cols, 0, {0}};
	assert_int_equal(r->ops->table->layer_norm(r->ops, r->stream, y, x, &weight, &bias, 1e-5f, N_ROWS), 0);
	rig_finish(r);
	for (size_t row = 0; row < N_ROWS; row++) {
		double       mean = 0, variance = 0;
		const float *in = x + row * (size_t)cols;
		for (int32_t c = 0; c < cols; c++)
			mean += (double)in[c] / cols;
		for (int32_t c = 0; c < cols; c++)
			variance += ((double)in[c] - mean) * ((double)in[c] - mean) / cols;
		for (int32_t c = 0; c < cols; c++) {
			double normed = ((double)in[c] - mean) / sqrt(variance + (double)1e-5f);
			double want = normed * (double)w[c] + (norm_bias ? (double)b[c] : 0);
			assert_near("y", row * (size_t)cols + (size_t)c, (double)y[row * (size_t)cols + (size_t)c], want,
			            2e-5 / sqrt(variance + 1e-5) * fabs((double)w[c]) + 1e-6 * fabs(want));
		}
	}
	for (int32_t row = 0; row < N_ROWS; row++)
		assert_int_equal(r->ops->table->layer_norm(r->ops, r->stream, x + row * cols, x + row * cols, &weight,
		                                           &bias, 1e-5f, 1),
		                 0);
	rig_finish(r);
	assert_memory_equal(x, y, n * sizeof(*x));
	fenced_free(x, n);
	fenced_free(w, (size_t)cols);
	fenced_free(b, (size_t)cols);
}

static void layer_norm_with_and_without_bias(void **state)
{
	(void)state;
	norm_bias = true;
	for_all(check_layer_norm, N_ROWS);
	norm_bias = false;
	for_all(check_layer_norm, N_ROWS);
}

/* ---- activate, soft_cap, add ---- */

static enum hr_activation act;
static bool               act_gated;

static double act_of(double x)
{
	switch (act) {
	case HR_ACT_GELU:
		return x * erfc(-x / sqrt(2)) / 2;
	case HR_ACT_GELU_TANH:
		return x / (1 + exp(-2 * sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
	case HR_ACT_RELU:
		return x > 0 ? x : 0;
	case HR_ACT_TANH:
		return tanh(x);
	default:
		return x / (1 + exp(-x));
	}
}

static void check_activate(struct rig *r, int32_t cols, float *y, size_t n)
{
	(void)cols;
	uint32_t seed = 2;
	float   *x = random_new(n, act == HR_ACT_SILU ? 100 : 6, &seed), *up = random_new(n, 2, &seed);
	x[0] = 0;
	x[1] = -86;
	for (size_t i = 2; i < n / 4; i++)
		x[i] *= 0.01f;
	const float *with = act_gated ? up : NULL;
	assert_int_equal(r->ops->table->activate(r->ops, r->stream, act, y, x, with, (int64_t)n), 0);
	rig_finish(r);
	for (size_t i = 0; i < n; i++) {
		/* Far out, GELU's own argument is off by its rounding, which e^x makes a relative error. */
		double want = act_of((double)x[i]) * (act_gated ? (double)up[i] : 1);
		double far = act == HR_ACT_GELU || act == HR_ACT_GELU_TANH ? 1e-7 * fabs((double)x[i]) : 0;
		assert_near("y", i, (double)y[i], want, 6e-7 * fabs(want) + far + 5e-37);
	}
	/* in place and from another start: the same bits */
	assert_int_equal(
	    r->ops->table->activate(r->ops, r->stream, act, x + 1, x + 1, with ? up + 1 : NULL, (int64_t)n - 1),
	    0);
	rig_finish(r);
	assert_memory_equal(x + 1, y + 1, (n - 1) * sizeof(*y));
	fenced_free(x, n);
	fenced_free(up, n);
}

static void activations_are_exact_enough(void **state)
{
	(void)state;
	for (int i = 0; i < 2 * HR_ACT_COUNT; i++) {
		act = (enum hr_activation)(i / 2);
		act_gated = i % 2;
		for_all(check_activate, N_ROWS);
	}
}

static void check_soft_cap(struct rig *r, int32_t cols, float *y, size_t n)
{
	(void)cols;
	uint32_t seed = 4;
	float   *x = random_new(n, 100, &seed);
	memcpy(y, x, n * sizeof(*x));
	assert_int_equal(r->ops->table->soft_cap(r->ops, r->stream, y, 30, (int64_t)n), 0);
	rig_finish(r);
	for (size_t i = 0; i < n; i++)
		assert_near("y", i, (double)y[i], 30 * tanh((double)x[i] / 30), 1e-5);
	fenced_free(x, n);
}

static void soft_cap_caps(void **state)
{
	(void)state;
	for_all(check_soft_cap, N_ROWS);
}

static void check_silu_extremes(struct rig *r)
{
	const float gate[] = {-INFINITY, -1000, -89, -88, 88, 1000, INFINITY, NAN, -0.0f, 1e-30f};
	float       up[HR_COUNT_OF(gate)], y[HR_COUNT_OF(gate)];
	for (size_t i = 0; i < HR_COUNT_OF(gate); i++)
		up[i] = 1;
	r->ops->table->activate(r->ops, r->stream, HR_ACT_SILU, y, gate, up, HR_COUNT_OF(gate));
	rig_finish(r);
	assert_true(y[1] == 0 && fabsf(y[2]) < 1e-36f && fabsf(y[3]) < 1e-36f);
	assert_true(y[4] == 88 && y[5] == 1000 && y[6] == INFINITY && isnan(y[7]) && y[8] == 0);
	assert_true(fabsf(y[9] - 0.5e-30f) < 1e-36f);
}

static void silu_survives_extremes(void **state)
{
	(void)state;
	struct rig r;
	for (size_t i = 0; i < HR_COUNT_OF(test_isas); i++) {
		if (!rig_open(&r, test_isas[i], 1))
			continue;
		check_silu_extremes(&r);
		rig_close(&r);
	}
}

static void check_add(struct rig *r, int32_t cols, float *y, size_t n)
{
	(void)cols;
	uint32_t seed = 3;
	float   *x = random_new(n, 1, &seed), *before = random_new(n, 1, &seed);
	memcpy(y, before, n * sizeof(*y));
	assert_int_equal(r->ops->table->add(r->ops, r->stream, y, x, (int64_t)n), 0);
	rig_finish(r);
	for (size_t i = 0; i < n; i++)
		assert_true(y[i] == before[i] + x[i]);
	fenced_free(x, n);
	fenced_free(before, n);
}

static void add_adds(void **state)
{
	(void)state;
	for_all(check_add, N_ROWS);
}

/* ---- embed, gather_rows ---- */

static void check_gather(struct rig *r, int32_t cols, float *y, size_t n)
{
	uint32_t seed = 4;
	size_t   row = (size_t)cols;
	float   *x = random_new(N_ROWS * row, 1, &seed);
	int32_t  rows[N_ROWS];
	for (int i = 0; i < N_ROWS; i++)
		rows[i] = i * 7 % N_ROWS;
	assert_int_equal(r->ops->table->gather_rows(r->ops, r->stream, y, x, rows, N_ROWS, cols), 0);
	rig_finish(r);
	for (size_t i = 0; i < N_ROWS; i++)
		assert_memory_equal(y + i * row, x + (size_t)rows[i] * row, row * sizeof(*y));
	fenced_free(x, n);
}

static void gather_rows_gathers(void **state)
{
	(void)state;
	for_all(check_gather, N_ROWS);
}

static void embed_decodes_every_type(void **state)
{
	(void)state;
	enum { COLS = 256, ROWS = 11 };
	const int32_t ids[] = {10, 0, 3, 3, 7};
	uint32_t      seed = 5;
	float         values[ROWS * COLS], decoded[ROWS * COLS], y[HR_COUNT_OF(ids) * COLS];
	char          bytes[sizeof(values) + 1];
	struct rig    r;
	assert_true(rig_open(&r, "portable", 2));
	for (size_t i = 0; i < HR_COUNT_OF(values); i++)
		values[i] = random_float(&seed);
	for (int k = 0; k < HR_TYPE_COUNT + N_RANDOM_SHARINGS; k++) {
		int     type = k < HR_TYPE_COUNT ? k : HR_TYPE_F8_E4M3;
		uint8_t scales[4 * ROWS * COLS];
		for (size_t i = 0; i < sizeof(bytes); i++) /* whatever is a scale is a number */
			bytes[i] = (char)(i * 37 % 60);
		if (hr_type_info((enum hr_type)type)->from_f32)
			hr_type_info((enum hr_type)type)->from_f32(values, bytes + 1, ROWS * COLS);
		hr_type_info((enum hr_type)type)->to_f32(bytes + 1, decoded, ROWS * COLS);
		struct hr_weight table = {bytes + 1, (enum hr_type)type, ROWS, COLS, 0, {0}};
		if (k >= HR_TYPE_COUNT) {
			table.scale = random_sharings[k - HR_TYPE_COUNT];
			table.scale.data = scales;
			random_scales(table.scale.type, scales, count_scales(&table.scale, ROWS, COLS), &seed);
			weight_to_f32(&table, decoded);
		}
		memset(y, 0xff, sizeof(y));
		assert_int_equal(r.ops->table->embed(r.ops, r.stream, y, &table, 1, ids, HR_COUNT_OF(ids)), 0);
		rig_finish(&r);
		for (size_t i = 0; i < HR_COUNT_OF(ids); i++)
			assert_memory_equal(y + i * COLS, decoded + ids[i] * COLS, COLS * sizeof(*y));
		assert_int_equal(r.ops->table->embed(r.ops, r.stream, y, &table, 3, ids, 1), 0);
		rig_finish(&r);
		for (int c = 0; c < COLS; c++)
			assert_true(y[c] == 3 * decoded[ids[0] * COLS + c]);
	}
	rig_close(&r);
}

/* ---- rope ---- */

enum { ROPE_TOKENS = 5, ROPE_HEADS = 3, ROPE_ROWS = ROPE_TOKENS * (ROPE_HEADS + 1) };
static enum hr_rope_style rope_style;
static bool               rope_whole_head;
static float              rope_magnitude;

/* One row of `cols` more than the heads need stands between tokens. */
static void check_rope(struct rig *r, int32_t cols, float *x, size_t n)
{
	const int32_t pos[ROPE_TOKENS] = {0, 1, 77, 2047, 100000};
	int32_t       n_freqs = rope_whole_head ? cols / 2 : (cols / 2 + 1) / 2;
	int64_t       stride = (ROPE_HEADS + 1) * cols;
	uint32_t      seed = 6;
	float        *before = random_new(n, 1, &seed), *inv_freq = fenced_new((size_t)n_freqs);
	for (int32_t i = 0; i < n_freqs; i++)
		inv_freq[i] = powf(10000, -(float)i / (float)n_freqs);
	memcpy(x, before, n * sizeof(*x));
	struct hr_batch batch = {.n_tokens = ROPE_TOKENS, .pos = pos};
	assert_int_equal(r->ops->table->rope(r->ops, r->stream, x, stride, ROPE_HEADS, cols, rope_style, inv_freq,
	                                     n_freqs, rope_magnitude, &batch),
	                 0);
	rig_finish(r);
	for (int64_t t = 0; t < ROPE_TOKENS; t++) {
		for (int64_t at = t * stride; at < t * stride + ROPE_HEADS * cols; at += cols) {
			for (int32_t i = 0; i < n_freqs; i++) {
				int64_t a = at + (rope_style == HR_ROPE_NORM ? 2 * i : i);
				int64_t b = rope_style == HR_ROPE_NORM ? a + 1 : a + n_freqs;
				double  angle = (double)((float)pos[t] * inv_freq[i]);
				double  c = cos(angle) * (double)rope_magnitude, s = sin(angle) * (double)rope_magnitude,
				       xa = (double)before[a], xb = (double)before[b];
				assert_near("x", (size_t)a, (double)x[a], xa * c - xb * s, 3e-7);
				assert_near("x", (size_t)b, (double)x[b], xb * c + xa * s, 3e-7);
			}
			for (int64_t i = at + 2 * n_freqs; i < at + cols; i++)
				assert_true(x[i] == before[i]);
		}
		size_t rest = (size_t)(t * stride + ROPE_HEADS * cols);
		assert_memory_equal(x + rest, before + rest, (size_t)cols * sizeof(*x));
	}
	fenced_free(before, n);
	fenced_free(inv_freq, (size_t)n_freqs);
}

static void rope_rotates(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		rope_style = i & 1 ? HR_ROPE_NEOX : HR_ROPE_NORM;
		rope_whole_head = i & 2;
		rope_magnitude = i & 1 ? 1 : 1.19f;
		for_all(check_rope, ROPE_ROWS);
	}
}

/* ---- kv_store ---- */

enum { KV_TOKENS = 9, KV_HEADS = 2, KV_PAGE = 3, KV_PAGES = 7, KV_SEQS = 2, KV_MAX_PAGES = 3 };
static enum hr_kv_type kv_type;

static bool is_stored(enum hr_kv_type type, const void *pages, size_t i, float x)
{
	uint16_t h = hr__f32_to_f16(x);
	return type == HR_KV_F16 ? !memcmp((const char *)pages + 2 * i, &h, 2)
	                         : !memcmp((const char *)pages + 4 * i, &x, 4);
}

static size_t count_written(const unsigned char *pages, size_t bytes, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < bytes; i += size)
		n += memcmp(pages + i, "\xee\xee\xee\xee", size) != 0;
	return n;
}

static void check_kv_store(struct rig *r, int32_t head_dim, float *out, size_t n_out)
{
	const int32_t pos[KV_TOKENS] = {0, 1, 2, 3, 4, 5, 6, 1, 2}, seq[KV_TOKENS] = {1, 1, 1, 1, 1, 1, 1, 0, 0};
	const int32_t table[KV_SEQS * KV_MAX_PAGES] = {5, -1, -1, 2, 6, 0};
	uint32_t      seed = 7;
	size_t        cols = KV_HEADS * (size_t)head_dim, stride = cols + 5, n = KV_TOKENS * stride;
	size_t        size = kv_type == HR_KV_F16 ? 2 : 4,
	       bytes = KV_PAGES * KV_HEADS * KV_PAGE * (size_t)head_dim * size;
	float *k = random_new(n, 10, &seed), *v = random_new(n, 1e-5f, &seed);
	void  *kp = malloc(bytes), *vp = malloc(bytes);
	memset(kp, 0xee, bytes);
	memset(vp, 0xee, bytes);
	struct hr_kv_layer kv = {kp, vp, kv_type, KV_HEADS, head_dim, KV_PAGE};
	struct hr_batch    b = {KV_TOKENS, KV_SEQS, pos, seq, table, KV_MAX_PAGES, 7, NULL};
	assert_int_equal(
	    r->ops->table->kv_store(r->ops, r->stream, &kv, k, (int64_t)stride, v, (int64_t)stride, &b), 0);
	rig_finish(r);
	for (size_t t = 0; t < KV_TOKENS; t++) {
		for (size_t c = 0; c < cols; c++) {
			size_t page = (size_t)table[seq[t] * KV_MAX_PAGES + pos[t] / KV_PAGE], h = c / (size_t)head_dim;
			size_t row = (page * KV_HEADS + h) * KV_PAGE + (size_t)(pos[t] % KV_PAGE);
			size_t at = row * (size_t)head_dim + c % (size_t)head_dim;
			assert_true(is_stored(kv_type, kp, at, k[t * stride + c]));
			assert_true(is_stored(kv_type, vp, at, v[t * stride + c]));
		}
	}
	assert_int_equal(count_written(kp, bytes, size), KV_TOKENS * cols);
	assert_int_equal(count_written(vp, bytes, size), KV_TOKENS * cols);
	for (size_t i = 0; i < n_out; i++)
		out[i] = 0; /* nothing to compare between threads that was not compared here */
	fenced_free(k, n);
	fenced_free(v, n);
	free(kp);
	free(vp);
}

static void kv_store_finds_the_page(void **state)
{
	(void)state;
	kv_type = HR_KV_F16;
	for_all(check_kv_store, 1);
	kv_type = HR_KV_F32;
	for_all(check_kv_store, 1);
}

/* ---- refusals ---- */

static void broken_shapes_are_refused(void **state)
{
	(void)state;
	struct rig      r;
	struct hr_error err = {0};
	struct hr_ops  *ops;
	float           x[64] = {0};
	assert_true(rig_open(&r, NULL, 1));
	const struct hr_ops_table *t = r.ops->table;
	assert_non_null(strstr(t->name, "cpu: "));
	struct hr_weight quantised = {x, HR_TYPE_Q8_0, 1, 32, 0, {0}}, ragged = {x, HR_TYPE_Q8_0, 1, 33, 0, {0}},
	                 plain = {x, HR_TYPE_F32, 1, 32, 0, {0}};
	struct hr_batch batch = {.n_tokens = 1};
	assert_int_equal(t->rms_norm(r.ops, r.stream, x, x, &quantised, 0, 0, 1), HR_EUNSUPPORTED);
	assert_int_equal(t->layer_norm(r.ops, r.stream, x, x, &plain, &quantised, 0, 1), HR_EUNSUPPORTED);
	assert_int_equal(t->layer_norm(r.ops, r.stream, x, x, &plain, &ragged, 0, 1), HR_EINVAL);
	assert_int_equal(t->embed(r.ops, r.stream, x, &ragged, 1, NULL, 1), HR_EINVAL);
	assert_int_equal(t->gather_rows(r.ops, r.stream, x, x, NULL, 1, 0), HR_EINVAL);
	assert_int_equal(t->activate(r.ops, r.stream, HR_ACT_SILU, x, x, x, -1), HR_EINVAL);
	assert_int_equal(t->activate(r.ops, r.stream, HR_ACT_COUNT, x, x, x, 1), HR_EINVAL);
	assert_int_equal(t->soft_cap(r.ops, r.stream, x, 0, 1), HR_EINVAL);
	assert_int_equal(t->rope(r.ops, r.stream, x, 8, 1, 8, HR_ROPE_NORM, x, 5, 1, &batch), HR_EINVAL);
	assert_int_equal(t->rope(r.ops, r.stream, x, 7, 1, 8, HR_ROPE_NORM, x, 4, 1, &batch), HR_EINVAL);
	assert_int_equal(hr_ops_cpu_open(&ops, r.device, "mmx", &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "\"mmx\""));
	assert_true(t->workspace_bytes(r.ops, 512, 4096, 4096) > 0);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rms_norm_of_every_weight_type),
	    cmocka_unit_test(layer_norm_with_and_without_bias),
	    cmocka_unit_test(activations_are_exact_enough),
	    cmocka_unit_test(silu_survives_extremes),
	    cmocka_unit_test(soft_cap_caps),
	    cmocka_unit_test(add_adds),
	    cmocka_unit_test(gather_rows_gathers),
	    cmocka_unit_test(embed_decodes_every_type),
	    cmocka_unit_test(rope_rotates),
	    cmocka_unit_test(kv_store_finds_the_page),
	    cmocka_unit_test(broken_shapes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
