/* Hugging Face directories: real ones (written by Transformers) are read as they
 * are; a config that is wrong, or that the tensors contradict, is refused by name. */
#include "headrace/headrace.h"
#include "runtime/format/checkpoint.h"
#include "tests/format_testing.h"

#include <jansson.h>

#define MODELS "tests/golden/models/"

static void copy(const char *from_directory, const char *name, const char *to_directory, const char *to_name)
{
	size_t   n;
	uint8_t *data = read_file(join(from_directory, name), &n);
	write_file(join(to_directory, to_name), data, n);
	free(data);
}

/* A copy of a golden model of one file, for the caller to spoil. */
static char *copy_model(const char *model)
{
	char *directory = make_directory();
	copy(model, "config.json", directory, "config.json");
	copy(model, "model.safetensors", directory, "model.safetensors");
	return directory;
}

/* Set `key` of the config to the JSON text `value`; NULL removes it. */
static void edit_config(const char *directory, const char *key, const char *value)
{
	json_t *root = json_load_file(join(directory, "config.json"), 0, NULL);
	assert_non_null(root);
	if (value) {
		json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
		assert_non_null(v);
		json_object_set_new(root, key, v);
	} else {
		json_object_del(root, key);
	}
	assert_int_equal(json_dump_file(root, join(directory, "config.json"), 0), 0);
	json_decref(root);
}

/* Replace the first `from` in a file by `to`, of the same length. */
static void replace(const char *directory, const char *name, const char *from, const char *to)
{
	size_t   n;
	uint8_t *data = read_file(join(directory, name), &n);
	uint8_t *at = memmem(data, n, from, strlen(from));
	assert_non_null(at);
	assert_int_equal(strlen(from), strlen(to));
	memcpy(at, to, strlen(to));
	write_file(join(directory, name), data, n);
	free(data);
}

static void expect(const char *what, const char *path, int code, const char *fragment)
{
	struct hr_checkpoint c = {.n_tensors = 77};
	struct hr_error      err = {0};
	check_failure(what, hr_checkpoint_open(&c, path, &err), &err, code, fragment);
	assert_int_equal(c.n_tensors, 77); /* written on success only */
}

static void real_models_are_read_as_they_are(void **state)
{
	(void)state;
	struct hr_checkpoint     c = {0};
	const struct hr_hparams *h = &c.hparams;
	assert_int_equal(hr_checkpoint_open(&c, MODELS "llama3", NULL), 0);
	assert_string_equal(h->family, "llama");
	assert_false(c.is_gguf);
	assert_int_equal(h->n_layers, 3);
	assert_int_equal(h->n_heads, 8);
	assert_int_equal(h->n_kv_heads, 1);
	assert_int_equal(h->head_dim, 16);
	assert_int_equal(h->n_embd, 64);
	assert_int_equal(h->n_ff, 96);
	assert_int_equal(h->n_vocab, 256);
	assert_int_equal(h->n_ctx_train, 512);
	assert_true(h->rope_theta == 500000);
	assert_int_equal(h->rope_style, HR_ROPE_NEOX);
	assert_int_equal(h->rope_scaling, HR_ROPE_SCALING_LLAMA3);
	assert_true(h->rope_factor == 8 && h->rope_low_freq_factor == 1 && h->rope_high_freq_factor == 4);
	assert_int_equal(h->rope_original_context, 64);
	assert_false(h->tied);
	assert_string_equal(c.tensors[c.blocks[2].down].name, "model.layers.2.mlp.down_proj.weight");
	assert_string_equal(c.tensors[c.ends.head].name, "lm_head.weight");
	assert_int_equal(c.blocks[0].q_bias, -1);
	assert_int_equal(c.ends.rope_factors, -1);
	assert_int_equal(c.weight_bytes, 2 * c.n_params);
	assert_string_equal(c.dtype, "f16");
	hr_checkpoint_release(&c);

	assert_int_equal(hr_checkpoint_open(&c, MODELS "mistral-window", NULL), 0); /* sharded */
	assert_string_equal(h->family, "mistral");
	assert_int_equal(h->sliding_window, 16);
	assert_true(c.n_files > 1);
	assert_int_equal(c.n_tensors, 21);
	hr_checkpoint_release(&c);

	assert_int_equal(hr_checkpoint_open(&c, MODELS "llama-bias", NULL), 0);
	assert_string_equal(c.tensors[c.blocks[1].o_bias].name, "model.layers.1.self_attn.o_proj.bias");
	hr_checkpoint_release(&c);
	hr_checkpoint_release(&c); /* a zeroed one */
}

