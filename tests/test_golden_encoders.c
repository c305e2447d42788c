/* Small encoders of every family against Transformers and sentence-transformers.
 *
 * scripts/make-golden-encoders wrote tests/golden/encoders: models with their
 * tokenizers, and NAME.json with texts, pairs of texts and what each must give alone. Here
 * they go through together, packed, in the wrong order, streamed and resident, in passes
 * of different sizes: the bits must not care. */
#include "headrace/headrace.h"
#include "runtime/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "tests/golden/encoders/"

enum { MAX_TEXTS = 64, MAX_WIDTH = 64 };

static const double bound = 5e-6; /* of the largest value; about four times what was measured */

struct golden {
	json_t          *json;
	struct hr_text   texts[MAX_TEXTS];
	size_t           n;
	struct hr_model *model;
};

struct outputs {
	float logits[MAX_TEXTS * MAX_WIDTH], scores[MAX_TEXTS * MAX_WIDTH], embeddings[MAX_TEXTS * MAX_WIDTH];
};

static const json_t *row_of(const struct golden *g, size_t i)
{
	return json_array_get(json_object_get(g->json, "rows"), i);
}

static void golden_open(struct golden *g, const char *name)
{
	char            path[200];
	json_error_t    why;
	struct hr_error err = {0};
	snprintf(path, sizeof path, ROOT "%s.json", name);
	*g = (struct golden){.json = json_load_file(path, 0, &why)};
	if (!g->json)
		fail_msg("%s: %s", path, why.text);
	g->n = json_array_size(json_object_get(g->json, "rows"));
	assert_in_range(g->n, 10, MAX_TEXTS);
	for (size_t i = 0; i < g->n; i++) {
		const json_t *text = json_object_get(row_of(g, i), "text"),
		             *pair = json_object_get(row_of(g, i), "pair");
		g->texts[i] = (struct hr_text){json_string_value(text), json_string_length(text),
		                               json_string_value(pair), json_string_length(pair)};
	}
	snprintf(path, sizeof path, ROOT "%s", name);
	if (hr_model_open(&g->model, path, &err))
		fail_msg("%s", err.message);
}

static void golden_close(struct golden *g)
{
	hr_model_close(g->model);
	json_decref(g->json);
}

static int count_cuts;

static void on_notice(void *user, const char *sentence)
{
	(void)user;
	count_cuts += strstr(sentence, "were cut") != NULL;
}

/* False: this machine lacks what `o` asks for. */
static bool compute(const struct golden *g, const struct hr_plan_options *o, struct outputs *out)
{
	struct hr_session *s;
	struct hr_error    err = {0};
	int                rc = hr_session_open(&s, g->model, o, &err);
	if (rc == HR_EUNSUPPORTED)
		return false;
	if (rc)
		fail_msg("%s", err.message);
	if (hr_session_classify(s, g->texts, g->n, out->logits, out->scores, NULL, NULL, &err) ||
	    hr_session_embed(s, g->texts, g->n, out->embeddings, NULL, NULL, &err))
		fail_msg("%s", err.message);
	hr_session_close(s);
	return true;
}

/* The worst difference from the golden values of `key`, as a fraction of the largest of them. */
static double difference(const struct golden *g, const char *key, const float *got, size_t width)
{
	double worst = 0, largest = 0;
	for (size_t i = 0; i < g->n; i++) {
		const json_t *want = json_object_get(row_of(g, i), key);
		assert_int_equal(json_array_size(want), width);
		for (size_t k = 0; k < width; k++) {
			double w = json_number_value(json_array_get(want, k)), d = fabs(w - (double)got[i * width + k]);
			worst = d > worst || isnan(d) ? d : worst;
			largest = fmax(largest, fabs(w));
		}
	}
	return worst / largest;
}

static struct hr_plan_options options(const struct golden *g, const char *isa, int window)
{
	struct hr_plan_options o;
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.cpu_isa = isa;
	o.n_threads = 2;
	o.full = !window;
	if (window) {
		o.window_layers = window;
		o.resident_layers = 0;
	}
	o.n_ctx = hr_model_info(g->model)->n_ctx_train;
	o.n_batch = o.n_ctx; /* several chunks */
	return o;
}

