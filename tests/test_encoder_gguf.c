/* An encoder's GGUF file gives what the directory gives that it was made of (and that
 * test_golden_encoders holds against Transformers). One that llama.cpp's converter wrote: the same ids, the
 * same embeddings but for their length, and the same logits where the file has the whole classifier. One of
 * ours: the same bits of all that comes out, and nearly the same as q8_0, also when it was converted on the
 * way. */
#include "headrace/headrace.h"
#include "tests/format_testing.h"

#include <math.h>

#define ROOT "tests/golden/encoders/"

enum { N_TEXTS = 5, WIDTH = 32, MAX_LABELS = 4 };

static const struct hr_text texts[N_TEXTS] = {
    {"The film was fine, and WINDOWS stream it.", 41, NULL, 0},
    {"na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd layers", 20, NULL, 0},
    {"short", 5, "the long layers of a bad film", 29},
    {"", 0, NULL, 0},
    /* for Unigram's normaliser: a wide f, a 1 in a circle, spaces */
    {"  the \xef\xbd\x86ilm   and \xe2\x91\xa0 ", 23, NULL, 0},
};

static struct hr_session *open_session_of(struct hr_model *m)
{
	struct hr_session     *s = NULL;
	struct hr_error        err = {0};
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.n_threads = 2;
	if (hr_session_open(&s, m, &o, &err))
		fail_msg("%s", err.message);
	return s;
}

static struct hr_session *open_session(struct hr_model **m, const char *name)
{
	char            path[100];
	struct hr_error err = {0};
	snprintf(path, sizeof path, ROOT "%s", name);
	if (hr_model_open(m, path, &err))
		fail_msg("%s", err.message);
	return open_session_of(*m);
}

static void expect_same_ids(const struct hr_model *a, const struct hr_model *b)
{
	for (int i = 0; i < N_TEXTS; i++) {
		int32_t x[64] = {0}, y[64] = {0};
		int64_t n = hr_model_tokenize(a, texts[i].text, texts[i].length, true, true, x, 64, NULL);
		assert_in_range(n, 2, 64);
		assert_int_equal(hr_model_tokenize(b, texts[i].text, texts[i].length, true, true, y, 64, NULL), n);
		assert_memory_equal(x, y, sizeof x);
	}
}

static void expect_same_directions(const float *x, const float *y)
{
	double xx = 0, yy = 0, xy = 0;
	for (int i = 0; i < WIDTH; i++) {
		xx += (double)x[i] * (double)x[i];
		yy += (double)y[i] * (double)y[i];
		xy += (double)x[i] * (double)y[i];
	}
	assert_true(fabs(yy - 1) < 1e-5); /* normalised */
	assert_true(xy / sqrt(xx * yy) > 1 - 1e-6);
}

static void gives_what_its_directory_gives(void **state)
{
	char             name[50];
	struct hr_model *directory, *file;
	float            x[N_TEXTS * WIDTH], y[N_TEXTS * WIDTH];
	snprintf(name, sizeof name, "%s.gguf", (char *)*state);
	struct hr_session *a = open_session(&directory, *state), *b = open_session(&file, name);
	expect_same_ids(directory, file);
	assert_string_equal(hr_model_info(directory)->pooling, hr_model_info(file)->pooling);
	assert_int_equal(hr_session_embed(a, texts, N_TEXTS, x, NULL, NULL, NULL), 0);
	assert_int_equal(hr_session_embed(b, texts, N_TEXTS, y, NULL, NULL, NULL), 0);
	for (int i = 0; i < N_TEXTS; i++)
		expect_same_directions(x + i * WIDTH, y + i * WIDTH);
	bool whole = strcmp(*state, "roberta") == 0; /* the converter leaves BERT's pooler out */
	assert_int_equal(hr_model_info(file)->trained_head, whole);
	if (whole) {
		float want[N_TEXTS * MAX_LABELS], got[N_TEXTS * MAX_LABELS];
		int   n = hr_model_info(directory)->n_labels;
		assert_int_equal(hr_model_info(file)->n_labels, n);
		assert_int_equal(hr_session_classify(a, texts, N_TEXTS, want, NULL, NULL, NULL, NULL), 0);
		assert_int_equal(hr_session_classify(b, texts, N_TEXTS, got, NULL, NULL, NULL, NULL), 0);
		for (int i = 0; i < N_TEXTS * n; i++)
			assert_true(fabsf(want[i] - got[i]) < 2e-3f); /* a GGUF can't say gelu_new; it means gelu */
		for (int i = 0; i < n; i++)
			assert_string_equal(hr_model_label(file, i), hr_model_label(directory, i));
	}
	hr_session_close(a);
	hr_session_close(b);
	hr_model_close(directory);
	hr_model_close(file);
}

/* ---- Files of ours --------------------------------------------------------------- */

struct outputs {
	float embeddings[N_TEXTS * WIDTH], logits[N_TEXTS * MAX_LABELS], scores[N_TEXTS * MAX_LABELS];
};

