/* Families: how each spells its hyperparameters and tensors.
 *
 * A family is a row of HR_FAMILIES and a file of its own: a table of tensors, two
 * functions that read a description, and struct hr_family. Decoders of the llama
 * line share readers and a table (decoder_*.c) and state only where they differ;
 * docs/adding-a-family.md shows how one comes about. */
#ifndef HR_RUNTIME_FAMILY_H
#define HR_RUNTIME_FAMILY_H

#include "base/mem.h"
#include "runtime/format/checkpoint.h"
#include "runtime/format/gguf.h"
#include "runtime/format/json.h"

#include <stddef.h>

enum hr_presence { HR_ABSENT, HR_OPTIONAL, HR_REQUIRED };

/* What may or may not be among a family's tensors. */
enum hr_feature {
	HR_ALWAYS, /* required without asking */
	HR_QKV_BIAS,
	HR_O_BIAS,
	HR_FFN_BIAS,
	HR_NORM_BIAS,
	HR_QK_NORM,
	HR_FFN_NORM, /* a norm of its own before the feed-forward part */
	HR_FFN_NORM_BIAS,
	HR_FINAL_NORM,
	HR_TYPE_EMBEDDING,
	HR_HEAD,
	HR_ROPE_FACTORS,
	HR_LONGROPE_FACTORS,
	HR_FEATURE_COUNT
};

/* What reading a model's description gives: the hyperparameters, and what the tensors must agree with. */
struct hr_decoder {
	const struct hr_family *family;
	struct hr_hparams       hparams; /* n_vocab 0: the file doesn't say, take the embedding's rows */
	enum hr_presence        has[HR_FEATURE_COUNT];
	bool tied_by_tensors; /* no head among the tensors means tied (GGUF); else hparams.tied says it */
};

/* ---- Tensors ------------------------------------------------------------------------- */

enum hr_dim {
	HR_DIM_NONE,
	HR_DIM_EMBD,
	HR_DIM_Q,
	HR_DIM_KV,
	HR_DIM_Q_KV, /* Q + KV */
	HR_DIM_QKV,  /* Q + 2 KV */
	HR_DIM_HEAD, /* elements of a head */
	HR_DIM_FF,
	HR_DIM_2FF,
	HR_DIM_VOCAB,
	HR_DIM_HALF_ROT,
	HR_DIM_POSITIONS, /* learned ones: the context and what stands before position 0 */
	HR_DIM_TYPES,
	HR_DIM_LABELS,
};

/* One weight of a block or of the ends: the tensor it is in, its shape ([cols], or [rows][cols]), and the
 * int it is kept in: a field of hr_block_tensors or of hr_end_tensors. */
struct hr_role {
	const char     *gguf, *hf; /* after the block's prefix; NULL: not in this format */
	enum hr_dim     rows, cols;
	size_t          field;
	enum hr_feature feature;
	/* A weight that is a part of the tensor: */
	enum hr_dim whole;         /* rows of the tensor; NONE: as many as the weight */
	enum hr_dim before;        /* rows in front of the part */
	bool        hf_by_columns; /* the Hugging Face file holds [cols][rows of the tensor] */
};

/* The lists of a family end with a role without names. */
#define HR_BLOCK(f) .field = offsetof(struct hr_block_tensors, f)
#define HR_END(f)   .field = offsetof(struct hr_end_tensors, f)

struct hr_family {
	const char *name;
	const char *gguf_arch;           /* general.architecture; NULL: another family reads its files */
	const char *gguf_as;             /* and is written under that one's name */
	bool        gguf_own;            /* llama.cpp has no such architecture */
	const char *hf_model_type;       /* config.json's model_type ... */
	const char *hf_architectures[6]; /* ... and what architectures[0] may then be */

	const struct hr_role *block_roles, *end_roles; /* the embedding first */
	const char           *hf_block;                /* a block's names begin with it: "model.layers.%d." */
	const char *hf_prefix;  /* before all names but those that begin with a slash; a file may leave it out */
	const char *ignored[6]; /* patterns (fnmatch) of tensors that no forward pass needs */

	int (*from_gguf)(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err);
	int (*from_hf)(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err);
};

/* X(name): all families, in the order in which lists name them. */
#define HR_FAMILIES(X)                                                                                       \
	X(llama)                                                                                                 \
	X(mistral)                                                                                               \
	X(qwen2)                                                                                                 \
	X(qwen3)                                                                                                 \
	X(gemma2)                                                                                                \
	X(gemma3)                                                                                                \
	X(phi3)                                                                                                  \
	X(gpt2)                                                                                                  \
	X(gpt_neox)                                                                                              \
	X(opt)                                                                                                   \
	X(stablelm)                                                                                              \
	X(bert)                                                                                                  \
	X(roberta)                                                                                               \
	X(xlm_roberta)                                                                                           \
	X(distilbert)

