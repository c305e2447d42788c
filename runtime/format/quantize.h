/* Parts of hr_quantize(): which type each tensor gets, where its elements come from, and the work. */
#ifndef HR_RUNTIME_QUANTIZE_H
#define HR_RUNTIME_QUANTIZE_H

#include "headrace/headrace.h"
#include "runtime/format/checkpoint.h"
#include "runtime/format/gguf_write.h"
#include "runtime/format/new_file.h"

/* ---- Mixes: quantize_mix.c ------------------------------------------------------ */

/* What --type names: the type of most matrices, and which ones get a finer one. */
struct hr_mix {
	const char  *name;
	enum hr_type type;
	uint32_t     file_type; /* ggml's number for it, general.file_type */
	char         rule;      /* 'S', 'M', 'L': how generous; 0: all matrices but the head are alike */
};

/* NULL: no such mix. "q4_k" is "q4_k_m", as for llama.cpp. */
const struct hr_mix *hr__mix_of_name(const char *name);
/* The mix of nothing but `type`. */
const struct hr_mix *hr__mix_of_type(enum hr_type type);

/* The type of the tensor of this (GGUF) name: `as_is` where it is not to be quantised. `pure`: without
 * the finer types. Rows of `cols` elements that are no multiple of the block get a type with a shorter one.
 */
enum hr_type hr__mix_type(const struct hr_mix *mix, const char *name, int n_dims, uint64_t cols,
                          enum hr_type as_is, bool pure, const struct hr_hparams *h);
/* `type`, or what takes its place for rows of `cols` elements: as in llama.cpp. */
enum hr_type hr__type_for_rows(enum hr_type type, uint64_t cols);

/* ---- What the result consists of: quantize_source.c ----------------------------------- */

/* How rows of the source become rows of the result. */
enum hr_row_order {
	HR_ROWS_AS_THEY_ARE,
	HR_ROWS_ROTATED_PAIRS, /* of each head: RoPE's pairs, halves of a head there, neighbours here */
	HR_ROWS_HEADS_APART,   /* q, k, v of head 0, of head 1 ... there, all of q, of k, of v here */
	HR_ROWS_COLUMNS,       /* stored by columns there */
};

struct hr_output {
	char                    name[128];
	const struct hr_tensor *source; /* NULL: `values` */
	const float            *values; /* [elements], as f32 */
	enum hr_row_order       order;
	int32_t                 n_heads, head_dim; /* of the rows, for the order */
	uint64_t                first_row;         /* of the source that is kept */
	float                   shift;             /* added to every element */
	int                     n_dims;
	uint64_t                shape[4];
	uint64_t                n_rows, cols; /* the shape as a matrix; vectors whose order changes are columns */
	enum hr_type            type;         /* of the result */
	uint64_t                offset;       /* in its file */
};

struct hr_outputs {
	struct hr_output *items; /* [n] in the order of the file */
	int               n, capacity;
	float            *rope_factors; /* values of one of them, or NULL */
};

/* List what a GGUF of `c` consists of; types are the source's, f32 for vectors of a Hugging Face model.
 * HR_ENOMEM. */
int  hr__outputs_list(struct hr_outputs *out, const struct hr_checkpoint *c, struct hr_error *err);
void hr__outputs_release(struct hr_outputs *out); /* a zeroed struct is fine */

/* Elements of `n` rows from `first` as f32; `raw` has room for them as the source stores them. */
int hr__output_read(const struct hr_output *o, uint64_t first, uint64_t n, void *raw, float *out,
                    struct hr_error *err);

/* ---- The work: quantize_work.c ---------------------------------------------------- */

/* Read, encode and write all outputs with `n_threads` threads, which need some megabytes each. The bytes do
 * not depend on their number. `progress` is called on the calling thread, in bytes of the file. */
int hr__outputs_write(const struct hr_outputs *outputs, struct hr_new_file *file, int n_threads,
                      hr_progress_fn progress, void *user, struct hr_error *err);

/* ---- All of it, but without the tokenizer for the runtime's own files: quantize.c ----------------- */

struct hr_quantize_job {
	const char                *out;
	const struct hr_mix       *mix;
	struct hr_quantize_options options;
	const char                *source_key; /* "headrace.source" of the result; NULL: none */
	bool                       weights_only;
};
int hr__quantize(const struct hr_checkpoint *c, const struct hr_quantize_job *job,
                 struct hr_quantize_result *result, struct hr_error *err);

/* Whether converting `c` to `mix` makes sense: HR_EUNSUPPORTED with the reason, else 0. */
int hr__quantize_check(const struct hr_checkpoint *c, const struct hr_mix *mix, bool allow_requantize,
                       struct hr_error *err);

#endif
