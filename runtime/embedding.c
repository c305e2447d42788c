/* Reads embedding rows: all distinct rows are submitted at once, each to a place
 * of its own that is congruent to its file offset, then packed together. */
#include "runtime/embedding.h"

#include "base/error.h"
#include "base/mem.h"
#include "runtime/format/f8.h"

#include <pthread.h>

#define READ_DEPTH 8

struct hr_embedding_rows {
	struct hr_reader       *reader;
	const struct hr_tensor *matrix;
	size_t                  row_bytes;   /* of the matrix */
	size_t                  place_bytes; /* one row with its aligned surroundings */
	struct hr_hostmem       places;      /* [n_max][place_bytes] */
	struct hr_read         *reads;       /* [n_max] */
	int32_t                *seen;        /* [n_seen] hash table of rows, by id; -1: free */
	uint32_t                n_seen;      /* a power of two, at least 2 * n_max */
	pthread_mutex_t         lock;        /* pending, failed */
	pthread_cond_t          idle;
	int                     pending;
	const struct hr_read   *failed; /* the first */
};

static void row_done(struct hr_read *read)
{
	struct hr_embedding_rows *e = read->user;
	pthread_mutex_lock(&e->lock);
	if (read->status && !e->failed)
		e->failed = read;
	if (--e->pending == 0)
		pthread_cond_signal(&e->idle);
	pthread_mutex_unlock(&e->lock);
}

int hr__embedding_open(struct hr_embedding_rows **out, const struct hr_model *model, int n_max,
                       const struct hr_notice_sink *notices, struct hr_error *err)
{
	const struct hr_tensor   *t = &model->checkpoint.tensors[model->checkpoint.ends.embedding];
	struct hr_embedding_rows *e = hr__calloc(1, sizeof *e);
	if (!e)
		return hr__fail(err, HR_ENOMEM, "Out of memory for the embedding rows.");
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->idle, NULL);
	e->matrix = t;
	e->row_bytes = t->bytes / t->shape[0];
	e->place_bytes = hr__align_up(e->row_bytes, HR_IO_ALIGN) + HR_IO_ALIGN;
	e->reads = hr__calloc((size_t)n_max, sizeof *e->reads);
	for (e->n_seen = 64; e->n_seen < 2 * (uint32_t)n_max; e->n_seen *= 2)
		;
	e->seen = hr__calloc(e->n_seen, sizeof *e->seen);
	struct hr_reader_options options = {.kind = HR_READER_PREAD, .depth = READ_DEPTH, .notices = *notices};
	int rc = e->reads && e->seen ? hr_hostmem_init(&e->places, (size_t)n_max * e->place_bytes, -1, err)
	                             : hr__fail(err, HR_ENOMEM, "Out of memory for the embedding rows.");
	if (!rc)
		rc = hr_reader_open(&e->reader, &options, err);
	if (rc)
		hr__embedding_close(e);
	else
		*out = e;
	return rc;
}

void hr__embedding_close(struct hr_embedding_rows *e)
{
	if (!e)
		return;
	if (e->reader)
		e->reader->ops->close(e->reader);
	hr_hostmem_release(&e->places);
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->idle);
	free(e->reads);
	free(e->seen);
	free(e);
}

/* Give each id its row, in order of first appearance. Returns the number. */
static int number_rows(struct hr_embedding_rows *e, const int32_t *ids, int n, int32_t *rows)
{
	int n_rows = 0;
	memset(e->seen, 0xff, e->n_seen * sizeof *e->seen);
	for (int i = 0; i < n; i++) {
		uint32_t at = (uint32_t)ids[i] * 2654435761u & (e->n_seen - 1);
		while (e->seen[at] >= 0 && ids[e->seen[at]] != ids[i])
			at = (at + 1) & (e->n_seen - 1);
		if (e->seen[at] < 0) {
			e->seen[at] = i;
			rows[i] = n_rows++;
		} else {
			rows[i] = rows[e->seen[at]];
		}
	}
	return n_rows;
}

/* Row i of those that were read to its place in the table; f8 becomes f32. */
static int put_row(const struct hr_embedding_rows *e, int i, void *table, struct hr_error *err)
{
	const struct hr_tensor *t = e->matrix;
	const struct hr_read   *read = &e->reads[i];
	uint64_t                cols = t->shape[1];
	float                  *x = (float *)table + (size_t)i * cols;
	if (t->type != HR_TYPE_F8_E4M3) {
		memcpy((char *)table + (size_t)i * e->row_bytes, read->dst, e->row_bytes);
		return 0;
	}
	hr_type_info(t->type)->to_f32(read->dst, x, cols);
	return t->scales.file ? hr__f8_scale_row(t, (read->offset - t->offset) / e->row_bytes, x, cols, err) : 0;
}

int hr__embedding_fetch(struct hr_embedding_rows *e, const int32_t *ids, int n, void *table, int32_t *rows,
                        struct hr_error *err)
{
	int n_rows = number_rows(e, ids, n, rows), row = 0;
	e->pending = n_rows;
	e->failed = NULL;
	for (int i = 0; i < n; i++) {
		if (rows[i] != row)
			continue;
		uint64_t offset = e->matrix->offset + (uint64_t)ids[i] * e->row_bytes;
		char    *place = (char *)e->places.base + (size_t)row * e->place_bytes;
		e->reads[row] = (struct hr_read){
		    .file = e->matrix->file,
		    .offset = offset,
		    .length = e->row_bytes,
		    .dst = place + offset % HR_IO_ALIGN,
		    .done = row_done,
		    .user = e,
		};
		e->reader->ops->submit(e->reader, &e->reads[row++]);
	}
	pthread_mutex_lock(&e->lock);
	while (e->pending)
		pthread_cond_wait(&e->idle, &e->lock);
	const struct hr_read *failed = e->failed;
	pthread_mutex_unlock(&e->lock);
	if (failed) {
		if (err)
			*err = failed->error;
		return failed->status;
	}
	int rc = 0;
	for (int i = 0; i < n_rows && !rc; i++)
		rc = put_row(e, i, table, err);
	return rc ? rc : n_rows;
}
