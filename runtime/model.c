/* Opens a model: checkpoint, tokenizer, layout. Immutable afterwards, which is
 * what makes it safe to share between sessions and threads. A model whose
 * tokenizer can't be used still opens (it can be inspected, planned, and run
 * from token ids); the reason is kept and told when text is asked for. */
#include "runtime/cut.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/format/tensors.h"
#include "runtime/tokenizer/chat.h"

#include <string.h>

#define PIECE_BYTES (16ull << 20) /* of which two keep a drive busy */

static const char *rope_scaling_name(enum hr_rope_scaling scaling)
{
	switch (scaling) {
	case HR_ROPE_SCALING_LINEAR:
		return "linear";
	case HR_ROPE_SCALING_LLAMA3:
		return "llama3";
	case HR_ROPE_SCALING_YARN:
		return "yarn";
	case HR_ROPE_SCALING_LONGROPE:
		return "longrope";
	default:
		return "none";
	}
}

static void fill_encoder_info(struct hr_model *m)
{
	const struct hr_checkpoint *c = &m->checkpoint;
	int                         positions = c->hparams.n_ctx_train, wanted = c->use.max_tokens;
	m->info.n_labels = c->hparams.n_labels;
	m->info.trained_head =
	    c->ends.head >= 0 && c->ends.head_bias >= 0 && c->ends.dense >= 0 && c->ends.dense_bias >= 0;
	m->info.max_tokens = wanted && wanted < positions ? wanted : positions;
	m->info.pooling = hr__pooling_name(c->use.pooling);
	m->info.normalized = c->use.normalize;
}

const char *hr_model_label(const struct hr_model *m, int index)
{
	const struct hr_encoder_use *use = &m->checkpoint.use;
	return index >= 0 && index < use->n_labels ? use->labels[index] : NULL;
}

const char *hr_families(void) { return hr_family_list(); }

const char *hr_types(void) { return hr__type_list(); }

static void fill_info(struct hr_model *m)
{
	const struct hr_checkpoint *c = &m->checkpoint;
	const struct hr_hparams    *h = &c->hparams;
	const struct hr_vocab      *vocab = m->tokenizer ? hr_tokenizer_vocab(m->tokenizer) : NULL;
	uint64_t                    largest = 0;
	for (int i = 0; i < m->n_blocks; i++)
		if (m->block_layers[i].file_bytes > largest)
			largest = m->block_layers[i].file_bytes;
	m->info = (struct hr_model_info){
	    .path = c->path,
	    .format = c->is_gguf ? "gguf" : "safetensors",
	    .family = h->family,
	    .dtype = c->dtype,
	    .n_layers = h->n_layers,
	    .n_embd = h->n_embd,
	    .n_heads = h->n_heads,
	    .n_kv_heads = h->n_kv_heads,
	    .head_dim = h->head_dim,
	    .n_ff = h->n_ff,
	    .n_vocab = h->n_vocab,
	    .n_ctx_train = h->n_ctx_train,
	    .tied_embedding = h->tied,
	    .n_params = c->n_params,
	    .weight_bytes = c->weight_bytes,
	    .largest_layer_bytes = largest,
	    .embedding_bytes = m->embedding.layer.file_bytes,
	    .head_bytes = m->head.layer.file_bytes,
	    .n_tensors = c->n_tensors,
	    .n_files = c->n_files,
	    .tokenizer = vocab ? hr_tokenizer_kind_name(vocab->kind) : NULL,
	    .chat_template = vocab ? vocab->chat_template : NULL,
	    .bos = vocab ? vocab->bos : -1,
	    .eos = vocab ? vocab->eos : -1,
	    .rope_theta = h->rope_theta,
	    .rope_scaling = rope_scaling_name(h->rope_scaling),
	    .rope_original_context = h->rope_scaling == HR_ROPE_SCALING_LONGROPE ? h->rope_original_context : 0,
	    .encoder = h->encoder,
	};
	if (h->encoder)
		fill_encoder_info(m);
}

static void open_tokenizer(struct hr_model *m)
{
	struct hr_checkpoint *c = &m->checkpoint;
	if (!c->has_vocab) {
		m->tokenizer_error = c->vocab_error;
		if (!c->vocab_error.code)
			hr__fail(&m->tokenizer_error, HR_EUNSUPPORTED,
			         "%s has no tokenizer; give token ids, or add its tokenizer files.", c->path);
		return;
	}
	int n_tokens = c->vocab.n_tokens;
	if (n_tokens > c->hparams.n_vocab) {
		hr__fail(&m->tokenizer_error, HR_EFORMAT,
		         "%s: the tokenizer has %d tokens but the embedding only %d rows; the tokenizer is another "
		         "model's, or tokens were added to it without resizing the embedding.",
		         c->path, n_tokens, c->hparams.n_vocab);
		return;
	}
	if (hr_tokenizer_new(&m->tokenizer, &c->vocab, &m->tokenizer_error))
		hr__fail_context(&m->tokenizer_error, "%s", c->path);
	c->has_vocab = false; /* taken over either way */
}

