/* The reader on io_uring: one thread owns the ring and does nothing but move
 * pieces between read_queue.c and the kernel, `depth` of them in flight.
 *
 *     loop: fill free slots with pieces -> submit and wait for one completion ->
 *           give completions back, put shortened pieces in again
 *
 * When the queue is empty the thread still waits in the ring, for a read of an
 * eventfd that is always in flight; who submits a read writes to the eventfd if
 * the thread is, or is about to be, asleep (see `sleepers` in read_queue.c). So
 * there is one place to wait in, no polling, and no system call to wake a thread
 * that is awake.
 *
 * The ring belongs to its thread alone, which lets the kernel leave out locks and
 * run completions when they are asked for (SINGLE_ISSUER, DEFER_TASKRUN, where
 * it knows them). Therefore also set-up and the registration of memory happen on
 * that thread; other threads ask and wait.
 *
 * Registered memory spares the kernel from pinning pages for every read. It counts
 * as locked memory; where that is limited the reads are the same, only dearer. */
#include "base/error.h"
#include "base/mem.h"
#include "io/hostmem.h"
#include "io/read_queue.h"

#include <errno.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_DEPTH          1024
#define MAX_AREAS          1024         /* registered pieces of memory, */
#define AREA_BYTES         (1ull << 30) /* each at most this: a limit of the kernel */
#define MAX_ENTER_FAILURES 1000         /* in a row, 1 ms apart, until reads fail with the ring */

struct slot {
	struct hr__piece piece;
	struct slot     *next_free;
	bool             busy;
};

struct area {
	char  *base;
	size_t bytes;
};

struct uring {
	struct hr__read_queue queue; /* first; its lock also protects the requests below */
	pthread_t             thread;
	int                   wake_fd;
	struct hr_notice_sink notices;

	/* Requests to the thread, answered through `answered`. */
	pthread_cond_t answered;
	bool           started;     /* the ring was set up, or start_error says why not */
	int            start_error; /* errno */
	struct area    to_register; /* base NULL: nothing asked */
	int            register_error;

	/* The thread's own. */
	struct io_uring ring;
	uint64_t        wake_count; /* the eventfd is read into this */
	bool            wake_armed;
	struct slot    *slots, *free_slot; /* [depth] */
	int             enter_failures;
	bool            ring_gone;
	bool            table; /* the kernel has a table for registered memory */
	struct area    *areas; /* [MAX_AREAS]; the index is the kernel's buffer index */
	int             n_areas;

	bool refusal_told; /* by whoever registers */
};

static int set_up_ring(struct io_uring *ring, unsigned entries)
{
	static const unsigned flags[] = {
#ifdef IORING_SETUP_DEFER_TASKRUN
	    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
#endif
	    0,
	};
	int rc = -EINVAL;
	for (size_t i = 0; i < HR_COUNT_OF(flags) && rc == -EINVAL; i++)
		rc = io_uring_queue_init(entries, ring, flags[i]);
	if (rc < 0)
		return -rc;
	if (!(ring->features & IORING_FEAT_RW_CUR_POS)) { /* came with IORING_OP_READ, which we use */
		io_uring_queue_exit(ring);
		return ENOSYS;
	}
	return 0;
}

static void arm_wake(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_read(sqe, u->wake_fd, &u->wake_count, sizeof u->wake_count, 0);
	io_uring_sqe_set_data(sqe, NULL);
	u->wake_armed = true;
}

static int find_area(const struct uring *u, const struct hr__piece *piece)
{
	for (int i = 0; i < u->n_areas; i++)
		if (piece->dst >= u->areas[i].base &&
		    piece->dst + piece->bytes <= u->areas[i].base + u->areas[i].bytes)
			return i;
	return -1;
}

/* There is always an SQE: the ring has one for every slot and one for the eventfd. */
static void put_in(struct uring *u, struct slot *slot)
{
	const struct hr__piece *piece = &slot->piece;
	struct io_uring_sqe    *sqe = io_uring_get_sqe(&u->ring);
	int                     area = find_area(u, piece);
	if (area >= 0)
		io_uring_prep_read_fixed(sqe, piece->fd, piece->dst, piece->bytes, piece->offset, area);
	else
		io_uring_prep_read(sqe, piece->fd, piece->dst, piece->bytes, piece->offset);
	io_uring_sqe_set_data(sqe, slot);
}

