/* Parts of hr_synth(): shapes, vocabulary, weights. */
#ifndef HR_RUNTIME_SYNTH_H
#define HR_RUNTIME_SYNTH_H

#include "runtime/format/checkpoint.h"

struct hr_synth_shape {
	const char       *name;
	struct hr_hparams hparams; /* family: general.architecture */
	bool              qkv_bias;
	bool              rope_factors; /* as a Llama 3.1 GGUF has them */
};

/* NULL: no shape of that name. */
const struct hr_synth_shape *hr__synth_find_shape(const char *name);

/* Token `id` of a SentencePiece-style vocabulary: its text, NUL-terminated, and its type. */
#define HR_SYNTH_TOKEN_BYTES 32
enum hr_token_type hr__synth_token(int32_t id, char text[HR_SYNTH_TOKEN_BYTES], float *score);

/* Random numbers of one tensor: normal-ish, mean `mean`, standard deviation `sigma`. A float type draws from
 * `values`, most block types draw whole blocks from there; Q8_0 and Q4 draw quants and take their block
 * scales from `scales`. */
#define HR_SYNTH_VALUES 4096
#define HR_SYNTH_SCALES 64
struct hr_synth_weights {
	enum hr_type type;
	uint64_t     seed;
	uint8_t      values[HR_SYNTH_VALUES * 4]; /* encoded in `type` */
	uint16_t     scales[HR_SYNTH_SCALES][2];  /* f16 d, and m of Q4_1 */
};
void hr__synth_weights_init(struct hr_synth_weights *w, enum hr_type type, float mean, float sigma,
                            uint64_t seed);

/* Encode elements [first, first + n) of the tensor at dst; both multiples of the block but for the tensor's
 * end. What an element is depends on w and its index alone. */
void hr__synth_weights_fill(const struct hr_synth_weights *w, void *dst, uint64_t first, uint64_t n);

/* A seed for part `index` of `seed`. */
uint64_t hr__synth_mix(uint64_t seed, uint64_t index);

#endif
