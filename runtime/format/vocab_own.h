/* An encoder's tokenizer in a GGUF, as far as it goes under keys of our own. */
#ifndef HR_RUNTIME_VOCAB_OWN_H
#define HR_RUNTIME_VOCAB_OWN_H

#include "runtime/format/gguf_write.h"
#include "runtime/tokenizer/tokenizer.h"

/* The score, in a file, of a token of Unigram's that is no piece. */
#define HR_NO_PIECE (-10000.0)

/* Whether Unigram's normaliser is among them. */
bool hr__vocab_own_has_steps(const struct hr_gguf *g);

/* n_tokens: as many as the file has, v->n_tokens or more. */
void hr__vocab_own_write(struct hr_gguf_writer *w, const struct hr_vocab *v, int32_t n_tokens);
/* Change what the file says; 0, or HR_EFORMAT, HR_ENOMEM. */
int hr__vocab_own_read(struct hr_vocab *v, const struct hr_gguf *g, struct hr_error *err);

#endif
