/* Which tensor gets which type.
 *
 * Matrices are quantised; vectors, norms and tables of positions are not. Errors in some matrices
 * cost more than in others: the head (which is the embedding where the two are tied), the values
 * of attention, what adds to the residual stream. A mix gives these a finer type, for all
 * layers or for the first, the last and every third of the others. The rules are those of llama.cpp for a
 * quantisation without an importance matrix, so that files of a name are the same, whoever wrote them. */
#include "runtime/format/quantize.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct hr_mix mixes[] = {
    {"f32", HR_TYPE_F32, 0, 0},
    {"f16", HR_TYPE_F16, 1, 0},
    {"bf16", HR_TYPE_BF16, 32, 0},
    {"q8_0", HR_TYPE_Q8_0, 7, 0},
    {"q4_0", HR_TYPE_Q4_0, 2, 0},
    {"q4_1", HR_TYPE_Q4_1, 3, 0},
    {"q5_0", HR_TYPE_Q5_0, 8, 0},
    {"q5_1", HR_TYPE_Q5_1, 9, 0},
    {"q2_k", HR_TYPE_Q2_K, 10, 'M'},
    {"q3_k_s", HR_TYPE_Q3_K, 11, 'S'},
    {"q3_k_m", HR_TYPE_Q3_K, 12, 'M'},
    {"q3_k_l", HR_TYPE_Q3_K, 13, 'L'},
    {"q4_k_s", HR_TYPE_Q4_K, 14, 'S'},
    {"q4_k_m", HR_TYPE_Q4_K, 15, 'M'},
    {"q5_k_s", HR_TYPE_Q5_K, 16, 'S'},
    {"q5_k_m", HR_TYPE_Q5_K, 17, 'M'},
    {"q6_k", HR_TYPE_Q6_K, 18, 0},
    {"iq4_nl", HR_TYPE_IQ4_NL, 25, 'M'},
    {"iq4_xs", HR_TYPE_IQ4_XS, 30, 'M'},
    {"mxfp4", HR_TYPE_MXFP4, 38, 0},
};
/* clang-format on */

const char *hr_quantize_types(void)
{
	return "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, "
	       "q5_k_s, "
	       "q5_k_m, q6_k, iq4_nl, iq4_xs, mxfp4";
}

const struct hr_mix *hr__mix_of_name(const char *name)
{
	char medium[16];
	snprintf(medium, sizeof medium, "%s_m", name); /* "q4_k" */
	for (size_t i = 0; i < HR_COUNT_OF(mixes); i++)
		if (!strcmp(mixes[i].name, name) || !strcmp(mixes[i].name, medium))
			return &mixes[i];
	return NULL;
}

bool hr_quantize_has_type(const char *type) { return type && hr__mix_of_name(type); }

const struct hr_mix *hr__mix_of_type(enum hr_type type)
{
	for (size_t i = 0; i < HR_COUNT_OF(mixes); i++)
		if (mixes[i].type == type)
			return &mixes[i]; /* the first is the plainest */
	return &mixes[0];
}

enum hr_type hr__type_for_rows(enum hr_type type, uint64_t cols)
{
	while (cols % hr_type_info(type)->block_elems)
		switch (type) {
		case HR_TYPE_Q2_K:
		case HR_TYPE_Q3_K:
			type = HR_TYPE_Q4_0;
			break;
		case HR_TYPE_Q4_K:
			type = HR_TYPE_Q5_0;
			break;
		case HR_TYPE_Q5_K:
			type = HR_TYPE_Q5_1;
			break;
		case HR_TYPE_Q6_K:
			type = HR_TYPE_Q8_0;
			break;
		case HR_TYPE_IQ4_XS:
			type = HR_TYPE_IQ4_NL;
			break;
		default:
			type = HR_TYPE_F16;
		}
	return type;
}

static bool has(const char *name, const char *part) { return strstr(name, part) != NULL; }

static bool is_quantized(const char *name, int n_dims)
{
	size_t n = strlen(name);
	return n_dims >= 2 && n >= 6 && !strcmp(name + n - 6, "weight") && !has(name, "_norm.weight") &&
	       strcmp(name, "position_embd.weight") != 0 && strcmp(name, "token_types.weight") != 0;
}

