/* hr_quantize(): a model's weights as one GGUF of another type.
 *
 * The header comes first, whole, in memory; it says where every tensor lies. A GGUF's metadata is
 * carried over as it stands, but for what is said about types and shards. That of a Hugging Face directory is
 * written from what was understood of it, and read back: only if it says the same again is
 * the file begun. So a model whose options GGUF has no words for is refused, and not written wrongly. */
#include "runtime/format/quantize.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/notice.h"
#include "base/topology.h"
#include "runtime/family/family.h"
#include "runtime/format/gguf_describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define ALIGNMENT 4096

struct making {
	const struct hr_checkpoint   *c;
	const struct hr_quantize_job *job;
	struct hr_outputs             outputs;
	struct hr_gguf_writer         writer;
	struct hr_quantize_result     result;
	struct hr_notice_sink         notices;
	struct hr_error              *err;
};

/* ---- What makes sense ----------------------------------------------------------- */

static double bits(enum hr_type type)
{
	const struct hr_type_info *info = hr_type_info(type);
	return 8.0 * info->block_bytes / info->block_elems;
}

int hr__quantize_check(const struct hr_checkpoint *c, const struct hr_mix *mix, bool allow_requantize,
                       struct hr_error *err)
{
	enum hr_type               type = (enum hr_type)hr_type_of_name(c->dtype);
	const struct hr_type_info *to = hr_type_info(mix->type);
	if (hr_type_is_float(type) || type == mix->type || allow_requantize)
		return 0;
	if (bits(mix->type) >= bits(type))
		return hr__fail(
		    err, HR_EUNSUPPORTED,
		    "%s: its weights are %s; as %s they would take more room and be no better. Start from the "
		    "unquantised model.",
		    c->path, c->dtype, to->name);
	return hr__fail(
	    err, HR_EUNSUPPORTED,
	    "%s: its weights are quantised already (%s), and quantising them again to %s adds to their "
	    "error; start from the unquantised model, or allow it (headrace quantize --allow-requantize).",
	    c->path, c->dtype, mix->name);
}

/* ---- Types ---------------------------------------------------------------------- */

static int choose_types(struct making *m)
{
	const struct hr_mix *mix = m->job->mix;
	char                 first[224] = "";
	for (int i = 0; i < m->outputs.n; i++) {
		struct hr_output *o = &m->outputs.items[i];
		enum hr_type      from = o->source ? o->source->type : HR_TYPE_F32;
		uint64_t          cols = o->shape[o->n_dims - 1];
		o->type = hr__mix_type(mix, o->name, o->n_dims, cols, o->type, m->job->options.pure, &m->c->hparams);
		m->result.n_converted += o->type != from;
		if (o->type == from || cols % hr_type_info(mix->type)->block_elems == 0 ||
		    hr_type_info(o->type)->block_elems == hr_type_info(mix->type)->block_elems || o->n_dims < 2)
			continue;
		if (!m->result.n_fallbacks++)
			snprintf(first, sizeof first, "%s (rows of %" PRIu64 ") became %s", o->name, cols,
			         hr_type_info(o->type)->name);
	}
	m->result.n_tensors = m->outputs.n;
	if (m->result.n_fallbacks)
		hr__notice(
		    &m->notices,
		    "%d of %d tensors have rows that blocks of %s (%u weights) don't divide, and got the type that "
		    "comes nearest with shorter ones: %s.",
		    m->result.n_fallbacks, m->outputs.n, hr_type_info(mix->type)->name,
		    hr_type_info(mix->type)->block_elems, first);
	return 0;
}

/* ---- The header ----------------------------------------------------------------- */

/* About the file, not about the model. */
static bool is_ours(const char *key)
{
	return !strcmp(key, "general.alignment") || !strcmp(key, "general.file_type") ||
	       !strcmp(key, "general.quantization_version") || !strcmp(key, "headrace.source") ||
	       !strncmp(key, "split.", 6);
}

static int copy_metadata(struct making *m)
{
	struct hr_gguf    g = {0};
	struct hr_source *s = malloc(sizeof *s);
	if (!s)
		return hr__fail(m->err, HR_ENOMEM, "%s: there is no memory for a buffer.", m->c->path);
	hr__source_init_file(s, &m->c->files[0]);
	int rc = hr_gguf_read(&g, s, m->err);
	for (int i = 0; i < g.n_kvs && !rc; i++)
		if (!is_ours(g.kvs[i].key))
			hr_gguf_write_kv(&m->writer, &g.kvs[i]);
	hr_gguf_release(&g);
	free(s);
	return rc;
}

static const char *last_part(const char *path, size_t *length)
{
	size_t end = strlen(path);
	while (end > 1 && path[end - 1] == '/')
		end--;
	size_t begin = end;
	while (begin > 0 && path[begin - 1] != '/')
		begin--;
	*length = end - begin;
	return path + begin;
}

