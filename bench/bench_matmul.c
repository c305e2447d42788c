/* How fast the CPU multiplies: GB/s of weights read for one token, and GFLOP/s
 * for many, next to what the threads can read at most.
 *
 *     bench_matmul [-t threads] [-i isa] [-n tokens] [-w type] [-r repetitions] [-m MiB of weights]
 *                  [-b rows and columns that share a scale in f8; 0: a row each]
 *
 * Weights are copies of one random matrix, more than any cache holds, used in
 * turn; shapes are those of a 1.1B llama. Times are the best of the repetitions;
 * the reading rate is measured again before each type, in the same way. */
#include "base/clock.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bench {
	struct hr_device *device;
	struct hr_stream *stream;
	struct hr_event  *event;
	struct hr_ops    *ops;
	uint8_t          *weights;
	size_t            weight_bytes;
	float            *x, *y;
	struct hr_scale   scale; /* of f8 */
	int               n_tokens, repetitions;
};

static void check(int r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "bench_matmul: %s: %s\n", what, hr_error_text(r));
		exit(1);
	}
}

static double wait_seconds(struct bench *b, uint64_t begin)
{
	check(b->device->ops->event_record(b->event, b->stream), "record");
	check(b->device->ops->event_wait(b->event), "wait");
	return (double)(hr__now_ns() - begin) * 1e-9;
}

static void read_all(const void *args, int64_t begin, int64_t end)
{
	const uint8_t *const *base = args;
	uint64_t              sum[8] = {0}, v[8];
	for (const uint8_t *p = *base + (begin << 16); p < *base + (end << 16); p += sizeof v) {
		__builtin_prefetch(p + 4096);
		memcpy(v, p, sizeof v);
		for (int i = 0; i < 8; i++)
			sum[i] += v[i];
	}
	volatile uint64_t sink = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
	(void)sink;
}

/* Bytes per second. */
static double read_rate(struct bench *b)
{
	double best = INFINITY;
	for (int i = 0; i < b->repetitions; i++) {
		uint64_t begin = hr__now_ns();
		check(hr_host_launch(b->stream, read_all, &b->weights, sizeof b->weights,
		                     (int64_t)(b->weight_bytes >> 16), 4),
		      "read");
		best = fmin(best, wait_seconds(b, begin));
	}
	return (double)b->weight_bytes / best;
}

/* Fill the weights with copies of one rows x cols matrix; returns its bytes. */
static size_t fill(struct bench *b, enum hr_type type, int rows, int cols)
{
	size_t n = (size_t)rows * (size_t)cols,
	       bytes = (size_t)rows * hr_type_row_bytes(hr_type_info(type), (uint64_t)cols);
	float   *f = malloc(n * sizeof *f);
	uint32_t seed = 1;
	for (size_t i = 0; i < n; i++)
		f[i] =
		    (float)(int32_t)(seed = seed * 1664525 + 1013904223) *
		    (type == HR_TYPE_F8_E4M3 ? 0x1.cp-23f : 0x1p-36f); /* f8: up to 448, where its scales put them */
	memset(b->weights, 0x11, bytes); /* where there is no encoder: every scale is a number */
	if (hr_type_info(type)->from_f32)
		hr_type_info(type)->from_f32(f, b->weights, n);
	for (size_t at = bytes; at + bytes <= b->weight_bytes; at += bytes)
		memcpy(b->weights + at, b->weights, bytes);
	free(f);
	return bytes;
}

/* Seconds of one product, the best of several rounds over `copies` matrices. */
static double product_seconds(struct bench *b, enum hr_type type, int rows, int cols, int n_tokens,
                              int copies)
{
	size_t bytes = (size_t)rows * hr_type_row_bytes(hr_type_info(type), (uint64_t)cols);
	double best = INFINITY;
	for (int i = 0; i < b->repetitions; i++) {
		uint64_t begin = hr__now_ns();
		for (int c = 0; c < copies; c++) {
			struct hr_matmul m = {
			    .w = {b->weights + (size_t)c * bytes, type, rows, cols}, .y = b->y, .y_stride = rows};
			if (type == HR_TYPE_F8_E4M3)
				m.w.scale = b->scale;
			check(
			    b->ops->table->matmul(b->ops, b->stream, &m, 1, b->x, n_tokens, n_tokens > 8 ? 0 : n_tokens),
			    "matmul");
		}
		best = fmin(best, wait_seconds(b, begin) / copies);
	}
	return best;
}

