/* GGUF models: synthetic and real ones are read as they are; metadata that is
 * wrong, tensors that contradict it and shards that do not fit are refused by name. */
#include "headrace/headrace.h"
#include "runtime/format/checkpoint.h"
#include "tests/format_testing.h"

#define MODELS "tests/golden/models/"

static void expect(const char *what, const char *path, int code, const char *fragment)
{
	struct hr_checkpoint c = {.n_tensors = 77};
	struct hr_error      err = {0};
	check_failure(what, hr_checkpoint_open(&c, path, &err), &err, code, fragment);
	assert_int_equal(c.n_tensors, 77); /* written on success only */
}

static void synth(const char *path, const char *shape, const char *type)
{
	struct hr_error err = {0};
	if (hr_synth(path, shape, type, 1, NULL, NULL, &err))
		fail_msg("%s", err.message);
}

/* ---- Valid models ---------------------------------------------------------------- */

static void a_model_is_read_as_it_is(void **state)
{
	(void)state;
	char                    *directory = make_directory();
	struct hr_checkpoint     c = {0};
	const struct hr_hparams *h = &c.hparams;
	synth(join(directory, "m.gguf"), "tiny-mistral", "q8_0");
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "m.gguf"), NULL), 0);
	assert_true(c.is_gguf);
	assert_string_equal(h->family, "llama");
	assert_int_equal(h->n_layers, 6);
	assert_int_equal(h->n_embd, 96);
	assert_int_equal(h->n_heads, 6);
	assert_int_equal(h->n_kv_heads, 2);
	assert_int_equal(h->head_dim, 16);
	assert_int_equal(h->n_rot, 16);
	assert_int_equal(h->n_ff, 160);
	assert_int_equal(h->n_vocab, 448);
	assert_int_equal(h->n_ctx_train, 2048);
	assert_int_equal(h->sliding_window, 64);
	assert_int_equal(h->rope_style, HR_ROPE_NORM);
	assert_true(h->rope_theta == 1e4f && h->norm_eps == 1e-5f);
	assert_false(h->tied);
	assert_int_equal(c.n_tensors, 6 * 9 + 3);
	assert_string_equal(c.dtype, "q8_0");
	const struct hr_tensor *down = &c.tensors[c.blocks[5].down];
	assert_string_equal(down->name, "blk.5.ffn_down.weight");
	assert_int_equal(down->shape[0], 96);
	assert_int_equal(down->shape[1], 160);
	assert_ptr_equal(down->file, &c.files[0]);
	hr_checkpoint_release(&c);

	synth(join(directory, "q.gguf"), "tiny-qwen2", "f16");
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "q.gguf"), NULL), 0);
	assert_string_equal(h->family, "qwen2");
	assert_int_equal(h->rope_style, HR_ROPE_NEOX);
	assert_true(h->tied);
	assert_int_equal(c.ends.head, c.ends.embedding);
	assert_string_equal(c.tensors[c.blocks[4].v_bias].name, "blk.4.attn_v.bias");
	assert_int_equal(c.blocks[4].o_bias, -1);
	hr_checkpoint_release(&c);

	synth(join(directory, "l3.gguf"), "tiny-llama3", "f32");
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "l3.gguf"), NULL), 0);
	assert_string_equal(c.tensors[c.ends.rope_factors].name, "rope_freqs.weight");
	assert_int_equal(h->rope_scaling, HR_ROPE_SCALING_NONE);
	hr_checkpoint_release(&c);
	remove_directory(directory);
}

