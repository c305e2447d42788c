/* Products of many tokens with float weights in AMX tiles, which multiply bf16 and add
 * f32, sixteen times as many at a time as vectors do of f32.
 *
 * A float is the exact sum of bf16 parts, which hold its leading 8 bits, the next 8 and
 * the rest: three for f32, two for f16, one for bf16 and f8. So a product of two floats is a sum
 * of products of parts, of which those are left out that lie 2^-22 below the largest:
 *     part 0 of the weights with parts 2, 1, 0 of x, part 2 with 0, part 1 with 0 and 1.
 * That is what an f32 product loses by rounding, give or take a bit.
 *
 * The order of the sum: 32 columns after 32 columns, of each the pairs of parts as above,
 * each pair by one instruction, which adds up even and odd pairs of columns (i, 16 + i) in
 * order, then both, then that to the sum. An element's bits depend on nothing else. As
 * tiles do, it takes numbers below 2^-126 for 0; infinities become NaN. Columns of f8 that
 * share a scale, which are whole chunks or all, have a sum of their own; that times the scale
 * is added to the sum of all.
 *
 * Layout. A tile of weights is 16 rows of 16 pairs of columns, a tile of x 16 pairs of
 * columns of 16 tokens; both 1 KiB, and both are made from the floats here: x by split(),
 * once for all rows, weights for WIDE rows and STEP chunks at a time, for all tokens of a
 * job (at most HR__MATMUL_SLAB). Of that, weights stay in L1 while x comes from L2; sums of
 * all rows and tokens wait in scratch between two steps. */
#include "kernels/cpu/f8_avx512.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/tiles_amx.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m512  vec;
typedef __m512i bits;

enum {
	SIDE = 16,        /* rows, pairs and tokens of a tile */
	CHUNK = 2 * SIDE, /* columns that meet in a tile */
	WIDE = 2 * SIDE,  /* rows, and tokens, of a square of four tiles of sums */
	STEP = 4,         /* chunks of which weights stay in L1 */
	PARTS = 3,
};

struct tile {
	bits row[SIDE];
};

/* 16 tokens, 32 columns; in the workspace [token tile][chunk] */
struct x_tiles {
	struct tile part[PARTS];
};

struct sums {
	vec row[SIDE]; /* a token for each lane */
};

struct scratch {
	struct tile weights[STEP][PARTS][WIDE / SIDE];
	struct sums sums[HR__MATMUL_MANY / SIDE][HR__MATMUL_SLAB / SIDE];
	/* f8: the sums of all runs of columns, and what the rows and columns at hand are multiplied by. */
	struct sums scaled[HR__MATMUL_MANY / SIDE][HR__MATMUL_SLAB / SIDE];
	float       scales[WIDE];
};
_Static_assert(sizeof(struct scratch) <= HR_HOST_SCRATCH_BYTES, "scratch");
_Static_assert(sizeof(struct x_tiles) == SIDE * HR__MATMUL_SPLIT_BYTES, "workspace");

/* tmm0..3: sums of rows 0..15 and 16..31 with tokens 0..15, then 16..31;
 * tmm4, 5: weights; tmm6, 7: x */
static const struct tile_config config = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE},
};

/* ---- Parts ---- */

INLINE int  parts(enum hr_type type) { return type == HR_TYPE_F32 ? 3 : type == HR_TYPE_F16 ? 2 : 1; }
INLINE bool is_scaled(enum hr_type type) { return type == HR_TYPE_F8_E4M3; }

/* The leading bits of a and b, side by side. */
INLINE bits pair_of(vec a, vec b)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(a), 16),
	                               _mm512_castps_si512(b));
}

/* Which of 32 neighbours make pairs: i and 16 + i. */
#define PAIRS                                                                                                \
	_mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,  \
	                 4, 19, 3, 18, 2, 17, 1, 16, 0)

/* What they leave. */
INLINE vec rest_of(vec a)
{
	bits leading = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)0xffff0000));
	return _mm512_sub_ps(a, _mm512_castsi512_ps(leading));
}

INLINE void put_parts(int n, vec a, vec b, struct tile *part, int step, int row)
{
	for (int p = 0; p < n; p++, part += step) {
		part->row[row] = pair_of(a, b);
		if (p + 1 < n) {
			a = rest_of(a);
			b = rest_of(b);
		}
	}
}

