/* An encoder's GGUF file, as llama.cpp's converter writes it, gives what the directory gives that it was
 * made of (and that test_golden_encoders holds against Transformers): the same ids, the same embeddings but
 * for their length, and the same logits where the file has the whole classifier. */
#include "headrace/headrace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROOT "tests/golden/encoders/"

enum { N_TEXTS = 4, WIDTH = 32, MAX_LABELS = 4 };

static const struct hr_text texts[N_TEXTS] = {
    {"The film was fine, and WINDOWS stream it.", 41, NULL, 0},
    {"na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd layers", 20, NULL, 0},
    {"short", 5, "the long layers of a bad film", 29},
    {"", 0, NULL, 0},
};

static struct hr_session *open_session(struct hr_model **m, const char *name)
{
	char                   path[100];
	struct hr_session     *s = NULL;
	struct hr_error        err = {0};
	struct hr_plan_options o;
	snprintf(path, sizeof path, ROOT "%s", name);
	if (hr_model_open(m, path, &err))
		fail_msg("%s", err.message);
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.n_threads = 2;
	if (hr_session_open(&s, *m, &o, &err))
		fail_msg("%s", err.message);
	return s;
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

int main(void)
{
	struct CMUnitTest tests[] = {
	    cmocka_unit_test_prestate(gives_what_its_directory_gives, "bert"),
	    cmocka_unit_test_prestate(gives_what_its_directory_gives, "roberta"),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