static void files_of_other_writers_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *name, *family;
		int         n_files, n_tensors;
		int         scaling;
	} models[] = {
	    {"llama2-f16.gguf", "llama", 1, 21, HR_ROPE_SCALING_NONE},
	    {"llama3-f16.gguf", "llama", 1, 31, HR_ROPE_SCALING_NONE},
	    {"llama-linear-bf16.gguf", "llama", 1, 21, HR_ROPE_SCALING_LINEAR},
	    {"llama-bias-bf16.gguf", "llama", 1, 29, HR_ROPE_SCALING_NONE},
	    {"qwen2-f32-00001-of-00003.gguf", "qwen2", 3, 27, HR_ROPE_SCALING_NONE},
	    {"phi3-longrope.gguf", "phi3", 1, 17, HR_ROPE_SCALING_LONGROPE},
	    {"qwen3-yarn.gguf", "qwen3", 1, 25, HR_ROPE_SCALING_YARN},
	};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct hr_checkpoint c = {0};
		struct hr_error      err = {0};
		if (hr_checkpoint_open(&c, join(MODELS, models[i].name), &err))
			fail_msg("%s", err.message);
		assert_string_equal(c.hparams.family, models[i].family);
		assert_int_equal(c.n_files, models[i].n_files);
		assert_int_equal(c.n_tensors, models[i].n_tensors);
		assert_int_equal(c.hparams.rope_scaling, models[i].scaling);
		for (int k = 0; k < c.n_tensors; k++)
			assert_true(c.tensors[k].offset + c.tensors[k].bytes <= c.tensors[k].file->size_bytes);
		hr_checkpoint_release(&c);
	}
}

static void the_vocabulary_is_read_as_it_is(void **state)
{
	(void)state;
	char                *directory = make_directory();
	struct hr_checkpoint c = {0};
	synth(join(directory, "m.gguf"), "tiny-llama", "q4_0");
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "m.gguf"), NULL), 0);
	assert_true(c.has_vocab);
	const struct hr_vocab *v = &c.vocab;
	assert_int_equal(v->kind, HR_TOKENIZER_SPM);
	assert_int_equal(v->n_tokens, 512);
	assert_string_equal(v->tokens[2].text, "</s>");
	assert_int_equal(v->types[0], HR_TOKEN_UNKNOWN);
	assert_int_equal(v->types[1], HR_TOKEN_CONTROL);
	assert_string_equal(v->tokens[3 + 0x0a].text, "<0x0A>");
	assert_int_equal(v->types[3], HR_TOKEN_BYTE);
	assert_string_equal(v->tokens[259].text, "\xe2\x96\x81");
	assert_int_equal(v->tokens[259].length, 3);
	assert_int_equal(v->types[259], HR_TOKEN_NORMAL);
	assert_true(v->scores[300] > v->scores[301]);
	assert_int_equal(v->bos, 1);
	assert_int_equal(v->eos, 2);
	assert_int_equal(v->unk, 0);
	assert_int_equal(v->pad, -1);
	assert_int_equal(v->n_eog, 0);
	assert_true(v->add_bos && v->add_space_prefix && !v->add_eos);
	hr_checkpoint_release(&c);
	remove_directory(directory);
}

/* ---- Damages ---------------------------------------------------------------- */

/* In a tiny-llama of q4_0: the key (or tensor name) `find` becomes `rename` (same length) when that is given;
 * else the `width` bytes `skip` behind it become `value`. Behind a key stand its type (4 bytes) and its
 * value. */
struct damage {
	const char *find, *rename;
	int         skip, width;
	uint64_t    value;
	int         code;
	const char *fragment;
};

#define RENAME(a, b) (a), (b), 0, 0, 0
#define U32(key, x)  (key), NULL, 4, 4, (x)
/* Behind a tensor's name: n_dims (4 bytes), the dimensions (8 each), type (4). */
#define NE0(name, x)     (name), NULL, 4, 8, (x)
#define TYPE_1D(name, x) (name), NULL, 12, 4, (x)

