/* The two hash tables of a tokenizer: text -> piece, and pair of pieces -> merged
 * piece. Open addressing with linear probing in a power-of-two array at most half
 * full, so that a look-up is one cache line most of the time. Built by one
 * thread, then read only: no locks. */
#include "runtime/tokenizer/internal.h"

#include "base/mem.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static uint32_t slots_for(int32_t n_entries)
{
	uint32_t n = 16;
	while (n < (uint32_t)n_entries * 2u)
		n *= 2;
	return n;
}

int hr__text_map_init(struct hr__text_map *map, int32_t n_entries)
{
	uint32_t n = slots_for(n_entries);
	map->slots = hr__calloc(n, sizeof *map->slots);
	if (!map->slots)
		return HR_ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		map->slots[i].id = -1;
	map->mask = n - 1;
	return 0;
}

static struct hr__text_slot *text_slot(const struct hr__text_map *map, const struct hr_string *raw,
                                       const char *text, size_t length, uint32_t hash)
{
	for (uint32_t i = hash & map->mask;; i = (i + 1) & map->mask) {
		struct hr__text_slot *s = &map->slots[i];
		if (s->id < 0 ||
		    (s->hash == hash && raw[s->id].length == length && !memcmp(raw[s->id].text, text, length)))
			return s;
	}
}

int32_t hr__text_map_find(const struct hr__text_map *map, const struct hr_string *raw, const char *text,
                          size_t length)
{
	return text_slot(map, raw, text, length, (uint32_t)XXH3_64bits(text, length))->id;
}

int32_t hr__text_map_add(struct hr__text_map *map, const struct hr_string *raw, int32_t id)
{
	uint32_t              hash = (uint32_t)XXH3_64bits(raw[id].text, raw[id].length);
	struct hr__text_slot *s = text_slot(map, raw, raw[id].text, raw[id].length, hash);
	if (s->id < 0)
		*s = (struct hr__text_slot){.hash = hash, .id = id};
	return s->id;
}

int hr__pair_map_init(struct hr__pair_map *map, int32_t n_entries)
{
	uint32_t n = slots_for(n_entries);
	map->slots = hr__calloc(n, sizeof *map->slots);
	if (!map->slots)
		return HR_ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		map->slots[i].id = -1;
	map->mask = n - 1;
	return 0;
}

static struct hr__pair_slot *pair_slot(const struct hr__pair_map *map, int32_t left, int32_t right)
{
	uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	uint64_t mixed = (pair ^ pair >> 29) * 0x9e3779b97f4a7c15u;
	for (uint32_t i = (uint32_t)(mixed >> 32) & map->mask;; i = (i + 1) & map->mask) {
		struct hr__pair_slot *s = &map->slots[i];
		if (s->id < 0 || s->pair == pair)
			return s;
	}
}

const struct hr__pair_slot *hr__pair_map_find(const struct hr__pair_map *map, int32_t left, int32_t right)
{
	const struct hr__pair_slot *s = pair_slot(map, left, right);
	return s->id < 0 ? NULL : s;
}

bool hr__pair_map_add(struct hr__pair_map *map, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
	struct hr__pair_slot *s = pair_slot(map, left, right);
	if (s->id >= 0)
		return false;
	*s = (struct hr__pair_slot){
	    .pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right, .rank = rank, .id = id};
	return true;
}
