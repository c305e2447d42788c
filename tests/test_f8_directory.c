/* Hugging Face directories of 8-bit floats: whatever shares a scale, they run as models of the same values
 * do, streamed as well as resident; what is converted from them is what is converted from the same values,
 * and what torch makes of them. Where something is wrong, it is named. */
#include "headrace/headrace.h"
#include "kernels/half.h"
#include "kernels/types.h"
#include "runtime/format/checkpoint.h"
#include "tests/format_testing.h"
#include "tests/model_run.h"

#include <math.h>

enum { MAX_SCALES = 16, USUAL_SCALES = 8 };

static float    scales[MAX_SCALES]; /* of the golden */
static uint16_t bf16_of[MAX_SCALES][256];
static char    *directory; /* of each test */

static int load_golden(void **state)
{
	(void)state;
	size_t   n;
	uint8_t *data = read_file("tests/golden/f8.bin", &n);
	assert_int_equal(n, 4 + sizeof scales + sizeof bf16_of);
	assert_int_equal(data[0], MAX_SCALES);
	memcpy(scales, data + 4, sizeof scales);
	memcpy(bf16_of, data + 4 + sizeof scales, sizeof bf16_of);
	free(data);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	directory = make_directory();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	remove_directory(directory);
	return 0;
}

static bool is_nan(int code) { return (code & 0x7f) == 0x7f; }

static void all_codes_are_those_of_torch(void **state)
{
	(void)state;
	const struct hr_type_info *type = hr_type_info(HR_TYPE_F8_E4M3);
	for (int s = 0; s < MAX_SCALES; s++)
		for (int code = 0; code < 256; code++) {
			uint8_t byte = (uint8_t)code;
			float   x, wanted = hr__bf16_to_f32(bf16_of[s][code]);
			type->to_f32(&byte, &x, 1);
			assert_int_equal(isnan(x), is_nan(code));
			if (is_nan(code) ? !isnan(wanted) : hr__f32_to_bf16(x * scales[s]) != bf16_of[s][code])
				fail_msg("code %d times %g: %g, not %g", code, scales[s], x * scales[s], wanted);
		}
}

/* ---- Models: the same values as f8 with scales, as bf16 and as f32 -------------------- */

enum sharing { NOBODY, ALL, ALL_BARE, A_ROW, A_BLOCK };

struct kind {
	const char  *name, *quantization;          /* of config.json, NULL: none */
	enum sharing sharing;                      /* who shares a scale */
	const char  *ending;                       /* of a scale's name */
	bool         bf16_scales, extreme, little; /* little: most bytes are bf16 */
	size_t       block[2];
};

#define FP8        "\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"activation_scheme\":"
#define CT(format) "\"quant_method\":\"compressed-tensors\",\"format\":\"" format "\",\"config_groups\":"
#define GROUP(more)                                                                                          \
	"{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":8,\"type\":\"float\"" more "}}}"

static const struct kind kinds[] = {
    {.name = "no scales", .sharing = NOBODY},
    {.name = "one, said nowhere", .sharing = ALL, .ending = "_scale"},
    {.name = "one, fp8", .quantization = "{" FP8 "\"static\"}", .sharing = ALL_BARE, .ending = "_scale"},
    {.name = "one, as an inverse",
     .quantization = "{" FP8 "\"dynamic\",\"weight_block_size\":null}",
     .sharing = ALL,
     .ending = "_scale_inv",
     .bf16_scales = true},
    {.name = "rows",
     .quantization = "{" CT("float-quantized") GROUP(",\"strategy\":\"channel\"") "}",
     .sharing = A_ROW,
     .ending = "_scale"},
    {.name = "rows, bf16",
     .quantization = "{" CT("float-quantized") GROUP("") "}",
     .sharing = A_ROW,
     .ending = "_scale",
     .bf16_scales = true},
    {.name = "rows, extreme", .sharing = A_ROW, .ending = "_scale", .extreme = true},
    {.name = "blocks of DeepSeek",
     .quantization = "{" FP8 "\"dynamic\",\"weight_block_size\":[128,128]}",
     .sharing = A_BLOCK,
     .ending = "_scale_inv",
     .block = {128, 128}},
    {.name = "blocks",
     .quantization = "{" FP8 "\"dynamic\",\"weight_block_size\":[48,32]}",
     .sharing = A_BLOCK,
     .ending = "_scale_inv",
     .block = {48, 32}},
    {.name = "many blocks, extreme",
     .quantization = "{" FP8 "\"dynamic\",\"weight_block_size\":[3,1]}",
     .sharing = A_BLOCK,
     .ending = "_scale_inv",
     .block = {3, 1},
     .extreme = true},
    {.name = "blocks, compressed",
     .quantization =
         "{" CT("float-quantized") GROUP(",\"strategy\":\"block\",\"block_structure\":[48,32]") "}",
     .sharing = A_BLOCK,
     .ending = "_scale",
     .block = {48, 32}},
    {.name = "a little f8", .sharing = A_ROW, .ending = "_scale", .little = true},
};

