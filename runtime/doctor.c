/* What this machine can do for streaming, one line per thing that decides it.
 *
 * Each check asks the very code that a session will use (reader, host memory,
 * topology, device), so that what is said here is what will happen there. The disk
 * is measured with a file that has no name: whatever ends the program, nothing is
 * left behind. */
#include "runtime/doctor.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "io/hostmem.h"
#include "io/reader.h"
#include "kernels/device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MIB (1024.0 * 1024.0)
#define GIB (1024.0 * MIB)

void hr__doctor_tell(const struct doctor *d, const char *name, enum hr_check_status status, double value,
                     const char *advice, const char *fmt, ...)
{
	char    detail[1200];
	va_list args;
	va_start(args, fmt);
	vsnprintf(detail, sizeof detail, fmt, args);
	va_end(args);
	d->fn(d->user, &(struct hr_check){name, status, detail, status == HR_CHECK_OK ? "" : advice, value});
}

/* ---- Processor and memory ------------------------------------------------------ */

static void check_cpu(const struct doctor *d)
{
	int  cores = hr_topology_n_cores();
	char isa[64] = "portable instructions";
	bool wide = false;
#if defined(__x86_64__)
	__builtin_cpu_init();
	wide = __builtin_cpu_supports("avx2");
	snprintf(isa, sizeof isa, "%s%s%s", wide ? "AVX2" : "x86-64 without AVX2",
	         __builtin_cpu_supports("avx512f") ? ", AVX-512" : "",
	         __builtin_cpu_supports("avx512vnni") ? ", VNNI" : "");
#endif
	hr__doctor_tell(d, "cpu", wide ? HR_CHECK_OK : HR_CHECK_SLOW, cores,
	                "The CPU kernels are written for AVX2 and up; others run, but slowly.", "%d %s, %s",
	                cores, cores == 1 ? "core" : "cores", isa);
	int nodes = hr_topology_n_nodes();
	hr__doctor_tell(d, "numa", HR_CHECK_OK, nodes, "", "%d %s", nodes, nodes == 1 ? "node" : "nodes");
}

static void check_memory(const struct doctor *d)
{
	struct hr_device             *device;
	struct hr_device_memory       memory;
	struct hr_device_host_options options = {.n_threads = 1};
	struct hr_error               err;
	struct sysinfo                machine;
	if (hr_device_host_open(&device, &options, &err)) {
		hr__doctor_tell(d, "memory", HR_CHECK_MISSING, 0, "", "%s", err.message);
		return;
	}
	bool known = !device->ops->memory(device, &memory) && !sysinfo(&machine);
	device->ops->close(device);
	if (!known) {
		hr__doctor_tell(d, "memory", HR_CHECK_MISSING, 0, "",
		                "The system doesn't say how much memory is free.");
		return;
	}
	double installed = (double)machine.totalram * machine.mem_unit;
	bool   limited = (double)memory.total_bytes < 0.98 * installed;
	hr__doctor_tell(d, "memory", HR_CHECK_OK, (double)memory.free_bytes, "", "%.1f GiB free of %.1f GiB%s",
	                (double)memory.free_bytes / GIB, (double)memory.total_bytes / GIB,
	                limited ? ", which is the limit of this cgroup" : "");
}

static void check_memlock(const struct doctor *d)
{
	static const char advice[] =
	    "Buffers beyond it can't be registered with io_uring or pinned for a GPU; raise it with "
	    "`ulimit -l`, LimitMEMLOCK= or docker's --ulimit memlock=-1.";
	size_t bytes = hr_hostmem_lockable_bytes();
	if (bytes == SIZE_MAX)
		hr__doctor_tell(d, "memlock", HR_CHECK_OK, 0, "", "no limit");
	else
		hr__doctor_tell(d, "memlock", (double)bytes >= 256 * MIB ? HR_CHECK_OK : HR_CHECK_SLOW, (double)bytes,
		                advice, "%.1f MiB", (double)bytes / MIB);
}

/* The word in [brackets] of a file of choices; "unknown" without one. */
static void read_chosen(const char *path, char word[32])
{
	char  line[128] = "";
	FILE *f = fopen(path, "re");
	if (f && !fgets(line, sizeof line, f))
		line[0] = 0;
	if (f)
		fclose(f);
	if (sscanf(line, "%*[^[][%31[^]]", word) != 1 && sscanf(line, "[%31[^]]", word) != 1)
		strcpy(word, "unknown");
}

static void check_huge_pages(const struct doctor *d)
{
	struct hr_hostmem mem = {0};
	char              mode[32];
	read_chosen("/sys/kernel/mm/transparent_hugepage/enabled", mode);
	bool huge = !hr_hostmem_init(&mem, 8u << 20, -1, NULL) && mem.huge;
	hr_hostmem_release(&mem);
	hr__doctor_tell(d, "huge_pages", huge ? HR_CHECK_OK : HR_CHECK_SLOW, 0,
	                "As root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled.",
	                "%s (transparent: %s)", huge ? "granted" : "not granted", mode);
}

