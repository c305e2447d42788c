/* Fuzzes config.json. Whatever the bytes, the answer is hyperparameters that the
 * runtime can multiply and divide by, or an error with a sentence. */
#include "runtime/family/family.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hr_decoder d;
	struct hr_error   err = {0};
	json_t           *root = NULL;
	int               rc = hr__json_parse(&root, "config.json", (const char *)data, n, &err);
	struct hr_json    config = {.path = "config.json", .object = root};
	if (!rc)
		rc = hr_family_from_hf(&d, &config, &err);
	if (rc && (err.code != rc || !err.message[0]))
		abort();
	const struct hr_hparams *h = &d.hparams;
	if (!rc && (h->n_layers < 1 || h->n_embd < 1 || h->n_vocab < 0 || h->n_kv_heads < 1 ||
	            h->n_heads % h->n_kv_heads || h->head_dim < 1 || h->n_rot % 2 || h->n_rot > h->head_dim ||
	            h->sliding_window < 0))
		abort();
	json_decref(root);
	return 0;
}
