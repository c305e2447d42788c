/* Texts through an encoder: classes or embeddings, thousands of texts per pass over
 * the weights.
 *
 * All texts become tokens, are sorted by length, longest first, and packed without
 * padding: a chunk is as many whole texts as n_batch tokens hold, a pass as many
 * chunks as the states of n_pass tokens. Every layer sees all chunks of the pass before the
 * next layer comes, so that a streamed model is read once per pass. What a text
 * gives does not depend on its neighbours, so results can be put back into the
 * order in which the texts came. */
#include "runtime/session.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <math.h>

struct item {
	size_t  text;       /* its place in the input */
	size_t  first;      /* of its ids in the arena */
	int32_t n;          /* tokens */
	int32_t types_from; /* tokens from here on are of type 1 */
	int32_t row;        /* in the pass at hand */
};

struct work {
	struct hr_session    *s;
	const struct hr_text *texts;
	size_t                n_texts;
	struct item          *items; /* [n_texts] */
	int32_t              *ids;   /* the arena */
	size_t                n_ids, capacity;
	size_t                n_cut; /* texts that were too long */
	struct hr_error      *err;
};

/* What to do with the texts of a pass that has been computed. */
typedef void (*take_fn)(const struct work *w, const struct item *items, int n_items, void *out);

/* ---- Tokens ---------------------------------------------------------------- */

static int fail_memory(const struct work *w)
{
	return hr__fail(w->err, HR_ENOMEM, "Out of memory for the tokens of %zu texts.", w->n_texts);
}

static int reserve_ids(struct work *w, size_t more)
{
	if (w->n_ids + more <= w->capacity)
		return 0;
	size_t   capacity = (w->n_ids + more) * 2;
	int32_t *ids = reallocarray(w->ids, capacity, sizeof *ids);
	if (!ids)
		return fail_memory(w);
	w->ids = ids;
	w->capacity = capacity;
	return 0;
}

/* Append the ids of a text, without what stands around texts; returns how many. */
static int64_t append_ids(struct work *w, const char *text, size_t length)
{
	size_t room = length + 16;
	int    rc = reserve_ids(w, room);
	if (rc)
		return rc;
	int64_t n = hr_model_tokenize(w->s->model, text, length, false, true, w->ids + w->n_ids, room, w->err);
	if (n > (int64_t)room) {
		if ((rc = reserve_ids(w, (size_t)n)))
			return rc;
		n = hr_model_tokenize(w->s->model, text, length, false, true, w->ids + w->n_ids, (size_t)n, w->err);
	}
	w->n_ids += n > 0 ? (size_t)n : 0;
	return n;
}

/* Shorten a pair, the longer of the two first, until it has room. */
static bool cut_pair(int64_t *a, int64_t *b, int64_t room)
{
	if (*a + *b <= room)
		return false;
	int64_t half = room / 2;
	if (*a <= half)
		*b = room - *a;
	else if (*b <= half)
		*a = room - *b;
	else {
		/* Token by token from the longer, and of two that are equally long from the second. */
		*b = half;
		*a = room - half;
	}
	return true;
}

/* Of a text: what the model has positions for, and the plan room. */
static int most_tokens(const struct work *w)
{
	int of_model = w->s->model->info.max_tokens, of_plan = w->s->plan->info.n_ctx;
	return of_model < of_plan ? of_model : of_plan;
}