/* ---- io_uring ------------------------------------------------------------------- */

static void check_io_uring(const struct doctor *d)
{
	static const struct {
		unsigned    bit;
		const char *name;
	} features[] = {{IORING_FEAT_SINGLE_MMAP, "single_mmap"},
	                {IORING_FEAT_NODROP, "nodrop"},
	                {IORING_FEAT_EXT_ARG, "ext_arg"},
	                {IORING_FEAT_NATIVE_WORKERS, "native_workers"},
	                {IORING_FEAT_RSRC_TAGS, "rsrc_tags"}};
	struct io_uring_params params = {0};
	struct utsname         system = {0};
	char                   names[128] = "";
	uname(&system);
	int fd = (int)syscall(SYS_io_uring_setup, 8u, &params);
	if (fd < 0) {
		hr__doctor_tell(
		    d, "io_uring", HR_CHECK_SLOW, 0,
		    errno == ENOSYS
		        ? "This kernel has none; reads go through a pool of threads."
		        : "Reads go through a pool of threads. In a container, allow it in the seccomp profile; else "
		          "see sysctl kernel.io_uring_disabled.",
		    "refused by Linux %s: %s", system.release, strerror(errno));
		return;
	}
	close(fd);
	for (size_t i = 0; i < HR_COUNT_OF(features); i++) {
		size_t n = strlen(names);
		if (params.features & features[i].bit)
			snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", features[i].name);
	}
	hr__doctor_tell(d, "io_uring", HR_CHECK_OK, 0, "", "allowed by Linux %s; %s", system.release, names);
}

/* ---- The disk -------------------------------------------------------------------- */

enum { READS = 16, READ_BYTES = 4 << 20 };

/* The reads of one measurement: each one that is done takes the next piece. */
struct measurement {
	struct hr_reader *reader;
	uint64_t          file_bytes;
	_Atomic uint64_t  next_offset;
	_Atomic int       status; /* of the first that failed */
	struct hr_read    reads[READS];
	sem_t             idle; /* posted once by each read that finds nothing left */
};

static void take_next_piece(struct hr_read *read)
{
	struct measurement *m = read->user;
	int                 none = 0;
	if (read->status)
		atomic_compare_exchange_strong(&m->status, &none, read->status);
	uint64_t offset = atomic_fetch_add(&m->next_offset, READ_BYTES);
	if (offset >= m->file_bytes || read->status) {
		sem_post(&m->idle);
		return;
	}
	read->offset = offset;
	m->reader->ops->submit(m->reader, read);
}

/* Read the file once, with the reader and the settings a session has by itself. */
static int measure_reads(const struct hr_file *file, uint64_t bytes, const struct hr_hostmem *mem,
                         double *gbps, const char **reader_name, struct hr_error *err)
{
	struct hr_reader_options options = {.kind = HR_READER_AUTO};
	struct hr_reader_stats   stats;
	struct measurement      *m = hr__calloc(1, sizeof *m);
	int                      rc;
	if (!m)
		return hr__fail(err, HR_ENOMEM, "There is no memory to measure the disk.");
	rc = hr_reader_open(&m->reader, &options, err);
	if (rc)
		goto done;
	m->file_bytes = bytes;
	sem_init(&m->idle, 0, 0);
	if (m->reader->ops->register_memory)
		m->reader->ops->register_memory(m->reader, mem->base, mem->bytes);
	for (int i = 0; i < READS; i++) {
		m->reads[i] =
		    (struct hr_read){.file = file, .length = READ_BYTES, .done = take_next_piece, .user = m};
		m->reads[i].dst = (char *)mem->base + (size_t)i * READ_BYTES;
		take_next_piece(&m->reads[i]);
	}
	for (int i = 0; i < READS; i++) {
		while (sem_wait(&m->idle) && errno == EINTR)
			;
	}
	*reader_name = m->reader->ops->name;
	m->reader->ops->stats(m->reader, &stats);
	m->reader->ops->close(m->reader);
	sem_destroy(&m->idle);
	rc = m->status;
	if (rc)
		hr__fail(err, rc, "A read of the disk that was measured failed: %s.", hr_error_text(rc));
	else
		*gbps = stats.busy_ns ? (double)stats.bytes / (double)stats.busy_ns : 0;
done:
	free(m);
	return rc;
}

/* A file in `directory` that has no name. */
static int open_nameless(const char *directory, struct hr_error *err)
{
	char path[4096];
	int  fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof path, "%s/.headrace-XXXXXX", directory);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return hr__fail(err, HR_EIO, "nothing can be written in %s: %s", directory, strerror(errno));
	unlink(path);
	return fd;
}

