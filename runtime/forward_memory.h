/* What forward.c, which computes, and forward_memory.c, which opens and sizes, share. */
#ifndef HR_RUNTIME_FORWARD_MEMORY_H
#define HR_RUNTIME_FORWARD_MEMORY_H

#include "runtime/forward.h"

struct hr_dims {
	int32_t n_pass, n_batch, n_seqs, n_outputs, max_pages;
	int32_t n_embd, n_ff, n_logits, head_dim, q_dim, kv_dim, qkv_dim;
	int32_t max_rows, max_cols;
	bool    encoder, gated, by_heads, dense; /* what the model has, and what it thus needs room for */
	bool    random_head;
};

/* Where everything lies in the arena; shapes as in ops.h. */
struct hr_buffers {
	float         *x;        /* [n_pass][n_embd] the residual stream */
	float         *h;        /* [n_batch][n_embd] normed */
	float         *q;        /* [n_batch][q_dim] */
	float         *k, *v;    /* [n_batch][kv_dim] */
	float         *qkv;      /* [n_batch][qkv_dim] by heads, before it becomes q, k and v */
	float         *attn;     /* [n_batch][q_dim] */
	float         *gate;     /* [n_batch][n_ff] */
	float         *up;       /* [n_batch][n_ff] */
	float         *out;      /* [n_outputs][n_embd] x of the outputs */
	float         *dense;    /* [n_outputs][n_embd] */
	float         *logits;   /* [n_outputs][n_logits] */
	struct hr_top *top;      /* [n_outputs][HR_TOP_MAX] where the operations have it */
	float         *freqs[2]; /* [n_rot / 2] of layers that see all, and of those that slide */
	char          *table;    /* [n_batch][embedding row bytes] when read by rows */
	int32_t       *ids;      /* [n_pass] and so on, as struct hr_pass: one block, one copy */
	int32_t       *pos, *seq, *types, *length, *outputs, *output_pos, *output_seq, *page_table;
	int32_t       *thirds; /* [n_batch * n_heads] 0, 3, 6, ...: rows of a head each out of qkv by heads */
	float         *random_dense; /* [n_embd][n_embd], and */
	float         *random_head;  /* [n_logits][n_embd]: in the place of a classifier that is not there */
	char          *workspace;
};

struct hr_forward {
	struct hr_forward_options o;
	struct hr_dims            dims;
	void                     *arena;
	struct hr_buffers         b;
	struct hr_ends            ends;                      /* addresses */
	struct hr_weight          random_dense, random_head; /* rows 0: not needed */
	struct hr_event          *end;
	struct hr_hostmem host; /* the pass, host side, pinned; in the order of b.ids.. then logits, table */
	bool              pinned;
	struct hr_pass    pass;
	float            *host_states; /* [n_pass][n_embd] of an encoder; NULL: the host sees the device's */
	int32_t          *row_ids;     /* [n_batch] ids into `table`; host */
	char             *host_table;
	int               n_head_layers;
	struct hr_hold    hold; /* while a pass runs */
};

size_t hr__embedding_row_bytes(const struct hr_model *m);
size_t hr__forward_int_count(const struct hr_dims *d);

/* rope.c: the inverse frequencies of RoPE [n_rot / 2] in a session of n_ctx tokens, and what cos and sin are
 * multiplied with. `factors`: GGUF's rope_freqs.weight, or NULL. */
void  hr__rope_freqs(const struct hr_hparams *h, const float *factors, int n_ctx, bool sliding, float *freqs);
float hr__rope_magnitude(const struct hr_hparams *h, bool sliding);

#endif
