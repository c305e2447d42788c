/* The probe: reads of the model's largest file, and sessions on a model that is the given one with fewer
 * blocks, driven pass by pass at chosen numbers of tokens and positions.
 *
 * The blocks must not fit a processor's cache any better than the whole model does, however many tokens
 * are computed: the first session takes WIDE_BYTES of them, and times tokens until a pass takes
 * too long. What does not depend on the weights is timed on two blocks. The window's own meter gives the
 * time of the kernels alone, whether their weights were resident or streamed; what a pass takes beyond
 * that and beyond its stalls is the host's turn. */
#include "runtime/probe.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "runtime/session.h"

#include <math.h>

#define DISK_SECONDS  4.0
#define WIDE_BYTES    (1ull << 30)
#define DEEP_BLOCKS   2
#define LOOK_BACK     1024        /* positions, for the cost of context */
#define ENOUGH_NS     60000000u   /* of passes of one size */
#define SLOW_NS       250000000u  /* a pass that is timed twice at most */
#define TOO_LONG_NS   1000000000u /* a pass that is not worth a second one, or a larger one */
#define MAX_PASSES    9
#define PROBE_OUTPUTS 16

static const int tokens[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

struct probe {
	struct hr_session *session;
	int                n_blocks;
};

struct timing { /* of one pass */
	double compute_ns, between_ns;
};

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* The lower quartile: what else the machine is busy with only ever adds. */
static double typical(double *x, int n)
{
	qsort(x, (size_t)n, sizeof *x, compare_doubles);
	return x[n / 4];
}

/* `n` tokens of one sequence from position `first` on. Without outputs, the last block is computed like all
 * others. */
static void compose(struct hr_pass *p, int n, int first, int n_outputs, int n_vocab)
{
	p->n_chunks = 1;
	p->chunk_begin[0] = 0;
	p->chunk_begin[1] = n;
	p->n_tokens = n;
	p->n_seqs = 1;
	p->n_outputs = n_outputs;
	p->n_single = n <= HR_SINGLE_MAX ? n : 0;
	p->keep_states = !n_outputs;
	p->max_context = first + n;
	for (int i = 0; i < n; i++) {
		p->ids[i] = (i * 7919 + first) % n_vocab;
		p->pos[i] = first + i;
		p->seq[i] = 0;
	}
	for (int i = 0; i < n_outputs; i++)
		p->outputs[i] = n - n_outputs + i;
	for (int i = 0; i < p->max_pages; i++)
		p->page_table[i] = i;
}

static int time_passes(struct probe *probe, int n, int first, int n_outputs, struct timing *out,
                       struct hr_error *err)
{
	struct hr_session *s = probe->session;
	double             compute[MAX_PASSES], between[MAX_PASSES];
	uint64_t           begin = hr__now_ns();
	int                n_passes = 0, rc = 0;
	for (int pass = 0; pass <= MAX_PASSES && !rc; pass++) {
		struct hr_window_stats before, after;
		uint64_t               from = hr__now_ns();
		hr_window_stats(s->window, &before);
		compose(hr__forward_pass(s->forward), n, first, n_outputs, s->model->checkpoint.hparams.n_vocab);
		rc = hr__forward_run(s->forward, err);
		hr_window_stats(s->window, &after);
		uint64_t now = hr__now_ns();
		bool     long_pass = now - from > TOO_LONG_NS;
		if (pass == 0 && !long_pass)
			continue; /* warms up */
		double total = (double)(now - from), busy = (double)(after.compute_ns - before.compute_ns);
		compute[n_passes] = busy;
		between[n_passes++] = total - busy - (double)(after.stall_ns - before.stall_ns);
		int enough = now - from > SLOW_NS ? 2 : 3;
		if (long_pass || n_passes == MAX_PASSES || (n_passes >= enough && now - begin > ENOUGH_NS))
			break;
	}
	if (rc)
		return rc;
	out->compute_ns = typical(compute, n_passes);
	out->between_ns = fmax(0, typical(between, n_passes));
	return 0;
}

/* Add a point of the curve over tokens. */
static int add_point(struct hr_rates *rates, struct probe *probe, int n_tokens, bool *too_long,
                     struct hr_error *err)
{
	struct timing t;
	int           rc = time_passes(probe, n_tokens, 0, 0, &t, err);
	if (rc)
		return rc;
	rates->compute[rates->n_compute++] = (struct hr_compute_point){
	    .n_tokens = n_tokens,
	    .block_ns = t.compute_ns / probe->n_blocks,
	    .between_ns = t.between_ns,
	};
	*too_long = t.compute_ns > TOO_LONG_NS;
	return 0;
}

/* What a token pays for every position it looks back on, `n` of them together. */
static int time_context(struct probe *probe, int n, int n_ctx, double *ns, struct hr_error *err)
{
	int           far = (n_ctx < LOOK_BACK ? n_ctx : LOOK_BACK) - n;
	struct timing near_time, far_time;
	*ns = 0;
	if (far < n || far < 64)
		return 0;
	int rc = time_passes(probe, n, 0, 0, &near_time, err);
	if (!rc)
		rc = time_passes(probe, n, far, 0, &far_time, err);
	if (!rc && far_time.compute_ns > near_time.compute_ns)
		*ns = (far_time.compute_ns - near_time.compute_ns) / ((double)probe->n_blocks * n * far);
	return rc;
}

/* The first session may have streamed, so the host's turn at its sizes is measured here. */
static int time_between(struct hr_rates *rates, struct probe *probe, struct hr_error *err)
{
	struct timing t;
	int           rc = 0;
	for (int i = 0; i < rates->n_compute && !rc; i++) {
		rc = time_passes(probe, rates->compute[i].n_tokens, 0, 1, &t, err);
		rates->compute[i].between_ns = rc ? 0 : t.between_ns;
	}
	return rc;
}

static int time_head(struct hr_rates *rates, struct probe *probe, struct hr_error *err)
{
	int rc = 0;
	for (int n = 1; n <= PROBE_OUTPUTS && !rc; n *= 4) {
		struct timing with, without;
		rc = time_passes(probe, n, 0, 0, &without, err);
		if (!rc)
			rc = time_passes(probe, n, 0, n, &with, err);
		double ns = rc ? 0 : with.compute_ns - without.compute_ns;
		if (!rc && rates->n_head < HR_RATES_MAX_HEAD)
			rates->head[rates->n_head++] = (struct hr_head_point){n, ns > 0 ? ns : 0};
	}
	return rc;
}

/* A session on the first blocks of the model. */
static int open_probe(struct probe *probe, struct hr_model *few, const struct hr_model *model, int n_blocks,
                      const struct hr_plan_options *options, struct hr_error *err)
{
	struct hr_plan_options o = *options;
	*few = *model;
	few->n_blocks = few->checkpoint.hparams.n_layers = probe->n_blocks = n_blocks;
	few->cuts.n = 0; /* they are of all blocks */
	int trained = model->checkpoint.hparams.n_ctx_train;
	o.window_layers = o.resident_layers = HR_AUTO;
	o.full = o.trace = false;
	o.device_map = NULL;
	o.n_batch = o.n_batch ? o.n_batch : 512;
	o.n_batch = o.n_batch > PROBE_OUTPUTS ? o.n_batch : PROBE_OUTPUTS;
	o.n_ctx = o.n_batch > LOOK_BACK ? o.n_batch : LOOK_BACK;
	o.n_ctx = trained > PROBE_OUTPUTS && trained < o.n_ctx ? trained : o.n_ctx;
	o.n_seqs = 1;
	o.on_notice = NULL;
	o.on_progress = NULL;
	return hr__session_open(&probe->session, few, &o, NULL, err);
}

static int clamp(int x, int least, int most) { return x < least ? least : x > most ? most : x; }

static int probe_wide(struct hr_rates *rates, struct probe *probe, int n_batch, struct hr_error *err)
{
	const struct hr_plan_info *info = hr_plan_info(hr_session_plan(probe->session));
	int                        most = info->n_ctx < n_batch ? info->n_ctx : n_batch;
	bool                       too_long = false;
	int                        rc = 0;
	for (size_t i = 0; i < HR_COUNT_OF(tokens) && !rc && !too_long; i++)
		if (tokens[i] <= 8 || tokens[i] <= most)
			rc = add_point(rates, probe, tokens[i], &too_long, err);
	if (!rc)
		rc = time_context(probe, 1, info->n_ctx, &rates->context_ns_decode, err);
	return rc;
}

static int probe_deep(struct hr_rates *rates, struct probe *probe, int n_batch, struct hr_error *err)
{
	const struct hr_plan_info *info = hr_plan_info(hr_session_plan(probe->session));
	int                        most = info->n_ctx < n_batch ? info->n_ctx : n_batch;
	int                        rc = time_between(rates, probe, err);
	if (!rc)
		rc = time_head(rates, probe, err);
	if (!rc)
		rc = time_context(probe, clamp(64, 1, most), info->n_ctx, &rates->context_ns_prefill, err);
	return rc;
}

/* The points include the look back of each token on those before it; it is told apart here. */
static void take_context_out(struct hr_rates *rates)
{
	for (int i = 0; i < rates->n_compute; i++) {
		struct hr_compute_point *p = &rates->compute[i];
		double ns = (p->n_tokens >= 8 ? rates->context_ns_prefill : rates->context_ns_decode) * p->n_tokens *
		            p->n_tokens / 2;
		p->block_ns = p->block_ns > ns ? p->block_ns - ns : p->block_ns / 2;
	}
}

int hr__probe_disk(struct hr_rates *rates, const struct hr_model *model, const char *reader, double seconds,
                   struct hr_error *err)
{
	const struct hr_checkpoint *c = &model->checkpoint;
	const struct hr_file       *largest = &c->files[0];
	enum hr_reader_kind         kind = !reader || !strcmp(reader, "auto") ? HR_READER_AUTO
	                                   : !strcmp(reader, "pread")         ? HR_READER_PREAD
	                                                                      : HR_READER_URING;
	for (int i = 1; i < c->n_files; i++)
		if (c->files[i].size_bytes > largest->size_bytes)
			largest = &c->files[i];
	return hr_rates_measure_disk(rates, largest, kind, seconds, err);
}

/* Everything but the disk. */
static int probe_compute(struct hr_rates *rates, const struct hr_model *model,
                         const struct hr_plan_options *options, struct hr_error *err)
{
	struct probe    probe = {0};
	struct hr_model few;
	uint64_t        bytes = 0;
	for (int i = 0; i < model->n_blocks; i++)
		bytes += model->block_layers[i].file_bytes;
	rates->block_bytes = (double)bytes / model->n_blocks;
	int wide = clamp((int)((double)WIDE_BYTES / rates->block_bytes), DEEP_BLOCKS, model->n_blocks);
	int deep = clamp(DEEP_BLOCKS, 1, model->n_blocks);
	wide = wide > deep ? wide : deep;

	int rc = open_probe(&probe, &few, model, wide, options, err);
	if (!rc && !probe.session->backend.device->host_addressable)
		rc = hr_rates_measure_link(rates, probe.session->backend.device, err);
	if (!rc)
		rc = probe_wide(rates, &probe, options->n_batch ? options->n_batch : 512, err);
	hr_session_close(probe.session);
	probe.session = NULL;
	if (!rc)
		rc = open_probe(&probe, &few, model, deep, options, err);
	if (!rc)
		rc = probe_deep(rates, &probe, options->n_batch ? options->n_batch : 512, err);
	hr_session_close(probe.session);
	if (!rc)
		take_context_out(rates);
	return rc;
}

int hr__probe(struct hr_rates *rates, const struct hr_model *model, const struct hr_plan_options *options,
              struct hr_error *err)
{
	*rates = (struct hr_rates){0};
	int rc = probe_compute(rates, model, options, err); /* options that are no good fail here, soon */
	return rc ? rc : hr__probe_disk(rates, model, options->reader, DISK_SECONDS, err);
}