static const struct damage damages[] = {
    {RENAME("general.architecture", "general.architexture"), HR_EFORMAT,
     "the key general.architecture is missing"},
    {"general.architecture", NULL, 12, 5, 0x787878616dull /* "maxxx" */, HR_EUNSUPPORTED,
     "the model family 'maxxx' is not supported; supported are llama, mistral, qwen2"},
    {RENAME("llama.block_count", "llama.block_cxunt"), HR_EFORMAT, "the key llama.block_count is missing"},
    {RENAME("llama.attention.layer_norm_rms_epsilon", "llama.attention.layer_norm_rms_epsilxn"), HR_EFORMAT,
     "layer_norm_rms_epsilon is missing"},
    {U32("llama.block_count", 0), HR_EFORMAT, "number of layers is 0"},
    {U32("llama.block_count", UINT32_MAX), HR_EFORMAT,
     "key 'llama.block_count' is 4294967295, which is absurdly large"},
    {U32("llama.block_count", 5000), HR_EFORMAT, "number of layers is 5000; 1 to 4096"},
    {U32("llama.block_count", 5), HR_EFORMAT, "tensor 'blk.4.attn_norm.weight' is missing"},
    {U32("llama.block_count", 3), HR_EUNSUPPORTED,
     "tensor 'blk.3.attn_norm.weight' has no place in a llama model of 3"},
    {U32("llama.embedding_length", 0), HR_EFORMAT, "embedding length is 0"},
    {U32("llama.embedding_length", 64), HR_EFORMAT,
     "has the shape [512, 128], but the model's description asks for [512, 64]"},
    {U32("llama.feed_forward_length", 100), HR_EFORMAT, "'blk.0.ffn_gate.weight' has the shape [256, 128]"},
    {U32("llama.attention.head_count", 0), HR_EFORMAT, "attention heads is 0"},
    {U32("llama.attention.head_count_kv", 3), HR_EFORMAT, "4 attention heads cannot share 3 key/value heads"},
    {U32("llama.attention.head_count_kv", 4), HR_EFORMAT, "'blk.0.attn_k.weight' has the shape [64, 128]"},
    {U32("llama.attention.key_length", 33), HR_EUNSUPPORTED, "keys have 33 elements per head and values 32"},
    {U32("llama.rope.dimension_count", 34), HR_EFORMAT, "34 rotated elements of a head of 32"},
    {U32("llama.rope.dimension_count", 31), HR_EFORMAT, "31 rotated elements of a head of 32"},
    {U32("llama.rope.freq_base", 0xbf800000), HR_EFORMAT, "the RoPE base is -1"},
    {U32("llama.rope.freq_base", 0x7fc00000), HR_EFORMAT, "'llama.rope.freq_base' is not a finite number"},
    {U32("llama.vocab_size", 511), HR_EFORMAT,
     "token_embd.weight' has the shape [512, 128], but the model's description asks for [511, 128]"},
    {U32("llama.vocab_size", 1u << 25), HR_EFORMAT, "a vocabulary of 33554432 tokens"},
    {RENAME("output_norm.weight", "output_norm.weighx"), HR_EFORMAT,
     "tensor 'output_norm.weight' is missing"},
    {RENAME("blk.2.attn_q.weight", "blk.2.attn_z.weight"), HR_EFORMAT,
     "tensor 'blk.2.attn_q.weight' is missing"},
    {RENAME("blk.2.attn_q.weight", "blk.1.attn_q.weight"), HR_EFORMAT,
     "'blk.1.attn_q.weight' stands there twice"},
    {NE0("blk.1.attn_norm.weight", 96), HR_EFORMAT, "'blk.1.attn_norm.weight' has the shape [96]"},
    {TYPE_1D("blk.1.attn_norm.weight", 2), HR_EUNSUPPORTED,
     "has the quantized type q4_0; norms and biases must be"},
    {U32("tokenizer.ggml.bos_token_id", 512), HR_EFORMAT,
     "bos_token_id is 512, but there are only 512 tokens"},
    {RENAME("tokenizer.ggml.tokens", "tokenizer.ggml.txkens"), HR_EFORMAT,
     "the tokenizer has no tokenizer.ggml.tokens"},
    {"tokenizer.ggml.token_type", NULL, 16, 4, 7, HR_EFORMAT, "token 0 has the type 7, 1 to 6"},
};