static int tokenize(struct work *w, size_t index)
{
	const struct hr_text  *t = &w->texts[index];
	const struct hr_vocab *v = hr_tokenizer_vocab(w->s->model->tokenizer);
	struct item           *item = &w->items[index];
	int                    between = t->pair ? v->pair_separators : 0;
	int64_t                around = v->add_bos + v->add_eos + between;
	int64_t                most = most_tokens(w), b = 0;
	if (t->pair && !between)
		return hr__fail(w->err, HR_EUNSUPPORTED, "%s: the tokenizer has no template for pairs of texts.",
		                w->s->model->checkpoint.path);
	if (t->pair && v->pair_types && w->s->model->checkpoint.hparams.n_types == 1)
		return hr__fail(
		    w->err, HR_EFORMAT,
		    "%s: the tokenizer numbers the texts of a pair 0 and 1, but the model knows one kind of "
		    "segment only.",
		    w->s->model->checkpoint.path);
	int rc = reserve_ids(w, 4);
	if (rc)
		return rc;
	*item = (struct item){.text = index, .first = w->n_ids};
	if (v->add_bos)
		w->ids[w->n_ids++] = v->bos;
	size_t  begin = w->n_ids;
	int64_t a = append_ids(w, t->text, t->length), whole = a;
	if (a >= 0 && t->pair)
		b = append_ids(w, t->pair, t->pair_length);
	if (a < 0 || b < 0)
		return (int)(a < 0 ? a : b);
	w->n_cut += cut_pair(&a, &b, most - around);
	if ((rc = reserve_ids(w, 4)))
		return rc;
	memmove(w->ids + begin + a + between, w->ids + begin + whole, (size_t)b * sizeof *w->ids);
	for (int i = 0; i < between; i++)
		w->ids[begin + (size_t)a + (size_t)i] = v->eos;
	w->n_ids = begin + (size_t)(a + between + b);
	item->types_from = t->pair && v->pair_types ? (int32_t)(w->n_ids - (size_t)b - item->first) : INT32_MAX;
	if (v->add_eos)
		w->ids[w->n_ids++] = v->eos;
	item->n = (int32_t)(w->n_ids - item->first);
	if (item->n == 0)
		return hr__fail(w->err, HR_EINVAL, "Text %zu has no tokens.", index);
	return 0;
}

static int longest_first(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	return x->n != y->n ? (x->n < y->n ? 1 : -1) : (x->text > y->text) - (x->text < y->text);
}

static int tokenize_all(struct work *w)
{
	const struct hr_model *m = w->s->model;
	int                    rc = 0;
	if (!m->tokenizer)
		return hr__fail(w->err, m->tokenizer_error.code, "%s", m->tokenizer_error.message);
	w->items = hr__calloc(w->n_texts + 1, sizeof *w->items);
	if (!w->items)
		return fail_memory(w);
	for (size_t i = 0; i < w->n_texts && !rc; i++)
		rc = tokenize(w, i);
	if (rc)
		return rc;
	if (w->n_cut)
		hr__plan_note(w->s->plan, &w->s->options, "%zu of %zu texts were longer than %d tokens and were cut.",
		              w->n_cut, w->n_texts, most_tokens(w));
	qsort(w->items, w->n_texts, sizeof *w->items, longest_first);
	return 0;
}

/* ---- Passes ---------------------------------------------------------------- */

static void add_item(struct hr_pass *p, const struct work *w, struct item *item, int chunk_first)
{
	item->row = p->n_tokens;
	for (int32_t i = 0; i < item->n; i++) {
		int at = p->n_tokens++;
		p->ids[at] = w->ids[item->first + (size_t)i];
		p->pos[at] = i;
		p->seq[at] = item->row - chunk_first;
		p->types[at] = i >= item->types_from;
	}
	p->length[item->row] = item->n;
	if (item->n > p->max_context)
		p->max_context = item->n;
	p->n_seqs++;
}

/* Fill a pass from items[0 .. n); returns how many are in it. */
static int compose(struct hr_pass *p, const struct work *w, struct item *items, size_t n)
{
	const struct hr_plan *plan = w->s->plan;
	int                   n_items = 0, first = 0;
	p->n_tokens = p->n_seqs = p->n_outputs = p->max_context = p->n_chunks = 0;
	p->chunk_begin[0] = 0;
	for (; (size_t)n_items < n && n_items < plan->max_outputs; n_items++) {
		struct item *item = &items[n_items];
		if (p->n_tokens + item->n > plan->n_pass)
			break;
		if (p->n_tokens + item->n - first > plan->info.n_batch) {
			first = p->n_tokens;
			p->chunk_begin[++p->n_chunks] = first;
		}
		add_item(p, w, item, first);
	}
	p->chunk_begin[++p->n_chunks] = p->n_tokens;
	return n_items;
}