static const struct {
	const char *model, *key, *value;
	int         code;
	const char *fragment;
} configs[] = {
    {"llama3", "model_type", "\"gpt_nexx\"", HR_EUNSUPPORTED,
     "family 'gpt_nexx' is not supported; supported are llama, mistral, qwen2, qwen3"},
    {"llama3", "model_type", "7", HR_EFORMAT, "\"model_type\" is an integer, but a string is needed"},
    {"llama3", "architectures", "[\"LlamaForSequenceClassification\"]", HR_EUNSUPPORTED,
     "LlamaForSequenceClassification is not supported"},
    {"llama3", "num_hidden_layers", NULL, HR_EFORMAT, "\"num_hidden_layers\" is missing"},
    {"llama3", "num_hidden_layers", "null", HR_EFORMAT, "\"num_hidden_layers\" is missing"},
    {"llama3", "num_hidden_layers", "0", HR_EFORMAT, "number of layers is 0"},
    {"llama3", "num_hidden_layers", "-3", HR_EFORMAT, "is -3, which is negative"},
    {"llama3", "num_hidden_layers", "3.5", HR_EFORMAT, "a number with a fraction, but an integer"},
    {"llama3", "num_hidden_layers", "99999999999", HR_EFORMAT, "which is absurdly large"},
    {"llama3", "num_hidden_layers", "100000", HR_EFORMAT, "number of layers is 100000; 1 to"},
    {"llama3", "num_hidden_layers", "4", HR_EFORMAT,
     "tensor 'model.layers.3.input_layernorm.weight' is missing"},
    {"llama3", "num_hidden_layers", "2", HR_EUNSUPPORTED, "has no place in a llama model of 2 layers"},
    {"llama3", "hidden_size", "[64]", HR_EFORMAT, "\"hidden_size\" is an array"},
    {"llama3", "hidden_size", "0", HR_EFORMAT, "embedding length is 0"},
    {"llama3", "hidden_size", "32", HR_EFORMAT,
     "has the shape [256, 64], but the model's description asks for [256, 32]"},
    {"llama3", "intermediate_size", "100", HR_EFORMAT, "mlp.gate_proj.weight' has the shape [96, 64]"},
    {"llama3", "intermediate_size", "0", HR_EFORMAT, "feed-forward length is 0"},
    {"llama3", "vocab_size", "0", HR_EFORMAT, "\"vocab_size\" is 0"},
    {"llama3", "vocab_size", "100000000", HR_EFORMAT, "vocabulary of 100000000 tokens"},
    {"llama3", "vocab_size", "257", HR_EFORMAT, "asks for [257, 64]"},
    {"llama3", "num_attention_heads", "0", HR_EFORMAT, "attention heads is 0"},
    {"llama3", "num_attention_heads", "4", HR_EFORMAT, "self_attn.q_proj.weight' has the shape [128, 64]"},
    {"llama3", "num_key_value_heads", "0", HR_EFORMAT, "key/value heads is 0"},
    {"llama3", "num_key_value_heads", "3", HR_EFORMAT, "8 attention heads cannot share 3 key/value heads"},
    {"llama3", "num_key_value_heads", NULL, HR_EFORMAT, "self_attn.k_proj.weight' has the shape [16, 64]"},
    {"llama3", "head_dim", "2147483647", HR_EFORMAT, "\"head_dim\" is 2147483647, which is absurdly large"},
    {"llama3", "head_dim", "1073741824", HR_EFORMAT, "elements per head is 1073741824"},
    {"llama3", "head_dim", "15", HR_EFORMAT, "heads of 15 elements cannot be rotated"},
    {"llama3", "head_dim", "0", HR_EFORMAT, "elements per head is 0"},
    {"llama3", "head_dim", NULL, HR_EFORMAT, "description asks for [64, 64]"},
    {"llama3", "rms_norm_eps", "-1", HR_EFORMAT, "epsilon of -1 makes no sense"},
    {"llama3", "rms_norm_eps", "\"1e-5\"", HR_EFORMAT, "\"rms_norm_eps\" is a string"},
    {"llama3", "hidden_act", "\"quick_gelu\"", HR_EUNSUPPORTED,
     "\"hidden_act\" is quick_gelu, which is not supported"},
    {"llama3", "mlp_bias", "true", HR_EUNSUPPORTED, "\"mlp_bias\" is true"},
    {"llama3", "mlp_bias", "1", HR_EFORMAT, "\"mlp_bias\" is an integer, but true or false"},
    {"llama3", "attention_bias", "true", HR_EFORMAT, "self_attn.q_proj.bias' is missing"},
    {"llama-bias", "attention_bias", "false", HR_EFORMAT, "rules it out"},
    {"llama3", "quantization_config", "{\"quant_method\":\"gptq\"}", HR_EUNSUPPORTED,
     "\"quantization_config\" is gptq"},
    {"llama3", "quantization", "{\"bits\":4,\"group_size\":64}", HR_EUNSUPPORTED,
     "\"quantization\" is given, as MLX packs weights"},
    {"qwen2", "num_attention_heads", "7", HR_EFORMAT, "which \"num_attention_heads\" (7) does not divide"},
    {"gpt2", "n_head", "7", HR_EFORMAT, "cannot be divided among 7 attention heads"},
    {"phi3", "rope_scaling", "{\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1]}", HR_EFORMAT,
     "\"short_factor\" has 1 factors, but 4 pairs"},
    {"phi3", "rope_scaling", "{\"type\":\"su\",\"short_factor\":[1,1,1,1],\"long_factor\":[1,2,3,4,5]}",
     HR_EFORMAT, "\"long_factor\" has 5 factors, but 4 pairs"},
    {"phi3", "rope_scaling", "{\"type\":\"longrope\",\"short_factor\":[1,1,1,1]}", HR_EFORMAT,
     "needs a list \"long_factor\""},
    {"phi3", "rope_scaling", "{\"type\":\"longrope\",\"short_factor\":[1,1,-1,1],\"long_factor\":[1,1,1,1]}",
     HR_EFORMAT, "factor 2 of \"short_factor\" is -1"},
    {"phi3", "rope_scaling",
     "{\"type\":\"longrope\",\"short_factor\":[1,1,1,1],\"long_factor\":[1,1,\"2\",1]}", HR_EFORMAT,
     "factor 2 of \"long_factor\" is 0"},
    {"llama3", "partial_rotary_factor", "0.5", HR_EUNSUPPORTED, "\"partial_rotary_factor\" is not 1"},
    {"llama3", "rope_theta", "0", HR_EFORMAT, "the RoPE base is 0"},
    {"llama3", "rope_scaling", "{\"rope_type\":\"yarn\"}", HR_EFORMAT, "'yarn' has no \"factor\""},
    {"llama3", "rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4.0,\"beta_slow\":-1}", HR_EFORMAT,
     "has the betas 32 and -1"},
    {"llama3", "rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4.0,\"truncate\":false}", HR_EUNSUPPORTED,
     "\"truncate\" is false"},
    {"llama3", "rope_scaling", "{\"type\":\"dynamic\",\"factor\":4.0}", HR_EUNSUPPORTED,
     "RoPE scaling 'dynamic' is not supported; supported are default, linear, llama3, yarn, longrope, su"},
    {"llama3", "rope_scaling", "{\"type\":\"linear\"}", HR_EFORMAT, "'linear' has no \"factor\""},
    {"llama3", "rope_scaling", "{\"type\":\"linear\",\"factor\":0}", HR_EFORMAT, "scaling factor is 0"},
    {"llama3", "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}", HR_EFORMAT,
     "one of them is missing"},
    {"llama3", "rope_scaling",
     "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":1,\"original_max_"
     "position_embeddings\":64}",
     HR_EFORMAT, "the factors low 4 and high 1"},
    {"llama3", "rope_scaling", "\"linear\"", HR_EFORMAT, "\"rope_scaling\" must be an object or null"},
    {"llama3", "rope_parameters", "{\"full_attention\":{}}", HR_EUNSUPPORTED,
     "different for different layers"},
    {"llama3", "tie_word_embeddings", "\"yes\"", HR_EFORMAT, "\"tie_word_embeddings\" is a string"},
    {"smollm2", "tie_word_embeddings", "false", HR_EFORMAT,
     "does not tie the head to the embedding (tie_word_embeddings), but there is no tensor 'lm_head.weight'"},
};

