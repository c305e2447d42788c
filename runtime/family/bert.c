/* bert: BERT and its smaller relatives (MiniLM, BGE, E5, GTE). A file may hold the bare
 * encoder, one with a classifier, or one with the heads of pre-training, which are
 * passed over. In GGUF files RoBERTa, XLM-RoBERTa and DistilBERT have this name, too: there the
 * positions for padding are cut off, kinds of segments may be missing, and the tokenizer may be another. */
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
    {"token_types.weight", "embeddings.token_type_embeddings.weight", HR_DIM_TYPES, HR_DIM_EMBD, HR_END(type_embedding), HR_TYPE_EMBEDDING},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", 0, HR_DIM_EMBD, HR_END(embedding_norm)},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", 0, HR_DIM_EMBD, HR_END(embedding_norm_bias)},
    {"cls.weight", "pooler.dense.weight", HR_DIM_EMBD, HR_DIM_EMBD, HR_END(dense), HR_HEAD},
    {"cls.bias", "pooler.dense.bias", 0, HR_DIM_EMBD, HR_END(dense_bias), HR_HEAD},
    {"cls.output.weight", "/classifier.weight", HR_DIM_LABELS, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {"cls.output.bias", "/classifier.bias", 0, HR_DIM_LABELS, HR_END(head_bias), HR_HEAD},
    {0},
};
/* clang-format on */

/* Rows of a matrix among the tensors; 0: there is none. */
static int32_t count_rows(const struct hr_gguf *g, const char *name)
{
	for (int i = 0; i < g->tensors.n; i++)
		if (strcmp(g->tensors.items[i].name, name) == 0 && g->tensors.items[i].shape[0] <= 1 << 20)
			return (int32_t)g->tensors.items[i].shape[0];
	return 0;
}

/* As many as the classifier has, or names say, or Transformers would make up. */
static int count_labels(struct hr_hparams *h, const struct hr_gguf *g, struct hr_error *err)
{
	const struct hr_gguf_kv *names = NULL;
	int rc = hr_gguf_get_array(g, "bert.classifier.output_labels", HR_GGUF_STRING, &names, err);
	h->n_labels = count_rows(g, "cls.output.weight");
	if (!h->n_labels)
		h->n_labels = rc > 0 && names->n && names->n <= 1 << 20 ? (int32_t)names->n : 2;
	return rc < 0 ? rc : 0;
}

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	h->encoder = h->layer_norm = h->norm_after = true;
	h->activation = HR_ACT_GELU;
	h->dense_activation = HR_ACT_TANH;
	h->n_types = count_rows(g, "token_types.weight");
	d->has[HR_HEAD] = HR_OPTIONAL;
	d->has[HR_TYPE_EMBEDDING] = h->n_types ? HR_REQUIRED : HR_ABSENT;
	int rc = count_labels(h, g, err);
	if (!rc)
		rc = hr__decoder_from_gguf(d, g, "bert", err);
	h->n_rot = 0;
	h->rope_theta = 0;
	return rc;
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	d->hparams.n_types = 2;
	int rc = hr__json_int(config, "type_vocab_size", &d->hparams.n_types, err);
	return rc < 0 ? rc : hr__encoder_from_hf(d, config, &hr_usual_keys, err);
}

const struct hr_family hr_family_bert = {
    .name = "bert",
    .gguf_arch = "bert",
    .hf_model_type = "bert",
    .hf_architectures = {"BertModel", "BertForSequenceClassification", "BertForMaskedLM",
                         "BertForPreTraining", "BertForNextSentencePrediction"},
    .block_roles = hr_bert_block_roles,
    .end_roles = end_roles,
    .hf_block = "encoder.layer.%d.",
    .hf_prefix = "bert.",
    .ignored = {"cls.*", "*.position_ids"},
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