/* Rows become columns. */
INLINE void turn(vec v[SIDE])
{
	vec t[SIDE];
	for (int i = 0; i < SIDE; i += 4) { /* 4 x 4 within each 128 bits */
		vec low0 = _mm512_unpacklo_ps(v[i], v[i + 1]), high0 = _mm512_unpackhi_ps(v[i], v[i + 1]);
		vec low2 = _mm512_unpacklo_ps(v[i + 2], v[i + 3]), high2 = _mm512_unpackhi_ps(v[i + 2], v[i + 3]);
		t[i] = _mm512_shuffle_ps(low0, low2, 0x44);
		t[i + 1] = _mm512_shuffle_ps(low0, low2, 0xee);
		t[i + 2] = _mm512_shuffle_ps(high0, high2, 0x44);
		t[i + 3] = _mm512_shuffle_ps(high0, high2, 0xee);
	}
	for (int i = 0; i < 4; i++) { /* then 4 x 4 of these */
		vec even0 = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88),
		    odd0 = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
		vec even8 = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88),
		    odd8 = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
		v[i] = _mm512_shuffle_f32x4(even0, even8, 0x88);
		v[i + 4] = _mm512_shuffle_f32x4(odd0, odd8, 0x88);
		v[i + 8] = _mm512_shuffle_f32x4(even0, even8, 0xdd);
		v[i + 12] = _mm512_shuffle_f32x4(odd0, odd8, 0xdd);
	}
}

