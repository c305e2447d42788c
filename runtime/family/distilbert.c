/* distilbert: half of BERT's layers under other names, without kinds of segments. */
#include "runtime/family/family.h"

/* clang-format off */
static const struct hr_role block_roles[] = {
    {"attn_q.weight", "attention.q_lin.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q)},
    {"attn_q.bias", "attention.q_lin.bias", 0, HR_DIM_Q, HR_BLOCK(q_bias)},
    {"attn_k.weight", "attention.k_lin.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k)},
    {"attn_k.bias", "attention.k_lin.bias", 0, HR_DIM_KV, HR_BLOCK(k_bias)},
    {"attn_v.weight", "attention.v_lin.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v)},
    {"attn_v.bias", "attention.v_lin.bias", 0, HR_DIM_KV, HR_BLOCK(v_bias)},
    {"attn_output.weight", "attention.out_lin.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"attn_output.bias", "attention.out_lin.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias)},
    {"attn_output_norm.weight", "sa_layer_norm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_output_norm.bias", "sa_layer_norm.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias)},
    {"ffn_up.weight", "ffn.lin1.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {"ffn_up.bias", "ffn.lin1.bias", 0, HR_DIM_FF, HR_BLOCK(up_bias)},
    {"ffn_down.weight", "ffn.lin2.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {"ffn_down.bias", "ffn.lin2.bias", 0, HR_DIM_EMBD, HR_BLOCK(down_bias)},
    {"layer_output_norm.weight", "output_layer_norm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"layer_output_norm.bias", "output_layer_norm.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias)},
    {0},
};

static const struct hr_role end_roles[] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"position_embd.weight", "embeddings.position_embeddings.weight", HR_DIM_POSITIONS, HR_DIM_EMBD, HR_END(position_embedding)},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", 0, HR_DIM_EMBD, HR_END(embedding_norm)},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", 0, HR_DIM_EMBD, HR_END(embedding_norm_bias)},
    {"cls.weight", "/pre_classifier.weight", HR_DIM_EMBD, HR_DIM_EMBD, HR_END(dense), HR_HEAD},
    {"cls.bias", "/pre_classifier.bias", 0, HR_DIM_EMBD, HR_END(dense_bias), HR_HEAD},
    {"cls.output.weight", "/classifier.weight", HR_DIM_LABELS, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {"cls.output.bias", "/classifier.bias", 0, HR_DIM_LABELS, HR_END(head_bias), HR_HEAD},
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
    .gguf_as = "bert",
    .hf_model_type = "distilbert",
    .hf_architectures = {"DistilBertModel", "DistilBertForSequenceClassification", "DistilBertForMaskedLM"},
    .block_roles = block_roles,
    .end_roles = end_roles,
    .hf_block = "transformer.layer.%d.",
    .hf_prefix = "distilbert.",
    .ignored = {"vocab_*", "*.position_ids"},
    .from_hf = from_hf,
};
