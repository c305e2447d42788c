/* Converting the tensors of a file, by several threads in bounded memory.
 *
 * The work is cut into pieces of some rows of one tensor. A thread takes the next piece, reads its
 * rows, converts them, writes them to their place, and takes another: a piece needs nothing of
 * another, so there is nothing to wait for, and what is written does not depend on who wrote it. The
 * calling thread watches, reports the progress and may stop the others. The first error ends the work.
 *
 * `lock` protects all of struct work but what is const; nothing is called with it held. */
#include "runtime/format/quantize.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <time.h>

enum { PIECE_ELEMS = 1 << 18, MAX_THREADS = 256 };

struct work {
	const struct hr_outputs *outputs;
	struct hr_new_file      *file;

	pthread_mutex_t lock;
	pthread_cond_t  changed; /* n_running or a finished piece */
	int             tensor;  /* the next piece: of which, and from which row */
	uint64_t        row;
	uint64_t        done_bytes;
	int             n_running;
	bool            stop;
	int             rc; /* of the first that failed */
	struct hr_error err;
};

struct piece {
	const struct hr_output *o;
	uint64_t                first, n; /* rows */
};

static uint64_t rows_of_piece(const struct hr_output *o)
{
	uint64_t n = PIECE_ELEMS / o->cols;
	return n ? n : 1;
}

static bool take_piece(struct work *w, struct piece *p)
{
	bool found = false;
	pthread_mutex_lock(&w->lock);
	if (!w->stop && w->tensor < w->outputs->n) {
		const struct hr_output *o = &w->outputs->items[w->tensor];
		uint64_t                left = o->n_rows - w->row, n = rows_of_piece(o);
		*p = (struct piece){o, w->row, left < n ? left : n};
		w->row += p->n;
		if (w->row == o->n_rows) {
			w->tensor++;
			w->row = 0;
		}
		found = true;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

/* Numbers that the type can't hold would poison a block, or become infinite. */
static int check_values(const struct hr_output *o, const float *x, size_t n, struct hr_error *err)
{
	float largest = 0;
	bool  numbers = true;
	for (size_t i = 0; i < n; i++) {
		float a = fabsf(x[i]);
		numbers &= a <= 3.4e38f; /* neither infinite nor NaN */
		largest = a > largest ? a : largest;
	}
	if (!numbers)
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: tensor '%s' holds a weight that is infinite or no number; the file is damaged, or "
		    "its training failed.",
		    o->source ? o->source->file->path : "The model", o->name);
	if (o->type == HR_TYPE_F16 && largest >= 65520)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s: tensor '%s' holds the weight %g, and 65504 is the largest that f16 can hold; "
		                "take bf16.",
		                o->source ? o->source->file->path : "The model", o->name, (double)largest);
	return 0;
}

static bool is_copy(const struct hr_output *o)
{
	return o->source && o->source->type == o->type && o->order == HR_ROWS_AS_THEY_ARE && o->shift == 0;
}

struct buffers {
	void  *raw, *encoded; /* [elems] of the widest type, or what a row needs */
	float *values;        /* [elems] */
};

static int convert(struct work *w, const struct piece *p, const struct buffers *b, struct hr_error *err)
{
	const struct hr_output    *o = p->o;
	const struct hr_type_info *type = hr_type_info(o->type);
	size_t                     elems = (size_t)(p->n * o->cols), bytes = hr_type_row_bytes(type, elems);
	const void                *result = b->encoded;
	int                        rc;
	if (is_copy(o)) {
		result = b->raw;
		rc = hr_file_read_exact(o->source->file,
		                        o->source->offset + p->first * hr_type_row_bytes(type, o->cols), b->raw,
		                        bytes, err);
	} else {
		rc = hr__output_read(o, p->first, p->n, b->raw, b->values, err);
		if (!rc)
			rc = check_values(o, b->values, elems, err);
		if (!rc)
			type->from_f32(b->values, b->encoded, elems);
	}
	return rc ? rc
	          : hr__new_file_write(w->file, result, bytes,
	                               o->offset + p->first * hr_type_row_bytes(type, o->cols), err);
}

static void finish_piece(struct work *w, const struct piece *p, int rc, const struct hr_error *err)
{
	pthread_mutex_lock(&w->lock);
	w->done_bytes += p->n * hr_type_row_bytes(hr_type_info(p->o->type), p->o->cols);
	if (rc && !w->rc) {
		w->rc = rc;
		w->err = *err;
	}
	w->stop = w->stop || rc;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static size_t piece_elems(const struct hr_outputs *outputs)
{
	uint64_t most = 0;
	for (int i = 0; i < outputs->n; i++) {
		const struct hr_output *o = &outputs->items[i];
		uint64_t                n = rows_of_piece(o) < o->n_rows ? rows_of_piece(o) : o->n_rows;
		most = n * o->cols > most ? n * o->cols : most;
	}
	return (size_t)most;
}

static void *thread_main(void *user)
{
	struct work    *w = user;
	struct piece    p = {0};
	struct hr_error err = {0};
	size_t          elems = piece_elems(w->outputs);
	struct buffers  b = {malloc(elems * 4), malloc(elems * 4), malloc(elems * sizeof *b.values)};
	bool            room = b.raw && b.encoded && b.values;
	while (take_piece(w, &p)) {
		int rc = room
		             ? convert(w, &p, &b, &err)
		             : hr__fail(&err, HR_ENOMEM, "There is no memory for a piece of tensor '%s'.", p.o->name);
		finish_piece(w, &p, rc, &err);
	}
	free(b.raw);
	free(b.encoded);
	free(b.values);
	pthread_mutex_lock(&w->lock);
	w->n_running--;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Until all threads have ended: wake up for each piece, and ten times a second for a user who wants to stop.
 */
static bool watch(struct work *w, hr_progress_fn progress, void *user)
{
	uint64_t told = 0;
	bool     canceled = false;
	pthread_mutex_lock(&w->lock);
	while (w->n_running) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 100000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&w->changed, &w->lock, &until);
		uint64_t done = w->done_bytes > told ? w->done_bytes : told;
		pthread_mutex_unlock(&w->lock);
		canceled = canceled || (progress && progress(user, done, w->file->total_bytes));
		told = done;
		pthread_mutex_lock(&w->lock);
		w->stop = w->stop || canceled;
	}
	pthread_mutex_unlock(&w->lock);
	return canceled;
}

int hr__outputs_write(const struct hr_outputs *outputs, struct hr_new_file *file, int n_threads,
                      hr_progress_fn progress, void *user, struct hr_error *err)
{
	struct work w = {.outputs = outputs, .file = file};
	pthread_t   threads[MAX_THREADS];
	int         n = 0;
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.changed, NULL);
	pthread_mutex_lock(&w.lock);
	while (n < n_threads && n < MAX_THREADS && !pthread_create(&threads[n], NULL, thread_main, &w))
		n++;
	w.n_running = n;
	pthread_mutex_unlock(&w.lock);
	bool canceled = watch(&w, progress, user);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.lock);
	if (!n)
		return hr__fail(err, HR_ENOMEM, "%s: no thread could be started.", file->path);
	if (w.rc)
		return hr__fail(err, w.rc, "%s", w.err.message);
	if (canceled)
		return hr__fail(err, HR_ECANCELED, "%s: stopped after %" PRIu64 " of %" PRIu64 " bytes, as asked.",
		                file->path, w.done_bytes, file->total_bytes);
	return 0;
}