static void run_type(struct bench *b, enum hr_type type)
{
	static const int shapes[][2] = {{2560, 2048}, {2048, 2048}, {11264, 2048}, {2048, 5632}, {32000, 2048}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		int    rows = shapes[i][0], cols = shapes[i][1];
		double reads = read_rate(b);
		size_t bytes = fill(b, type, rows, cols);
		int    copies = (int)(b->weight_bytes / bytes), few = copies < 8 ? copies : 8;
		double one = product_seconds(b, type, rows, cols, 1, copies);
		double many = product_seconds(b, type, rows, cols, b->n_tokens, few);
		double flop = 2.0 * rows * cols * b->n_tokens;
		printf("| %-5s | %5d x %4d | %10.1f | %10.1f | %8.2f | %10.1f |\n", hr_type_info(type)->name, rows,
		       cols, reads * 1e-9, (double)bytes / one * 1e-9, (double)bytes / one / reads,
		       flop / many * 1e-9);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct bench    b = {.n_tokens = 512, .repetitions = 5, .weight_bytes = (size_t)1 << 30};
	int             threads = 0, block = 0, option;
	const char     *isa = NULL, *type = NULL;
	struct hr_error err = {0};
	while ((option = getopt(argc, argv, "t:i:n:w:r:m:b:")) != -1)
		switch (option) {
		case 't':
			threads = atoi(optarg);
			break;
		case 'i':
			isa = optarg;
			break;
		case 'n':
			b.n_tokens = atoi(optarg);
			break;
		case 'w':
			type = optarg;
			break;
		case 'r':
			b.repetitions = atoi(optarg);
			break;
		case 'm':
			b.weight_bytes = (size_t)atoi(optarg) << 20;
			break;
		case 'b':
			block = atoi(optarg);
			break;
		default:
			return 2;
		}
	struct hr_device_host_options options = {.n_threads = threads, .bind = true};
	check(hr_device_host_open(&b.device, &options, &err), "device");
	check(hr_ops_cpu_open(&b.ops, b.device, isa, &err), "operations");
	const struct hr_device_ops *d = b.device->ops;
	check(d->stream_new(b.device, &b.stream, true, &err), "stream");
	check(d->event_new(b.device, &b.event, &err), "event");
	size_t x_bytes = (size_t)b.n_tokens * 5632 * sizeof(float),
	       y_bytes = (size_t)b.n_tokens * 32000 * sizeof(float);
	b.ops->workspace_bytes = b.ops->table->workspace_bytes(b.ops, b.n_tokens, 32000, 5632);
	check(d->alloc(b.device, (void **)&b.weights, b.weight_bytes, &err), "weights");
	check(d->alloc(b.device, (void **)&b.x, x_bytes, &err), "x");
	check(d->alloc(b.device, (void **)&b.y, y_bytes, &err), "y");
	check(d->alloc(b.device, &b.ops->workspace, b.ops->workspace_bytes, &err), "workspace");
	for (size_t i = 0; i < x_bytes / sizeof(float); i++)
		b.x[i] = sinf((float)i);
	b.scale = (struct hr_scale){
	    .data = b.x, .type = HR_TYPE_F32, .rows = block ? block : 1, .cols = block ? block : INT32_MAX};
	printf("%s, %d threads, %d tokens\n", b.ops->table->name, hr_host_n_threads(b.device), b.n_tokens);
	printf("| type  | rows x cols  | read  GB/s | 1 tok GB/s | fraction | n tok GF/s |\n");
	for (int t = 0; t < HR_TYPE_COUNT; t++)
		if (!type || !strcmp(type, hr_type_info((enum hr_type)t)->name))
			run_type(&b, (enum hr_type)t);
	void *memory[] = {b.weights, b.x, b.y, b.ops->workspace};
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		d->free(b.device, memory[i]);
	b.ops->table->close(b.ops);
	d->event_free(b.event);
	d->stream_free(b.stream);
	d->close(b.device);
	return 0;
}
