/* safetensors: the header of one file, and the index of a sharded model.
 * Format: https://huggingface.co/docs/safetensors. */
#ifndef HR_RUNTIME_SAFETENSORS_H
#define HR_RUNTIME_SAFETENSORS_H

#include "runtime/format/json.h"
#include "runtime/format/source.h"
#include "runtime/format/tensors.h"

/* Read and validate the header at the start of `s`: tensors in the header's order, offsets from the
 * start of the file. HR_EFORMAT, HR_ETRUNCATED, HR_EUNSUPPORTED (a dtype, named), HR_EIO, HR_ENOMEM. */
int hr_safetensors_read(struct hr_tensor_list *list, struct hr_source *s, struct hr_error *err);

#define HR_SAFETENSORS_MAX_FILES 1024

/* "model.safetensors.index.json": which tensor is in which file. */
struct hr_safetensors_index {
	json_t      *root;
	const char **files; /* [n_files] names, each once, in order of first mention; borrowed from root */
	int          n_files;
};

/* `root` is an object and is taken over, also on failure. HR_EFORMAT: no weight_map, a file name that leaves
 * the directory. */
int  hr_safetensors_index_read(struct hr_safetensors_index *index, const char *path, json_t *root,
                               struct hr_error *err);
void hr_safetensors_index_release(struct hr_safetensors_index *index); /* a zeroed struct is fine */

/* HR_EFORMAT: a tensor of the index is missing from `list` (all shards, indexed), named with its shard. */
int hr_safetensors_index_check(const struct hr_safetensors_index *index, const char *path,
                               const struct hr_tensor_list *list, struct hr_error *err);

#endif
