/* The queue of reads, taken apart into pieces and put together again.
 *
 *     submit -> QUEUED -> BEGUN -> over -> done()
 *                  \________________/
 *                   canceled, or refused
 *
 * submit() (any thread) appends. Takers (the I/O threads) issue pieces of the
 * head until it is issued in full and leaves the queue; its pieces may be in
 * flight together with those of later reads, and end in any order. The taker
 * that completes the last piece calls done().
 *
 * A read covers the blocks of the HR_IO_ALIGN grid that its bytes touch. A piece
 * that comes back short is continued at the last block boundary it reached, so
 * that direct reads stay aligned; a first block that twice ends in the same place
 * is the end of the file. That is no error when the wanted bytes are there.
 *
 * After a failure the rest of the read is not issued, pieces in flight are waited
 * for, and the failure lowest in the file is the one told: it is what a reader
 * going byte by byte would have met. Every read that came in whole is followed
 * by a look at the file: one that changed is an error, never garbage.
 *
 * Invariants: only the head can be issued in part. A read is over exactly when
 * it has left the queue and has no piece in flight. done() is called without the
 * lock. A taker that sleeps has been counted in `sleepers` under the lock that
 * submit() takes, so no wake-up is lost. */
#include "io/read_queue.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>

/* EINTR and EAGAIN in a row without a byte of progress: more is a failure. */
#define MAX_RETRIES 10000

static uint64_t superset_begin(const struct hr_read *read)
{
	return hr__align_down(read->offset, HR_IO_ALIGN);
}

static uint64_t superset_bytes(const struct hr_read *read)
{
	return hr__align_up(read->offset + read->length, HR_IO_ALIGN) - superset_begin(read);
}

static bool is_valid(const struct hr_read *read)
{
	uint64_t end;
	return read->file && read->length && hr__add_u64(read->offset, read->length, &end) &&
	       end <= INT64_MAX / 2 && ((uintptr_t)read->dst - read->offset) % HR_IO_ALIGN == 0;
}

int hr__read_queue_init(struct hr__read_queue *q, struct hr_error *err)
{
	int e = pthread_mutex_init(&q->lock, NULL);
	if (!e && (e = pthread_cond_init(&q->idle, NULL)))
		pthread_mutex_destroy(&q->lock);
	return e ? hr__fail(err, HR_ENOMEM, "The reader cannot make its lock: %s.", strerror(e)) : 0;
}

void hr__read_queue_release(struct hr__read_queue *q)
{
	pthread_cond_destroy(&q->idle);
	pthread_mutex_destroy(&q->lock);
}

/* Lock held, as for all down to unlock_and_finish(). */
static void wake_one(struct hr__read_queue *q)
{
	if (q->head && q->sleepers) {
		q->sleepers--;
		q->wake(q);
	}
}

static void pop(struct hr__read_queue *q)
{
	q->head = q->head->next;
	if (!q->head)
		q->tail = NULL;
}

static void begin(struct hr__read_queue *q, struct hr_read *read)
{
	read->start_ns = hr__now_ns();
	if (!q->n_begun++)
		q->busy_since_ns = read->start_ns;
}

static void end(struct hr__read_queue *q, struct hr_read *read)
{
	read->end_ns = hr__now_ns();
	if (!--q->n_begun)
		q->stats.busy_ns += read->end_ns - q->busy_since_ns;
	q->stats.reads++;
	if (!read->status)
		q->stats.bytes += read->length;
}

static void issue(struct hr__read_queue *q, struct hr_read *read, struct hr__piece *piece)
{
	uint64_t left = superset_bytes(read) - read->issued_bytes;
	uint64_t bytes = left < q->reader.chunk_bytes ? left : q->reader.chunk_bytes;
	*piece = (struct hr__piece){
	    .read = read,
	    .fd = read->file->fd_direct >= 0 ? read->file->fd_direct : read->file->fd_buffered,
	    .offset = superset_begin(read) + read->issued_bytes,
	    .dst = (char *)read->dst - read->offset % HR_IO_ALIGN + read->issued_bytes,
	    .bytes = (uint32_t)bytes,
	};
	read->issued_bytes += bytes;
	read->pieces_in_flight++;
	if (bytes == left)
		pop(q);
}

/* The sentence for what went wrong. */
static void explain(struct hr_read *read)
{
	const char        *path = read->file ? read->file->path : "A file";
	unsigned long long offset = read->offset, length = read->length, at = read->failed_at;
	switch (read->status) {
	case HR_ETRUNCATED:
		hr__fail(&read->error, HR_ETRUNCATED,
		         "%s ends too early: %llu bytes wanted at offset %llu, got %llu; fetch the file again.", path,
		         length, offset, at > offset ? at - offset : 0);
		break;
	case HR_EIO:
		hr__fail(&read->error, HR_EIO, "%s cannot be read at offset %llu (%llu bytes wanted at %llu): %s.",
		         path, at, length, offset, strerror(read->failed_errno));
		break;
	case HR_ECANCELED:
		hr__fail(&read->error, HR_ECANCELED, "The read of %llu bytes at offset %llu of %s was canceled.",
		         length, offset, path);
		break;
	default:
		hr__fail(&read->error, read->status,
		         "The read of %llu bytes at offset %llu of %s is not valid: memory and offset must agree "
		         "modulo %u.",
		         length, offset, path, HR_IO_ALIGN);
	}
}

