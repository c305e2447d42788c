/* Writing what a GGUF says of a model beside its tensors: the opposite of the families' readers and of
 * vocab_gguf.c, under the same keys. */
#ifndef HR_RUNTIME_GGUF_DESCRIBE_H
#define HR_RUNTIME_GGUF_DESCRIBE_H

#include "runtime/format/checkpoint.h"
#include "runtime/format/gguf_write.h"

/* Sizes, RoPE and what else the llama line and its relatives have in common; `arch` goes before the keys. */
void hr__gguf_write_hparams(struct hr_gguf_writer *w, const char *arch, const struct hr_hparams *h);

/* What is left to say of encoders, and of families that llama.cpp doesn't have; partly under keys of our own.
 */
void hr__gguf_write_own(struct hr_gguf_writer *w, const struct hr_checkpoint *c);

/* tokenizer.ggml.*, filled up to n_vocab tokens with unused ones; of an encoder with what it does to pairs of
 * texts, too. *exact false: but rare texts may
 * give other tokens (NFC, or words taken before merging), which GGUF has no word for. HR_EUNSUPPORTED: a
 * tokenizer that the keys of GGUF can't describe; nothing was written then. */
int hr__gguf_write_vocab(struct hr_gguf_writer *w, const struct hr_vocab *vocab, int32_t n_vocab,
                         bool encoder, bool *exact, struct hr_error *err);

#endif