/* The first and the last eighth of the layers, and every third between them. */
static bool is_sensitive_layer(int layer, int n_layers)
{
	return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

/* Values of attention: small where heads share them, and all of a head's output hangs on them. */
static enum hr_type type_of_values(const struct hr_mix *mix, int layer, const struct hr_hparams *h)
{
	bool         shared = h->n_heads / h->n_kv_heads >= 4;
	enum hr_type type = mix->type;
	if (mix->type == HR_TYPE_Q2_K)
		type = shared ? HR_TYPE_Q4_K : HR_TYPE_Q3_K;
	else if (mix->type == HR_TYPE_Q3_K && mix->rule == 'M')
		type = layer < 2 ? HR_TYPE_Q5_K : HR_TYPE_Q4_K;
	else if (mix->type == HR_TYPE_Q3_K && mix->rule == 'L')
		type = HR_TYPE_Q5_K;
	else if ((mix->type == HR_TYPE_IQ4_NL || mix->type == HR_TYPE_IQ4_XS) && shared)
		type = HR_TYPE_Q5_K;
	else if (mix->rule == 'M' && (mix->type == HR_TYPE_Q4_K || mix->type == HR_TYPE_Q5_K) &&
	         is_sensitive_layer(layer, h->n_layers))
		type = HR_TYPE_Q6_K;
	else if (mix->rule == 'S' && mix->type == HR_TYPE_Q4_K && layer < 4)
		type = HR_TYPE_Q5_K;
	bool is_70b = h->n_layers == 80 && h->n_heads != h->n_kv_heads;
	return is_70b && (type == HR_TYPE_Q3_K || type == HR_TYPE_Q4_K) ? HR_TYPE_Q5_K : type;
}

static enum hr_type type_of_down(const struct hr_mix *mix, int layer, int n_layers)
{
	switch (mix->type) {
	case HR_TYPE_Q2_K:
		return HR_TYPE_Q3_K;
	case HR_TYPE_Q3_K:
		if (mix->rule == 'M')
			return layer < n_layers / 16 ? HR_TYPE_Q5_K : HR_TYPE_Q4_K;
		return mix->rule == 'L' ? HR_TYPE_Q5_K : HR_TYPE_Q3_K;
	case HR_TYPE_Q4_K:
		if (mix->rule == 'S')
			return layer < n_layers / 8 ? HR_TYPE_Q5_K : HR_TYPE_Q4_K;
		return is_sensitive_layer(layer, n_layers) ? HR_TYPE_Q6_K : HR_TYPE_Q4_K;
	case HR_TYPE_Q5_K:
		return mix->rule == 'M' && is_sensitive_layer(layer, n_layers) ? HR_TYPE_Q6_K : HR_TYPE_Q5_K;
	case HR_TYPE_IQ4_NL:
	case HR_TYPE_IQ4_XS:
		return layer < n_layers / 8 ? HR_TYPE_Q5_K : mix->type;
	default:
		return mix->type;
	}
}

static enum hr_type type_of_attention_output(const struct hr_mix *mix)
{
	if (mix->type == HR_TYPE_Q2_K)
		return HR_TYPE_Q3_K;
	if (mix->type == HR_TYPE_Q3_K && mix->rule != 'S')
		return mix->rule == 'M' ? HR_TYPE_Q4_K : HR_TYPE_Q5_K;
	return mix->type;
}

/* The head's rows are what every token is chosen by. */
static enum hr_type type_of_head(const struct hr_mix *mix, uint64_t cols)
{
	bool fits = cols % hr_type_info(mix->type)->block_elems == 0;
	return fits && mix->type != HR_TYPE_Q8_0 && mix->type != HR_TYPE_MXFP4 ? HR_TYPE_Q6_K : HR_TYPE_Q8_0;
}

enum hr_type hr__mix_type(const struct hr_mix *mix, const char *name, int n_dims, uint64_t cols,
                          enum hr_type as_is, bool pure, const struct hr_hparams *h)
{
	int          layer = 0;
	bool         no_head = h->tied || h->encoder; /* the embedding counts as one, also an encoder's */
	enum hr_type type = mix->type;
	if (!is_quantized(name, n_dims))
		return as_is;
	if (hr_type_info(type)->block_elems == 1)
		return type;
	sscanf(name, "blk.%d.", &layer);
	if (pure)
		type = mix->type;
	else if (!strcmp(name, "output.weight") || (no_head && !strcmp(name, "token_embd.weight")))
		type = type_of_head(mix, cols);
	else if (has(name, "attn_v.weight") || has(name, "attn_qkv.weight"))
		type = type_of_values(mix, layer, h);
	else if (has(name, "ffn_down"))
		type = type_of_down(mix, layer, h->n_layers);
	else if (has(name, "attn_output.weight"))
		type = type_of_attention_output(mix);
	return hr__type_for_rows(type, cols);
}
