/* `headrace classify` and `headrace embed`: texts through an encoder, those on the
 * command line or the lines of a file. All of them are handed over at once: the
 * library sorts and packs them. */
#include "cli/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct texts {
	char           *content; /* of the file */
	json_t        **lines;   /* [n] of the file, or NULL */
	struct hr_text *items;
	size_t          n;
};

struct results {
	float *logits, *scores; /* [n][n_labels] */
	float *embeddings;      /* [n][n_embd] */
};

static void release_texts(struct texts *t)
{
	for (size_t i = 0; t->lines && i < t->n; i++)
		json_decref(t->lines[i]);
	free(t->lines);
	free(t->items);
	free(t->content);
}

static int allocate_texts(struct texts *t, size_t n)
{
	t->items = calloc(n + 1, sizeof *t->items);
	t->lines = calloc(n + 1, sizeof *t->lines);
	return t->items && t->lines ? HR_EXIT_OK : hr_cli_fail("There is no memory for %zu texts.", n);
}

static int read_words(struct texts *t, const struct hr_cli_options *o)
{
	int step = o->pairs ? 2 : 1;
	if (o->n_words % step)
		return hr_cli_fail_usage("--pairs takes texts two by two; %d are given.", o->n_words);
	int code = allocate_texts(t, (size_t)o->n_words);
	for (int i = 0; !code && i < o->n_words; i++) {
		json_t *probe = json_string(o->words[i]);
		if (!probe)
			code = hr_cli_fail("Text %d is not valid UTF-8; write it in UTF-8.", i + 1);
		json_decref(probe);
	}
	for (int i = 0; !code && i < o->n_words; i += step) {
		struct hr_text *item = &t->items[t->n++];
		*item = (struct hr_text){.text = o->words[i], .length = strlen(o->words[i])};
		if (o->pairs) {
			item->pair = o->words[i + 1];
			item->pair_length = strlen(item->pair);
		}
	}
	return code;
}

static int read_line(struct texts *t, const char *file, const char *line, int number)
{
	static const char like[] =
	    "a line should be like {\"text\": \"Once upon a time\"}, perhaps with a \"pair\"";
	json_error_t where;
	json_t      *value = json_loads(line, 0, &where);
	if (!value)
		return hr_cli_fail("%s, line %d: not JSON (%s); %s.", file, number, where.text, like);
	json_t         *text = json_object_get(value, "text"), *pair = json_object_get(value, "pair");
	struct hr_text *item = &t->items[t->n];
	t->lines[t->n++] = value;
	if (!json_is_string(text) || (pair && !json_is_string(pair)))
		return hr_cli_fail("%s, line %d: there is no string \"text\" in it, or a \"pair\" that is none; %s.",
		                   file, number, like);
	*item = (struct hr_text){json_string_value(text), json_string_length(text), json_string_value(pair),
	                         json_string_length(pair)};
	return HR_EXIT_OK;
}

static int read_file(struct texts *t, const struct hr_cli_options *o)
{
	size_t n_lines = 1;
	int    number = 0;
	t->content = hr_cli_read_file(o->file, "file of texts");
	if (!t->content)
		return HR_EXIT_ERROR;
	for (const char *c = t->content; *c; c++)
		n_lines += *c == '\n';
	int code = allocate_texts(t, n_lines);
	for (char *line, *rest = t->content; !code && (line = strsep(&rest, "\n"));) {
		number++;
		if (line[strspn(line, " \t\r")])
			code = read_line(t, o->file, line, number);
	}
	if (!code && !t->n)
		code = hr_cli_fail("%s holds no text; write one {\"text\": \"...\"} per line.", o->file);
	return code;
}

/* ---- What comes back ------------------------------------------------------------ */

static json_t *json_reals(const float *x, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_real((double)x[i]));
	return list;
}

static int best_label(const float *scores, int n)
{
	int best = 0;
	for (int i = 1; i < n; i++)
		best = scores[i] > scores[best] ? i : best;
	return best;
}

static json_t *json_result(const struct hr_model *model, const struct hr_text *text, const struct results *r,
                           size_t i)
{
	const struct hr_model_info *m = hr_model_info(model);
	size_t                      n_labels = (size_t)m->n_labels, n_embd = (size_t)m->n_embd;
	json_t                     *o = json_object();
	json_object_set_new(o, "text", json_stringn(text->text, text->length));
	if (text->pair)
		json_object_set_new(o, "pair", json_stringn(text->pair, text->pair_length));
	if (r->embeddings) {
		json_object_set_new(o, "embedding", json_reals(r->embeddings + i * n_embd, n_embd));
		return o;
	}
	const float *scores = r->scores + i * n_labels;
	int          best = best_label(scores, m->n_labels);
	json_t      *all = json_object();
	for (int k = 0; k < m->n_labels; k++)
		json_object_set_new(all, hr_model_label(model, k), json_real((double)scores[k]));
	json_object_set_new(o, "label", hr_cli_json_text(hr_model_label(model, best)));
	json_object_set_new(o, "score", json_real((double)scores[best]));
	json_object_set_new(o, "scores", all);
	json_object_set_new(o, "logits", json_reals(r->logits + i * n_labels, n_labels));
	return o;
}