INLINE __mmask16 first(int32_t n) { return (__mmask16)(n >= SIDE ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

/* 32 codes as bf16 of the same values as of_f8() gives, in pairs, if all are normal numbers: see
 * matmul_avx512.c. */
INLINE bool put_f8(const void *p, bits *to)
{
	const __m512i in_pairs = PAIRS;
	__m256i       b = _mm256_loadu_si256(p), next = _mm256_add_epi8(b, _mm256_set1_epi8(1));
	__m512i       v = _mm512_slli_epi16(_mm512_cvtepi8_epi16(b), 4);
	v = _mm512_ternarylogic_epi32(v, _mm512_set1_epi16((short)0x87f0), _mm512_set1_epi16(112 << 7), 0xea);
	*to = _mm512_permutexvar_epi16(in_pairs, v);
	return !_mm256_cmple_epu8_mask(_mm256_add_epi8(next, next), _mm256_set1_epi8(16));
}

/* The first n of 16 elements, then zeros. */
INLINE vec load(enum hr_type type, const void *p, int32_t n)
{
	if (type == HR_TYPE_F32)
		return _mm512_maskz_loadu_ps(first(n), p);
	if (type == HR_TYPE_F8_E4M3)
		return of_f8(_mm_maskz_loadu_epi8(first(n), p));
	__m256i half = _mm256_maskz_loadu_epi16(first(n), p);
	return type == HR_TYPE_F16 ? _mm512_cvtph_ps(half)
	                           : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static int32_t chunks_of(const struct hr__matmul_job *job) { return (job->cols + CHUNK - 1) / CHUNK; }

/* One item: a chunk of a tile of tokens. */
void hr__matmul_split_amx(const void *args, int64_t begin, int64_t end)
{
	const struct hr__matmul_job *job = args;
	int32_t                      n_chunks = chunks_of(job);
	for (int64_t item = begin; item < end; item++) {
		int32_t         token = (int32_t)(item / n_chunks) * SIDE, k = (int32_t)(item % n_chunks) * CHUNK;
		const float    *x = job->x + (int64_t)token * job->cols + k;
		struct x_tiles *to = (struct x_tiles *)job->workspace + item;
		vec             half[2][SIDE];
		for (int h = 0; h < 2; h++) {
			for (int t = 0; t < SIDE; t++)
				half[h][t] =
				    token + t < job->n_tokens
				        ? load(HR_TYPE_F32, x + (int64_t)t * job->cols + h * SIDE, job->cols - k - h * SIDE)
				        : _mm512_setzero_ps();
			turn(half[h]);
		}
		for (int i = 0; i < SIDE; i++)
			put_parts(PARTS, half[0][i], half[1][i], to->part, 1, i);
	}
}

/* ---- Weights ---- */

struct block { /* of weights: rows [row, row + n_rows), n_rows <= 16, columns [k, k + n_cols) */
	const struct hr_weight *w;
	int32_t                 row, n_rows, k, n_cols;
};

INLINE const char *address(enum hr_type type, const struct block *b, int32_t r, int32_t c)
{
	const struct hr_weight *w = b->w;
	size_t row = (size_t)(b->row + r), col = (size_t)(b->k + c), elem = (size_t)hr__elem_bytes(type);
	size_t at = w->column_stride ? col * (size_t)w->column_stride + row : row * (size_t)w->cols + col;
	return (const char *)w->data + at * elem;
}

/* Weights stored by columns: loaded so, and turned. */
INLINE void load_columns(enum hr_type type, const struct block *b, int32_t from, vec v[SIDE])
{
	for (int c = 0; c < SIDE; c++)
		v[c] =
		    from + c < b->n_cols ? load(type, address(type, b, 0, from + c), b->n_rows) : _mm512_setzero_ps();
	turn(v);
}

/* `to`: the tile of part 0; the others WIDE / SIDE further on. */
INLINE void put_weights(enum hr_type type, const struct block *b, struct tile *to)
{
	const bits in_pairs = PAIRS;
	if (b->w->column_stride) {
		vec low[SIDE], high[SIDE];
		load_columns(type, b, 0, low);
		load_columns(type, b, SIDE, high);
		for (int r = 0; r < SIDE; r++)
			put_parts(parts(type), low[r], high[r], to, WIDE / SIDE, r);
		return;
	}
	for (int r = 0; r < SIDE; r++) {
		const char *from = address(type, b, r, 0);
		if (r >= b->n_rows)
			put_parts(parts(type), _mm512_setzero_ps(), _mm512_setzero_ps(), to, WIDE / SIDE, r);
		else if (type == HR_TYPE_BF16 && b->n_cols >= CHUNK)
			to->row[r] = _mm512_permutexvar_epi16(in_pairs, _mm512_loadu_si512(from));
		else if (type == HR_TYPE_F8_E4M3 && b->n_cols >= CHUNK && put_f8(from, &to->row[r]))
			continue;
		else if (b->n_cols >= CHUNK)
			put_parts(parts(type), load(type, from, SIDE),
			          load(type, from + SIDE * hr__elem_bytes(type), SIDE), to, WIDE / SIDE, r);
		else
			put_parts(parts(type), load(type, from, b->n_cols),
			          load(type, from + SIDE * hr__elem_bytes(type), b->n_cols - SIDE), to, WIDE / SIDE, r);
	}
}

/* ---- Products ---- */

/* All four squares, or the two of the first tokens. */
#define DOTS()                                                                                               \
	do {                                                                                                     \
		TILE_DOT_BF16(0, 4, 6);                                                                              \
		TILE_DOT_BF16(1, 5, 6);                                                                              \
		if (two) {                                                                                           \
			TILE_DOT_BF16(2, 4, 7);                                                                          \
			TILE_DOT_BF16(3, 5, 7);                                                                          \
		}                                                                                                    \
	} while (0)

INLINE void load_weights(const struct tile part[WIDE / SIDE])
{
	TILE_LOAD(4, &part[0], sizeof(bits));
	TILE_LOAD(5, &part[1], sizeof(bits));
}

INLINE void load_x(bool two, const struct tile *part, int64_t to_next)
{
	TILE_LOAD(6, part, sizeof(bits));
	if (two)
		TILE_LOAD(7, part + to_next, sizeof(bits));
}

/* A chunk of weights times one tile of tokens or two, to_next tiles apart. */
INLINE void multiply_chunk(enum hr_type type, bool two, const struct tile w[PARTS][WIDE / SIDE],
                           const struct x_tiles *x, int64_t to_next)
{
	load_weights(w[0]);
	load_x(two, &x->part[2], to_next);
	DOTS();
	load_x(two, &x->part[1], to_next);
	DOTS();
	load_x(two, &x->part[0], to_next);
	DOTS();
	if (type == HR_TYPE_F32) {
		load_weights(w[2]);
		DOTS();
	}
	if (parts(type) > 1) {
		load_weights(w[1]);
		DOTS();
		load_x(two, &x->part[1], to_next);
		DOTS();
	}
}

INLINE void load_sums(bool two, struct sums *top, struct sums *bottom)
{
	TILE_LOAD(0, &top[0], sizeof(vec));
	TILE_LOAD(1, &bottom[0], sizeof(vec));
	if (two) {
		TILE_LOAD(2, &top[1], sizeof(vec));
		TILE_LOAD(3, &bottom[1], sizeof(vec));
	}
}

INLINE void store_sums(bool two, struct sums *top, struct sums *bottom)
{
	TILE_STORE(0, &top[0]);
	TILE_STORE(1, &bottom[0]);
	if (two) {
		TILE_STORE(2, &top[1]);
		TILE_STORE(3, &bottom[1]);
	}
}

/* `sum` of a run of columns of 16 rows and 16 tokens, scaled, to that of all. */
static void add_scaled(const float scales[SIDE], bool first_run, const struct sums *sum, struct sums *all)
{
	for (int r = 0; r < SIDE; r++)
		all->row[r] = _mm512_fmadd_ps(_mm512_set1_ps(scales[r]), sum->row[r],
		                              first_run ? _mm512_setzero_ps() : all->row[r]);
}

/* y of 16 rows and 16 tokens, or as many as there are. */
static void finish(const struct hr__matmul_job *job, const struct hr_matmul *p, int32_t row, int32_t token,
                   struct sums *sums)
{
	int32_t   n_rows = p->w.rows - row < SIDE ? p->w.rows - row : SIDE;
	__mmask16 mask = first(n_rows);
	float     bias[SIDE];
	hr__matmul_load_bias(p, row, n_rows, bias);
	vec b = _mm512_maskz_loadu_ps(mask, bias);
	turn(sums->row);
	for (int t = 0; t < SIDE && token + t < job->n_tokens; t++) {
		float *y = p->y + (int64_t)(token + t) * p->y_stride + row;
		vec    sum = _mm512_add_ps(sums->row[t], b);
		if (p->add)
			sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum);
		_mm512_mask_storeu_ps(y, mask, sum);
	}
}

/* Where the weights of some rows and columns are. */
struct place {
	int32_t row, end;        /* rows */
	int32_t chunk, n_chunks; /* columns */
	int32_t run;             /* chunks of which sums are made: all, but for scales */
};

INLINE void put_all_weights(enum hr_type type, const struct hr__matmul_job *job, const struct hr_weight *w,
                            const struct place *at, struct scratch *s)
{
	for (int c = 0; c < at->n_chunks; c++)
		for (int i = 0; i < WIDE / SIDE; i++) {
			int32_t      row = at->row + i * SIDE, k = (at->chunk + c) * CHUNK;
			struct block b = {w, row, at->end - row < SIDE ? at->end - row : SIDE, k, job->cols - k};
			put_weights(type, &b, &s->weights[c][0][i]);
		}
}

/* Some of the rows that come next, on their way to L2 while the tiles are busy. */
INLINE void fetch_rows(enum hr_type type, const struct hr_weight *w, const struct place *at, int32_t from,
                       int32_t to)
{
	int32_t n = at->end - at->row < to ? at->end - at->row : to;
	for (int32_t r = from; r < n && !w->column_stride; r++) {
		struct block b = {w, at->row + r, 1, at->chunk * CHUNK, 0};
		const char  *p = address(type, &b, 0, 0);
		for (int i = 0; i < at->n_chunks * CHUNK * hr__elem_bytes(type); i += 64)
			__builtin_prefetch(p + i, 0, 2);
	}
}

INLINE void multiply_tokens(enum hr_type type, bool two, const struct place *at, const struct x_tiles *x,
                            int32_t all_chunks, struct scratch *s, struct sums *top, struct sums *bottom)
{
	if (at->chunk % at->run) {
		load_sums(two, top, bottom);
	} else {
		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_ZERO(2);
		TILE_ZERO(3);
	}
	for (int c = 0; c < at->n_chunks; c++)
		multiply_chunk(type, two, s->weights[c], x + c, (int64_t)all_chunks * PARTS);
	store_sums(two, top, bottom);
}

/* Rows and columns at `at`, all tokens; those at `next` follow. */
INLINE void multiply_place(enum hr_type type, const struct hr__matmul_job *job, const struct hr_matmul *p,
                           const struct place *at, const struct place *next, struct scratch *s, int tile_row)
{
	int32_t all_chunks = chunks_of(job), n_tiles = (job->n_tokens + SIDE - 1) / SIDE,
	        n_turns = (n_tiles + 1) / 2;
	int32_t      end = at->chunk + at->n_chunks;
	bool         last = end == all_chunks, end_of_run = is_scaled(type) && (last || end % at->run == 0);
	struct sums *top = s->sums[tile_row], *bottom = s->sums[tile_row + 1];
	struct sums *y_top = is_scaled(type) ? s->scaled[tile_row] : top;
	struct sums *y_bottom = is_scaled(type) ? s->scaled[tile_row + 1] : bottom;
	put_all_weights(type, job, &p->w, at, s);
	for (int32_t r = 0; r < WIDE && end_of_run; r++)
		s->scales[r] = at->row + r < at->end ? hr__scale_of(&p->w, at->row + r, at->chunk / at->run) : 0;
	for (int32_t i = 0; i < n_turns; i++) {
		int32_t               t = 2 * i;
		bool                  two = t + 1 < n_tiles;
		const struct x_tiles *x =
		    (const struct x_tiles *)job->workspace + (int64_t)t * all_chunks + at->chunk;
		fetch_rows(type, &p->w, next, i * WIDE / n_turns, (i + 1) * WIDE / n_turns);
		if (two)
			multiply_tokens(type, true, at, x, all_chunks, s, top + t, bottom + t);
		else
			multiply_tokens(type, false, at, x, all_chunks, s, top + t, bottom + t);
		for (int32_t done = t; done < (two ? t + 2 : t + 1); done++) {
			if (end_of_run) {
				add_scaled(s->scales, at->chunk < at->run, top + done, y_top + done);
				add_scaled(s->scales + SIDE, at->chunk < at->run, bottom + done, y_bottom + done);
			}
			if (last)
				finish(job, p, at->row, done * SIDE, y_top + done);
			if (last && at->row + SIDE < at->end)
				finish(job, p, at->row + SIDE, done * SIDE, y_bottom + done);
		}
	}
}

INLINE int step_from(int32_t chunk, int32_t run, int32_t all_chunks)
{
	int32_t left = run - chunk % run < all_chunks - chunk ? run - chunk % run : all_chunks - chunk;
	return left < STEP ? left : STEP;
}

/* The next rows, else the first ones some columns on; after the last there is none, row == end. */
static struct place place_after(struct place p, int32_t begin, int32_t all_chunks)
{
	p.row += WIDE;
	if (p.row < p.end)
		return p;
	p.chunk += p.n_chunks;
	p.n_chunks = step_from(p.chunk, p.run, all_chunks);
	p.row = p.chunk < all_chunks ? begin : p.end;
	return p;
}

INLINE void rows_of_type(enum hr_type type, const struct hr__matmul_job *job, const struct hr_matmul *p,
                         int32_t begin, int32_t end)
{
	struct scratch *s = hr_host_scratch();
	int32_t         all_chunks = chunks_of(job);
	int32_t         cols = hr__run_of(&p->w), run = cols < p->w.cols ? cols / CHUNK : all_chunks;
	struct place    at = {begin, end, 0, step_from(0, run, all_chunks), run};
	while (at.row < end) {
		struct place next = place_after(at, begin, all_chunks);
		multiply_place(type, job, p, &at, &next, s, (at.row - begin) / SIDE);
		at = next;
	}
}

void hr__matmul_float_amx(const struct hr__matmul_job *job, const struct hr_matmul *p, int32_t begin,
                          int32_t end)
{
	TILES_BEGIN(config);
	if (p->w.type == HR_TYPE_F32)
		rows_of_type(HR_TYPE_F32, job, p, begin, end);
	else if (p->w.type == HR_TYPE_F16)
		rows_of_type(HR_TYPE_F16, job, p, begin, end);
	else if (p->w.type == HR_TYPE_F8_E4M3)
		rows_of_type(HR_TYPE_F8_E4M3, job, p, begin, end);
	else
		rows_of_type(HR_TYPE_BF16, job, p, begin, end);
	TILES_END();
}