static void every_wrong_config_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
		char model[128], what[256];
		snprintf(model, sizeof model, MODELS "%s", configs[i].model);
		snprintf(what, sizeof what, "%s = %s", configs[i].key,
		         configs[i].value ? configs[i].value : "(absent)");
		char *directory = copy_model(model);
		edit_config(directory, configs[i].key, configs[i].value);
		expect(what, directory, configs[i].code, configs[i].fragment);
		remove_directory(directory);
	}
}

/* Where a config may say the same in several ways, they mean the same. */
static void equal_configs_read_equal(void **state)
{
	(void)state;
	struct hr_checkpoint c = {0}, d = {0};
	char                *directory = copy_model(MODELS "llama3");
	assert_int_equal(hr_checkpoint_open(&c, directory, NULL), 0);
	edit_config(directory, "rope_scaling", NULL);
	edit_config(directory, "rope_theta", NULL);
	edit_config(directory, "architectures", NULL);
	edit_config(directory, "mlp_bias", "null");
	edit_config(directory, "rope_parameters",
	            "{\"rope_type\":\"llama3\",\"rope_theta\":500000,\"factor\":8,\"low_freq_factor\":1,"
	            "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}");
	assert_int_equal(hr_checkpoint_open(&d, directory, NULL), 0);
	assert_memory_equal(&c.hparams, &d.hparams, sizeof c.hparams);
	hr_checkpoint_release(&d);
	edit_config(directory, "model_type", NULL);
	edit_config(directory, "architectures", "[\"LlamaForCausalLM\"]");
	assert_int_equal(hr_checkpoint_open(&d, directory, NULL), 0);
	assert_memory_equal(&c.hparams, &d.hparams, sizeof c.hparams);
	hr_checkpoint_release(&d);
	hr_checkpoint_release(&c);

	/* tied although there is a head: the embedding is taken, as Transformers does */
	edit_config(directory, "tie_word_embeddings", "true");
	assert_int_equal(hr_checkpoint_open(&d, directory, NULL), 0);
	assert_true(d.hparams.tied);
	assert_int_equal(d.ends.head, d.ends.embedding);
	hr_checkpoint_release(&d);
	remove_directory(directory);
}

