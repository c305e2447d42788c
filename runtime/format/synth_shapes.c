/* The shapes that hr_synth() knows: those of real models, and small ones with
 * the same features for tests (grouped heads, biases, a window, rope factors). */
#include "runtime/format/synth.h"

#include "base/mem.h"
#include "headrace/headrace.h"

/*  name, arch, layers, embd, heads, kv heads, head dim, ff, vocab, context, theta, window, tied, factors */
#define SHAPES(X)                                                                                            \
	X("tinyllama-1.1b", "llama", 22, 2048, 32, 4, 64, 5632, 32000, 2048, 1e4f, 0, 0, 0)                      \
	X("llama-7b", "llama", 32, 4096, 32, 32, 128, 11008, 32000, 4096, 1e4f, 0, 0, 0)                         \
	X("llama-8b", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 8192, 5e5f, 0, 0, 0)                         \
	X("llama-70b", "llama", 80, 8192, 64, 8, 128, 28672, 128256, 8192, 5e5f, 0, 0, 0)                        \
	X("mistral-7b", "llama", 32, 4096, 32, 8, 128, 14336, 32000, 32768, 1e4f, 4096, 0, 0)                    \
	X("qwen2-0.5b", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, 32768, 1e6f, 0, 1, 0)                         \
	X("smollm2-135m", "llama", 30, 576, 9, 3, 64, 1536, 49152, 8192, 1e5f, 0, 1, 0)                          \
	X("tiny-llama", "llama", 4, 128, 4, 2, 32, 256, 512, 2048, 1e4f, 0, 0, 0)                                \
	X("tiny-llama3", "llama", 4, 128, 4, 2, 32, 256, 512, 2048, 5e5f, 0, 0, 1)                               \
	X("tiny-mistral", "llama", 6, 96, 6, 2, 16, 160, 448, 2048, 1e4f, 64, 0, 0)                              \
	X("tiny-qwen2", "qwen2", 5, 128, 8, 2, 16, 192, 512, 2048, 1e6f, 0, 1, 0)

static const struct hr_synth_shape shapes[] = {
#define HR_X(shape, arch, layers, embd, heads, kv_heads, dim, ff, vocab, context, theta, window, tie,        \
             factors)                                                                                        \
	{.name = shape,                                                                                          \
	 .hparams = {.family = arch,                                                                             \
	             .n_layers = layers,                                                                         \
	             .n_embd = embd,                                                                             \
	             .n_heads = heads,                                                                           \
	             .n_kv_heads = kv_heads,                                                                     \
	             .head_dim = dim,                                                                            \
	             .n_ff = ff,                                                                                 \
	             .n_vocab = vocab,                                                                           \
	             .n_ctx_train = context,                                                                     \
	             .norm_eps = 1e-5f,                                                                          \
	             .n_rot = dim,                                                                               \
	             .rope_theta = theta,                                                                        \
	             .sliding_window = window,                                                                   \
	             .tied = tie},                                                                               \
	 .qkv_bias = arch[0] == 'q',                                                                             \
	 .rope_factors = factors},
    SHAPES(HR_X)
#undef HR_X
};

const struct hr_synth_shape *hr__synth_find_shape(const char *name)
{
	for (size_t i = 0; i < HR_COUNT_OF(shapes); i++)
		if (strcmp(shapes[i].name, name) == 0)
			return &shapes[i];
	return NULL;
}

const char *hr_synth_shapes(void)
{
#define HR_X(name, ...) ", " name
	static const char list[] = SHAPES(HR_X);
#undef HR_X
	return list + 2;
}