/* Fill the file with bytes that no layer below can squeeze: as many as wanted, or as
 * four seconds allow. Returns how many, a multiple of READ_BYTES. */
static int64_t fill_file(int fd, uint64_t wanted, const struct hr_hostmem *mem, struct hr_error *err)
{
	uint64_t  x = 88172645463325252u, written = 0, begin = hr__now_ns();
	uint64_t *words = mem->base;
	while (written < wanted && hr__now_ns() - begin < 4000000000u) {
		for (size_t i = 0; i < READ_BYTES / sizeof x; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			words[i] = x;
		}
		for (size_t n = 0; n < READ_BYTES;) {
			ssize_t got = pwrite(fd, (char *)mem->base + n, READ_BYTES - n, (off_t)(written + n));
			if (got <= 0)
				return hr__fail(err, HR_EIO, "a temporary file of %.0f MiB could not be written: %s",
				                (double)wanted / MIB, strerror(errno));
			n += (size_t)got;
		}
		written += READ_BYTES;
	}
	if (fsync(fd))
		return hr__fail(err, HR_EIO, "a temporary file of %.0f MiB could not be written: %s",
		                (double)wanted / MIB, strerror(errno));
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return (int64_t)written;
}

static void tell_direct(const struct doctor *d, const struct hr_file *file)
{
	if (file->fd_direct >= 0)
		hr__doctor_tell(d, "o_direct", HR_CHECK_OK, file->offset_align, "",
		                "memory on %u bytes, offsets on %u", file->mem_align, file->offset_align);
	else
		hr__doctor_tell(
		    d, "o_direct", HR_CHECK_SLOW, 0,
		    "Weights pass through the page cache, which costs a copy and memory; keep models on ext4 or XFS.",
		    "refused by this file system: %s", file->direct_refused);
}

static void check_disk(const struct doctor *d, const char *directory)
{
	static const char elsewhere[] = "Run doctor in the directory that holds the models.";
	uint64_t          wanted = 512u << 20;
	struct hr_hostmem mem = {0};
	struct hr_file    file = {0};
	struct hr_error   err;
	struct statvfs    fs;
	const char       *reader = "";
	char              path[64];
	double            gbps = 0;
	int64_t           bytes;
	int               fd = open_nameless(directory, &err);

	if (fd < 0) {
		hr__doctor_tell(d, "disk", HR_CHECK_MISSING, 0, elsewhere, "%s", err.message);
		return;
	}
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (!fstatvfs(fd, &fs) && (uint64_t)fs.f_bavail * fs.f_frsize < 2 * wanted)
		wanted = (uint64_t)fs.f_bavail * fs.f_frsize / 2 / READ_BYTES * READ_BYTES;
	if (!wanted) {
		hr__doctor_tell(d, "disk", HR_CHECK_MISSING, 0, elsewhere, "%s is full", directory);
		goto done;
	}
	if (hr_hostmem_init(&mem, READS * READ_BYTES, -1, &err) ||
	    (bytes = fill_file(fd, wanted, &mem, &err)) < 0 || hr_file_open(&file, path, &err)) {
		hr__doctor_tell(d, "disk", HR_CHECK_MISSING, 0, elsewhere, "%s", err.message);
		goto done;
	}
	tell_direct(d, &file);
	if (measure_reads(&file, (uint64_t)bytes, &mem, &gbps, &reader, &err))
		hr__doctor_tell(d, "disk", HR_CHECK_MISSING, 0, elsewhere, "%s", err.message);
	else
		hr__doctor_tell(d, "disk", gbps >= 1 ? HR_CHECK_OK : HR_CHECK_SLOW, gbps,
		                "Streaming can't be faster than this; an NVMe drive reads several GB/s.",
		                "%.2f GB/s, %.0f MiB with %s%s", gbps, (double)bytes / MIB, reader,
		                file.fd_direct >= 0 ? "" : ", out of the page cache, so the drive may be slower");
done:
	hr_file_close(&file);
	hr_hostmem_release(&mem);
	close(fd);
}

int hr_doctor(const char *directory, hr_check_fn fn, void *user, struct hr_error *err)
{
	struct doctor d = {fn, user};
	struct stat   st;
	if (!directory)
		directory = ".";
	if (stat(directory, &st))
		return hr__fail(err, HR_ENOENT, "%s cannot be looked at: %s.", directory, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return hr__fail(err, HR_EINVAL, "%s is not a directory; give the one that holds the models.",
		                directory);
	check_cpu(&d);
	check_memory(&d);
	check_memlock(&d);
	check_huge_pages(&d);
	hr__doctor_check_gpus(&d);
	check_io_uring(&d);
	check_disk(&d, directory);
	return HR_OK;
}