/* Closes the model. */
static void compute(struct outputs *out, struct hr_model *m)
{
	struct hr_session *s = open_session_of(m);
	struct hr_error    err = {0};
	memset(out, 0, sizeof *out);
	if (hr_session_embed(s, texts, N_TEXTS, out->embeddings, NULL, NULL, &err) ||
	    hr_session_classify(s, texts, N_TEXTS, out->logits, out->scores, NULL, NULL, &err))
		fail_msg("%s", err.message);
	hr_session_close(s);
	hr_model_close(m);
}

static struct hr_model *open_model(const char *path)
{
	struct hr_model *m = NULL;
	struct hr_error  err = {0};
	if (hr_model_open(&m, path, &err))
		fail_msg("%s", err.message);
	return m;
}

static void expect_same_use(const struct hr_model *a, const struct hr_model *b)
{
	const struct hr_model_info *x = hr_model_info(a), *y = hr_model_info(b);
	assert_string_equal(x->pooling, y->pooling);
	assert_int_equal(x->normalized, y->normalized);
	assert_int_equal(x->max_tokens, y->max_tokens);
	assert_int_equal(x->trained_head, y->trained_head);
	assert_int_equal(x->n_labels, y->n_labels);
	for (int i = 0; i < x->n_labels; i++)
		assert_string_equal(hr_model_label(a, i), hr_model_label(b, i));
}

static void expect_near(const struct outputs *a, const struct outputs *b)
{
	for (int i = 0; i < N_TEXTS; i++) {
		const float *x = a->embeddings + i * WIDTH, *y = b->embeddings + i * WIDTH;
		double       xx = 0, yy = 0, xy = 0;
		for (int k = 0; k < WIDTH; k++) {
			xx += (double)x[k] * (double)x[k];
			yy += (double)y[k] * (double)y[k];
			xy += (double)x[k] * (double)y[k];
		}
		assert_true(xy / sqrt(xx * yy) > 0.999);
	}
	for (int i = 0; i < N_TEXTS * MAX_LABELS; i++)
		assert_true(fabsf(a->scores[i] - b->scores[i]) < 0.05f);
}

static void quantize(const char *out, const char *model, const char *type)
{
	struct hr_error            err = {0};
	struct hr_quantize_options q;
	hr_quantize_options_init(&q);
	q.type = type;
	q.replace = true;
	if (hr_quantize(out, model, &q, NULL, &err))
		fail_msg("%s", err.message);
}

static void our_file_gives_the_same_bits(void **state)
{
	char            *directory = make_directory(), source[100], out[300];
	struct outputs   want, got;
	struct hr_model *model, *file;
	snprintf(source, sizeof source, ROOT "%s", (char *)*state);
	snprintf(out, sizeof out, "%s/out.gguf", directory);
	model = open_model(source);
	quantize(out, source, hr_model_info(model)->dtype);
	file = open_model(out);
	expect_same_use(model, file);
	expect_same_ids(model, file);
	compute(&want, model);
	compute(&got, file);
	assert_memory_equal(&want, &got, sizeof want);
	quantize(out, source, "q8_0");
	compute(&got, open_model(out));
	expect_near(&want, &got);
	assert_true(memcmp(&want, &got, sizeof want));
	remove_directory(directory);
}

/* The tokenizer and the use are the directory's, whether GGUF has words for them or not. */
static void converted_on_the_way_it_gives_the_same(void **state)
{
	char                      *directory = make_directory(), source[100];
	struct outputs             want, got;
	struct hr_model           *model, *converted = NULL;
	struct hr_error            err = {0};
	struct hr_quantize_options q;
	snprintf(source, sizeof source, ROOT "%s", (char *)*state);
	hr_quantize_options_init(&q);
	q.type = "q8_0";
	model = open_model(source);
	for (int again = 0; again < 2; again++) {
		if (hr_model_open_as(&converted, source, &q, directory, &err))
			fail_msg("%s", err.message);
		assert_string_equal(hr_model_info(converted)->dtype, "q8_0");
		expect_same_use(model, converted);
		expect_same_ids(model, converted);
		compute(&got, converted);
	}
	compute(&want, model);
	expect_near(&want, &got);
	remove_directory(directory);
}

int main(void)
{
	struct CMUnitTest tests[] = {
	    cmocka_unit_test_prestate(gives_what_its_directory_gives, "bert"),
	    cmocka_unit_test_prestate(gives_what_its_directory_gives, "roberta"),
	    cmocka_unit_test_prestate(our_file_gives_the_same_bits, "bert"),
	    cmocka_unit_test_prestate(our_file_gives_the_same_bits, "roberta"),
	    cmocka_unit_test_prestate(our_file_gives_the_same_bits, "distilbert"),
	    cmocka_unit_test_prestate(our_file_gives_the_same_bits, "xlm_roberta"),
	    cmocka_unit_test_prestate(converted_on_the_way_it_gives_the_same, "bert"),
	    cmocka_unit_test_prestate(converted_on_the_way_it_gives_the_same, "distilbert"),
	    cmocka_unit_test_prestate(converted_on_the_way_it_gives_the_same, "xlm_roberta"),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
