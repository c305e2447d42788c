/* The steps from files to a struct hr_checkpoint. */
#ifndef HR_RUNTIME_ASSEMBLE_H
#define HR_RUNTIME_ASSEMBLE_H

#include "runtime/family/family.h"
#include "runtime/format/tensors.h"

/* Open all files of a model and bind their tensors; c->path is set. What was opened is in *c, also
 * on failure: hr_checkpoint_release(). */
int hr__checkpoint_open_gguf(struct hr_checkpoint *c, struct hr_error *err);
int hr__checkpoint_open_hf(struct hr_checkpoint *c, struct hr_error *err);

/* HR_EUNSUPPORTED, with the way out: the file, or what lies in the directory, is a kind of weights that is
 * not read (a pickle, ONNX, ...). 0: neither says anything. */
int hr__refuse_foreign_file(const char *path, struct hr_error *err);
int hr__refuse_foreign_directory(const char *path, struct hr_error *err);

/* Give each of the tensors its role in the decoder, with its shape checked, and move them into *c.
 * HR_EFORMAT: a tensor is missing, twice there, overlaps another, has the wrong shape; HR_EUNSUPPORTED: one
 * has no role. */
int hr__checkpoint_bind(struct hr_checkpoint *c, struct hr_tensor_list *tensors, const struct hr_decoder *d,
                        struct hr_error *err);

/* The tokenizer in GGUF metadata. 1: read; 0: there is none; HR_EFORMAT; HR_EUNSUPPORTED (its model, named).
 */
int hr__vocab_read_gguf(struct hr_vocab *out, const struct hr_gguf *g, struct hr_error *err);

#endif