enum { EMBD = 64, KV = 32, FF = 160, VOCAB = 1500, N_LAYERS = 8 };

/* A safetensors file as it grows. */
struct file {
	struct bytes header, data;
};

static void add(struct file *f, const char *name, const char *dtype, const char *shape, const void *data,
                size_t n)
{
	char entry[300];
	snprintf(entry, sizeof entry, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
	         f->header.n ? "," : "{", name, dtype, shape, f->data.n, f->data.n + n);
	put(&f->header, entry, strlen(entry));
	put(&f->data, data, n);
}

static void finish(struct file *f, const char *path)
{
	struct bytes all = {0};
	put(&f->header, "}", 1);
	put_u64(&all, f->header.n);
	put(&all, f->header.data, f->header.n);
	put(&all, f->data.data, f->data.n);
	write_file(join(path, "model.safetensors"), all.data, all.n);
	free(all.data);
	free(f->header.data);
	free(f->data.data);
}

struct model {
	const struct kind *kind;
	struct file        f8, bf16, f32;
	uint32_t           random, n_matrices;
};

static uint32_t next(struct model *m)
{
	m->random = m->random * 1664525 + 1013904223;
	return m->random >> 8;
}

/* Vectors are bf16 in all three, but widened in the last. */
static void add_vector(struct model *m, const char *name, size_t n)
{
	uint16_t half[FF];
	float    x[FF];
	char     shape[32];
	for (size_t i = 0; i < n; i++) {
		half[i] = (uint16_t)(0x3f00 + next(m) % 256);
		x[i] = hr__bf16_to_f32(half[i]);
	}
	snprintf(shape, sizeof shape, "%zu", n);
	add(&m->f8, name, "BF16", shape, half, 2 * n);
	add(&m->bf16, name, "BF16", shape, half, 2 * n);
	add(&m->f32, name, "F32", shape, x, 4 * n);
}

static void add_scales(struct model *m, const char *matrix, const int *which, size_t n, const char *shape)
{
	char  name[128];
	void *data = malloc(4 * n);
	for (size_t i = 0; i < n; i++) {
		uint16_t half = hr__f32_to_bf16(scales[which[i]]);
		if (m->kind->bf16_scales)
			memcpy((char *)data + 2 * i, &half, 2);
		else
			memcpy((char *)data + 4 * i, &scales[which[i]], 4);
	}
	snprintf(name, sizeof name, "%s%s", matrix, m->kind->ending);
	add(&m->f8, name, m->kind->bf16_scales ? "BF16" : "F32", shape, data, (m->kind->bf16_scales ? 2 : 4) * n);
	free(data);
}