static uint8_t *find(uint8_t *data, size_t n, const char *text)
{
	/* with the length before it, so that no longer name is met */
	uint8_t  pattern[128];
	uint64_t length = strlen(text);
	memcpy(pattern, &length, 8);
	memcpy(pattern + 8, text, length);
	uint8_t *at = memmem(data, n, pattern, 8 + length);
	assert_non_null(at);
	return at + 8;
}

/* RoPE's scalings that tensors are a part of, or that have more keys. */
static const struct damage longrope_damages[] = {
    {RENAME("rope_factors_long.weight", "damg.rotary_emb.inv_freq"), HR_EFORMAT,
     "longrope RoPE scaling needs a tensor 'rope_factors_long.weight'"},
    {NE0("rope_factors_short.weight", 3), HR_EFORMAT, "'rope_factors_short.weight' has the shape [3]"},
    {U32("phi3.rope.scaling.attn_factor", 0xbf800000), HR_EFORMAT, "RoPE multiplies by -1"},
};
static const struct damage yarn_damages[] = {
    {U32("qwen3.rope.scaling.yarn_beta_fast", 0), HR_EFORMAT, "has the betas 0 and 0.25"},
    {U32("qwen3.rope.scaling.factor", 0xc0000000), HR_EFORMAT, "RoPE scaling factor is -2"},
};

static void check_damages(const char *directory, const char *path, const struct damage *list, size_t n_list)
{
	size_t   n;
	uint8_t *good = read_file(path, &n);
	for (size_t i = 0; i < n_list; i++) {
		const struct damage *d = &list[i];
		uint8_t             *bad = malloc(n);
		memcpy(bad, good, n);
		uint8_t *at = find(bad, n, d->find);
		if (d->rename) {
			assert_int_equal(strlen(d->find), strlen(d->rename));
			memcpy(at, d->rename, strlen(d->rename));
		} else {
			memcpy(at + strlen(d->find) + d->skip, &d->value, (size_t)d->width);
		}
		write_file(join(directory, "bad.gguf"), bad, n);
		free(bad);
		expect(d->find, join(directory, "bad.gguf"), d->code, d->fragment);
	}
	free(good);
}

static void every_damage_is_named(void **state)
{
	(void)state;
	char *directory = make_directory();
	char  good[300];
	snprintf(good, sizeof good, "%s/good.gguf", directory);
	synth(good, "tiny-llama", "q4_0");
	check_damages(directory, good, damages, sizeof damages / sizeof *damages);
	check_damages(directory, MODELS "phi3-longrope.gguf", longrope_damages,
	              sizeof longrope_damages / sizeof *longrope_damages);
	check_damages(directory, MODELS "qwen3-yarn.gguf", yarn_damages,
	              sizeof yarn_damages / sizeof *yarn_damages);
	remove_directory(directory);
}

/* The tokenizer's reason is kept, and the model runs on token ids. */
static void a_foreign_tokenizer_is_no_obstacle(void **state)
{
	(void)state;
	char                *directory = make_directory();
	struct hr_checkpoint c = {0};
	size_t               n;
	synth(join(directory, "m.gguf"), "tiny-llama", "q4_0");
	uint8_t *data = read_file(join(directory, "m.gguf"), &n);
	memcpy(find(data, n, "tokenizer.ggml.model") + strlen("tokenizer.ggml.model") + 12, "plamo", 5);
	write_file(join(directory, "m.gguf"), data, n);
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "m.gguf"), NULL), 0);
	assert_false(c.has_vocab);
	assert_int_equal(c.vocab_error.code, HR_EUNSUPPORTED);
	assert_non_null(strstr(c.vocab_error.message, "the tokenizer model 'plamo' is not supported"));
	hr_checkpoint_release(&c);

	memcpy(find(data, n, "tokenizer.ggml.model"), "tokenizer.ggml.mxdel", 20);
	write_file(join(directory, "m.gguf"), data, n);
	assert_int_equal(hr_checkpoint_open(&c, join(directory, "m.gguf"), NULL), 0);
	assert_false(c.has_vocab);
	assert_int_equal(c.vocab_error.code, 0);
	hr_checkpoint_release(&c);
	free(data);
	remove_directory(directory);
}

