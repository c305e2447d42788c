/* Lists of tensors, whatever the format they come from: names, sizes, places. */
#ifndef HR_RUNTIME_TENSORS_H
#define HR_RUNTIME_TENSORS_H

#include "runtime/format/checkpoint.h"

struct hr_tensor_list {
	struct hr_tensor *items; /* [n], each with a name of its own */
	int               n;
	int              *by_name; /* [n] indexes of items, sorted by name; NULL until _index() */
};

/* Frees names and arrays; a zeroed struct is fine. */
void hr__tensors_release(struct hr_tensor_list *list);

/* Compute t->bytes from type and shape. HR_EFORMAT: a zero or absurd dimension, a row that
 * is no multiple of the type's block. `path` is for messages. */
int hr__tensor_measure(struct hr_tensor *t, const char *path, struct hr_error *err);

/* Move all of `from` to the end of `list`. HR_ENOMEM. */
int hr__tensors_append(struct hr_tensor_list *list, struct hr_tensor_list *from, struct hr_error *err);

/* Sort by name, after the last append. HR_EFORMAT: a name stands twice, or two tensors of a file overlap. */
int hr__tensors_index(struct hr_tensor_list *list, const char *path, struct hr_error *err);

/* Index of the tensor `name`, -1: none. After hr__tensors_index(). */
int hr__tensors_find(const struct hr_tensor_list *list, const char *name);

/* "f32, f16, ...": the types of HR_TYPES. */
const char *hr__type_list(void);
const char *hr__gguf_type_list(void); /* those of them that GGUF has */
/* "F32, F16, BF16, F8_E4M3": how safetensors spells those that it has. */
const char *hr__safetensors_type_list(void);

#endif