static void add_matrix(struct model *m, const char *name, size_t rows, size_t cols)
{
	const struct kind *k = m->kind;
	bool               by_rows = k->sharing == A_ROW, by_blocks = k->sharing == A_BLOCK;
	size_t    high = by_blocks ? k->block[0] : by_rows ? 1 : rows, wide = by_blocks ? k->block[1] : cols;
	size_t    n_high = (rows + high - 1) / high, n_wide = (cols + wide - 1) / wide;
	int      *which = calloc(n_high * n_wide, sizeof *which);
	uint8_t  *codes = malloc(rows * cols);
	uint16_t *half = malloc(2 * rows * cols);
	float    *x = malloc(4 * rows * cols);
	char      shape[32];
	bool      is_f8 = !k->little || strstr(name, "gate_proj"), scaled = is_f8 && k->sharing != NOBODY;
	for (size_t i = 0; i < n_high * n_wide && scaled; i++) {
		which[i] = (int)(next(m) % USUAL_SCALES) + (k->extreme ? USUAL_SCALES : 0);
		which[i] &= k->bf16_scales ? ~1 : ~0;
	}
	for (size_t i = 0; i < rows * cols; i++) {
		int s = which[i / cols / high * n_wide + i % cols / wide];
		do /* small ones, but all there are in the embedding, whose size does not matter */
			codes[i] = (uint8_t)(next(m) & (m->n_matrices ? 0xb7 : 0xff));
		while (is_nan(codes[i]));
		half[i] = bf16_of[s][codes[i]];
		x[i] = hr__bf16_to_f32(bf16_of[0][codes[i]]) * scales[s]; /* exact, times the scale */
	}
	m->n_matrices++;
	snprintf(shape, sizeof shape, "%zu,%zu", rows, cols);
	if (is_f8)
		add(&m->f8, name, "F8_E4M3", shape, codes, rows * cols);
	else
		add(&m->f8, name, "BF16", shape, half, 2 * rows * cols);
	add(&m->bf16, name, "BF16", shape, half, 2 * rows * cols);
	add(&m->f32, name, "F32", shape, x, 4 * rows * cols);
	if (by_rows)
		snprintf(shape, sizeof shape, "%zu,1", rows);
	else
		snprintf(shape, sizeof shape, "%zu,%zu", n_high, n_wide);
	if (scaled)
		add_scales(m, name, which, n_high * n_wide,
		           k->sharing == ALL        ? "1"
		           : k->sharing == ALL_BARE ? ""
		                                    : shape);
	free(which);
	free(codes);
	free(half);
	free(x);
}

/* What concerns activations and the cache. */
static void add_what_is_ignored(struct model *m, int layer)
{
	static const char *const names[] = {"mlp.up_proj.input_scale", "mlp.up_proj.activation_scale",
	                                    "self_attn.k_scale", "self_attn.v_scale"};
	for (size_t i = 0; i < sizeof names / sizeof *names && m->kind->quantization; i++) {
		char name[96];
		snprintf(name, sizeof name, "model.layers.%d.%s", layer, names[i]);
		add(&m->f8, name, "F32", i % 2 ? "1" : "", &scales[1], 4);
	}
}

enum family { LLAMA, QWEN2, PHI3, N_FAMILIES };

struct part { /* cols 0: a vector */
	const char *name;
	int         rows, cols;
};

static void add_layer(struct model *m, int layer, enum family family)
{
	static const struct part usual[] = {
	    {"self_attn.q_proj", EMBD, EMBD},      {"self_attn.k_proj", KV, EMBD},
	    {"self_attn.v_proj", KV, EMBD},        {"self_attn.o_proj", EMBD, EMBD},
	    {"mlp.gate_proj", FF, EMBD},           {"mlp.up_proj", FF, EMBD},
	    {"mlp.down_proj", EMBD, FF},           {"input_layernorm", EMBD, 0},
	    {"post_attention_layernorm", EMBD, 0}, {0}};
	/* Views: rows of these are q, k and v, gate and up. */
	static const struct part fused[] = {{"self_attn.qkv_proj", EMBD + 2 * KV, EMBD},
	                                    {"self_attn.o_proj", EMBD, EMBD},
	                                    {"mlp.gate_up_proj", 2 * FF, EMBD},
	                                    {"mlp.down_proj", EMBD, FF},
	                                    {"input_layernorm", EMBD, 0},
	                                    {"post_attention_layernorm", EMBD, 0},
	                                    {0}};
	for (const struct part *p = family == PHI3 ? fused : usual; p->name; p++) {
		char name[96];
		snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, p->name);
		if (p->cols)
			add_matrix(m, name, (size_t)p->rows, (size_t)p->cols);
		else
			add_vector(m, name, (size_t)p->rows);
		snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, p->name);
		if (family == QWEN2 && p < usual + 3)
			add_vector(m, name, (size_t)p->rows);
	}
	if (family != PHI3)
		add_what_is_ignored(m, layer);
}

