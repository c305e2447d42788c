/* distilbert: half of BERT's layers under other names, without kinds of segments. */
#include "runtime/family/family.h"

/* clang-format off */
static const struct hr_role block_roles[] = {
    {NULL, "attention.q_lin.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q)},
    {NULL, "attention.q_lin.bias", 0, HR_DIM_Q, HR_BLOCK(q_bias)},
    {NULL, "attention.k_lin.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k)},
    {NULL, "attention.k_lin.bias", 0, HR_DIM_KV, HR_BLOCK(k_bias)},
    {NULL, "attention.v_lin.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v)},
    {NULL, "attention.v_lin.bias", 0, HR_DIM_KV, HR_BLOCK(v_bias)},
    {NULL, "attention.out_lin.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {NULL, "attention.out_lin.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias)},
    {NULL, "sa_layer_norm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {NULL, "sa_layer_norm.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias)},
    {NULL, "ffn.lin1.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {NULL, "ffn.lin1.bias", 0, HR_DIM_FF, HR_BLOCK(up_bias)},
    {NULL, "ffn.lin2.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {NULL, "ffn.lin2.bias", 0, HR_DIM_EMBD, HR_BLOCK(down_bias)},
    {NULL, "output_layer_norm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {NULL, "output_layer_norm.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias)},
    {0},
};

static const struct hr_role end_roles[] = {
    {NULL, "embeddings.word_embeddings.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {NULL, "embeddings.position_embeddings.weight", HR_DIM_POSITIONS, HR_DIM_EMBD, HR_END(position_embedding)},
    {NULL, "embeddings.LayerNorm.weight", 0, HR_DIM_EMBD, HR_END(embedding_norm)},
    {NULL, "embeddings.LayerNorm.bias", 0, HR_DIM_EMBD, HR_END(embedding_norm_bias)},
    {NULL, "/pre_classifier.weight", HR_DIM_EMBD, HR_DIM_EMBD, HR_END(dense), HR_HEAD},
    {NULL, "/pre_classifier.bias", 0, HR_DIM_EMBD, HR_END(dense_bias), HR_HEAD},
    {NULL, "/classifier.weight", HR_DIM_LABELS, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {NULL, "/classifier.bias", 0, HR_DIM_LABELS, HR_END(head_bias), HR_HEAD},
    {0},
};
/* clang-format on */

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_size_keys keys = {.n_layers = "n_layers",
	                                         .n_embd = "dim",
	                                         .n_heads = "n_heads",
	                                         .n_ff = "hidden_dim",
	                                         .activation = "activation",
	                                         .default_activation = "gelu",
	                                         .n_ctx_train = "max_position_embeddings"};

	int rc = hr__encoder_from_hf(d, config, &keys, err);
	d->hparams.dense_activation = HR_ACT_RELU;
	return rc;
}

const struct hr_family hr_family_distilbert = {
    .name = "distilbert",
    .hf_model_type = "distilbert",
    .hf_architectures = {"DistilBertModel", "DistilBertForSequenceClassification", "DistilBertForMaskedLM"},
    .block_roles = block_roles,
    .end_roles = end_roles,
    .hf_block = "transformer.layer.%d.",
    .hf_prefix = "distilbert.",
    .ignored = {"vocab_*", "*.position_ids"},
    .from_hf = from_hf,
};
