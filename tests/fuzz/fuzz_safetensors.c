/* Fuzzes the header of a safetensors file, and, where the bytes begin with '{',
 * the index of a sharded model. Whatever the bytes, the answer is success or an
 * error with a sentence. */
#include "runtime/format/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int rc, const struct hr_error *err)
{
	if (rc < 0 && (err->code != rc || !err->message[0]))
		abort();
}

static void read_header(const uint8_t *data, size_t n, struct hr_tensor_list *list)
{
	static struct hr_source s;
	struct hr_error         err = {0};
	hr__source_init_memory(&s, "fuzz.safetensors", data, n);
	int rc = hr_safetensors_read(list, &s, &err);
	check(rc, &err);
	for (int i = 0; i < list->n; i++)
		if (list->items[i].offset + list->items[i].bytes > n)
			abort();
	if (!rc)
		check(hr__tensors_index(list, "fuzz.safetensors", &err), &err);
}

static void read_index(const uint8_t *data, size_t n)
{
	struct hr_safetensors_index index = {0};
	struct hr_tensor_list       none = {0};
	struct hr_error             err = {0};
	json_t                     *root;
	int                         rc = hr__json_parse(&root, "index.json", (const char *)data, n, &err);
	if (!rc)
		rc = hr_safetensors_index_read(&index, "index.json", root, &err);
	if (!rc)
		rc = hr_safetensors_index_check(&index, "index.json", &none, &err);
	check(rc, &err);
	hr_safetensors_index_release(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hr_tensor_list list = {0};
	read_header(data, n, &list);
	hr__tensors_release(&list);
	if (n && data[0] == '{')
		read_index(data, n);
	return 0;
}