#define HR_X(name) extern const struct hr_family hr_family_##name;
HR_FAMILIES(HR_X)
#undef HR_X

/* Find the family that the file names and read its description, checked: every size is positive and sane,
 * heads divide. HR_EUNSUPPORTED: an unknown family (named, with those supported) or an option that the
 * forward pass does not have; HR_EFORMAT: a key that is missing, or a contradiction. */
int hr_family_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err);
int hr_family_from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err);

/* NULL: no such family. */
const struct hr_family *hr_family_of_name(const char *name);
/* What a GGUF of this family says it is. */
const char *hr_family_gguf_arch(const struct hr_family *family);

/* What general.architecture leaves open, under keys of our own: the activations of encoders and of families
 * that llama.cpp doesn't have, and where their norms stand. */
#define HR_OWN_ACTIVATION            "headrace.activation"
#define HR_OWN_CLASSIFIER_ACTIVATION "headrace.classifier.activation"
#define HR_OWN_NORM_AFTER            "headrace.norm_after"

/* ---- What decoders have in common: decoder_gguf.c, decoder_hf.c, rope_hf.c, decoder_check.c ---------------
 */

/* Of the llama line, all but rope_style and the biases. */
int hr__decoder_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, const char *arch,
                          struct hr_error *err);

/* Values that a config.json may leave out, as Transformers fills them in. */
struct hr_decoder_defaults {
	int32_t n_kv_heads; /* 0: as many as heads */
	int32_t n_ctx_train;
	float partial_rotary; /* the part of a head that is rotated; 0: the whole, and config.json can't change it
	                       */
};
/* Of the llama line, all but sliding_window and the biases. A head_dim that is set already is what a silent
 * config means. */
int hr__decoder_from_hf(struct hr_decoder *d, const struct hr_json *config,
                        const struct hr_decoder_defaults *defaults, struct hr_error *err);

/* Parts of it, for families that spell the rest differently. */
/* `theta`, `partial`: where the config doesn't say. After the heads. */
int hr__hf_read_rope(struct hr_hparams *h, const struct hr_json *config, float theta, float partial,
                     struct hr_error *err);
/* What YaRN multiplies cos and sin with, if nobody says otherwise. */
float hr__rope_yarn_magnitude(float factor, float mscale);
/* HR_EFORMAT, naming `what`: a factor that is not positive. */
int hr__rope_check_factors(const float *factors, int n, const char *path, const char *what,
                           struct hr_error *err);
/* What a config.json calls the sizes and the activation. */
struct hr_size_keys {
	const char *n_layers, *n_embd, *n_heads;
	const char *n_ff; /* NULL: the family reads it itself */
	const char *activation, *default_activation;
	const char *n_ctx_train, *norm_eps; /* which may be left out, or (NULL) have no name */
};
extern const struct hr_size_keys hr_usual_keys;
/* All of these and vocab_size. */
int hr__hf_read_sizes(struct hr_hparams *h, const struct hr_json *config, const struct hr_size_keys *keys,
                      struct hr_error *err);
/* As many heads of keys as of queries, n_embd divided among them. */
int hr__decoder_split_heads(struct hr_hparams *h, const struct hr_json *config, struct hr_error *err);
int hr__hf_read_activation(enum hr_activation *out, const struct hr_json *config, const char *key,
                           const char *default_name, struct hr_error *err);
/* Names as Transformers has them. False: none of that name. */
bool        hr__activation_of_name(enum hr_activation *out, const char *name);
const char *hr__activation_name(enum hr_activation activation);
/* layer_types, where there is one, else every `pattern`-th layer is full; pattern 0: none is. */
int hr__hf_read_sliding_layers(struct hr_hparams *h, const struct hr_json *config, int pattern,
                               struct hr_error *err);

/* use_sliding_window, sliding_window and max_window_layers, as Qwen's configs have them (qwen2.c). */
int hr__qwen_read_window(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err);

/* ---- What BERT and its relatives have in common: encoder_hf.c, bert.c ------------------------------ */

extern const struct hr_role hr_bert_block_roles[];

/* All but n_types and the place of position 0. */
int hr__encoder_from_hf(struct hr_decoder *d, const struct hr_json *config, const struct hr_size_keys *keys,
                        struct hr_error *err);

/* The checks named at hr_family_from_gguf(). */
int hr__decoder_check(const struct hr_decoder *d, const char *path, struct hr_error *err);

/* ---- The tensors of the llama line: decoder_tensors.c ---------------------------------- */

extern const struct hr_role hr_line_block_roles[], hr_line_end_roles[];

/* What stands before a block's names. */
#define HR_GGUF_BLOCK "blk.%d."
#define HR_HF_BLOCK   "model.layers.%d."

uint64_t hr_dim_size(enum hr_dim dim, const struct hr_hparams *h);

/* A tensor that some converters write and no forward pass needs. */
bool hr_tensor_is_ignorable(const struct hr_family *family, const char *name);

#endif