/* Hands a read back. Enters and leaves with the lock held, calls done() without. */
static void unlock_and_finish(struct hr__read_queue *q, struct hr_read *read)
{
	pthread_mutex_unlock(&q->lock);
	const struct hr_file *file = read->file;
	if (read->issued_bytes && file->fd_direct < 0)
		posix_fadvise(file->fd_buffered, (off_t)superset_begin(read), (off_t)superset_bytes(read),
		              POSIX_FADV_DONTNEED);
	if (read->status)
		explain(read);
	else
		read->status = hr_file_check_unchanged(file, &read->error);
	read->done(read);
	pthread_mutex_lock(&q->lock);
	if (!--q->n_open)
		pthread_cond_broadcast(&q->idle);
}

/* The next piece, on the way handing back reads that are never begun. */
static bool take(struct hr__read_queue *q, struct hr__piece *piece)
{
	struct hr_read *read;
	while ((read = q->head)) {
		if (!read->issued_bytes) {
			read->status = q->n_draining ? HR_ECANCELED : is_valid(read) ? 0 : HR_EINVAL;
			if (read->status) {
				pop(q);
				read->start_ns = read->end_ns = hr__now_ns();
				unlock_and_finish(q, read);
				continue;
			}
			begin(q, read);
		}
		issue(q, read, piece);
		return true;
	}
	return false;
}

int hr__read_queue_next(struct hr__read_queue *q, struct hr__piece *piece, pthread_cond_t *wait)
{
	int rc;
	pthread_mutex_lock(&q->lock);
	for (;;) {
		if ((rc = take(q, piece))) {
			wake_one(q); /* pieces of one read go to many takers */
			break;
		}
		if (q->stopping) {
			rc = -1;
			break;
		}
		if (!wait) {
			q->sleepers = 1;
			break;
		}
		q->sleepers++;
		pthread_cond_wait(wait, &q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* Account for `n` bytes. 1: there is more to read; 0: the piece has all it needs; -1: the file ends at n. */
static int advance(struct hr__piece *piece, uint32_t n)
{
	uint64_t wanted_end = piece->read->offset + piece->read->length;
	uint32_t blocks = n / HR_IO_ALIGN * HR_IO_ALIGN;
	if (n >= piece->bytes || piece->offset + n >= wanted_end)
		return 0;
	if (blocks) {
		piece->offset += blocks;
		piece->dst += blocks;
		piece->bytes -= blocks;
		piece->short_bytes = piece->retries = 0;
		return 1;
	}
	if (n > piece->short_bytes) {
		piece->short_bytes = n;
		return 1;
	}
	return -1;
}

/* Lock held. */
static void fail(struct hr__read_queue *q, struct hr_read *read, uint64_t at, int error)
{
	if (!read->status || at < read->failed_at) {
		read->status = error ? HR_EIO : HR_ETRUNCATED;
		read->failed_at = at;
		read->failed_errno = error;
	}
	if (q->head == read) /* issue no more of it */
		pop(q);
}

bool hr__read_queue_complete(struct hr__read_queue *q, struct hr__piece *piece, int64_t result)
{
	struct hr_read *read = piece->read;
	int             more = -1;
	if (result == -EINTR || result == -EAGAIN)
		more = piece->retries++ < MAX_RETRIES ? 1 : -1;
	else if (result >= 0)
		more = advance(piece, (uint32_t)result);
	if (more > 0)
		return true;

	pthread_mutex_lock(&q->lock);
	if (more < 0)
		fail(q, read, piece->offset + (result > 0 ? (uint64_t)result : 0), result < 0 ? (int)-result : 0);
	if (!--read->pieces_in_flight && q->head != read) {
		end(q, read);
		unlock_and_finish(q, read);
	}
	pthread_mutex_unlock(&q->lock);
	return false;
}

void hr__read_queue_submit(struct hr_reader *reader, struct hr_read *read)
{
	struct hr__read_queue *q = (struct hr__read_queue *)reader;
	read->next = NULL;
	read->status = 0;
	read->issued_bytes = 0;
	read->pieces_in_flight = 0;

	pthread_mutex_lock(&q->lock);
	if (q->tail)
		q->tail->next = read;
	else
		q->head = read;
	q->tail = read;
	q->n_open++;
	wake_one(q);
	pthread_mutex_unlock(&q->lock);
}

void hr__read_queue_drain(struct hr_reader *reader)
{
	struct hr__read_queue *q = (struct hr__read_queue *)reader;
	pthread_mutex_lock(&q->lock);
	q->n_draining++;
	while (q->n_open)
		pthread_cond_wait(&q->idle, &q->lock);
	q->n_draining--;
	pthread_mutex_unlock(&q->lock);
}

void hr__read_queue_stats(struct hr_reader *reader, struct hr_reader_stats *out)
{
	struct hr__read_queue *q = (struct hr__read_queue *)reader;
	pthread_mutex_lock(&q->lock);
	*out = q->stats;
	if (q->n_begun)
		out->busy_ns += hr__now_ns() - q->busy_since_ns;
	pthread_mutex_unlock(&q->lock);
}

void hr__read_queue_stop(struct hr__read_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->stopping = true;
	pthread_mutex_unlock(&q->lock);
}
