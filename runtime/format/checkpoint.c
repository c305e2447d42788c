/* Opening a model: which format it is, and giving everything back.
 *
 * A directory is a Hugging Face model (checkpoint_hf.c), a file a GGUF one
 * (checkpoint_gguf.c). Both read a description into a struct hr_decoder and
 * headers into a list of tensors; bind.c holds the one against the other. Weights
 * are not read here. */
#include "runtime/format/assemble.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int hr_checkpoint_open(struct hr_checkpoint *out, const char *path, struct hr_error *err)
{
	struct hr_checkpoint c = {.path = strdup(path)};
	struct stat          st;
	int                  rc = 0;
	if (!c.path)
		return hr__fail(err, HR_ENOMEM, "%s: there is no memory for its path.", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		rc = hr__checkpoint_open_hf(&c, err);
	} else {
		c.is_gguf = true;
		rc = hr__refuse_foreign_file(path, err);
		if (!rc)
			rc = hr__checkpoint_open_gguf(&c, err);
	}
	if (rc)
		hr_checkpoint_release(&c);
	else
		*out = c;
	return rc;
}

void hr_checkpoint_release(struct hr_checkpoint *c)
{
	for (int i = 0; i < c->n_tensors + c->n_views; i++)
		free(c->tensors[i].name);
	free(c->tensors);
	free(c->blocks);
	for (int i = 0; i < c->n_files; i++)
		hr_file_close(&c->files[i]);
	free(c->files);
	if (c->has_vocab)
		hr_vocab_release(&c->vocab);
	hr__encoder_use_release(&c->use);
	free(c->path);
	*c = (struct hr_checkpoint){0};
}
