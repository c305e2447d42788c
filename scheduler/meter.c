/* Measuring work on a stream, after the fact.
 *
 * The stretches lie in a ring. The owner fills the entry after the last closed
 * one and closes it by counting it; from then on whoever comes by (the owner
 * needing room, or a reader of the totals) looks up its events, oldest first,
 * as far as they are complete. An entry that is open belongs to the owner
 * alone, so one that is never ended is simply filled anew.
 *
 * Stall. A stretch begins when its stream reaches the begin event. If the
 * stream was idle before that, the idle time was spent waiting for weights only
 * as far as the host had already asked for them:
 *
 *     stall = begin - max(end of the stretch before, asked)        when positive
 *
 * A slow caller asks late and stalls nothing; slow weights begin late. */
#include "scheduler/meter.h"

#include "base/error.h"
#include "base/mem.h"

int hr__meter_init(struct hr__meter *m, struct hr_device *device, struct hr_stream *stream,
                   struct hr_trace *trace, enum hr_lane lane, int n_ring, struct hr_error *err)
{
	*m = (struct hr__meter){.device = device, .stream = stream, .trace = trace, .lane = lane};
	pthread_mutex_init(&m->mutex, NULL);
	m->ring = hr__calloc((size_t)n_ring, sizeof *m->ring);
	if (!m->ring)
		return hr__fail(err, HR_ENOMEM, "There is no memory for %d pairs of events.", n_ring);
	m->n_ring = (uint64_t)n_ring;
	int rc = 0;
	for (int i = 0; i < n_ring && rc == 0; i++) {
		rc = device->ops->event_new(device, &m->ring[i].begin, err);
		if (rc == 0)
			rc = device->ops->event_new(device, &m->ring[i].end, err);
	}
	return rc;
}

static void close_stretch(struct hr__meter *m)
{
	if (m->open)
		hr_device_mark_end(m->device, m->mark);
	m->open = false;
}

void hr__meter_release(struct hr__meter *m)
{
	if (!m->device)
		return;
	close_stretch(m);
	for (uint64_t i = 0; i < m->n_ring; i++) {
		if (m->ring[i].begin)
			m->device->ops->event_free(m->ring[i].begin);
		if (m->ring[i].end)
			m->device->ops->event_free(m->ring[i].end);
	}
	free(m->ring);
	pthread_mutex_destroy(&m->mutex);
	*m = (struct hr__meter){0};
}

static void count(struct hr__meter *m, const struct hr__stretch *s)
{
	uint64_t begin = m->device->ops->event_time_ns(s->begin);
	uint64_t end = m->device->ops->event_time_ns(s->end);
	uint64_t idle_since = s->asked_ns > m->last_end_ns ? s->asked_ns : m->last_end_ns;
	if (s->asked_ns && begin > idle_since)
		m->stall_ns += begin - idle_since;
	if (end > begin)
		m->busy_ns += end - begin;
	m->bytes += s->bytes;
	m->last_end_ns = end;
	hr_trace_span(m->trace, m->lane, s->name, begin, end, s->bytes);
}

static void look_up_locked(struct hr__meter *m)
{
	while (m->n_counted < m->n_closed) {
		const struct hr__stretch *s = &m->ring[m->n_counted % m->n_ring];
		if (m->device->ops->event_query(s->end) != 1)
			return;
		count(m, s);
		m->n_counted++;
	}
}

/* Make the entry after the last closed one free. */
static int make_room(struct hr__meter *m)
{
	pthread_mutex_lock(&m->mutex);
	look_up_locked(m);
	bool full = m->n_closed - m->n_counted == m->n_ring;
	pthread_mutex_unlock(&m->mutex);
	if (!full)
		return 0;
	/* Full: the oldest entry is where the next one will be; only this thread could fill it anew. */
	int rc = m->device->ops->event_wait(m->ring[m->n_closed % m->n_ring].end);
	if (rc)
		return rc;
	pthread_mutex_lock(&m->mutex);
	look_up_locked(m);
	pthread_mutex_unlock(&m->mutex);
	return 0;
}

int hr__meter_begin(struct hr__meter *m, const char *name, uint64_t asked_ns, uint64_t bytes)
{
	close_stretch(m);
	int rc = make_room(m);
	if (rc)
		return rc;
	struct hr__stretch *s = &m->ring[m->n_closed % m->n_ring];
	s->name = name;
	s->asked_ns = asked_ns;
	s->bytes = bytes;
	rc = m->device->ops->event_record(s->begin, m->stream);
	m->open = rc == 0;
	if (m->open)
		m->mark = hr_device_mark_begin(m->device, hr_trace_lane_name(m->lane), name);
	return rc;
}

int hr__meter_end(struct hr__meter *m)
{
	if (!m->open)
		return 0;
	close_stretch(m);
	int rc = m->device->ops->event_record(m->ring[m->n_closed % m->n_ring].end, m->stream);
	if (rc)
		return rc;
	pthread_mutex_lock(&m->mutex);
	m->n_closed++;
	pthread_mutex_unlock(&m->mutex);
	return 0;
}

void hr__meter_read(struct hr__meter *m, struct hr__meter_totals *out)
{
	*out = (struct hr__meter_totals){0};
	if (!m->device)
		return;
	pthread_mutex_lock(&m->mutex);
	look_up_locked(m);
	*out = (struct hr__meter_totals){.bytes = m->bytes, .busy_ns = m->busy_ns, .stall_ns = m->stall_ns};
	pthread_mutex_unlock(&m->mutex);
}
