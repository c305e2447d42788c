/* The simulator: one walk over the layers in the order of use, with a clock for everybody
 * who works.
 *
 * Every worker of the pipeline takes its jobs in the same cyclic order, so no queue of
 * events is needed: when the walk comes to a layer, all that its reads, copies and kernels
 * can wait for lies behind it, and each begins at the latest of those times.
 *
 *     fetcher  direct: opens a place when it is EMPTY and its last kernel has ended (guard 2),
 *              takes a buffer when the copy out of it is complete (guard 1), submits
 *     disk     at most read_depth reads in flight, their bytes one after the other
 *     copier   staged: opens a place when it is EMPTY, puts a copy on the copy stream when its read
 *              is over, in order
 *     link     one copy at a time; into a place only after its last kernel (guard 2, staged)
 *     host     acquires in order; on a staged device it runs ahead of the kernels, so a place
 *              is EMPTY to the copier before it is free to the link
 *     compute  the kernels of a layer when host, link and the layer before are done
 *
 * Layers lie in the slots as in window.c (ring.h); its other rings are here rings of times. The chunks of a
 * large layer soon follow each other at a steady pace: after one more round of the rings everything is where
 * it was, and so much later. The rounds that are left are then skipped, all but the last. */
#include "scheduler/simulate.h"

#include "base/error.h"
#include "base/mem.h"
#include "scheduler/ring.h"

#include <math.h>

#define MAX_PASSES     32
#define SAME_TIME      1e-4 /* relative difference of two passes that ends the simulation */
#define SAME_PACE      1e-7 /* relative difference of two rounds that is rounding */
#define DIRECT_BUFFERS 32   /* reads that may be submitted at once, as in window_memory.c */

enum { N_CLOCKS = 4 }; /* of fetcher, disk, copier and link */

struct place {
	double emptied_ns;  /* the host released it */
	double released_ns; /* its last kernel ended */
};

struct simulation {
	const struct hr_sim_pipeline *p;
	const struct hr_sim_layer    *layers;
	int                           n_layers;
	struct hr_ring                ring;
	struct place                  places[HR_RING_MAX_PLACES]; /* of use k: [k % ring.n_places] */
	double                       *buffers;                    /* [n_buffers] until when each is taken */
	double                       *reads;                      /* [read_depth] ends of the last reads */
	double                       *before; /* [N_CLOCKS + n_buffers + read_depth] see end_round() */
	int                           n_buffers;
	int                           buffer, read; /* the next of each ring */

	double fetcher_ns, disk_ns, copier_ns, link_ns, host_ns, compute_ns; /* the clocks */

	double         begin_ns, stall_ns, pass_ns; /* of the pass that runs */
	bool           every_chunk;                 /* somebody will want to see them */
	hr_sim_span_fn on_span;                     /* NULL: not this pass */
	void          *user;
};

/* fmax() without the care for NaN, for which it is a call. */
static inline double max(double a, double b) { return a > b ? a : b; }

/* The index after `i` in a ring of n. */
static inline int next(int i, int n) { return i + 1 < n ? i + 1 : 0; }

static void tell(const struct simulation *s, enum hr_lane lane, int layer, double begin, double end,
                 uint64_t bytes)
{
	if (s->on_span)
		s->on_span(s->user,
		           &(struct hr_sim_span){lane, layer, begin - s->begin_ns, end - s->begin_ns, bytes});
}

/* One chunk from the disk; when it is there. */
static double read_chunk(struct simulation *s, int layer, double bytes)
{
	double *in_flight = &s->reads[s->read];
	s->read = next(s->read, s->p->read_depth);
	double issued = max(s->fetcher_ns, *in_flight);
	double begin = max(issued + s->p->disk_latency_ns, s->disk_ns);
	s->disk_ns = *in_flight = begin + bytes / s->p->disk_rate;
	tell(s, HR_LANE_DISK, layer, begin, s->disk_ns, (uint64_t)bytes);
	return s->disk_ns;
}

/* One chunk over the link, when it is on the host at `there`; when it is on the device. */
static double copy_chunk(struct simulation *s, int layer, double bytes, double there, double slot_free)
{
	double took = s->p->link_latency_ns + bytes / s->p->link_rate;
	s->copier_ns = max(s->copier_ns, there);
	double begin = max(max(s->copier_ns, s->link_ns), slot_free);
	s->link_ns = begin + took;
	tell(s, HR_LANE_LINK, layer, begin, s->link_ns, (uint64_t)bytes);
	return s->link_ns;
}

/* One chunk to where `last` lay; when the device has it. */
static double bring_chunk(struct simulation *s, const struct place *last, int layer, double bytes)
{
	if (s->layers[layer].tier == HR_TIER_HOST)
		return copy_chunk(s, layer, bytes, s->copier_ns, last->released_ns);
	double *buffer = &s->buffers[s->buffer];
	s->buffer = next(s->buffer, s->n_buffers);
	s->fetcher_ns = max(s->fetcher_ns, *buffer);
	*buffer = read_chunk(s, layer, bytes);
	if (!s->p->host_addressable)
		*buffer = copy_chunk(s, layer, bytes, *buffer, last->released_ns);
	return *buffer;
}

