/* Fuzzes all that is done with the header of a GGUF file before a weight is read:
 * the header, the family's hyperparameters, the tokenizer, the tensors' roles.
 * Whatever the bytes, the answer is success or an error with a sentence. */
#include "runtime/format/assemble.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int rc, const struct hr_error *err)
{
	if (rc < 0 && (err->code != rc || !err->message[0]))
		abort();
}

/* As hr_checkpoint_open(), but for the files. */
static void open_model(struct hr_gguf *g)
{
	struct hr_decoder    d;
	struct hr_error      err = {0};
	struct hr_checkpoint c = {.path = strdup("fuzz.gguf"), .is_gguf = true};
	int                  rc = hr_family_from_gguf(&d, g, &err);
	if (!rc)
		rc = hr__checkpoint_bind(&c, &g->tensors, &d, &err);
	check(rc, &err);
	for (int i = 0; !rc && i < c.hparams.n_layers; i++)
		if (c.blocks[i].down < 0 || c.blocks[i].down >= c.n_tensors)
			abort();
	hr_checkpoint_release(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct hr_source s;
	struct hr_gguf          g = {0};
	struct hr_vocab         v = {0};
	struct hr_error         err = {0};
	hr__source_init_memory(&s, "fuzz.gguf", data, n);
	int rc = hr_gguf_read(&g, &s, &err);
	check(rc, &err);
	if (rc)
		return 0;
	for (int i = 0; i < g.tensors.n; i++)
		if (g.tensors.items[i].offset + g.tensors.items[i].bytes > n)
			abort();
	rc = hr__vocab_read_gguf(&v, &g, &err);
	check(rc, &err);
	if (rc > 0)
		hr_vocab_release(&v);
	open_model(&g);
	hr_gguf_release(&g);
	return 0;
}
