/* roberta: BERT whose positions are counted from behind the padding token's id, and
 * whose classifier has its own dense layer. xlm-roberta is the same with another tokenizer. */
#include "runtime/family/family.h"

#include "base/error.h"

/* clang-format off */
static const struct hr_role end_roles[] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"position_embd.weight", "embeddings.position_embeddings.weight", HR_DIM_POSITIONS, HR_DIM_EMBD, HR_END(position_embedding)},
    {"token_types.weight", "embeddings.token_type_embeddings.weight", HR_DIM_TYPES, HR_DIM_EMBD, HR_END(type_embedding), HR_TYPE_EMBEDDING},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", 0, HR_DIM_EMBD, HR_END(embedding_norm)},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", 0, HR_DIM_EMBD, HR_END(embedding_norm_bias)},
    {"cls.weight", "/classifier.dense.weight", HR_DIM_EMBD, HR_DIM_EMBD, HR_END(dense), HR_HEAD},
    {"cls.bias", "/classifier.dense.bias", 0, HR_DIM_EMBD, HR_END(dense_bias), HR_HEAD},
    {"cls.output.weight", "/classifier.out_proj.weight", HR_DIM_LABELS, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {"cls.output.bias", "/classifier.out_proj.bias", 0, HR_DIM_LABELS, HR_END(head_bias), HR_HEAD},
    {0},
};
/* clang-format on */

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	int32_t            padding = 1;
	h->n_types = 2;
	int rc = hr__json_int(config, "type_vocab_size", &h->n_types, err);
	if (rc >= 0)
		rc = hr__json_int(config, "pad_token_id", &padding, err);
	if (rc >= 0)
		rc = hr__encoder_from_hf(d, config, &hr_usual_keys, err);
	if (rc < 0)
		return rc;
	h->position_offset = padding + 1;
	if (h->n_ctx_train <= h->position_offset)
		return hr__fail(err, HR_EFORMAT,
		                "%s: \"max_position_embeddings\" is %d, but the first %d are for padding.",
		                config->path, h->n_ctx_train, h->position_offset);
	h->n_ctx_train -= h->position_offset;
	return 0;
}

/* The two names. */
#define SAME                                                                                                 \
	.gguf_as = "bert", .block_roles = hr_bert_block_roles, .end_roles = end_roles,                           \
	.hf_block = "encoder.layer.%d.", .hf_prefix = "roberta.",                                                \
	.ignored = {"lm_head.*", "*pooler.dense.*", "*.position_ids"}, .from_hf = from_hf

const struct hr_family hr_family_roberta = {
    .name = "roberta",
    .hf_model_type = "roberta",
    .hf_architectures = {"RobertaModel", "RobertaForSequenceClassification", "RobertaForMaskedLM"},
    SAME,
};

const struct hr_family hr_family_xlm_roberta = {
    .name = "xlm_roberta",
    .hf_model_type = "xlm-roberta",
    .hf_architectures = {"XLMRobertaModel", "XLMRobertaForSequenceClassification", "XLMRobertaForMaskedLM"},
    SAME,
};