static void write_config(const char *path, const char *family, const char *class, const char *quantization)
{
	char text[2000];
	snprintf(text, sizeof text,
	         "{\"model_type\":\"%s\",\"architectures\":[\"%s\"],\"hidden_size\":%d,\"intermediate_size\":%d,"
	         "\"num_hidden_layers\":%d,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":%d,"
	         "\"max_position_embeddings\":128,\"rms_norm_eps\":1e-6,\"tie_word_embeddings\":false,"
	         "\"hidden_act\":\"silu\",\"quantization_config\":%s}",
	         family, class, EMBD, FF, N_LAYERS, VOCAB, quantization ? quantization : "null");
	write_text(path, "config.json", text);
}

/* "f8/model", "bf16/model", "f32/model" in the directory. */
static const char *path_of(const char *type, const char *name)
{
	static char paths[4][300];
	static int  turn;
	char       *path = paths[turn++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s%s%s", directory, type, *name ? "/" : "", name);
	return path;
}

static void write_models(const struct kind *kind, enum family family)
{
	static const char *const types[] = {"f8", "bf16", "f32"};
	static const char *const families[N_FAMILIES][2] = {
	    {"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"phi3", "Phi3ForCausalLM"}};
	struct model m = {.kind = kind, .random = 7};
	struct file *files[] = {&m.f8, &m.bf16, &m.f32};
	add_matrix(&m, "model.embed_tokens.weight", VOCAB, EMBD);
	add_matrix(&m, "lm_head.weight", VOCAB, EMBD);
	add_vector(&m, "model.norm.weight", EMBD);
	for (int i = 0; i < N_LAYERS; i++)
		add_layer(&m, i, family);
	for (int i = 0; i < 3; i++) {
		mkdir(path_of(types[i], ""), 0700);
		mkdir(path_of(types[i], "model"), 0700);
		finish(files[i], path_of(types[i], "model"));
		write_config(path_of(types[i], "model"), families[family][0], families[family][1],
		             i ? NULL : kind->quantization);
	}
}

/* ---- Conversion --------------------------------------------------------------------- */

static uint8_t *convert(const char *from, const char *type, size_t *n)
{
	struct hr_error            err = {0};
	struct hr_quantize_options q;
	hr_quantize_options_init(&q);
	q.type = type;
	q.n_threads = 2;
	q.replace = true;
	if (hr_quantize(path_of("out.gguf", ""), path_of(from, "model"), &q, NULL, &err))
		fail_msg("%s to %s: %s", from, type, err.message);
	return read_file(path_of("out.gguf", ""), n);
}

/* llama's rows of q and k change their places on the way, qwen2's stay. */
static void files_are_those_of_the_values(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {
	    {"bf16", "bf16"}, {"f32", "f32"}, {"f32", "q8_0"}, {"f32", "q4_k_m"}};
	for (size_t i = 0; i < 2 * (sizeof kinds / sizeof *kinds); i++) {
		const struct kind *kind = &kinds[i / 2];
		write_models(kind, i % 2 ? QWEN2 : LLAMA);
		for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
			size_t   n, m;
			uint8_t *got = convert("f8", pairs[k][1], &n), *wanted = convert(pairs[k][0], pairs[k][1], &m);
			if (n != m || memcmp(got, wanted, n) != 0)
				fail_msg("%s, as %s: another file than that of the values", kind->name, pairs[k][1]);
			free(got);
			free(wanted);
		}
	}
}

/* ---- Runs ------------------------------------------------------------------------- */

static int  n_notices;
static char last_notice[2000];

static void on_notice(void *user, const char *sentence)
{
	(void)user;
	n_notices++;
	snprintf(last_notice, sizeof last_notice, "%s", sentence);
}

static struct hr_model *open_as(const char *path, const char *type, const char *dtype)
{
	struct hr_quantize_options q;
	struct hr_model           *model;
	struct hr_error            err = {0};
	hr_quantize_options_init(&q);
	q.type = type;
	q.on_notice = on_notice;
	if (hr_model_open_as(&model, path, &q, directory, &err))
		fail_msg("%s", err.message);
	assert_string_equal(hr_model_info(model)->dtype, dtype);
	assert_int_equal(run_cut_finely(model), 0);
	return model;
}

static uint64_t hash_of(const char *path, const char *type, const char *dtype)
{
	return run_to_hash(open_as(path, type, dtype));
}

static void conversions_give_the_logits_of_the_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (kinds[i].extreme || kinds[i].little)
			continue;
		write_models(&kinds[i], QWEN2);
		n_notices = 0;
		uint64_t plain = hash_of(path_of("bf16", "model"), "auto", "bf16");
		assert_int_equal(n_notices, 0); /* nothing to convert */
		assert_true(hash_of(path_of("f8", "model"), "bf16", "bf16") == plain);
		assert_int_equal(n_notices, 1);
		assert_non_null(strstr(last_notice, "was converted to bf16 once"));
		assert_true(hash_of(path_of("f8", "model"), "bf16", "bf16") == plain);
		assert_int_equal(n_notices, 1); /* the conversion is found again */
		assert_true(hash_of(path_of("f8", "model"), "q8_0", "q8_0") ==
		            hash_of(path_of("f32", "model"), "q8_0", "q8_0"));
	}
}