static int write_vocab(struct making *m)
{
	const struct hr_checkpoint *c = m->c;
	bool                        exact = true;
	if (!c->has_vocab || m->job->weights_only) {
		hr_gguf_write_string(&m->writer, "tokenizer.ggml.model", "none");
		if (!m->job->weights_only)
			hr__notice(&m->notices, "%s: there is no tokenizer in the result: %s", c->path,
			           c->vocab_error.code ? c->vocab_error.message : "the directory has none.");
		return 0;
	}
	int rc =
	    hr__gguf_write_vocab(&m->writer, &c->vocab, c->hparams.n_vocab, c->hparams.encoder, &exact, m->err);
	if (rc && m->err)
		hr__fail_context(m->err, "%s", c->path);
	else if (!rc && !exact)
		hr__notice(
		    &m->notices,
		    "%s: how its tokenizer normalises text (NFC), or takes whole words, is more than a GGUF says: in "
		    "rare cases text will be cut differently.",
		    c->path);
	return rc;
}

/* What llama.cpp would do with the file, where that isn't the same. */
static void note_own(const struct making *m, const char *arch)
{
	const struct hr_hparams *h = &m->c->hparams;
	if (m->job->weights_only)
		return;
	if (hr_family_of_name(h->family)->gguf_own)
		hr__notice(&m->notices, "llama.cpp has no architecture '%s': this file is for Headrace alone.", arch);
	bool plain = h->activation == HR_ACT_GELU && (m->c->ends.head < 0 || h->dense_activation == HR_ACT_TANH);
	if (h->encoder && !plain)
		hr__notice(
		    &m->notices,
		    "%s: its activations (%s, %s before the classifier) stand in the file under keys of our own; "
		    "llama.cpp takes gelu and tanh.",
		    m->c->path, hr__activation_name(h->activation), hr__activation_name(h->dense_activation));
}

static int write_metadata(struct making *m)
{
	struct hr_gguf_writer *w = &m->writer;
	const char            *arch = hr_family_gguf_arch(hr_family_of_name(m->c->hparams.family));
	size_t                 length;
	const char            *name = last_part(m->c->path, &length);
	char                  *copy = strndup(name, length);
	hr_gguf_write_string(w, "general.architecture", arch);
	hr_gguf_write_string(w, "general.name", copy ? copy : "");
	free(copy);
	hr__gguf_write_hparams(w, arch, &m->c->hparams);
	hr__gguf_write_own(w, m->c);
	note_own(m, arch);
	return write_vocab(m);
}

static int write_header(struct making *m)
{
	struct hr_gguf_writer *w = &m->writer;
	hr_gguf_write_init(w, ALIGNMENT);
	int rc = m->c->is_gguf ? copy_metadata(m) : write_metadata(m);
	if (rc)
		return rc;
	hr_gguf_write_u32(w, "general.file_type", m->job->mix->file_type);
	hr_gguf_write_u32(w, "general.quantization_version", 2);
	if (m->job->source_key)
		hr_gguf_write_string(w, "headrace.source", m->job->source_key);
	for (int i = 0; i < m->outputs.n; i++) {
		struct hr_output *o = &m->outputs.items[i];
		o->offset = hr_gguf_write_tensor(w, o->name, o->type, o->n_dims, o->shape);
	}
	rc = hr_gguf_write_finish(w, m->err);
	for (int i = 0; i < m->outputs.n; i++)
		m->outputs.items[i].offset += w->bytes;
	m->result.bytes = w->bytes + w->data_bytes;
	return rc;
}

/* What of two descriptions must be the same. Norms, the order of RoPE's pairs and Llama 3's
 * scaling are expressed by other tensors; so are the factors of longrope. */
static const char *difference(const struct hr_hparams *a, const struct hr_hparams *b)
{
#define COMPARE(field)                                                                                       \
	if (a->field != b->field)                                                                                \
	return #field
	COMPARE(n_layers);
	COMPARE(n_embd);
	COMPARE(n_heads);
	COMPARE(n_kv_heads);
	COMPARE(head_dim);
	COMPARE(n_ff);
	COMPARE(n_vocab);
	COMPARE(n_ctx_train);
	COMPARE(layer_norm);
	COMPARE(norm_after);
	COMPARE(parallel);
	COMPARE(activation);
	COMPARE(norm_eps);
	COMPARE(embedding_scale);
	COMPARE(attention_scale);
	COMPARE(attention_soft_cap);
	COMPARE(logit_soft_cap);
	COMPARE(n_rot);
	COMPARE(sliding_window);
	COMPARE(encoder);
	COMPARE(n_types);
	COMPARE(n_labels);
	COMPARE(dense_activation);
	if (a->n_rot) {
		COMPARE(rope_theta);
		COMPARE(rope_theta_sliding);
	}
	if (a->rope_scaling != HR_ROPE_SCALING_NONE && a->rope_scaling != HR_ROPE_SCALING_LLAMA3) {
		COMPARE(rope_scaling);
		COMPARE(rope_factor);
		COMPARE(rope_beta_fast);
		COMPARE(rope_beta_slow);
		COMPARE(rope_magnitude);
	}
	if (a->rope_scaling == HR_ROPE_SCALING_YARN || a->rope_scaling == HR_ROPE_SCALING_LONGROPE)
		COMPARE(rope_original_context);
#undef COMPARE
	return memcmp(a->full_layers, b->full_layers, sizeof a->full_layers) ? "the layers that slide" : NULL;
}