static int window_of(const char *directory, int code, const char *fragment)
{
	struct hr_checkpoint c = {0};
	struct hr_error      err = {0};
	int                  rc = hr_checkpoint_open(&c, directory, &err);
	if (code)
		check_failure("a window", rc, &err, code, fragment);
	else
		assert_int_equal(rc, 0);
	int n = 0;
	for (int i = 0; i < c.hparams.n_layers; i++)
		n += hr_layer_slides(&c.hparams, i) ? c.hparams.sliding_window : 0;
	hr_checkpoint_release(&c);
	return n;
}

static void sliding_windows_are_read_as_transformers_does(void **state)
{
	(void)state;
	char *directory = copy_model(MODELS "qwen2");
	edit_config(directory, "layer_types", NULL);
	edit_config(directory, "sliding_window", "32");
	edit_config(directory, "max_window_layers", "0");
	edit_config(directory, "use_sliding_window", "false");
	assert_int_equal(window_of(directory, 0, ""), 0);
	edit_config(directory, "use_sliding_window", "true");
	assert_int_equal(window_of(directory, 0, ""), 2 * 32);
	edit_config(directory, "max_window_layers", "28");
	assert_int_equal(window_of(directory, 0, ""), 0);
	edit_config(directory, "max_window_layers", "1");
	assert_int_equal(window_of(directory, 0, ""), 32);
	edit_config(directory, "layer_types", "[\"sliding_attention\",\"sliding_attention\"]");
	assert_int_equal(window_of(directory, 0, ""), 2 * 32);
	edit_config(directory, "layer_types", "[\"full_attention\",\"sliding_attention\"]");
	assert_int_equal(window_of(directory, 0, ""), 32);
	edit_config(directory, "layer_types", "[\"full_attention\"]");
	window_of(directory, HR_EFORMAT, "describes 1 layers, but \"num_hidden_layers\" is 2");
	edit_config(directory, "layer_types", "[\"full_attention\",\"chunked_attention\"]");
	window_of(directory, HR_EUNSUPPORTED, "'chunked_attention' for layer 1");
	edit_config(directory, "sliding_window", "null");
	assert_int_equal(window_of(directory, 0, ""), 0);
	remove_directory(directory);

	directory = copy_model(MODELS "mistral");
	edit_config(directory, "sliding_window", "null");
	assert_int_equal(window_of(directory, 0, ""), 0);
	edit_config(directory, "sliding_window", NULL);
	assert_int_equal(window_of(directory, 0, ""), 2 * 4096);
	remove_directory(directory);
}

