/* What is wrong with a vocabulary is said in one sentence that names it: each case
 * breaks a good one in one place. And what stands beside tokenizer.json is read. */
#include "tests/tokenizer_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static char directory[] = "/tmp/hr-test-vocab-XXXXXX";

static void write_file(const char *name, const char *text)
{
	char path[200];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void remove_files(void)
{
	static const char *const names[] = {
	    "tokenizer.json",         "tokenizer_config.json", "special_tokens_map.json",
	    "generation_config.json", "config.json",           "chat_template.jinja"};
	char path[200];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", directory, names[i]);
		unlink(path);
	}
}

/* "model/vocab/a" of a document becomes `value` (JSON text), or goes when that is NULL. */
static void change(json_t *root, const char *where, const char *value)
{
	char    copy[200], *save = NULL;
	json_t *at = root, *new = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
	assert_true(!value || new);
	snprintf(copy, sizeof copy, "%s", where);
	for (char *key = strtok_r(copy, "/", &save), *next; key; key = next) {
		next = strtok_r(NULL, "/", &save);
		size_t index = (size_t)atoi(key);
		bool   is_array = json_is_array(at);
		if (next)
			at = is_array ? json_array_get(at, index) : json_object_get(at, key);
		else if (new)
			assert_int_equal(is_array ? index == json_array_size(at) ? json_array_append(at, new)
			                                                         : json_array_set(at, index, new)
			                          : json_object_set(at, key, new),
			                 0);
		else
			assert_int_equal(is_array ? json_array_remove(at, index) : json_object_del(at, key), 0);
		assert_non_null(at);
	}
	json_decref(new);
}

static void write_changed(const char *kind, const char *where, const char *value)
{
	char path[200];
	snprintf(path, sizeof path, GOLDEN_DIR "%s/tokenizer.json", kind);
	json_t *root = json_load_file(path, 0, NULL);
	assert_non_null(root);
	if (where)
		change(root, where, value);
	char *text = json_dumps(root, JSON_COMPACT);
	write_file("tokenizer.json", text);
	free(text);
	json_decref(root);
}

static int open_written(struct hr_tokenizer **t, struct hr_error *err)
{
	struct hr_vocab v = {0};
	int             rc = hr_vocab_read_hf(&v, directory, err);
	return rc ? rc : hr_tokenizer_new(t, &v, err);
}