static void free_slot(struct uring *u, struct slot *slot)
{
	slot->busy = false;
	slot->next_free = u->free_slot;
	u->free_slot = slot;
}

/* Fill the free slots; false when the queue was stopped. */
static bool put_in_pieces(struct uring *u)
{
	while (u->free_slot) {
		struct slot *slot = u->free_slot;
		int          rc = hr__read_queue_next(&u->queue, &slot->piece, NULL);
		if (rc <= 0)
			return rc == 0;
		u->free_slot = slot->next_free;
		slot->busy = true;
		put_in(u, slot);
	}
	return true;
}

static void register_area(struct uring *u, struct area area)
{
	int error = u->ring_gone ? EIO : 0;
	if (!error && !u->table) {
		error = -io_uring_register_buffers_sparse(&u->ring, MAX_AREAS);
		u->table = !error;
	}
	while (!error && area.bytes && u->n_areas < MAX_AREAS) {
		size_t       bytes = area.bytes < AREA_BYTES ? area.bytes : AREA_BYTES;
		struct iovec iov = {area.base, bytes};
		__u64        tag = 0;
		int          rc = io_uring_register_buffers_update_tag(&u->ring, (unsigned)u->n_areas, &iov, &tag, 1);
		error = rc < 0 ? -rc : 0;
		if (!error)
			u->areas[u->n_areas++] = (struct area){area.base, bytes};
		area.base += bytes;
		area.bytes -= bytes;
	}
	u->register_error = error;
}

static void answer_requests(struct uring *u)
{
	pthread_mutex_lock(&u->queue.lock);
	if (u->to_register.base) {
		register_area(u, u->to_register);
		u->to_register.base = NULL;
		pthread_cond_broadcast(&u->answered);
	}
	pthread_mutex_unlock(&u->queue.lock);
}

static void complete(struct uring *u, struct slot *slot, int result)
{
	if (hr__read_queue_complete(&u->queue, &slot->piece, result))
		put_in(u, slot);
	else
		free_slot(u, slot);
}

static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	while (!io_uring_peek_cqe(&u->ring, &cqe)) {
		struct slot *slot = io_uring_cqe_get_data(cqe);
		int          result = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		if (slot) {
			complete(u, slot, result);
		} else {
			u->wake_armed = false;
			answer_requests(u);
		}
	}
}

/* Let the kernel work and wait for it. 0; or errno when it refuses for good, not
 * just because it is short of memory for a moment. */
static int enter(struct uring *u)
{
	int rc = io_uring_submit_and_wait(&u->ring, 1);
	if (rc >= 0 || rc == -EINTR) {
		u->enter_failures = 0;
		return 0;
	}
	if (++u->enter_failures >= MAX_ENTER_FAILURES)
		return -rc;
	usleep(1000);
	return 0;
}

/* The ring is gone: whatever it held and whatever comes fails, but nothing hangs. */
static void fail_all(struct uring *u, int error)
{
	struct hr__piece piece;
	int              rc;
	u->ring_gone = true;
	for (int i = 0; i < u->queue.reader.depth; i++)
		while (u->slots[i].busy)
			u->slots[i].busy = hr__read_queue_complete(&u->queue, &u->slots[i].piece, -error);
	for (;;) {
		while ((rc = hr__read_queue_next(&u->queue, &piece, NULL)) > 0)
			while (hr__read_queue_complete(&u->queue, &piece, -error))
				;
		if (rc < 0)
			return;
		while (read(u->wake_fd, &u->wake_count, sizeof u->wake_count) < 0 && errno == EINTR)
			;
		answer_requests(u);
	}
}

static void *uring_thread(void *arg)
{
	struct uring *u = arg;
	int           error = set_up_ring(&u->ring, (unsigned)u->queue.reader.depth + 1);
	pthread_mutex_lock(&u->queue.lock);
	u->start_error = error;
	u->started = true;
	pthread_cond_broadcast(&u->answered);
	pthread_mutex_unlock(&u->queue.lock);
	if (error)
		return NULL;

	while (!error) {
		bool stopped = !put_in_pieces(u);
		if (stopped && !u->wake_armed)
			break;
		if (!u->wake_armed)
			arm_wake(u);
		error = enter(u);
		reap(u);
	}
	io_uring_queue_exit(&u->ring);
	if (error)
		fail_all(u, error);
	return NULL;
}