/* ---- Shards ---------------------------------------------------------------- */

#define SHARD(i) "qwen2-f32-0000" #i "-of-00003.gguf"

static void copy_shard(const char *directory, const char *from, const char *to)
{
	size_t   n;
	uint8_t *data = read_file(join(MODELS, from), &n);
	write_file(join(directory, to), data, n);
	free(data);
}

static void shards_must_fit_together(void **state)
{
	(void)state;
	struct hr_checkpoint c = {0};
	char                *directory = make_directory();
	copy_shard(directory, SHARD(1), SHARD(1));
	expect("alone", join(directory, SHARD(1)), HR_ENOENT,
	       SHARD(2) ": this shard is missing; the model has 3 of them");
	copy_shard(directory, SHARD(2), SHARD(2));
	copy_shard(directory, SHARD(2), SHARD(3));
	expect("twice", join(directory, SHARD(1)), HR_EFORMAT, "this is shard 2 of 3, by its name 3 of 3");
	copy_shard(directory, "llama2-f32.gguf", SHARD(3));
	expect("foreign", join(directory, SHARD(1)), HR_EFORMAT, "this is shard 1 of 1, by its name 3 of 3");
	copy_shard(directory, SHARD(3), SHARD(3));
	expect("second", join(directory, SHARD(2)), HR_EINVAL, "this is shard 2 of 3; open the first one");
	copy_shard(directory, SHARD(1), "first.gguf");
	expect("renamed", join(directory, "first.gguf"), HR_EFORMAT,
	       "its name does not end in -00001-of-00003.gguf");
	assert_int_equal(hr_checkpoint_open(&c, join(directory, SHARD(1)), NULL), 0);
	assert_int_equal(c.n_files, 3);
	bool used[3] = {false};
	for (int i = 0; i < c.n_tensors; i++) {
		assert_true(c.tensors[i].file >= c.files && c.tensors[i].file < c.files + 3);
		used[c.tensors[i].file - c.files] = true;
	}
	assert_true(used[0] && used[1] && used[2]);
	hr_checkpoint_release(&c);

	size_t   n;
	uint8_t *data = read_file(join(directory, SHARD(1)), &n);
	uint8_t *count = find(data, n, "split.tensors.count") + strlen("split.tensors.count") + 4;
	*count += 1;
	write_file(join(directory, SHARD(1)), data, n);
	expect("a tensor too few", join(directory, SHARD(1)), HR_EFORMAT,
	       "split.tensors.count is 28, but the 3 shards hold 27");
	free(data);
	remove_directory(directory);
}

static void what_is_no_model_is_named(void **state)
{
	(void)state;
	char *directory = make_directory();
	expect("nothing", join(directory, "none.gguf"), HR_ENOENT, "none.gguf");
	write_text(directory, "empty.gguf", "");
	expect("empty", join(directory, "empty.gguf"), HR_ETRUNCATED,
	       "ends at byte 0, in the middle of the first four bytes");
	write_text(directory, "text.gguf", "not a model");
	expect("text", join(directory, "text.gguf"), HR_EFORMAT, "this is no GGUF file");
	write_text(directory, "model.pth", "PK");
	expect("pickle", join(directory, "model.pth"), HR_EUNSUPPORTED, "can run programs when it is loaded");
	remove_directory(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_model_is_read_as_it_is),
	    cmocka_unit_test(files_of_other_writers_are_read),
	    cmocka_unit_test(the_vocabulary_is_read_as_it_is),
	    cmocka_unit_test(every_damage_is_named),
	    cmocka_unit_test(a_foreign_tokenizer_is_no_obstacle),
	    cmocka_unit_test(shards_must_fit_together),
	    cmocka_unit_test(what_is_no_model_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