/* The logits of a run, and where the next are to be put. */
static float *logits;
static size_t n_logits;

static void take_logits(void *user, uint64_t id, int position, const float *row, int n_vocab)
{
	(void)user, (void)id, (void)position;
	logits = realloc(logits, (n_logits + (size_t)n_vocab) * sizeof *logits);
	memcpy(logits + n_logits, row, (size_t)n_vocab * sizeof *logits);
	n_logits += (size_t)n_vocab;
}

enum { IDS = 20, NEW = 4 };

enum { ALL_RESIDENT, SMALLEST_BUDGET, CUT_LAYERS, N_BUDGETS };

/* One with which a part of each streamed layer stays; 0: there is none. */
static uint64_t budget_that_cuts(const struct hr_model *model, const struct hr_plan_options *options)
{
	struct hr_plan_options o = *options;
	o.cpu_isa = NULL;
	for (o.device_memory_bytes = run_smallest_budget(model, options);; o.device_memory_bytes += 4096) {
		struct hr_plan *plan;
		assert_int_equal(hr_plan_new(&plan, model, &o, NULL), 0);
		const struct hr_plan_info *info = hr_plan_info(plan);
		bool                       cuts = info->kept_share > 0, streams = info->disk_bytes_per_pass > 0;
		hr_plan_free(plan);
		if (cuts || !streams)
			return cuts ? o.device_memory_bytes : 0;
	}
}

static uint64_t run(const struct hr_model *model, const char *isa, int budget, struct hr_plan_info *info)
{
	int32_t                ids[IDS];
	struct run_result      result = {0};
	struct run_prompt      prompt = {ids, IDS, NEW};
	struct hr_plan_options o;
	for (int i = 0; i < IDS; i++)
		ids[i] = (i * 7919 + 3) % VOCAB;
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.cpu_isa = isa;
	o.n_threads = 2;
	o.kv_type = "f32";
	o.full = budget == ALL_RESIDENT;
	if (budget == SMALLEST_BUDGET)
		o.device_memory_bytes = run_smallest_budget(model, &o);
	if (budget == CUT_LAYERS)
		if (!(o.device_memory_bytes = budget_that_cuts(model, &o)))
			return 0;
	n_logits = 0;
	int rc = run_prompts(&result, model, &o, &prompt, 1, take_logits, NULL);
	if (rc == HR_EUNSUPPORTED)
		return 0; /* another instruction set */
	assert_int_equal(rc, 0);
	*info = result.plan;
	return result.hash[0];
}

static int n_cut; /* runs of which a part of streamed layers stayed */

/* Vectors multiply weights by scales first: the very logits of those products. Tiles do so at the end. */
static void check_run(const char *what, const struct hr_model *f8, const struct hr_model *f32)
{
	static const char *const isas[] = {"portable", "avx2", "avx512", "amx"};
	struct hr_plan_info      info;
	for (int i = 0; i < 4; i++) {
		uint64_t want = run(f32, isas[i], ALL_RESIDENT, &info), got;
		if (!want)
			continue;
		float *values = logits, largest = 0, smallest = 0;
		logits = NULL;
		got = run(f8, isas[i], ALL_RESIDENT, &info);
		if (i < 3 && got != want)
			fail_msg("%s, %s: other logits than those of the values", what, isas[i]);
		for (size_t k = 0; k < n_logits; k++) {
			largest = fmaxf(largest, values[k]);
			smallest = fminf(smallest, values[k]);
		}
		for (size_t k = 0; k < n_logits; k++)
			if (!(fabsf(values[k] - logits[k]) <= 1e-5f * (largest - smallest)))
				fail_msg("%s, %s: logit %zu is %g, not %g", what, isas[i], k, logits[k], values[k]);
		free(values);
		for (int budget = SMALLEST_BUDGET; budget < N_BUDGETS; budget++) {
			uint64_t streamed = run(f8, isas[i], budget, &info);
			if (!streamed && budget == CUT_LAYERS)
				continue;
			if (streamed != got)
				fail_msg("%s, %s: other logits %s", what, isas[i],
				         budget == CUT_LAYERS ? "from cut layers" : "with the smallest budget");
			assert_true(info.disk_bytes_per_pass > 0);
			n_cut += budget == CUT_LAYERS;
		}
	}
	free(logits);
	logits = NULL;
}