static void ring_bell(const struct uring *u)
{
	uint64_t one = 1;
	while (write(u->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void uring_wake(struct hr__read_queue *queue) { ring_bell((struct uring *)queue); }

static int ask_to_register(struct uring *u, void *base, size_t bytes)
{
	pthread_mutex_lock(&u->queue.lock);
	while (u->to_register.base)
		pthread_cond_wait(&u->answered, &u->queue.lock);
	u->to_register = (struct area){base, bytes};
	ring_bell(u);
	while (u->to_register.base)
		pthread_cond_wait(&u->answered, &u->queue.lock);
	int error = u->register_error;
	pthread_mutex_unlock(&u->queue.lock);
	return error;
}

static void uring_register_memory(struct hr_reader *reader, void *base, size_t bytes)
{
	struct uring *u = (struct uring *)reader;
	size_t        lockable = hr_hostmem_lockable_bytes();
	if (!base || !bytes)
		return;
	/* Checked first, because the kernel would pin page after page before it says no. */
	int error = lockable < bytes ? ENOMEM : ask_to_register(u, base, bytes);
	if (!error || u->refusal_told)
		return;
	u->refusal_told = true;
	if (lockable < bytes)
		hr__notice(&u->notices,
		           "Read buffers are not registered with io_uring: %zu MiB would have to be locked and %zu "
		           "MiB may be "
		           "(raise it with ulimit -l); reads cost a little more CPU time.",
		           bytes >> 20, lockable >> 20);
	else
		hr__notice(&u->notices,
		           "Read buffers are not registered with io_uring (%s); reads cost a little more CPU time.",
		           strerror(error));
}

static void free_uring(struct uring *u)
{
	if (u->wake_fd >= 0)
		close(u->wake_fd);
	pthread_cond_destroy(&u->answered);
	hr__read_queue_release(&u->queue);
	free(u->slots);
	free(u->areas);
	free(u);
}

static void uring_close(struct hr_reader *reader)
{
	struct uring *u = (struct uring *)reader;
	hr__read_queue_drain(reader);
	hr__read_queue_stop(&u->queue);
	ring_bell(u);
	pthread_join(u->thread, NULL);
	free_uring(u);
}

static const struct hr_reader_ops uring_ops = {
    .name = "io_uring",
    .submit = hr__read_queue_submit,
    .register_memory = uring_register_memory,
    .drain = hr__read_queue_drain,
    .stats = hr__read_queue_stats,
    .close = uring_close,
};

/* errno of the start. */
static int start_thread(struct uring *u)
{
	int error = pthread_create(&u->thread, NULL, uring_thread, u);
	if (error)
		return error;
	pthread_mutex_lock(&u->queue.lock);
	while (!u->started)
		pthread_cond_wait(&u->answered, &u->queue.lock);
	pthread_mutex_unlock(&u->queue.lock);
	if (u->start_error)
		pthread_join(u->thread, NULL);
	return u->start_error;
}

int hr__reader_uring_open(struct hr_reader **out, const struct hr_reader_options *options,
                          struct hr_error *err)
{
	int           depth = options->depth < MAX_DEPTH ? options->depth : MAX_DEPTH, error;
	struct uring *u = hr__calloc(1, sizeof *u);
	if (!u || hr__read_queue_init(&u->queue, NULL)) {
		free(u);
		return hr__fail(err, HR_ENOMEM, "There is no memory left for a reader.");
	}
	pthread_cond_init(&u->answered, NULL);
	u->queue.reader = (struct hr_reader){&uring_ops, options->chunk_bytes, depth};
	u->queue.wake = uring_wake;
	u->notices = options->notices;
	u->slots = hr__calloc((size_t)depth, sizeof *u->slots);
	u->areas = hr__calloc(MAX_AREAS, sizeof *u->areas);
	u->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (!u->slots || !u->areas || u->wake_fd < 0) {
		free_uring(u);
		return hr__fail(err, HR_ENOMEM, "There is no memory left for a reader.");
	}
	for (int i = depth; i--;)
		free_slot(u, &u->slots[i]);
	error = start_thread(u);
	if (error) {
		free_uring(u);
		return hr__fail(err, HR_EUNSUPPORTED, "io_uring is refused here (%s)", strerror(error));
	}
	*out = &u->queue.reader;
	return 0;
}