static void equals_transformers(void **state)
{
	static const char *const isas[] = {"portable", "avx2", "avx512"};
	struct golden            g;
	golden_open(&g, *state);
	const struct hr_model_info *m = hr_model_info(g.model);
	size_t                      n_labels = (size_t)m->n_labels, n_embd = (size_t)m->n_embd;
	assert_true(m->encoder && m->trained_head);
	assert_int_equal(m->max_tokens, json_integer_value(json_object_get(g.json, "longest")));
	for (int i = 0; i < m->n_labels; i++)
		assert_string_equal(hr_model_label(g.model, i),
		                    json_string_value(json_array_get(json_object_get(g.json, "labels"), (size_t)i)));
	assert_null(hr_model_label(g.model, m->n_labels));
	for (int i = 0; i < 3; i++) {
		static struct outputs  out;
		struct hr_plan_options o = options(&g, isas[i], 0);
		if (!compute(&g, &o, &out))
			continue;
		double logits = difference(&g, "logits", out.logits, n_labels);
		double scores = difference(&g, "scores", out.scores, n_labels);
		double embeddings = difference(&g, "embedding", out.embeddings, n_embd);
		printf("             %-10s %-8s logits %.1e scores %.1e embeddings %.1e\n", (char *)*state, isas[i],
		       logits, scores, embeddings);
		assert_true(logits > 0 && logits <= bound && scores <= bound && embeddings <= bound);
	}
	golden_close(&g);
}

static void bits_do_not_depend_on_the_company(void **state)
{
	static struct outputs whole, other;
	struct golden         g;
	golden_open(&g, *state);
	const struct hr_model_info *m = hr_model_info(g.model);
	size_t                      n_labels = (size_t)m->n_labels, n_embd = (size_t)m->n_embd;
	struct hr_plan_options      o = options(&g, NULL, 0);
	count_cuts = 0;
	o.on_notice = on_notice;
	assert_true(compute(&g, &o, &whole));
	assert_int_equal(count_cuts, 2); /* of both calls: one text is too long */
	o.on_notice = NULL;
	for (int window = 2; window < 4; window++) { /* streamed, and with other chunks */
		o = options(&g, NULL, window);
		o.n_batch = window == 2 ? 512 : o.n_batch;
		o.n_threads = window;
		memset(&other, 0, sizeof other);
		assert_true(compute(&g, &o, &other));
		assert_memory_equal(whole.logits, other.logits, g.n * n_labels * sizeof(float));
		assert_memory_equal(whole.embeddings, other.embeddings, g.n * n_embd * sizeof(float));
	}
	struct golden alone = g;
	alone.n = 1;
	for (size_t i = 0; i < g.n; i++) {
		alone.texts[0] = g.texts[i];
		o = options(&g, NULL, 0);
		assert_true(compute(&alone, &o, &other));
		assert_memory_equal(whole.logits + i * n_labels, other.logits, n_labels * sizeof(float));
		assert_memory_equal(whole.embeddings + i * n_embd, other.embeddings, n_embd * sizeof(float));
	}
	golden_close(&g);
}

/* More texts than a pass has room for, and in a pass more than a chunk has tokens; some are the same. */
static void many_passes(void **state)
{
	(void)state;
	enum { COPIES = 5000 };
	struct golden g;
	golden_open(&g, "bert");
	size_t                 n_labels = (size_t)hr_model_info(g.model)->n_labels, n = g.n * COPIES;
	struct hr_plan_options o = options(&g, NULL, 2);
	o.n_batch = 48;
	struct hr_text    *texts = calloc(n, sizeof *texts);
	float             *logits = calloc(n * n_labels, sizeof *logits);
	struct hr_session *s;
	struct hr_error    err = {0};
	struct hr_report   report;
	for (size_t i = 0; i < n; i++)
		texts[i] = g.texts[i * 7 % g.n];
	assert_int_equal(hr_session_open(&s, g.model, &o, &err), 0);
	if (hr_session_classify(s, texts, n, logits, NULL, NULL, NULL, &err))
		fail_msg("%s", err.message);
	hr_session_report(s, &report);
	assert_in_range(report.passes, 2, 20);
	for (size_t i = g.n; i < n; i++)
		assert_memory_equal(logits + i * n_labels, logits + i % g.n * n_labels, n_labels * sizeof *logits);
	hr_session_close(s);
	free(texts);
	free(logits);
	golden_close(&g);
}