/* Does the header say again what the model is? */
static int check_header(const struct making *m)
{
	struct hr_gguf    g = {0};
	struct hr_decoder d;
	struct hr_source *s = malloc(sizeof *s);
	if (!s)
		return hr__fail(m->err, HR_ENOMEM, "%s: there is no memory for a buffer.", m->c->path);
	hr__source_init_memory(s, m->job->out, m->writer.data, m->writer.bytes);
	s->size_bytes = m->result.bytes; /* of the file that it begins; nothing behind the header is read */
	int rc = hr_gguf_read(&g, s, m->err);
	if (!rc)
		rc = hr_family_from_gguf(&d, &g, m->err);
	const char *differs = rc ? NULL : difference(&m->c->hparams, &d.hparams);
	if (differs)
		rc = hr__fail(
		    m->err, HR_EUNSUPPORTED,
		    "%s: this model is unlike others of the family %s (%s), which a GGUF has no words for; use "
		    "the directory as it is.",
		    m->c->path, m->c->hparams.family, differs);
	hr_gguf_release(&g);
	free(s);
	return rc;
}

/* ---- The file ------------------------------------------------------------------- */

static int check_out(const struct making *m)
{
	struct stat st;
	const char *out = m->job->out;
	if (stat(out, &st))
		return 0;
	if (!S_ISREG(st.st_mode))
		return hr__fail(m->err, HR_EINVAL, "%s is not a regular file; name the GGUF file to write.", out);
	if (!m->job->options.replace)
		return hr__fail(m->err, HR_EINVAL,
		                "%s is there already; take another name, or --force to replace it.", out);
	return 0;
}

static int write_file(struct making *m)
{
	const struct hr_quantize_options *q = &m->job->options;
	struct hr_new_file                file = {.fd = -1};
	int                               n_threads = q->n_threads > 0 ? q->n_threads : hr_topology_n_cores();
	int                               rc = hr__new_file_create(&file, m->job->out, m->result.bytes, m->err);
	if (!rc)
		rc = hr__new_file_write(&file, m->writer.data, m->writer.bytes, 0, m->err);
	if (!rc)
		rc = hr__outputs_write(&m->outputs, &file, n_threads, q->on_progress, q->user, m->err);
	if (!rc)
		rc = hr__new_file_sync(&file, m->err);
	for (int i = 0; i < m->c->n_files && !rc; i++)
		rc = hr_file_check_unchanged(&m->c->files[i], m->err);
	if (!rc && q->on_progress && q->on_progress(q->user, m->result.bytes, m->result.bytes))
		rc = hr__fail(m->err, HR_ECANCELED, "%s: stopped before it got its name, as asked.", m->job->out);
	if (!rc)
		rc = hr__new_file_publish(&file, m->err);
	hr__new_file_release(&file);
	return rc;
}

int hr__quantize(const struct hr_checkpoint *c, const struct hr_quantize_job *job,
                 struct hr_quantize_result *result, struct hr_error *err)
{
	struct making m = {.c = c,
	                   .job = job,
	                   .result = {.source_bytes = c->weight_bytes},
	                   .notices = {job->options.on_notice, job->options.user},
	                   .err = err};
	int           rc = check_out(&m);
	if (!rc)
		rc = hr__quantize_check(c, job->mix, job->options.allow_requantize, err);
	if (!rc)
		rc = hr__outputs_list(&m.outputs, c, err);
	if (!rc)
		rc = choose_types(&m);
	if (!rc)
		rc = write_header(&m);
	if (!rc && !c->is_gguf)
		rc = check_header(&m);
	if (!rc)
		rc = write_file(&m);
	if (!rc && result)
		*result = m.result;
	hr__outputs_release(&m.outputs);
	hr_gguf_write_release(&m.writer);
	return rc;
}

void hr_quantize_options_init(struct hr_quantize_options *options)
{
	*options = (struct hr_quantize_options){.type = "q4_k_m"};
}

int hr_quantize(const char *out, const char *model, const struct hr_quantize_options *options,
                struct hr_quantize_result *result, struct hr_error *err)
{
	if (!out || !*out || !model || !*model || !options || !options->type)
		return hr__fail(err, HR_EINVAL, "A model, a file to write and a type are needed; types are %s.",
		                hr_quantize_types());
	struct hr_quantize_job job = {.out = out, .mix = hr__mix_of_name(options->type), .options = *options};
	struct hr_checkpoint   c;
	if (!job.mix)
		return hr__fail(err, HR_EINVAL, "The type '%s' is unknown; known are %s.", options->type,
		                hr_quantize_types());
	int rc = hr_checkpoint_open(&c, model, err);
	if (rc)
		return rc;
	rc = hr__quantize(&c, &job, result, err);
	hr_checkpoint_release(&c);
	return rc;
}
