/* Readers: extents of files into the caller's memory, asynchronously.
 *
 * A read is a struct that the caller owns and that the reader links into its
 * queue: submitting allocates nothing and never blocks. The reader keeps at
 * most `depth` reads of at most `chunk_bytes` in flight; further ones wait in
 * order. When a read is over, its `done` is called once, on a thread of the
 * reader; the struct is the caller's again from that moment on.
 *
 * Three implementations stand behind the table: io_uring (reader_uring.c), a
 * pool of pread threads (reader_pread.c), and a throttle (reader_throttle.c),
 * which is a reader around a reader.
 *
 *     Alignment. Any extent may be read. `dst` must be congruent to `offset`
 *     modulo HR_IO_ALIGN, and the bytes of the aligned superset around
 *     [dst, dst+length) belong to the read while it lasts: with O_DIRECT the
 *     superset is what lands there.
 *
 * Errors reach `done` as read->status, with the sentence in read->error:
 * HR_EIO (file, offset, errno), HR_ETRUNCATED (file, offset, wanted, got),
 * HR_ECHANGED (the file is no longer the one that was opened), HR_EINVAL (the
 * read breaks the rules above), HR_ECANCELED (drained before it began). */
#ifndef HR_IO_READER_H
#define HR_IO_READER_H

#include "base/notice.h"
#include "io/file.h"

struct hr_read {
	/* The caller's, untouched by the reader. */
	const struct hr_file *file;
	uint64_t              offset;
	uint64_t              length; /* > 0; may exceed chunk_bytes: the reader splits */
	void                 *dst;
	void (*done)(struct hr_read *read); /* must not block; may submit more reads */
	void *user;

	/* Valid in `done`. */
	int             status;   /* 0 or a negative HR_E code */
	uint64_t        start_ns; /* first byte asked of the kernel */
	uint64_t        end_ns;
	struct hr_error error;

	/* The reader's. */
	struct hr_read   *next;
	uint64_t          issued_bytes; /* of the aligned superset */
	uint32_t          pieces_in_flight;
	int               failed_errno; /* 0: end of file */
	uint64_t          failed_at;    /* offset in the file; the lowest of several */
	uint64_t          due_ns;
	struct hr_reader *throttle;
	void (*throttled_done)(struct hr_read *read); /* the caller's `done` meanwhile */
};

enum hr_reader_kind { HR_READER_AUTO, HR_READER_URING, HR_READER_PREAD };

struct hr_reader_options {
	enum hr_reader_kind   kind;
	size_t                chunk_bytes;          /* largest single I/O; multiple of HR_IO_ALIGN; 0: 2 MiB */
	int                   depth;                /* I/Os in flight; 0: 8 */
	uint64_t              max_bytes_per_second; /* 0: unlimited */
	struct hr_notice_sink notices;              /* told once of each step down, with the reason */
};

/* What the reader did since it was opened. busy_ns counts the time in which at
 * least one read was in flight (under a throttle: due). */
struct hr_reader_stats {
	uint64_t bytes; /* asked for, without alignment padding */
	uint64_t busy_ns;
	uint64_t reads;
};

struct hr_reader;

struct hr_reader_ops {
	const char *name; /* "io_uring", "pread" */
	void (*submit)(struct hr_reader *reader, struct hr_read *read);
	/* Memory that many reads will land in, to be registered with the kernel if
	 * it can be had. Call before the first submit; it must stay mapped until close.
	 * NULL: nothing to gain. */
	void (*register_memory)(struct hr_reader *reader, void *base, size_t bytes);
	/* Cancel what has not begun, wait until nothing is in flight. Every read's
	 * `done` has been called when this returns. New submits are allowed after.
	 * Not from within `done`. */
	void (*drain)(struct hr_reader *reader);
	void (*stats)(struct hr_reader *reader, struct hr_reader_stats *out);
	void (*close)(struct hr_reader *reader); /* drains first */
};

struct hr_reader {
	const struct hr_reader_ops *ops;
	size_t                      chunk_bytes;
	int                         depth;
};

/* Open the reader that `options` ask for: AUTO is io_uring where the kernel
 * permits it, else pread, with a notice. HR_READER_URING fails with
 * HR_EUNSUPPORTED where it is refused. A rate puts the throttle around it. */
int hr_reader_open(struct hr_reader **out, const struct hr_reader_options *options, struct hr_error *err);

/* Blocking convenience around submit: one extent into memory of any alignment
 * (bounced when needed). Any thread except the reader's own. */
int hr_reader_read_blocking(struct hr_reader *reader, const struct hr_file *file, uint64_t offset, void *dst,
                            size_t bytes, struct hr_error *err);

#endif