static int run_pass(struct hr_session *s, struct hr_error *err)
{
	uint64_t begin = hr__now_ns();
	int      rc = hr__forward_run(s->forward, err);
	if (!rc)
		rc = hr__session_check_files(s, err);
	if (rc) {
		s->failed = true;
		return rc;
	}
	pthread_mutex_lock(&s->lock);
	hr__measure_pass(&s->measure, (double)(hr__now_ns() - begin) * 1e-6,
	                 hr__forward_pass(s->forward)->n_tokens, 0);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static bool pools_one_token(enum hr_pooling pooling)
{
	return pooling == HR_POOLING_CLS || pooling == HR_POOLING_LAST;
}

/* Ask for the tokens that `pooling` looks at: one of each text, or, said by none, all. */
static void choose_outputs(struct hr_pass *p, const struct item *items, int n, enum hr_pooling pooling)
{
	for (int i = 0; i < n && pools_one_token(pooling); i++)
		p->outputs[p->n_outputs++] = items[i].row + (pooling == HR_POOLING_LAST ? items[i].n - 1 : 0);
}

/* All texts through the model, for the states of the last layer or the logits, which look at the first
 * token. */
static int encode(struct work *w, bool keep_states, take_fn take, void *out, hr_progress_fn progress,
                  void *user)
{
	struct hr_session *s = w->s;
	if (s->failed)
		return hr__fail(w->err, HR_ECANCELED,
		                "An earlier pass failed; close the session and open a new one.");
	struct hr_pass *pass = hr__forward_pass(s->forward);
	enum hr_pooling pooling = keep_states ? s->model->checkpoint.use.pooling : HR_POOLING_CLS;
	int             rc = tokenize_all(w);
	pass->keep_states = keep_states;
	for (size_t done = 0; done < w->n_texts && !rc;) {
		if (progress && progress(user, done, w->n_texts)) {
			rc = hr__fail(w->err, HR_ECANCELED, "Stopped after %zu of %zu texts.", done, w->n_texts);
			break;
		}
		int n = compose(pass, w, w->items + done, w->n_texts - done);
		choose_outputs(pass, w->items + done, n, pooling);
		rc = run_pass(s, w->err);
		if (!rc)
			take(w, w->items + done, n, out);
		done += (size_t)n;
	}
	if (progress && !rc)
		progress(user, w->n_texts, w->n_texts);
	free(w->items);
	free(w->ids);
	return rc;
}

/* Keep the hash of n texts' results, `width` each; NULL: they were not asked for. */
static void hash_results(struct hr_session *s, const float *results, size_t n, size_t width)
{
	pthread_mutex_lock(&s->lock);
	if (results)
		XXH64_update(&s->encoded, results, n * width * sizeof *results);
	pthread_mutex_unlock(&s->lock);
}

static int need_encoder(const struct hr_session *s, const char *what, struct hr_error *err)
{
	const struct hr_model *m = s->model;
	if (m->checkpoint.hparams.encoder)
		return 0;
	return hr__fail(err, HR_EUNSUPPORTED,
	                "%s is of the family %s, which generates text; to %s, an encoder such as BERT is needed.",
	                m->checkpoint.path, m->info.family, what);
}

/* ---- Classes --------------------------------------------------------------- */

struct classes {
	float *logits, *scores;
};

static void score(enum hr_problem problem, const float *logits, float *scores, int n)
{
	double largest = logits[0], sum = 0;
	for (int i = 1; i < n; i++)
		largest = fmax(largest, logits[i]);
	for (int i = 0; i < n; i++)
		sum += exp(logits[i] - largest);
	for (int i = 0; i < n; i++)
		scores[i] = problem == HR_PROBLEM_SOFTMAX   ? (float)(exp(logits[i] - largest) / sum)
		            : problem == HR_PROBLEM_SIGMOID ? (float)(1 / (1 + exp(-(double)logits[i])))
		                                            : logits[i];
}

static void take_classes(const struct work *w, const struct item *items, int n_items, void *out)
{
	const struct classes *c = out;
	size_t                n = (size_t)w->s->model->info.n_labels;
	const float          *logits = hr__forward_pass(w->s->forward)->logits;
	for (int i = 0; i < n_items; i++, logits += n) {
		if (c->logits)
			memcpy(c->logits + items[i].text * n, logits, n * sizeof *logits);
		if (c->scores)
			score(w->s->model->checkpoint.use.problem, logits, c->scores + items[i].text * n, (int)n);
	}
}

int hr_session_classify(struct hr_session *s, const struct hr_text *texts, size_t n_texts, float *logits,
                        float *scores, hr_progress_fn progress, void *user, struct hr_error *err)
{
	struct classes out = {logits, scores};
	struct work    w = {.s = s, .texts = texts, .n_texts = n_texts, .err = err};
	int            rc = need_encoder(s, "classify", err);
	if (!rc && !s->model->info.trained_head && !s->plan->random_head)
		rc =
		    hr__fail(err, HR_EUNSUPPORTED,
		             "%s has no trained classifier: its answers would be random. Fine-tune it first, or give "
		             "--allow-untrained-head to see the machinery work.",
		             s->model->checkpoint.path);
	if (!rc)
		rc = encode(&w, false, take_classes, &out, progress, user);
	if (!rc)
		hash_results(s, logits, n_texts, (size_t)s->model->info.n_labels);
	return rc;
}

/* ---- Embeddings ------------------------------------------------------------ */

/* The states [n][n_embd] of a text's tokens as one; sums are in double. */
static void pool(enum hr_pooling pooling, const float *states, int n, size_t n_embd, float *out)
{
	double factor = pooling == HR_POOLING_MEAN ? 1.0 / n : 1.0 / sqrt(n);
	for (size_t k = 0; k < n_embd; k++) {
		double sum = 0, most = states[k];
		for (int i = 0; i < n; i++) {
			double x = states[(size_t)i * n_embd + k];
			sum += x;
			most = fmax(most, x);
		}
		out[k] = pooling == HR_POOLING_CLS    ? states[k]
		         : pooling == HR_POOLING_LAST ? states[(size_t)(n - 1) * n_embd + k]
		         : pooling == HR_POOLING_MAX  ? (float)most
		                                      : (float)(sum * factor);
	}
}

/* As torch.nn.functional.normalize: a zero stays one. */
static void normalize(float *x, size_t n)
{
	double squares = 0;
	for (size_t i = 0; i < n; i++)
		squares += (double)x[i] * (double)x[i];
	double factor = 1 / fmax(sqrt(squares), 1e-12);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)(x[i] * factor);
}

static void take_embeddings(const struct work *w, const struct item *items, int n_items, void *out)
{
	const struct hr_encoder_use *use = &w->s->model->checkpoint.use;
	size_t                       n_embd = (size_t)w->s->model->info.n_embd;
	const float                 *states = hr__forward_pass(w->s->forward)->states;
	bool                         one = pools_one_token(use->pooling);
	for (int i = 0; i < n_items; i++) {
		float *embedding = (float *)out + items[i].text * n_embd;
		pool(use->pooling, states, one ? 1 : items[i].n, n_embd, embedding);
		states += (one ? 1 : (size_t)items[i].n) * n_embd;
		if (use->normalize)
			normalize(embedding, n_embd);
	}
}

int hr_session_embed(struct hr_session *s, const struct hr_text *texts, size_t n_texts, float *embeddings,
                     hr_progress_fn progress, void *user, struct hr_error *err)
{
	struct work w = {.s = s, .texts = texts, .n_texts = n_texts, .err = err};
	int         rc = need_encoder(s, "embed", err);
	if (!rc)
		rc = encode(&w, true, take_embeddings, embeddings, progress, user);
	if (!rc)
		hash_results(s, embeddings, n_texts, (size_t)s->model->info.n_embd);
	return rc;
}