/* Whether a time is as much later than a round ago as the others are, or is not in use. */
static bool keeps_pace(double *before, double now, double later)
{
	bool same = now == *before || fabs(now - *before - later) <= SAME_PACE * later;
	*before = now;
	return same;
}

/* All clocks, and the rings in the order of their next use, compared with a round ago: by how much they
 * are later; 0: not all by the same. */
static double end_round(struct simulation *s)
{
	double *before = s->before;
	double  clocks[N_CLOCKS] = {s->disk_ns, s->link_ns, s->fetcher_ns, s->copier_ns};
	double  later = max(clocks[0] - before[0], clocks[1] - before[1]);
	bool    steady = later > 0;
	for (int i = 0; i < N_CLOCKS; i++)
		steady &= keeps_pace(before++, clocks[i], later);
	for (int i = 0, at = s->buffer; i < s->n_buffers; i++, at = next(at, s->n_buffers))
		steady &= keeps_pace(before++, s->buffers[at], later);
	for (int i = 0, at = s->read; i < s->p->read_depth; i++, at = next(at, s->p->read_depth))
		steady &= keeps_pace(before++, s->reads[at], later);
	return steady ? later : 0;
}

/* Move all that is at work for a layer. */
static void skip(struct simulation *s, int layer, double ns)
{
	s->link_ns += ns;
	if (s->layers[layer].tier == HR_TIER_HOST)
		return;
	s->disk_ns += ns;
	s->fetcher_ns += ns;
	s->copier_ns += ns;
	for (int i = 0; i < s->n_buffers; i++)
		s->buffers[i] += ns;
	for (int i = 0; i < s->p->read_depth; i++)
		s->reads[i] += ns;
}

/* Bring a streamed layer to where `last` lay; when the device has it. The host knows at copier_ns
 * (staged), or then (direct). */
static double fill(struct simulation *s, const struct place *last, int layer)
{
	const struct hr_sim_pipeline *p = s->p;
	uint64_t chunks = s->layers[layer].bytes / p->chunk_bytes, rest = s->layers[layer].bytes % p->chunk_bytes;
	uint64_t round = (uint64_t)(s->n_buffers > p->read_depth ? s->n_buffers : p->read_depth);
	double   ready = 0;
	if (p->host_addressable)
		s->fetcher_ns = max(s->fetcher_ns, last->released_ns);
	else
		s->copier_ns = max(s->copier_ns, last->emptied_ns);
	s->before[0] = s->before[1] = NAN; /* no round of this layer has ended */
	while (chunks) {
		uint64_t n = chunks < round ? chunks : round;
		chunks -= n;
		while (n--)
			ready = bring_chunk(s, last, layer, (double)p->chunk_bytes);
		if (chunks < round || s->every_chunk)
			continue;
		double later = end_round(s), rounds = later > 0 ? (double)(chunks / round) : 0;
		skip(s, layer, rounds * later);
		ready += rounds * later;
		chunks -= (uint64_t)rounds * round;
	}
	return rest ? bring_chunk(s, last, layer, (double)rest) : ready;
}

static void compute(struct simulation *s, int layer, double ready, bool streamed)
{
	double took = s->layers[layer].compute_ns;
	double begin = max(max(s->compute_ns, s->host_ns), ready);
	if (streamed)
		s->stall_ns += begin - s->compute_ns;
	s->compute_ns = begin + took;
	tell(s, HR_LANE_COMPUTE, layer, begin, s->compute_ns, s->layers[layer].bytes);
}

static struct place *place_of(struct simulation *s, uint64_t use)
{
	return &s->places[use % (uint64_t)s->ring.n_places];
}

static void run_layer(struct simulation *s, int layer)
{
	static const struct place nothing;
	if (s->layers[layer].tier == HR_TIER_DEVICE) {
		compute(s, layer, 0, false);
		return;
	}
	uint64_t n_over = s->ring.n_over;
	hr_ring_place(&s->ring, s->layers[layer].bytes);
	bool          vacates = s->ring.n_over > n_over;
	struct place *place = place_of(s, s->ring.n_uses - 1);
	double        ready = fill(s, vacates ? place_of(s, s->ring.n_over - 1) : &nothing, layer);
	s->host_ns = max(s->host_ns, s->p->host_addressable ? ready : s->copier_ns);
	compute(s, layer, ready, true);
	*place = (struct place){.emptied_ns = s->host_ns, .released_ns = s->compute_ns};
}

