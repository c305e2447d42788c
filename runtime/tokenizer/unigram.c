/* Unigram, SentencePiece's other model (XLM-RoBERTa, T5, ALBERT): each piece has a score, the
 * logarithm of how likely it is, and of all ways to make a text of pieces the one with the
 * largest sum is taken. Viterbi's algorithm: going through the text once, the best way to
 * each place is known before anything goes on from there.
 *
 * A character that is no piece costs ten more than the unlikeliest piece; a run of such
 * characters becomes one unknown token, or its bytes where the vocabulary has them. Ties go to
 * the way that was found first, as in the `tokenizers` library.
 *
 * Kudo 2018, "Subword Regularization". */
#include "runtime/tokenizer/internal.h"

#include "base/mem.h"

static void offer(struct hr__best *best, double score, size_t start, int32_t id)
{
	if (best->id >= 0 && score <= best->score)
		return;
	*best = (struct hr__best){.score = score, .start = (uint32_t)start, .id = id};
}

static void find_best(const struct hr_tokenizer *t, struct hr__best *best, const char *text, size_t length)
{
	for (size_t i = 1; i <= length; i++)
		best[i].id = -1;
	best[0].score = 0;
	for (size_t start = 0, step; start < length; start += step) {
		uint32_t c;
		int32_t  node = 0;
		bool     alone = false; /* whether the character is a piece of its own */
		step = hr__utf8_decode(text + start, length - start, &c);
		for (size_t end = start; end < length;) {
			node = hr__added_step(&t->unigram, node, (unsigned char)text[end++]);
			if (!node)
				break;
			int32_t id = t->unigram.nodes[node].id;
			if (id >= 0)
				offer(&best[end], best[start].score + t->vocab.scores[id], start, id);
			alone |= id >= 0 && end == start + step;
		}
		if (!alone)
			offer(&best[start + step], best[start].score + t->unk_score, start, t->vocab.unk);
	}
}

/* Backwards: what a run of unknown characters becomes. */
static int push_unknown(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	bool bytes = t->vocab.byte_fallback;
	int  rc = 0;
	for (size_t i = 0; i < length; i++)
		bytes = bytes && t->byte_ids[(unsigned char)text[i]] >= 0;
	if (!bytes)
		return hr__push_id(w, t->vocab.unk);
	for (size_t i = length; i-- > 0 && !rc;)
		rc = hr__push_id(w, t->byte_ids[(unsigned char)text[i]]);
	return rc;
}

int hr__unigram_encode(const struct hr_tokenizer *t, struct hr__work *w, const char *text, size_t length)
{
	size_t first = w->n_ids;
	int    rc = hr__reserve((void **)&w->best, &w->best_capacity, length + 1, sizeof *w->best);
	if (rc)
		return rc;
	find_best(t, w->best, text, length);
	for (size_t end = length, start; end > 0 && !rc; end = start) {
		int32_t id = w->best[end].id;
		start = w->best[end].start;
		while (id == t->vocab.unk && start > 0 && w->best[start].id == id)
			start = w->best[start].start;
		rc = id == t->vocab.unk ? push_unknown(t, w, text + start, end - start) : hr__push_id(w, id);
	}
	for (size_t i = first, k = w->n_ids; i < k; i++) { /* the ids came from the end */
		int32_t id = w->ids[--k];
		w->ids[k] = w->ids[i];
		w->ids[i] = id;
	}
	return rc;
}
