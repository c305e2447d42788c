/* The reader for places where io_uring is refused: `depth` threads, each with
 * one blocking pread at a time. Everything but that one call is read_queue.c. */
#include "base/error.h"
#include "base/mem.h"
#include "io/read_queue.h"

#include <errno.h>
#include <unistd.h>

#define MAX_THREADS 16

struct pool {
	struct hr__read_queue queue; /* first */
	pthread_cond_t        work;
	int                   n_threads;
	pthread_t             threads[MAX_THREADS];
};

static void pool_wake(struct hr__read_queue *queue) { pthread_cond_signal(&((struct pool *)queue)->work); }

static void *pool_thread(void *arg)
{
	struct pool     *pool = arg;
	struct hr__piece piece;
	ssize_t          n;
	while (hr__read_queue_next(&pool->queue, &piece, &pool->work) > 0)
		do
			n = pread(piece.fd, piece.dst, piece.bytes, (off_t)piece.offset);
		while (hr__read_queue_complete(&pool->queue, &piece, n < 0 ? -errno : n));
	return NULL;
}

static void pool_close(struct hr_reader *reader)
{
	struct pool *pool = (struct pool *)reader;
	hr__read_queue_drain(reader);
	hr__read_queue_stop(&pool->queue);
	pthread_cond_broadcast(&pool->work);
	for (int i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	hr__read_queue_release(&pool->queue);
	free(pool);
}

static const struct hr_reader_ops pread_ops = {
    .name = "pread",
    .submit = hr__read_queue_submit,
    .register_memory = NULL,
    .drain = hr__read_queue_drain,
    .stats = hr__read_queue_stats,
    .close = pool_close,
};

int hr__reader_pread_open(struct hr_reader **out, const struct hr_reader_options *options,
                          struct hr_error *err)
{
	struct pool *pool = hr__calloc(1, sizeof *pool);
	int          depth = options->depth < MAX_THREADS ? options->depth : MAX_THREADS, rc, e = 0;
	if (!pool)
		return hr__fail(err, HR_ENOMEM, "There is no memory left for a reader.");
	pool->queue.reader = (struct hr_reader){&pread_ops, options->chunk_bytes, depth};
	pool->queue.wake = pool_wake;
	rc = hr__read_queue_init(&pool->queue, err);
	if (rc) {
		free(pool);
		return rc;
	}
	pthread_cond_init(&pool->work, NULL);
	while (pool->n_threads < depth && !e)
		if (!(e = pthread_create(&pool->threads[pool->n_threads], NULL, pool_thread, pool)))
			pool->n_threads++;
	if (e) {
		pool_close(&pool->queue.reader);
		return hr__fail(err, HR_ENOMEM, "The reader cannot start its %d threads: %s.", depth, strerror(e));
	}
	*out = &pool->queue.reader;
	return 0;
}