/* One line for a text of the command line. */
static bool show_plain(const struct hr_model *model, const struct hr_text *text, const struct results *r,
                       size_t i)
{
	const struct hr_model_info *m = hr_model_info(model);
	if (r->embeddings) {
		for (int k = 0; k < m->n_embd; k++)
			printf("%s%.7g", k ? " " : "", (double)r->embeddings[i * (size_t)m->n_embd + (size_t)k]);
		return hr_cli_write("\n", 1);
	}
	const float *scores = r->scores + i * (size_t)m->n_labels;
	int          best = best_label(scores, m->n_labels);
	printf("%-16s %.4f  %s%s%s\n", hr_model_label(model, best), (double)scores[best], text->text,
	       text->pair ? "  |  " : "", text->pair ? text->pair : "");
	return hr_cli_write("", 0);
}

static int show(const struct hr_model *model, struct hr_session *session, const struct texts *t,
                const struct results *r, const struct hr_cli_options *o)
{
	json_t *outputs = o->json ? json_array() : NULL;
	for (size_t i = 0; i < t->n; i++) {
		if (!o->json && !o->file) {
			if (!show_plain(model, &t->items[i], r, i))
				break;
			continue;
		}
		json_t *line = json_result(model, &t->items[i], r, i);
		if (o->json)
			json_array_append_new(outputs, line);
		else if (!hr_cli_write_json(line, true))
			break;
	}
	if (o->json)
		hr_cli_write_json(hr_cli_json_run(model, session, outputs), false);
	return hr_cli_report(model, session, o, HR_EXIT_OK);
}

/* ---- The commands ---------------------------------------------------------------- */

static int compute(const struct hr_model *model, struct hr_session *session, const struct texts *t,
                   bool classify, struct results *r)
{
	const struct hr_model_info *m = hr_model_info(model);
	struct hr_error             err;
	if (classify) {
		r->logits = calloc(t->n * (size_t)m->n_labels + 1, sizeof *r->logits);
		r->scores = calloc(t->n * (size_t)m->n_labels + 1, sizeof *r->scores);
	} else {
		r->embeddings = calloc(t->n * (size_t)m->n_embd + 1, sizeof *r->embeddings);
	}
	if (classify ? !r->logits || !r->scores : !r->embeddings)
		return hr_cli_fail("There is no memory for the results of %zu texts.", t->n);
	int rc = classify ? hr_session_classify(session, t->items, t->n, r->logits, r->scores, hr_cli_on_count,
	                                        NULL, &err)
	                  : hr_session_embed(session, t->items, t->n, r->embeddings, hr_cli_on_count, NULL, &err);
	return rc ? hr_cli_fail_error(&err) : HR_EXIT_OK;
}

static int run(struct hr_cli_options *o, bool classify)
{
	const char        *name = classify ? "classify" : "embed";
	struct hr_model   *model = NULL;
	struct hr_session *session = NULL;
	struct texts       texts = {0};
	struct results     results = {0};
	char              *map = NULL;
	if (!o->n_words == !o->file)
		return hr_cli_fail_usage(
		    "`headrace %s` wants texts: behind the model, or -f FILE with many of them%s.", name,
		    o->file ? ", not both" : "");
	int code = hr_cli_resolve(o, &map);
	if (!code)
		code = o->file ? read_file(&texts, o) : read_words(&texts, o);
	if (!code)
		code = hr_cli_open_model(&model, o);
	if (!code && !hr_model_info(model)->encoder)
		code = hr_cli_fail(
		    "%s is of the family %s, which generates text; to %s, an encoder such as BERT is needed.",
		    o->target, hr_model_info(model)->family, name);
	if (!code)
		code = hr_cli_open_session(&session, model, o);
	if (!code)
		code = compute(model, session, &texts, classify, &results);
	if (!code)
		code = show(model, session, &texts, &results, o);
	free(results.logits);
	free(results.scores);
	free(results.embeddings);
	hr_session_close(session);
	hr_model_close(model);
	release_texts(&texts);
	free(map);
	return code;
}

int hr_cli_classify(struct hr_cli_options *o) { return run(o, true); }

int hr_cli_embed(struct hr_cli_options *o) { return run(o, false); }