int hr__model_of_checkpoint(struct hr_model **out, struct hr_checkpoint *checkpoint, struct hr_error *err)
{
	struct hr_model *m = hr__calloc(1, sizeof *m);
	if (!m) {
		hr__fail(err, HR_ENOMEM, "%s: out of memory while opening the model.", checkpoint->path);
		hr_checkpoint_release(checkpoint);
		return HR_ENOMEM;
	}
	m->checkpoint = *checkpoint;
	*checkpoint = (struct hr_checkpoint){0};
	int rc = hr__layout_model(m, err);
	if (!rc && hr__cuts_init(m, m->checkpoint.hparams.encoder ? HR_ONE_PIECE : PIECE_BYTES))
		rc = hr__fail(err, HR_ENOMEM, "%s: out of memory while its layers were cut.", m->checkpoint.path);
	if (rc) {
		hr_model_close(m);
		return rc;
	}
	open_tokenizer(m);
	fill_info(m);
	*out = m;
	return 0;
}

int hr_model_open(struct hr_model **out, const char *path, struct hr_error *err)
{
	if (!out || !path || !*path)
		return hr__fail(err, HR_EINVAL, "No model was named: give a GGUF file or a Hugging Face directory.");
	struct hr_checkpoint checkpoint;
	int                  rc = hr_checkpoint_open(&checkpoint, path, err);
	return rc ? rc : hr__model_of_checkpoint(out, &checkpoint, err);
}

void hr_model_close(struct hr_model *m)
{
	if (!m)
		return;
	hr_tokenizer_free(m->tokenizer);
	hr__cuts_release(&m->cuts);
	hr__layout_release(m);
	hr_checkpoint_release(&m->checkpoint);
	free(m);
}

const struct hr_model_info *hr_model_info(const struct hr_model *m) { return &m->info; }

int hr_model_tensor(const struct hr_model *m, int index, struct hr_tensor_info *out)
{
	if (index < 0 || index >= m->checkpoint.n_tensors)
		return HR_EINVAL;
	const struct hr_tensor *t = &m->checkpoint.tensors[index];
	*out = (struct hr_tensor_info){
	    .name = t->name,
	    .type = hr_type_info(t->type)->name,
	    .n_dims = t->n_dims,
	    .file = t->file->path,
	    .offset = t->offset,
	    .bytes = t->bytes,
	};
	memcpy(out->shape, t->shape, sizeof out->shape);
	return 0;
}

/* ---- Text ------------------------------------------------------------------ */

static int need_tokenizer(const struct hr_model *m, struct hr_error *err)
{
	if (m->tokenizer)
		return 0;
	return hr__fail(err, m->tokenizer_error.code, "%s", m->tokenizer_error.message);
}

int64_t hr_model_tokenize(const struct hr_model *m, const char *text, size_t length, bool add_special,
                          bool parse_special, int32_t *ids, size_t capacity, struct hr_error *err)
{
	int rc = need_tokenizer(m, err);
	return rc ? rc
	          : hr_tokenizer_encode(m->tokenizer, text, length, add_special, parse_special, ids, capacity,
	                                err);
}

int64_t hr_model_detokenize(const struct hr_model *m, const int32_t *ids, size_t n_ids, bool special,
                            char *text, size_t capacity, struct hr_error *err)
{
	int rc = need_tokenizer(m, err);
	if (rc)
		return rc;
	size_t used = 0;
	bool   strip = hr_tokenizer_strips_first_space(m->tokenizer);
	for (size_t i = 0; i < n_ids; i++) {
		size_t  room = used < capacity ? capacity - used : 0;
		int64_t n = hr_tokenizer_token_bytes(m->tokenizer, ids[i], special, room ? text + used : NULL, room);
		if (n < 0)
			return hr__fail(err, (int)n, "Token id %d is not one of this model's %d.", ids[i],
			                m->info.n_vocab);
		if (strip && n > 0) {
			strip = false;
			if (room && text[used] == ' ') {
				n--;
				memmove(text + used, text + used + 1, (size_t)n < room - 1 ? (size_t)n : room - 1);
			}
		}
		used += (size_t)n;
	}
	if (used < capacity)
		text[used] = '\0';
	return (int64_t)used;
}

int hr_model_chat_format(const struct hr_model *m, const struct hr_chat_message *messages, int n_messages,
                         char **text, struct hr_error *err)
{
	int rc = need_tokenizer(m, err);
	if (rc)
		return rc;
	const struct hr_vocab *v = hr_tokenizer_vocab(m->tokenizer);
	const char            *bos = v->bos >= 0 ? v->tokens[v->bos].text : "";
	const char            *eos = v->eos >= 0 ? v->tokens[v->eos].text : "";
	return hr_chat_format(text, v->chat_template, bos, eos, messages, n_messages, true, err);
}

void hr_free(void *memory) { free(memory); }