static void test_json_refusals(void **state)
{
	(void)state;
	static const struct {
		const char *kind, *where, *value;
		int         code;
		const char *says;
	} cases[] = {
	    {"gpt2", "model", NULL, HR_EFORMAT, "no model"},
	    {"gpt2", "model/type", "\"Wordy\"", HR_EUNSUPPORTED,
	     "\"Wordy\" is not supported; supported are BPE, Unigram, and WordPiece"},
	    {"gpt2", "model/type", "\"Unigram\"", HR_EUNSUPPORTED, "where spaces become U+2581"},
	    {"t5", "model/vocab/9/1", "\"x\"", HR_EFORMAT, "piece 9 is not a text and a score"},
	    {"t5", "model/vocab/9/0", "7", HR_EFORMAT, "piece 9 is not a text and a score"},
	    {"t5", "model/vocab", "{}", HR_EFORMAT, "no list of pieces"},
	    {"t5", "model/unk_id", "null", HR_EFORMAT, "names no unknown token"},
	    {"t5", "model/unk_id", "5000", HR_EFORMAT, "names no unknown token"},
	    {"t5", "normalizer", "{\"type\": \"Nmt\"}", HR_EUNSUPPORTED,
	     "\"Nmt\" (with its options) is not supported; supported are Precompiled"},
	    {"t5", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"a\"}", HR_EFORMAT,
	     "not base64"},
	    {"t5", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/w//////\"}",
	     HR_EFORMAT, "map is damaged: of its 6 bytes"},
	    {"t5", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"BAAAAAAAAAD/\"}",
	     HR_EFORMAT, "its texts are not UTF-8"},
	    {"t5", "normalizer", "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"(\"}, \"content\": \"\"}",
	     HR_EUNSUPPORTED, "is not understood"},
	    {"t5", "pre_tokenizer", "null", HR_EUNSUPPORTED, "where spaces become U+2581"},
	    {"gpt2", "model/vocab", NULL, HR_EFORMAT, "has no"},
	    {"gpt2", "model/vocab", "{}", HR_EFORMAT, "has no"},
	    {"gpt2", "model/vocab/a", NULL, HR_EFORMAT, "no token for the byte 0x61 ('a')"},
	    {"gpt2", "model/vocab/a", "-1", HR_EFORMAT, "\"a\" has no usable id (-1)"},
	    {"gpt2", "model/vocab/a", "\"1\"", HR_EFORMAT, "\"a\" has no usable id"},
	    {"gpt2", "model/vocab/a", "2000000000", HR_EFORMAT, "2000000000 is out of range"},
	    {"gpt2", "model/vocab/a", "300", HR_EFORMAT, "belongs to both"},
	    {"gpt2", "model/merges", NULL, HR_EFORMAT, "no list of merges"},
	    {"gpt2", "model/merges/0", "[\"a\", \"qqq\"]", HR_EFORMAT,
	     "Merge 0, \"a qqq\", has a right piece that is not"},
	    {"gpt2", "model/merges/0", "[\"zzzz\", \"a\"]", HR_EFORMAT, "has a left piece"},
	    {"gpt2", "model/merges/0", "[\"#\", \"q\"]", HR_EFORMAT,
	     "makes a piece that is not in the vocabulary"},
	    {"gpt2", "model/merges/0", "\"#q\"", HR_EFORMAT, "is not two pieces with a space between them"},
	    {"gpt2", "model/merges/0", "[\"a\"]", HR_EFORMAT, "merge 0 is not two pieces"},
	    {"gpt2", "model/merges/0", "[\"a b\", \"c\"]", HR_EFORMAT, "merge 0 is not two pieces"},
	    {"gpt2", "model/dropout", "0.1", HR_EUNSUPPORTED, "dropout"},
	    {"gpt2", "model/end_of_word_suffix", "\"</w>\"", HR_EUNSUPPORTED, "suffixes"},
	    {"gpt2", "model/unk_token", "\"<gone>\"", HR_EFORMAT,
	     "unknown token \"<gone>\" is not in the vocabulary"},
	    {"gpt2", "normalizer", "{\"type\": \"NFKC\"}", HR_EUNSUPPORTED, "normalizer \"NFKC\""},
	    {"gpt2", "normalizer", "{}", HR_EUNSUPPORTED, "normalizer \"without a type\""},
	    {"gpt2", "pre_tokenizer", "{\"type\": \"Whitespace\"}", HR_EUNSUPPORTED,
	     "pre-tokenizer \"Whitespace\""},
	    {"gpt2", "pre_tokenizer", "null", HR_EUNSUPPORTED, "neither those of byte-level BPE"},
	    {"gpt2", "pre_tokenizer/add_prefix_space", "true", HR_EUNSUPPORTED, "pre-tokenizer \"ByteLevel\""},
	    {"gpt2", "post_processor", "{\"type\": \"BertProcessing\"}", HR_EFORMAT, "names tokens that are not"},
	    {"gpt2", "post_processor", "{\"type\": \"Foo\"}", HR_EUNSUPPORTED, "\"Foo\""},
	    {"bert", "model/type", "\"BPE\"", HR_EUNSUPPORTED, "\"BPE\" is not supported"},
	    {"bert", "model/continuing_subword_prefix", "\"@@\"", HR_EUNSUPPORTED, "another prefix than ##"},
	    {"bert", "model/max_input_chars_per_word", "0", HR_EFORMAT, "no length of a word"},
	    {"bert", "model/unk_token", "\"[GONE]\"", HR_EFORMAT, "unknown token \"[GONE]\" is not"},
	    {"bert", "pre_tokenizer", "null", HR_EUNSUPPORTED, "not both those of BERT"},
	    {"bert", "normalizer", "{\"type\": \"NFC\"}", HR_EUNSUPPORTED, "not both those of BERT"},
	    {"bert-accents", "post_processor/sep", "[\"x\", 99999]", HR_EFORMAT, "names tokens that are not"},
	    {"gpt2", "added_tokens/0/content", NULL, HR_EFORMAT, "an added token has no content"},
	    {"gpt2", "added_tokens/0/id", "5", HR_EFORMAT, "belongs to both"},
	    {"llama3", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a(b\"", HR_EUNSUPPORTED,
	     "not understood"},
	    {"llama3", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a[bc]]\"", HR_EUNSUPPORTED, "nests"},
	    {"llama3", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a&&b]\"", HR_EUNSUPPORTED, "nests"},
	    {"llama3", "pre_tokenizer/pretokenizers/0/behavior", "\"MergedWithNext\"", HR_EUNSUPPORTED,
	     "\"Split\""},
	    {"llama3", "post_processor/processors/1/single/2", "{\"SpecialToken\": {\"id\": \"<gone>\"}}",
	     HR_EUNSUPPORTED, "post-processor"},
	    {"llama2", "model/vocab/<0x0A>", NULL, HR_EFORMAT, "no byte token <0x0A>"},
	    {"llama2", "model/vocab/\xe2\x96\x81", NULL, HR_EFORMAT, "no piece for a space"},
	    {"llama2", "normalizer", "null", HR_EUNSUPPORTED, "neither those"},
	    {"metaspace-split", "model/unk_token", "null", HR_EFORMAT,
	     "neither byte tokens nor an unknown token"},
	    {"metaspace-split", "normalizer", "{\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}",
	     HR_EUNSUPPORTED, "twice"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct hr_tokenizer *t = NULL;
		struct hr_error      err = {0};
		write_changed(cases[i].kind, cases[i].where, cases[i].value);
		int rc = open_written(&t, &err);
		if (rc != cases[i].code || err.code != rc || !strstr(err.message, cases[i].says) || t)
			fail_msg("%s of %s = %s: %d \"%s\", wanted \"%s\"", cases[i].where, cases[i].kind, cases[i].value,
			         rc, err.message, cases[i].says);
	}
	remove_files();
}

static void test_files_that_are_no_json(void **state)
{
	(void)state;
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	assert_int_equal(open_written(&t, &err), HR_ENOENT);
	assert_non_null(strstr(err.message, "tokenizer.json"));
	static const char *const texts[] = {"",        "{", "[]", "7", "{\"model\": 3}", "{\"a\": 1, \"a\": 2}",
	                                    "\xff\xfe"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		write_file("tokenizer.json", texts[i]);
		int rc = open_written(&t, &err);
		assert_true(rc == HR_EFORMAT || rc == HR_EUNSUPPORTED);
		assert_non_null(strstr(err.message, directory));
	}
	char *deep = malloc(200001);
	memset(deep, '[', 200000);
	deep[200000] = 0;
	write_file("tokenizer.json", deep);
	assert_int_equal(open_written(&t, &err), HR_EFORMAT);
	free(deep);
	write_changed("gpt2", NULL, NULL);
	write_file("tokenizer_config.json", "{");
	assert_int_equal(open_written(&t, &err), HR_EFORMAT);
	assert_non_null(strstr(err.message, "tokenizer_config.json: line 1"));
	assert_null(t);
	remove_files();
}

static void test_side_files(void **state)
{
	(void)state;
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	write_changed("llama3", NULL, NULL);
	write_file("tokenizer_config.json",
	           "{\"bos_token\": {\"content\": \"<|begin_of_text|>\"}, \"eos_token\": "
	           "\"<|end_of_text|>\", \"pad_token\": null, \"chat_template\": [{\"name\": \"tool_use\", "
	           "\"template\": \"no\"}, {\"name\": \"default\", \"template\": \"yes\"}]}");
	write_file("special_tokens_map.json", "{\"eos_token\": \"a\", \"unk_token\": \"b\"}");
	write_file("generation_config.json", "{\"eos_token_id\": [3501, 3504, 3504]}");
	write_file("config.json", "{\"eos_token_id\": 3503}");
	assert_int_equal(open_written(&t, &err), 0);
	const struct hr_vocab *v = hr_tokenizer_vocab(t);
	assert_int_equal(v->bos, 3500);
	assert_int_equal(v->eos, 3501);
	assert_int_equal(v->pad, -1);
	assert_string_equal(v->tokens[v->unk].text, "b");
	assert_string_equal(v->chat_template, "yes");
	assert_true(v->add_bos);
	assert_false(v->add_eos);
	assert_true(hr_tokenizer_is_eog(t, 3501));
	assert_true(hr_tokenizer_is_eog(t, 3503));
	assert_true(hr_tokenizer_is_eog(t, 3504));
	assert_int_equal(v->n_eog, 2);
	assert_false(hr_tokenizer_is_eog(t, 3500));
	assert_false(hr_tokenizer_is_eog(t, -1));
	hr_tokenizer_free(t);
	t = NULL;

	write_file("chat_template.jinja", "from a file");
	write_file("tokenizer_config.json",
	           "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"add_bos_token\": false, "
	           "\"add_eos_token\": true, \"eos_token\": \"<|eot_id|>\"}");
	assert_int_equal(open_written(&t, &err), 0);
	v = hr_tokenizer_vocab(t);
	assert_string_equal(v->chat_template, "from a file");
	assert_false(v->add_bos);
	assert_true(v->add_eos);
	int32_t ids[8];
	assert_int_equal(hr_tokenizer_encode(t, "a", 1, true, true, ids, 8, NULL), 2);
	assert_int_equal(ids[1], 3504);
	hr_tokenizer_free(t);
	t = NULL;

	write_file("generation_config.json", "{\"eos_token_id\": 3505}");
	assert_int_equal(open_written(&t, &err), HR_EFORMAT);
	assert_non_null(strstr(err.message, "eos_token_id is 3505, but the vocabulary ends at 3504"));
	remove_files();
}

/* ---- The other way in: a struct hr_vocab, as GGUF files give it ---- */

static void read_pieces(struct hr_vocab *v) { golden_read_pieces(v, GOLDEN_DIR "sentencepiece/pieces.tsv"); }

static void refuse_vocab(struct hr_vocab *v, int code, const char *says)
{
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	int                  rc = hr_tokenizer_new(&t, v, &err);
	if (rc != code || !strstr(err.message, says))
		fail_msg("got %d \"%s\", wanted \"%s\"", rc, err.message, says);
	assert_null(t);
	assert_null(v->tokens); /* taken over all the same */
}

static void test_vocab_refusals(void **state)
{
	(void)state;
	struct hr_vocab v = {0};
	refuse_vocab(&v, HR_EFORMAT, "vocabulary is empty");
	read_pieces(&v);
	free(v.scores);
	v.scores = NULL;
	refuse_vocab(&v, HR_EFORMAT, "neither scores nor merges");
	read_pieces(&v);
	v.kind = HR_TOKENIZER_BPE;
	refuse_vocab(&v, HR_EFORMAT, "no merges");
	read_pieces(&v);
	v.kind = HR_TOKENIZER_BPE;
	v.merges = calloc(1, sizeof *v.merges);
	v.pre = strdup("gpt-17");
	refuse_vocab(&v, HR_EUNSUPPORTED, "\"gpt-17\"; supported are: gpt-2 ");
	read_pieces(&v);
	v.kind = HR_TOKENIZER_BPE;
	v.merges = calloc(1, sizeof *v.merges);
	refuse_vocab(&v, HR_EUNSUPPORTED, "does not name its pre-tokenizer");
	read_pieces(&v);
	v.eos = 4000;
	refuse_vocab(&v, HR_EFORMAT, "EOS token has id 4000, but the vocabulary ends at 3999");
	read_pieces(&v);
	v.eog[0] = -2;
	v.n_eog = 1;
	refuse_vocab(&v, HR_EFORMAT, "end token has id -2");
	read_pieces(&v);
	v.bos = -1;
	v.add_bos = true;
	refuse_vocab(&v, HR_EFORMAT, "names no such token");
	read_pieces(&v);
	v.types[300] = 9;
	refuse_vocab(&v, HR_EFORMAT, "Token 300 of the vocabulary has the unknown type 9");
	read_pieces(&v);
	v.scores[300] = 0.0f / 0.0f;
	refuse_vocab(&v, HR_EFORMAT, "score of token 300 is not a number");
	read_pieces(&v);
	v.types[300] = HR_TOKEN_BYTE;
	refuse_vocab(&v, HR_EFORMAT, "Token 300 of the vocabulary is of type byte");
	read_pieces(&v);
	v.types[3 + 'A'] = HR_TOKEN_NORMAL;
	refuse_vocab(&v, HR_EFORMAT, "no byte token <0x41>");
	read_pieces(&v);
	free(v.tokens[500].text);
	v.tokens[500].text = strdup(v.tokens[400].text);
	v.tokens[500].length = v.tokens[400].length;
	refuse_vocab(&v, HR_EFORMAT, "Tokens 400 and 500 of the vocabulary are both");
}

static void test_token_bytes(void **state)
{
	(void)state;
	struct hr_tokenizer *t = golden_open("sentencepiece");
	char                 out[64] = "";
	int32_t              ids[16];
	assert_true(hr_tokenizer_strips_first_space(t));
	assert_int_equal(hr_tokenizer_token_bytes(t, -1, true, out, sizeof out), HR_EINVAL);
	assert_int_equal(hr_tokenizer_token_bytes(t, 4000, true, out, sizeof out), HR_EINVAL);
	assert_int_equal(hr_tokenizer_token_bytes(t, 3 + 0xe2, true, out, sizeof out), 1);
	assert_int_equal(out[0], (char)0xe2);
	assert_int_equal(hr_tokenizer_token_bytes(t, 1, false, NULL, 0), 0);
	assert_int_equal(hr_tokenizer_token_bytes(t, 1, true, out, 2), 3); /* "<s>", as far as there is room */
	assert_memory_equal(out, "<s", 2);
	int64_t n = hr_tokenizer_encode(t, "the", 3, false, false, ids, 1, NULL), length = 0;
	assert_true(n >= 1);
	n = hr_tokenizer_encode(t, "the", 3, false, false, ids, 16, NULL);
	for (int64_t i = 0; i < n; i++)
		length += hr_tokenizer_token_bytes(t, ids[i], false, out + length, sizeof out - (size_t)length);
	assert_int_equal(length, 4);
	assert_memory_equal(out, " the", 4);
	hr_tokenizer_free(t);
}

/* Catastrophic patterns end in an error, not in a long wait. */
static void test_runaway_pattern(void **state)
{
	(void)state;
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	write_changed("llama3", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(?:a+)+b|(?:x|x)*y\"");
	assert_int_equal(open_written(&t, &err), 0);
	static char text[101];
	memset(text, 'a', 100);
	assert_int_equal(hr_tokenizer_encode(t, text, 100, false, false, NULL, 0, &err), HR_EUNSUPPORTED);
	assert_non_null(strstr(err.message, "gave up on this text"));
	hr_tokenizer_free(t);
	remove_files();
}

static struct hr_tokenizer *open_with_pattern(const char *regex)
{
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	write_changed("llama3", "pre_tokenizer/pretokenizers/0/pattern/Regex", regex);
	assert_int_equal(open_written(&t, &err), 0);
	remove_files();
	return t;
}

/* Tokens as text with bars between them, what `tokenizers` gives with the same file. */
static void expect_tokens(const struct hr_tokenizer *t, const char *text, const char *want)
{
	int32_t ids[64];
	char    got[256] = "";
	int64_t n = hr_tokenizer_encode(t, text, strlen(text), false, false, ids, 64, NULL), length = 0;
	for (int64_t i = 0; i < n; i++) {
		length += hr_tokenizer_token_bytes(t, ids[i], true, got + length, sizeof got - (size_t)length);
		got[length++] = i + 1 < n ? '|' : 0;
	}
	assert_string_equal(got, want);
}

static void test_empty_matches(void **state)
{
	(void)state;
	struct hr_tokenizer *t = open_with_pattern("\"x*|(?=the)\"");
	expect_tokens(t, "the there", "t|h|e| |t|h|e|r|e");
	expect_tokens(t, "xxthexx the", "x|x|t|h|e|x|x| |t|h|e");
	hr_tokenizer_free(t);
	t = open_with_pattern("\"(?=the)\"");
	expect_tokens(t, "the there", "the| |the|re");
	expect_tokens(t, " the xxthethe", " |the| x|x|the|the");
	hr_tokenizer_free(t);
}

/* Deeper than the JIT's stack: the interpreter takes over. */
static void test_deep_match(void **state)
{
	(void)state;
	enum { N = 100000 };
	struct hr_tokenizer *t = open_with_pattern("\"(?:(a)|(b))+\"");
	char                *text = malloc(N);
	struct hr_error      err = {0};
	for (int i = 0; i < N; i++)
		text[i] = i % 3 ? 'a' : 'b';
	int64_t n = hr_tokenizer_encode(t, text, N, false, false, NULL, 0, &err);
	assert_string_equal(err.message, "");
	assert_in_range(n, 1000, N);
	free(text);
	hr_tokenizer_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_json_refusals), cmocka_unit_test(test_files_that_are_no_json),
	    cmocka_unit_test(test_side_files),    cmocka_unit_test(test_vocab_refusals),
	    cmocka_unit_test(test_token_bytes),   cmocka_unit_test(test_runaway_pattern),
	    cmocka_unit_test(test_empty_matches), cmocka_unit_test(test_deep_match),
	};
	if (!mkdtemp(directory))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failed;
}
