/* bert: BERT and its smaller relatives (MiniLM, BGE, E5, GTE). A file may hold the bare
 * encoder, one with a classifier, or one with the heads of pre-training, which are
 * passed over. */
#include "runtime/family/family.h"

/* clang-format off */
const struct hr_role hr_bert_block_roles[] = {
    {"attn_q.weight", "attention.self.query.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q)},
    {"attn_q.bias", "attention.self.query.bias", 0, HR_DIM_Q, HR_BLOCK(q_bias)},
    {"attn_k.weight", "attention.self.key.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k)},
    {"attn_k.bias", "attention.self.key.bias", 0, HR_DIM_KV, HR_BLOCK(k_bias)},
    {"attn_v.weight", "attention.self.value.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v)},
    {"attn_v.bias", "attention.self.value.bias", 0, HR_DIM_KV, HR_BLOCK(v_bias)},
    {"attn_output.weight", "attention.output.dense.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"attn_output.bias", "attention.output.dense.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias)},
    {"attn_output_norm.weight", "attention.output.LayerNorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_output_norm.bias", "attention.output.LayerNorm.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias)},
    {"ffn_up.weight", "intermediate.dense.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {"ffn_up.bias", "intermediate.dense.bias", 0, HR_DIM_FF, HR_BLOCK(up_bias)},
    {"ffn_down.weight", "output.dense.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {"ffn_down.bias", "output.dense.bias", 0, HR_DIM_EMBD, HR_BLOCK(down_bias)},
    {"layer_output_norm.weight", "output.LayerNorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"layer_output_norm.bias", "output.LayerNorm.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias)},
    {0},
};

static const struct hr_role end_roles[] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"position_embd.weight", "embeddings.position_embeddings.weight", HR_DIM_POSITIONS, HR_DIM_EMBD, HR_END(position_embedding)},
    {"token_types.weight", "embeddings.token_type_embeddings.weight", HR_DIM_TYPES, HR_DIM_EMBD, HR_END(type_embedding)},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", 0, HR_DIM_EMBD, HR_END(embedding_norm)},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", 0, HR_DIM_EMBD, HR_END(embedding_norm_bias)},
    {NULL, "pooler.dense.weight", HR_DIM_EMBD, HR_DIM_EMBD, HR_END(dense), HR_HEAD},
    {NULL, "pooler.dense.bias", 0, HR_DIM_EMBD, HR_END(dense_bias), HR_HEAD},
    {NULL, "/classifier.weight", HR_DIM_LABELS, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {NULL, "/classifier.bias", 0, HR_DIM_LABELS, HR_END(head_bias), HR_HEAD},
    {0},
};
/* clang-format on */

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	d->hparams.n_types = 2;
	int rc = hr__json_int(config, "type_vocab_size", &d->hparams.n_types, err);
	return rc < 0 ? rc : hr__encoder_from_hf(d, config, &hr_bert_keys, err);
}

const struct hr_encoder_keys hr_bert_keys = {
    .n_layers = "num_hidden_layers",
    .n_embd = "hidden_size",
    .n_ff = "intermediate_size",
    .n_heads = "num_attention_heads",
    .activation = "hidden_act",
};

const struct hr_family hr_family_bert = {
    .name = "bert",
    .hf_model_type = "bert",
    .hf_architectures = {"BertModel", "BertForSequenceClassification", "BertForMaskedLM",
                         "BertForPreTraining", "BertForNextSentencePrediction"},
    .block_roles = hr_bert_block_roles,
    .end_roles = end_roles,
    .hf_block = "encoder.layer.%d.",
    .hf_prefix = "bert.",
    .ignored = {"cls.*", "*.position_ids"},
    .from_hf = from_hf,
};