static void runs_give_the_logits_of_the_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		for (int family = 0; family < N_FAMILIES && !kinds[i].extreme; family++) {
			const struct kind *k = &kinds[i];
			write_models(k, (enum family)family);
			n_notices = 0;
			struct hr_model *f8 = open_as(path_of("f8", "model"), "auto", k->little ? "bf16" : "f8_e4m3");
			struct hr_model *f32 = open_as(path_of("f32", "model"), "auto", "f32");
			assert_int_equal(n_notices, 0);
			if (!k->little) /* of which most matrices are rounded */
				check_run(k->name, f8, f32);
			hr_model_close(f8);
			hr_model_close(f32);
		}
	assert_true(n_cut > 0);
}

/* ---- What is wrong, or needs a word ----------------------------------------------------- */

/* Replace the first `from` of the model's files by `to`, of the same length. */
static void replace(const char *from, const void *to)
{
	size_t n;
	char   path[320];
	snprintf(path, sizeof path, "%s/model.safetensors", path_of("f8", "model"));
	uint8_t *data = read_file(path, &n), *at = memmem(data, n, from, strlen(from));
	assert_non_null(at);
	memcpy(at, to, strlen(from));
	write_file(path, data, n);
	free(data);
}

static void expect(const char *what, int code, const char *fragment)
{
	struct hr_error            err = {0};
	struct hr_quantize_options q;
	hr_quantize_options_init(&q);
	q.type = "bf16";
	check_failure(what, hr_quantize(path_of("out.gguf", ""), path_of("f8", "model"), &q, NULL, &err), &err,
	              code, fragment);
}

static const struct kind *kind_of(const char *name)
{
	size_t i = 0;
	while (strcmp(kinds[i].name, name) != 0)
		assert_true(++i < sizeof kinds / sizeof *kinds);
	return &kinds[i];
}

static void scales_are_no_tensors(void **state)
{
	(void)state;
	struct hr_error      err = {0};
	struct hr_model     *model;
	struct hr_checkpoint c;
	write_models(kind_of("blocks"), LLAMA);
	assert_int_equal(hr_checkpoint_open(&c, path_of("f8", "model"), &err), 0);
	assert_string_equal(c.dtype, "f8_e4m3");
	assert_int_equal(c.n_tensors, 3 + 9 * N_LAYERS);
	hr_checkpoint_release(&c);
	assert_int_equal(hr_model_open(&model, path_of("f8", "model"), &err), 0);
	assert_string_equal(hr_model_info(model)->dtype, "f8_e4m3");
	hr_model_close(model);
}

static void wrong_scales_are_named(void **state)
{
	(void)state;
	write_models(kind_of("rows"), LLAMA);
	replace("\"shape\":[64,1]", "\"shape\":[1,64]");
	expect("a row of scales", HR_EFORMAT, "have the shape [1, 64]; possible are [1], [64, 1], and [1, 1]");
	write_models(kind_of("blocks"), LLAMA);
	replace("\"shape\":[32,2]", "\"shape\":[2,32]");
	expect("blocks the other way", HR_EFORMAT,
	       "have the shape [2, 32]; possible are [1], [1500, 1], and [32, 2] for blocks of 48 x 32");
	write_config(path_of("f8", "model"), "llama", "LlamaForCausalLM",
	             "{" FP8 "\"dynamic\",\"weight_block_size\":[128,128]}");
	expect("other blocks", HR_EFORMAT, "[12, 1] for blocks of 128 x 128");
	write_models(kind_of("rows"), LLAMA);
	replace("q_proj.weight_scale\"", "q_proj.weight_scalf\"");
	expect("a scale of nothing", HR_EUNSUPPORTED, "q_proj.weight_scalf' has no place");
}