static void tensors_must_be_those_of_the_family(void **state)
{
	(void)state;
	char *directory = copy_model(MODELS "llama3");
	replace(directory, "model.safetensors", "model.norm.weight", "model.n0rm.weight");
	expect("a missing norm", directory, HR_EFORMAT, "tensor 'model.norm.weight' is missing");
	replace(directory, "model.safetensors", "model.n0rm.weight", "model.norm.weight");
	replace(directory, "model.safetensors", "lm_head.weight", "lm_hexd.weight");
	expect("a missing head", directory, HR_EFORMAT, "there is no tensor 'lm_head.weight'");
	edit_config(directory, "tie_word_embeddings", "true");
	expect("an unknown tensor", directory, HR_EUNSUPPORTED,
	       "tensor 'lm_hexd.weight' has no place in a llama model");
	remove_directory(directory);

	directory = copy_model(MODELS "qwen2");
	replace(directory, "model.safetensors", "layers.1.self_attn.k_proj.bias",
	        "layers.1.self_attn.k_proj.bxas");
	expect("a missing bias", directory, HR_EFORMAT, "'model.layers.1.self_attn.k_proj.bias' is missing");
	remove_directory(directory);
}

static void missing_files_are_named(void **state)
{
	(void)state;
	char *directory = copy_model(MODELS "llama3");
	unlink(join(directory, "model.safetensors"));
	expect("no weights", directory, HR_ENOENT, "neither model.safetensors nor model.safetensors.index.json");
	write_text(directory, "pytorch_model.bin", "");
	expect("pickles", directory, HR_EUNSUPPORTED, "pytorch_model.bin: a pickled PyTorch file");
	expect("a pickle", join(directory, "pytorch_model.bin"), HR_EUNSUPPORTED, "safe_serialization=True");
	write_text(directory, "config.json", "{\"a\": }");
	expect("no JSON", directory, HR_EFORMAT, "config.json: this is not valid JSON (line 1, column 7");
	write_text(directory, "config.json", "[]");
	expect("no object", directory, HR_EFORMAT, "config.json: the JSON text is not an object");
	write_text(directory, "config.json", "{}");
	expect("no name", directory, HR_EFORMAT, "neither \"model_type\" nor \"architectures\"");
	unlink(join(directory, "config.json"));
	unlink(join(directory, "pytorch_model.bin"));
	expect("no config", directory, HR_ENOENT, "there is no config.json");
	expect("nothing", join(directory, "nothing"), HR_ENOENT, "nothing");
	write_text(directory, "model.safetensors", "");
	expect("a file", join(directory, "model.safetensors"), HR_EUNSUPPORTED,
	       "give the directory that holds it");
	remove_directory(directory);
}

