/* The hyperparameters of BERT and its relatives out of a config.json: blocks with
 * layer norms behind both parts, learned positions, no cache. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <string.h>

/* The classifier's outputs: as many as there are names, or num_labels, or two. */
static int read_n_labels(struct hr_hparams *h, const struct hr_json *config, struct hr_error *err)
{
	const json_t *names = json_object_get(config->object, "id2label");
	h->n_labels = names ? (int32_t)json_object_size(names) : 2;
	int rc = names ? 0 : hr__json_int(config, "num_labels", &h->n_labels, err);
	if (rc < 0)
		return rc;
	if (h->n_labels < 1 || h->n_labels > 1 << 20)
		return hr__fail(err, HR_EFORMAT, "%s: the model has %d labels; 1 to %d are possible.", config->path,
		                h->n_labels, 1 << 20);
	return 0;
}

static int refuse_options(const struct hr_json *config, struct hr_error *err)
{
	const char *positions = "absolute";
	bool        decoder = false;
	int         rc = hr__json_string(config, "position_embedding_type", &positions, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "is_decoder", &decoder, err);
	if (rc < 0)
		return rc;
	if (strcmp(positions, "absolute") != 0)
		return hr__json_fail_option(config, "position_embedding_type", positions, "absolute is", err);
	if (decoder)
		return hr__json_fail_option(config, "is_decoder", "true", "encoders are", err);
	return 0;
}

int hr__encoder_from_hf(struct hr_decoder *d, const struct hr_json *config, const struct hr_size_keys *keys,
                        struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	h->encoder = h->layer_norm = h->norm_after = true;
	h->dense_activation = HR_ACT_TANH;
	h->norm_eps = 1e-12f;
	h->n_ctx_train = 512;
	d->has[HR_HEAD] = HR_OPTIONAL;
	d->has[HR_TYPE_EMBEDDING] = HR_REQUIRED;
	int rc = refuse_options(config, err);
	if (!rc)
		rc = hr__hf_read_sizes(h, config, keys, err);
	if (!rc)
		rc = hr__decoder_split_heads(h, config, err);
	return rc ? rc : read_n_labels(h, config, err);
}