static void damaged_weights_are_named(void **state)
{
	(void)state;
	static const char *const names[] = {"no scales", "rows"};
	const float              infinite = INFINITY;
	for (int i = 0; i < 4; i++) {
		size_t n;
		char   path[320];
		write_models(kind_of(names[i / 2]), LLAMA);
		snprintf(path, sizeof path, "%s/model.safetensors", path_of("f8", "model"));
		uint8_t *data = read_file(path, &n);
		uint64_t header;
		memcpy(&header, data, 8);
		if (i < 3) /* a code of the embedding */
			data[8 + header + 1000] = i % 2 ? 0x7f : 0xff;
		else /* one of its scales */
			memcpy(data + 8 + header + VOCAB * EMBD + 4 * 17, &infinite, 4);
		write_file(path, data, n);
		free(data);
		expect("a NaN", HR_EFORMAT, "'token_embd.weight' holds a weight that is infinite or no number");
	}
}

static void other_ways_of_quantising_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *quantization;
		int         code;
		const char *fragment;
	} refused[] = {
	    {"{\"quant_method\":\"gptq\",\"bits\":4}", HR_EUNSUPPORTED, "is gptq, which is not supported"},
	    {"{\"quant_method\":\"awq\"}", HR_EUNSUPPORTED, "is awq, which"},
	    {"{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true}", HR_EUNSUPPORTED, "is bitsandbytes"},
	    {"{\"bits\":4}", HR_EUNSUPPORTED, "is given, which"},
	    {"4", HR_EUNSUPPORTED, "is given, which"},
	    {"{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}", HR_EUNSUPPORTED, "fp8 with e5m2"},
	    {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}", HR_EFORMAT, "two integers above 0"},
	    {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128,0]}", HR_EFORMAT, "two integers above 0"},
	    {"{\"quant_method\":\"fp8\",\"weight_block_size\":128}", HR_EFORMAT, "two integers above 0"},
	    {"{" CT("pack-quantized") GROUP("") "}", HR_EUNSUPPORTED, "compressed-tensors with pack-quantized"},
	    {"{" CT("int-quantized") GROUP("") "}", HR_EUNSUPPORTED, "compressed-tensors with int-quantized"},
	    {"{\"quant_method\":\"compressed-tensors\"}", HR_EUNSUPPORTED, "with no format"},
	    {"{" CT("float-quantized") "{\"a\":{\"weights\":{\"num_bits\":4,\"type\":\"float\"}}}}",
	     HR_EUNSUPPORTED, "not floats of 8 bits"},
	    {"{" CT("float-quantized") "{\"a\":{\"weights\":{\"num_bits\":8,\"type\":\"int\"}}}}",
	     HR_EUNSUPPORTED, "not floats of 8 bits"},
	    {"{" CT(
	         "float-quantized") "{\"a\":{\"weights\":{\"num_bits\":8,\"type\":\"float\",\"block_structure\":"
	                            "[128,128]}},\"b\":{\"weights\":{\"num_bits\":8,\"type\":\"float\",\"block_"
	                            "structure\":[32,32]}}}}",
	     HR_EUNSUPPORTED, "blocks of different sizes"},
	    {"{" CT("float-quantized") "{},\"transform_config\":{\"config_groups\":{\"u\":{}}}}", HR_EUNSUPPORTED,
	     "a transform_config"},
	};
	write_models(kind_of("one, said nowhere"), LLAMA);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		write_config(path_of("f8", "model"), "llama", "LlamaForCausalLM", refused[i].quantization);
		expect(refused[i].quantization, refused[i].code, refused[i].fragment);
	}
	write_config(path_of("f8", "model"), "llama", "LlamaForCausalLM", NULL);
	replace("F8_E4M3", "F8_E5M2");
	expect("e5m2", HR_EUNSUPPORTED, "the dtype F8_E5M2, which is not supported");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_codes_are_those_of_torch),
	    TEST(files_are_those_of_the_values),
	    TEST(conversions_give_the_logits_of_the_values),
	    TEST(runs_give_the_logits_of_the_values),
	    TEST(scales_are_no_tensors),
	    TEST(wrong_scales_are_named),
	    TEST(damaged_weights_are_named),
	    TEST(other_ways_of_quantising_are_refused),
	};
	return cmocka_run_group_tests(tests, load_golden, NULL);
}
