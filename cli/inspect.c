/* `headrace inspect`: what is in a model's files, from their headers alone. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

/* "[49152, 576]" */
static void format_shape(const struct hr_tensor_info *t, char *out, size_t capacity)
{
	size_t n = (size_t)snprintf(out, capacity, "[");
	for (int i = 0; i < t->n_dims && n < capacity; i++)
		n += (size_t)snprintf(out + n, capacity - n, "%s%" PRIu64, i ? ", " : "", t->shape[i]);
	if (n < capacity)
		snprintf(out + n, capacity - n, "]");
}

static void print_model(const struct hr_model_info *m)
{
	printf("%s: %s, %d %s, %d tensors\n\n", m->path, m->format, m->n_files,
	       m->n_files == 1 ? "file" : "files", m->n_tensors);
	printf("  family          %s\n", m->family);
	printf("  layers          %d, the largest %s\n", m->n_layers, hr_cli_bytes(m->largest_layer_bytes).s);
	printf("  width           %d, feed-forward %d\n", m->n_embd, m->n_ff);
	printf("  attention       %d heads of %d, %d of keys and values\n", m->n_heads, m->head_dim,
	       m->n_kv_heads);
	if (m->rope_original_context)
		printf("  positions       RoPE, base %g, scaling %s (other factors where -c is above %d); trained "
		       "for %d "
		       "tokens\n",
		       (double)m->rope_theta, m->rope_scaling, m->rope_original_context, m->n_ctx_train);
	else if (m->rope_theta > 0)
		printf("  positions       RoPE, base %g, scaling %s; trained for %d tokens\n", (double)m->rope_theta,
		       m->rope_scaling, m->n_ctx_train);
	else
		printf("  positions       %d, each with a vector of its own\n", m->n_ctx_train);
	printf("  vocabulary      %d, tokenizer %s, bos %d, eos %d, %s chat template\n", m->n_vocab,
	       m->tokenizer ? m->tokenizer : "none", m->bos, m->eos, m->chat_template ? "with a" : "no");
	printf("  parameters      %.1f million\n", (double)m->n_params / 1e6);
	printf("  weights         %s, mostly %s; embedding %s, head %s%s\n", hr_cli_bytes(m->weight_bytes).s,
	       m->dtype, hr_cli_bytes(m->embedding_bytes).s, hr_cli_bytes(m->head_bytes).s,
	       m->tied_embedding ? " (the same matrix)" : "");
}

static void print_tensors(const struct hr_model *model)
{
	struct hr_tensor_info t;
	printf("\n  %-44s %-6s %-22s %12s %14s\n", "tensor", "type", "shape", "bytes", "offset");
	for (int i = 0; !hr_model_tensor(model, i, &t); i++) {
		char shape[96];
		format_shape(&t, shape, sizeof shape);
		printf("  %-44s %-6s %-22s %12" PRIu64 " %14" PRIu64 "%s%s\n", t.name, t.type, shape, t.bytes,
		       t.offset, hr_model_info(model)->n_files > 1 ? "  " : "",
		       hr_model_info(model)->n_files > 1 ? t.file : "");
	}
}

static json_t *json_tensors(const struct hr_model *model)
{
	struct hr_tensor_info t;
	json_t               *list = json_array();
	for (int i = 0; !hr_model_tensor(model, i, &t); i++) {
		json_t *shape = json_array();
		for (int d = 0; d < t.n_dims; d++)
			json_array_append_new(shape, json_integer((json_int_t)t.shape[d]));
		json_array_append_new(list,
		                      json_pack("{s:o, s:s, s:o, s:o, s:I, s:I}", "name", hr_cli_json_text(t.name),
		                                "type", t.type, "shape", shape, "file", hr_cli_json_text(t.file),
		                                "offset", (json_int_t)t.offset, "bytes", (json_int_t)t.bytes));
	}
	return list;
}

/* The model of `run --json`, with the rest of what the headers say. */
static json_t *json_model(const struct hr_model *model)
{
	const struct hr_model_info *m = hr_model_info(model);
	json_t                     *o = hr_cli_json_model(model);
	json_t                     *more = json_pack(
	                        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:I, s:i, s:i, s:o, s:o, s:i, "
	                                            "s:i, s:f, s:s}",
	                        "format", m->format, "n_embd", m->n_embd, "n_heads", m->n_heads, "n_kv_heads", m->n_kv_heads,
	                        "head_dim", m->head_dim, "n_ff", m->n_ff, "n_vocab", m->n_vocab, "n_ctx_train", m->n_ctx_train,
	                        "tied_embedding", m->tied_embedding, "largest_layer_bytes", (json_int_t)m->largest_layer_bytes,
	                        "embedding_bytes", (json_int_t)m->embedding_bytes, "head_bytes", (json_int_t)m->head_bytes,
	                        "n_tensors", m->n_tensors, "n_files", m->n_files, "tokenizer", hr_cli_json_text(m->tokenizer),
	                        "chat_template", hr_cli_json_text(m->chat_template), "bos", m->bos, "eos", m->eos, "rope_theta",
	                        (double)m->rope_theta, "rope_scaling", m->rope_scaling);
	json_object_update(o, more);
	json_decref(more);
	return o;
}

int hr_cli_inspect(struct hr_cli_options *o)
{
	struct hr_error  err;
	struct hr_model *model;
	if (hr_model_open(&model, o->target, &err))
		return hr_cli_fail_error(&err);
	if (o->json) {
		json_t *document = json_pack("{s:o}", "model", json_model(model));
		if (o->tensors)
			json_object_set_new(document, "tensors", json_tensors(model));
		hr_cli_write_json(document, false);
	} else {
		print_model(hr_model_info(model));
		if (o->tensors)
			print_tensors(model);
	}
	hr_model_close(model);
	return HR_EXIT_OK;
}
