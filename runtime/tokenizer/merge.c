/* The merge loop that both kinds of BPE share. A stretch of text starts as a list
 * of symbols (bytes or characters); a heap holds every pair of neighbours that may
 * merge, best rank first, leftmost on ties; the best pair merges, its two new
 * neighbourhoods enter the heap, and entries that no longer describe the list are
 * dropped when they surface. O(n log n) whatever the text.
 *
 * Rank is the place in the list of merges (a pair of ids is looked up), or the
 * order of the scores (the joined text is looked up, so symbols without an id can
 * merge too). That look-up, best_of(), is the only difference between the two. */
#include "runtime/tokenizer/internal.h"

#include "base/mem.h"

static bool best_of(const struct hr_tokenizer *t, const char *text, const struct hr__symbol *a,
                    const struct hr__symbol *b, struct hr__bigram *out)
{
	if (t->ranks) {
		size_t length = (size_t)a->length + b->length;
		if (length > t->longest_piece)
			return false;
		out->id = hr__text_map_find(&t->pieces, t->raw, text + a->start, length);
		out->rank = out->id >= 0 ? t->ranks[out->id] : 0;
		return out->id >= 0;
	}
	const struct hr__pair_slot *s = hr__pair_map_find(&t->merges, a->id, b->id);
	if (!s)
		return false;
	out->id = s->id;
	out->rank = s->rank;
	return true;
}

static bool before(const struct hr__bigram *a, const struct hr__bigram *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

/* The heap has room for three entries per symbol, see hr__merge(). */
static void heap_push(struct hr__work *w, struct hr__bigram entry)
{
	size_t i = w->n_heap++;
	while (i > 0 && before(&entry, &w->heap[(i - 1) / 2])) {
		w->heap[i] = w->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->heap[i] = entry;
}

static struct hr__bigram heap_pop(struct hr__work *w)
{
	struct hr__bigram top = w->heap[0], last = w->heap[--w->n_heap];
	size_t            i = 0;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= w->n_heap)
			break;
		if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!before(&w->heap[child], &last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return top;
}

static void consider(const struct hr_tokenizer *t, struct hr__work *w, const char *text, int32_t left)
{
	if (left < 0 || w->symbols[left].next < 0)
		return;
	struct hr__bigram pair = {.left = left};
	if (best_of(t, text, &w->symbols[left], &w->symbols[w->symbols[left].next], &pair))
		heap_push(w, pair);
}

static void merge_symbols(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t n)
{
	struct hr__symbol *s = w->symbols;
	w->n_heap = 0;
	for (size_t i = 0; i + 1 < n; i++)
		consider(t, w, text, (int32_t)i);
	while (w->n_heap) {
		struct hr__bigram top = heap_pop(w), now;
		int32_t           right = s[top.left].next;
		if (!s[top.left].length || right < 0 || !best_of(t, text, &s[top.left], &s[right], &now) ||
		    now.id != top.id)
			continue;
		s[top.left].id = top.id;
		s[top.left].length += s[right].length;
		s[top.left].next = s[right].next;
		s[right].length = 0;
		if (s[right].next >= 0)
			s[s[right].next].prev = top.left;
		consider(t, w, text, s[top.left].prev);
		consider(t, w, text, top.left);
	}
}

static void add_symbol(struct hr__work *w, size_t *n, int32_t id, size_t start, size_t length)
{
	w->symbols[*n] = (struct hr__symbol){.prev = (int32_t)*n - 1,
	                                     .next = (int32_t)*n + 1,
	                                     .id = id,
	                                     .start = (uint32_t)start,
	                                     .length = (uint32_t)length};
	++*n;
}

/* The first symbols: bytes for byte-level BPE, else characters; with bytes or
 * unk for what has no piece. */
static size_t symbols_of(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	const struct hr_vocab *v = &t->vocab;
	size_t                 n = 0;
	bool                   after_unk = false;
	for (size_t i = 0, step; i < length; i += step) {
		uint32_t c;
		step = v->kind == HR_TOKENIZER_BPE ? 1 : hr__utf8_decode(text + i, length - i, &c);
		int32_t id = v->kind == HR_TOKENIZER_BPE ? t->byte_ids[(unsigned char)text[i]]
		                                         : hr__text_map_find(&t->pieces, t->raw, text + i, step);
		if (id >= 0 || t->ranks) {
			add_symbol(w, &n, id, i, step);
			after_unk = false;
		} else if (v->kind == HR_TOKENIZER_SPM && v->byte_fallback) {
			for (size_t k = 0; k < step; k++)
				add_symbol(w, &n, t->byte_ids[(unsigned char)text[i + k]], i + k, 1);
		} else if (v->use_unk && after_unk && v->fuse_unk) {
			w->symbols[n - 1].length += (uint32_t)step;
		} else if (v->use_unk) {
			add_symbol(w, &n, v->unk, i, step);
			after_unk = true;
		}
	}
	if (n)
		w->symbols[n - 1].next = -1;
	return n;
}

int hr__merge(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	/* n - 1 pairs to begin with, two more for each of at most n - 1 merges. */
	int rc = hr__reserve((void **)&w->symbols, &w->symbols_capacity, length, sizeof *w->symbols);
	if (!rc)
		rc = hr__reserve((void **)&w->heap, &w->heap_capacity, length * 3, sizeof *w->heap);
	if (rc)
		return rc;
	size_t n = symbols_of(t, w, text, length);
	merge_symbols(t, w, text, n);
	for (int32_t i = n ? 0 : -1; i >= 0 && !rc; i = w->symbols[i].next) {
		const struct hr__symbol *s = &w->symbols[i];
		if (s->id >= 0)
			rc = hr__push_id(w, s->id);
		for (uint32_t k = 0; s->id < 0 && k < s->length && !rc; k++)
			rc = hr__push_id(w, t->byte_ids[(unsigned char)text[s->start + k]]);
	}
	return rc;
}