/* Weights of other programs: named with the way out, whether there is a config.json or not. */
static void foreign_weights_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *name, *fragment;
	} files[] = {
	    {"pytorch_model-00001-of-00002.bin", "pickled PyTorch file can run programs"},
	    {"pytorch_model.bin.index.json", "lists pickled PyTorch files"},
	    {"model.pt", "safe_serialization=True"},
	    {"consolidated.00.pth", "pickled"},
	    {"last.ckpt", "pickled checkpoint"},
	    {"model.pkl", "pickled"},
	    {"tf_model.h5", "from_tf=True"},
	    {"flax_model.msgpack", "from_flax=True"},
	    {"model.onnx", "ONNX graphs are not read"},
	    {"weights.npz", "MLX's arrays are not read"},
	    {"adapter_model.safetensors", "this is an adapter (LoRA)"},
	    {"weights.safetensors", "as model.safetensors or as the shards of"},
	};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char *directory = make_directory();
		write_text(directory, files[i].name, "");
		write_text(directory, "training_args.bin", "");
		expect(files[i].name, join(directory, files[i].name), HR_EUNSUPPORTED, files[i].fragment);
		expect("without a config", directory, HR_EUNSUPPORTED, files[i].fragment);
		copy(MODELS "llama3", "config.json", directory, "config.json");
		expect("with a config", directory, HR_EUNSUPPORTED, files[i].fragment);
		remove_directory(directory);
	}
	char *directory = make_directory();
	write_text(directory, "model-q4_0.gguf", "");
	expect("a directory of GGUF", directory, HR_EUNSUPPORTED, "give the file instead of its directory");
	remove_directory(directory);
}

/* The tokenizer of another model: the weights open, text is refused. */
static void a_tokenizer_must_fit_the_embedding(void **state)
{
	(void)state;
	struct hr_model *m = NULL;
	struct hr_error  err = {0};
	char            *directory = copy_model(MODELS "llama3"); /* 256 rows */
	copy("tests/golden/tokenizer/gpt2", "tokenizer.json", directory, "tokenizer.json");
	assert_int_equal(hr_model_open(&m, directory, &err), 0);
	int rc = (int)hr_model_tokenize(m, "a", 1, false, false, NULL, 0, &err);
	check_failure("a larger tokenizer", rc, &err, HR_EFORMAT,
	              "the tokenizer has 3501 tokens but the embedding only 256 rows; the tokenizer is another");
	hr_model_close(m);
	remove_directory(directory);
}

static void shards_must_be_complete(void **state)
{
	(void)state;
	static const char    shard[] = "model-00002-of-00004.safetensors";
	struct hr_checkpoint c = {0};
	char                *directory = make_directory();
	copy(MODELS "mistral-window", "config.json", directory, "config.json");
	copy(MODELS "mistral-window", "model.safetensors.index.json", directory, "model.safetensors.index.json");
	for (int i = 1; i <= 4; i++) {
		char name[64];
		snprintf(name, sizeof name, "model-%05d-of-00004.safetensors", i);
		copy(MODELS "mistral-window", name, directory, name);
	}
	assert_int_equal(hr_checkpoint_open(&c, directory, NULL), 0);
	hr_checkpoint_release(&c);
	unlink(join(directory, shard));
	expect("a missing shard", directory, HR_ENOENT,
	       "model-00002-of-00004.safetensors: this file of weights is missing");
	copy(directory, "model-00003-of-00004.safetensors", directory, shard);
	expect("a shard twice", directory, HR_EFORMAT, "stands there twice");
	copy(MODELS "mistral-window", shard, directory, shard);
	replace(directory, shard, ".weight\"", ".wxight\"");
	expect("a tensor missing", directory, HR_EFORMAT, "but it is in none of the model's files");
	remove_directory(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(real_models_are_read_as_they_are),
	    cmocka_unit_test(every_wrong_config_is_named),
	    cmocka_unit_test(equal_configs_read_equal),
	    cmocka_unit_test(sliding_windows_are_read_as_transformers_does),
	    cmocka_unit_test(tensors_must_be_those_of_the_family),
	    cmocka_unit_test(missing_files_are_named),
	    cmocka_unit_test(foreign_weights_are_named),
	    cmocka_unit_test(a_tokenizer_must_fit_the_embedding),
	    cmocka_unit_test(shards_must_be_complete),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