static void run_pass(struct simulation *s)
{
	s->stall_ns = 0;
	s->begin_ns = s->compute_ns;
	for (int i = 0; i < s->n_layers; i++)
		run_layer(s, i);
	tell(s, HR_LANE_HOST, -1, s->compute_ns, s->compute_ns + s->p->between_ns, 0);
	s->compute_ns += s->p->between_ns; /* what comes next waits for it, and that is no stall */
	s->host_ns = s->compute_ns;
	s->pass_ns = s->compute_ns - s->begin_ns;
}

void hr_sim_ceiling(struct hr_sim_result *r, const struct hr_sim_pipeline *p,
                    const struct hr_sim_layer *layers, int n_layers)
{
	*r = (struct hr_sim_result){0};
	for (int i = 0; i < n_layers; i++) {
		const struct hr_sim_layer *l = &layers[i];
		r->compute_ns += l->compute_ns;
		if (l->tier == HR_TIER_DISK && l->bytes)
			r->disk_ns += (double)l->bytes / p->disk_rate;
		if (l->tier != HR_TIER_DEVICE && l->bytes && !p->host_addressable) {
			uint64_t n_chunks = (l->bytes + p->chunk_bytes - 1) / p->chunk_bytes;
			r->link_ns += (double)n_chunks * p->link_latency_ns + (double)l->bytes / p->link_rate;
		}
	}
	r->ceiling_ns = max(r->compute_ns, max(r->disk_ns, r->link_ns));
	r->bound = r->ceiling_ns > r->compute_ns ? r->ceiling_ns > r->disk_ns ? HR_LANE_LINK : HR_LANE_DISK
	                                         : HR_LANE_COMPUTE;
}

static int check(const struct hr_sim_pipeline *p, const struct hr_sim_layer *layers, int n_layers,
                 struct hr_error *err)
{
	bool reads = false, copies = false, fits = true;
	for (int i = 0; i < n_layers; i++) {
		fits &= layers[i].tier == HR_TIER_DEVICE || (layers[i].bytes > 0 && layers[i].bytes <= p->slot_bytes);
		reads |= layers[i].tier == HR_TIER_DISK;
		copies |= layers[i].tier != HR_TIER_DEVICE && !p->host_addressable;
	}
	if (!fits || ((reads || copies) && (p->slots < 1 || !p->chunk_bytes)))
		return hr__fail(err, HR_EINVAL, "A pass that streams layers needs a slot and a chunk size.");
	if (reads && (!(p->disk_rate > 0) || p->read_depth < 1))
		return hr__fail(err, HR_EINVAL, "A pass that reads needs a disk rate and a read depth above zero.");
	if (copies && (!(p->link_rate > 0) || p->staging_buffers < (reads ? 1 : 0)))
		return hr__fail(err, HR_EINVAL, "A pass that copies needs a link rate above zero and staging.");
	return 0;
}

static void init_ring(struct simulation *s)
{
	uint64_t smallest = s->p->slot_bytes;
	for (int i = 0; i < s->n_layers; i++)
		if (s->layers[i].tier != HR_TIER_DEVICE && s->layers[i].bytes < smallest)
			smallest = s->layers[i].bytes;
	if (s->p->slots)
		hr_ring_init(&s->ring, s->p->slots, s->p->slot_bytes, smallest);
}

int hr_simulate(struct hr_sim_result *result, const struct hr_sim_pipeline *p,
                const struct hr_sim_layer *layers, int n_layers, hr_sim_span_fn on_span, void *user,
                struct hr_error *err)
{
	int rc = check(p, layers, n_layers, err);
	if (rc)
		return rc;
	struct simulation s = {
	    .p = p, .layers = layers, .n_layers = n_layers, .every_chunk = on_span, .user = user};
	int n_direct = 4 * p->read_depth > DIRECT_BUFFERS ? 4 * p->read_depth : DIRECT_BUFFERS;
	s.n_buffers = p->host_addressable ? n_direct : p->staging_buffers;
	init_ring(&s);
	s.buffers = hr__calloc((size_t)s.n_buffers, sizeof *s.buffers);
	s.reads = hr__calloc((size_t)p->read_depth, sizeof *s.reads);
	s.before = hr__calloc(N_CLOCKS + (size_t)s.n_buffers + (size_t)p->read_depth, sizeof *s.before);
	if (!s.buffers || !s.reads || !s.before)
		rc = hr__fail(err, HR_ENOMEM, "There is no memory to simulate a pass.");
	double before = 0;
	for (int pass = 0; pass < MAX_PASSES && !rc; pass++) {
		run_pass(&s);
		if (fabs(s.pass_ns - before) <= SAME_TIME * s.pass_ns)
			break;
		before = s.pass_ns;
	}
	if (!rc) {
		hr_sim_ceiling(result, p, layers, n_layers);
		result->pass_ns = s.pass_ns;
		result->stall_ns = s.stall_ns;
	}
	if (!rc && on_span) {
		s.on_span = on_span;
		run_pass(&s);
	}
	free(s.buffers);
	free(s.reads);
	free(s.before);
	return rc;
}
