/* What a Hugging Face directory, or a GGUF file, says about the use of an encoder. */
#ifndef HR_RUNTIME_ENCODER_FILES_H
#define HR_RUNTIME_ENCODER_FILES_H

#include "runtime/format/json.h"

struct hr_gguf;
struct hr_gguf_writer;

enum hr_problem { HR_PROBLEM_SOFTMAX, HR_PROBLEM_SIGMOID, HR_PROBLEM_REGRESSION };

enum hr_pooling {
	HR_POOLING_MEAN,
	HR_POOLING_CLS,
	HR_POOLING_MAX,
	HR_POOLING_MEAN_SQRT, /* sum / sqrt(tokens) */
	HR_POOLING_LAST,
};

struct hr_encoder_use {
	char          **labels; /* [n_labels] */
	int             n_labels;
	enum hr_problem problem;
	enum hr_pooling pooling;
	bool            normalize;
	bool            has_pooling; /* sentence-transformers files say so; else it is what they assume */
	int             max_tokens;  /* of a text; 0: as many as there are positions */
};

/* id2label and problem_type of config.json; modules.json and what it names. HR_EFORMAT; HR_EUNSUPPORTED: a
 * module that is not supported, named. */
int hr__encoder_use_read(struct hr_encoder_use *use, const char *directory, const struct hr_json *config,
                         int n_labels, struct hr_error *err);
/* The same of a GGUF file. In one that llama.cpp's converter wrote that is its pooling type and labels;
 * embeddings are normalised then, as llama.cpp does. */
int  hr__encoder_use_read_gguf(struct hr_encoder_use *use, const struct hr_gguf *g, int n_labels,
                               struct hr_error *err);
void hr__encoder_use_write(struct hr_gguf_writer *w, const struct hr_encoder_use *use);
void hr__encoder_use_release(struct hr_encoder_use *use); /* a zeroed struct is fine */

const char *hr__pooling_name(enum hr_pooling pooling);

#endif