static int stop_at_once(void *user, uint64_t done, uint64_t total)
{
	(void)user, (void)done, (void)total;
	return 1;
}

static void misuse_is_named(void **state)
{
	(void)state;
	struct golden      g;
	struct hr_session *s;
	struct hr_error    err = {0};
	struct hr_request  request;
	struct hr_model   *decoder;
	uint64_t           id;
	float              logits[8];
	golden_open(&g, "bert");
	struct hr_plan_options o = options(&g, NULL, 0);
	assert_int_equal(hr_session_open(&s, g.model, &o, &err), 0);
	hr_request_init(&request);
	request.text = "a";
	assert_int_equal(hr_session_submit(s, &request, &id, &err), HR_EUNSUPPORTED);
	assert_non_null(strstr(err.message, "an encoder"));
	assert_int_equal(hr_session_classify(s, g.texts, 2, logits, NULL, stop_at_once, NULL, &err),
	                 HR_ECANCELED);
	assert_int_equal(hr_session_classify(s, g.texts, 2, logits, NULL, NULL, NULL, &err), 0);
	assert_int_equal(hr_session_embed(s, g.texts, 0, NULL, NULL, NULL, &err), 0);
	hr_session_close(s);
	o.n_ctx = 41;
	assert_int_equal(hr_session_open(&s, g.model, &o, &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "40 positions and no more"));
	golden_close(&g);

	assert_int_equal(hr_model_open(&decoder, "tests/golden/models/llama2", &err), 0);
	hr_plan_options_init(&o);
	o.device = "cpu";
	assert_int_equal(hr_session_open(&s, decoder, &o, &err), 0);
	struct hr_text text = {"a", 1, NULL, 0};
	assert_int_equal(hr_session_classify(s, &text, 1, logits, NULL, NULL, NULL, &err), HR_EUNSUPPORTED);
	assert_non_null(strstr(err.message, "to classify, an encoder such as BERT is needed"));
	hr_session_close(s);
	hr_model_close(decoder);
}

/* A type of the second text that the model does not know would be read from behind its table. */
static void a_pair_needs_two_types(void **state)
{
	(void)state;
	struct golden          g;
	struct hr_session     *s;
	struct hr_plan_options o;
	struct hr_error        err = {0};
	const struct hr_text   pair = {.text = "a", .length = 1, .pair = "b", .pair_length = 1};
	float                  embedding[MAX_WIDTH];
	golden_open(&g, "bert");
	hr_plan_options_init(&o);
	o.device = "cpu";
	g.model->checkpoint.hparams.n_types = 1;
	assert_int_equal(hr_session_open(&s, g.model, &o, &err), 0);
	assert_int_equal(hr_session_embed(s, &pair, 1, embedding, NULL, NULL, &err), HR_EFORMAT);
	assert_non_null(strstr(err.message, "one kind of segment only"));
	hr_session_close(s);
	golden_close(&g);
}

int main(void)
{
	static char *const names[] = {"bert", "roberta", "distilbert", "xlm_roberta"};
	struct CMUnitTest  tests[] = {
	     cmocka_unit_test_prestate(equals_transformers, names[0]),
	     cmocka_unit_test_prestate(equals_transformers, names[1]),
	     cmocka_unit_test_prestate(equals_transformers, names[2]),
	     cmocka_unit_test_prestate(equals_transformers, names[3]),
	     cmocka_unit_test_prestate(bits_do_not_depend_on_the_company, names[0]),
	     cmocka_unit_test_prestate(bits_do_not_depend_on_the_company, names[1]),
	     cmocka_unit_test_prestate(bits_do_not_depend_on_the_company, names[2]),
	     cmocka_unit_test_prestate(bits_do_not_depend_on_the_company, names[3]),
	     cmocka_unit_test(many_passes),
	     cmocka_unit_test(misuse_is_named),
	     cmocka_unit_test(a_pair_needs_two_types),
    };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
