/* Lists of tensors: the checks that no format has to itself.
 *
 * A tensor's bytes follow from type and shape, in 64-bit arithmetic that notices
 * overflow. Names are unique over all files of a model, and no two tensors of a
 * file share a byte: a header that says otherwise describes nothing that a
 * converter writes. Whether a tensor lies inside its file is asked by the
 * formats, which know where their data begins. */
#include "runtime/format/tensors.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

const char *hr__type_list(void)
{
#define HR_X(id, name, gguf, st, elems, bytes) ", " name
	static const char list[] = HR_TYPES(HR_X);
#undef HR_X
	return list + 2;
}

const char *hr__gguf_type_list(void)
{
#define HR_X(id, name, gguf, st, elems, bytes) ", " name
	static const char list[] = HR_PLAIN_TYPES(HR_X) HR_BLOCK_TYPES(HR_X);
#undef HR_X
	return list + 2;
}

const char *hr__safetensors_type_list(void)
{
#define HR_X(id, name, gguf, st, elems, bytes) ", " st
	static const char list[] = HR_FLOAT_TYPES(HR_X);
#undef HR_X
	return list + 2;
}

void hr__tensors_release(struct hr_tensor_list *list)
{
	for (int i = 0; i < list->n; i++)
		free(list->items[i].name);
	free(list->items);
	free(list->by_name);
	*list = (struct hr_tensor_list){0};
}

int hr__tensor_measure(struct hr_tensor *t, const char *path, struct hr_error *err)
{
	const struct hr_type_info *type = hr_type_info(t->type);
	uint64_t                   elems = 1, bytes;
	for (int i = 0; i < t->n_dims; i++) {
		if (t->shape[i] == 0)
			return hr__fail(err, HR_EFORMAT, "%s: dimension %d of tensor '%s' is 0; the header is damaged.",
			                path, i, t->name);
		if (!hr__mul_u64(elems, t->shape[i], &elems))
			return hr__fail(
			    err, HR_EFORMAT,
			    "%s: the dimensions of tensor '%s' multiply to more than 64 bits hold; the header is "
			    "damaged.",
			    path, t->name);
	}
	uint64_t cols = t->shape[t->n_dims - 1];
	if (cols % type->block_elems)
		return hr__fail(err, HR_EFORMAT,
		                "%s: a row of tensor '%s' has %" PRIu64 " elements, but %s comes in blocks of %u.",
		                path, t->name, cols, type->name, type->block_elems);
	if (!hr__mul_u64(elems / type->block_elems, type->block_bytes, &bytes))
		return hr__fail(err, HR_EFORMAT,
		                "%s: tensor '%s' has more bytes than 64 bits count; the header is damaged.", path,
		                t->name);
	t->bytes = bytes;
	return 0;
}

int hr__tensors_append(struct hr_tensor_list *list, struct hr_tensor_list *from, struct hr_error *err)
{
	struct hr_tensor *items = NULL;
	if (from->n <= INT32_MAX - list->n)
		items = reallocarray(list->items, (size_t)list->n + (size_t)from->n + 1, sizeof *items);
	if (!items)
		return hr__fail(err, HR_ENOMEM, "There is no memory for a list of %d + %d tensors.", list->n,
		                from->n);
	if (from->n)
		memcpy(items + list->n, from->items, (size_t)from->n * sizeof *items);
	list->items = items;
	list->n += from->n;
	from->n = 0; /* the names have moved */
	hr__tensors_release(from);
	return 0;
}

static int compare_names(const void *a, const void *b, void *items)
{
	const struct hr_tensor *t = items;
	return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

static int compare_places(const void *a, const void *b, void *items)
{
	const struct hr_tensor *x = (const struct hr_tensor *)items + *(const int *)a;
	const struct hr_tensor *y = (const struct hr_tensor *)items + *(const int *)b;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int check_overlaps(const struct hr_tensor_list *list, const int *by_place, const char *path,
                          struct hr_error *err)
{
	for (int i = 1; i < list->n; i++) {
		const struct hr_tensor *a = &list->items[by_place[i - 1]], *b = &list->items[by_place[i]];
		if (a->file == b->file && b->offset < a->offset + a->bytes)
			return hr__fail(err, HR_EFORMAT,
			                "%s: tensors '%s' (bytes %" PRIu64 " to %" PRIu64 ") and '%s' (from byte %" PRIu64
			                ") overlap; the header is damaged.",
			                a->file ? a->file->path : path, a->name, a->offset, a->offset + a->bytes, b->name,
			                b->offset);
	}
	return 0;
}

int hr__tensors_index(struct hr_tensor_list *list, const char *path, struct hr_error *err)
{
	int *order = hr__calloc((size_t)list->n, sizeof *order);
	if (!order)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory to sort %d tensors.", path, list->n);
	for (int i = 0; i < list->n; i++)
		order[i] = i;
	qsort_r(order, (size_t)list->n, sizeof *order, compare_places, list->items);
	int rc = check_overlaps(list, order, path, err);
	if (rc) {
		free(order);
		return rc;
	}
	qsort_r(order, (size_t)list->n, sizeof *order, compare_names, list->items);
	free(list->by_name);
	list->by_name = order;
	for (int i = 1; i < list->n; i++) {
		const struct hr_tensor *a = &list->items[order[i - 1]], *b = &list->items[order[i]];
		if (strcmp(a->name, b->name) == 0)
			return hr__fail(err, HR_EFORMAT, "%s: tensor '%s' stands there twice; one of the two is wrong.",
			                b->file ? b->file->path : path, b->name);
	}
	return 0;
}

int hr__tensors_find(const struct hr_tensor_list *list, const char *name)
{
	int low = 0, high = list->n;
	while (low < high) {
		int middle = low + (high - low) / 2;
		int order = strcmp(list->items[list->by_name[middle]].name, name);
		if (order == 0)
			return list->by_name[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}
