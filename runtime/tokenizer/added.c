/* Added tokens: control tokens such as <|im_end|> and whatever else a vocabulary
 * wants found before the text is cut up. They lie in a byte trie; at each byte the
 * longest one that begins there wins, and the text goes on behind it. Tokens may
 * ask for whitespace at their sides, or refuse to stand inside a word.
 *
 * A token that is found but refused (a control token when `special` is false, a
 * single word inside another) is plain text as a whole: no shorter token is looked
 * for inside it. That is what the `tokenizers` library does. */
#include "runtime/tokenizer/internal.h"

#include "base/mem.h"

int32_t hr__added_step(const struct hr__added *added, int32_t node, unsigned char byte)
{
	if (node == 0)
		return added->first[byte];
	int32_t i = added->nodes[node].child;
	while (i && added->nodes[i].byte != byte)
		i = added->nodes[i].sibling;
	return i;
}

int hr__added_insert(struct hr__added *added, const char *text, size_t length, int32_t id)
{
	int32_t node = 0;
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];
		int32_t       next = hr__added_step(added, node, byte);
		if (!next) {
			size_t capacity = (size_t)added->capacity;
			if (hr__reserve((void **)&added->nodes, &capacity, (size_t)added->n_nodes + 2,
			                sizeof *added->nodes))
				return HR_ENOMEM;
			added->capacity = (int32_t)capacity;
			if (added->n_nodes == 0)
				added->nodes[added->n_nodes++] = (struct hr__added_node){.id = -1};
			next = added->n_nodes++;
			added->nodes[next] = (struct hr__added_node){.byte = byte, .id = -1};
			if (node == 0) {
				added->first[byte] = next;
			} else {
				added->nodes[next].sibling = added->nodes[node].child;
				added->nodes[node].child = next;
			}
		}
		node = next;
	}
	if (node)
		added->nodes[node].id = id;
	return 0;
}

/* The longest token at text; its length, 0: none. */
static size_t longest_at(const struct hr__added *added, const char *text, size_t length, int32_t *id)
{
	size_t  best = 0;
	int32_t node = 0;
	for (size_t i = 0; i < length; i++) {
		node = hr__added_step(added, node, (unsigned char)text[i]);
		if (!node)
			break;
		if (added->nodes[node].id >= 0) {
			best = i + 1;
			*id = added->nodes[node].id;
		}
	}
	return best;
}

static bool word_ends_at(const char *text, size_t at)
{
	size_t start = at;
	while (start > 0 && ((unsigned char)text[--start] & 0xc0) == 0x80)
		;
	uint32_t c;
	return at > 0 && hr__utf8_decode(text + start, at - start, &c) && hr__utf8_is_word(c);
}

static bool word_begins_at(const char *text, size_t at, size_t length)
{
	uint32_t c;
	return at < length && hr__utf8_decode(text + at, length - at, &c) && hr__utf8_is_word(c);
}

static size_t skip_space_back(const char *text, size_t at)
{
	while (at > 0) {
		size_t   start = at;
		uint32_t c;
		while (start > 0 && ((unsigned char)text[--start] & 0xc0) == 0x80)
			;
		if (!hr__utf8_decode(text + start, at - start, &c) || !hr__utf8_is_space(c))
			break;
		at = start;
	}
	return at;
}

static size_t skip_space(const char *text, size_t at, size_t length)
{
	uint32_t c;
	size_t   n;
	while (at < length && (n = hr__utf8_decode(text + at, length - at, &c)) && hr__utf8_is_space(c))
		at += n;
	return at;
}

void hr__added_begin(struct hr__added_iter *it, const struct hr_tokenizer *t, const struct hr__added *added,
                     const char *text, size_t length, bool special)
{
	*it = (struct hr__added_iter){.t = t, .added = added, .text = text, .length = length, .special = special};
}

static bool is_refused(const struct hr__added_iter *it, int32_t id, size_t start, size_t end)
{
	const struct hr_vocab *v = &it->t->vocab;
	if (!it->special && v->types && (v->types[id] == HR_TOKEN_CONTROL || v->types[id] == HR_TOKEN_UNKNOWN))
		return true;
	return v->added && v->added[id] & HR_ADDED_SINGLE_WORD &&
	       (word_ends_at(it->text, start) || word_begins_at(it->text, end, it->length));
}

bool hr__added_next(struct hr__added_iter *it, struct hr__span *span)
{
	if (it->pending.end) {
		*span = it->pending;
		it->pending.end = 0;
		return true;
	}
	while (it->at < it->length) {
		int32_t id = -1;
		size_t  n = it->added->first[(unsigned char)it->text[it->at]]
		                ? longest_at(it->added, it->text + it->at, it->length - it->at, &id)
		                : 0;
		if (!n) {
			it->at++;
			continue;
		}
		size_t start = it->at, end = it->at + n;
		it->at = end;
		if (is_refused(it, id, start, end))
			continue;
		unsigned flags = it->t->vocab.added ? it->t->vocab.added[id] : 0;
		if (flags & HR_ADDED_LSTRIP)
			start = skip_space_back(it->text, start); /* perhaps into what is handed out already */
		if (flags & HR_ADDED_RSTRIP)
			end = skip_space(it->text, end, it->length);
		struct hr__span token = {.start = start, .end = end, .id = id};
		struct hr__span plain = {.start = it->plain, .end = start, .id = -1};
		it->plain = end;
		if (plain.start < plain.end) {
			it->pending = token;
			*span = plain;
		} else {
			*span = token;
		}
		return true;
	}
	if (it->plain >= it->length)
		return false;
	*span = (struct hr__span){.start = it->plain, .end = it->length, .id = -1};
	it->plain = it->length;
	return true;
}
