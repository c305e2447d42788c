/* The ladder: when a plan needs more memory than there is, ask for less and try again.
 *
 *     smaller window -> smaller passes, fewer sequences, a shorter context
 *                    -> fewer layers in RAM -> the CPU
 *
 * A loop around one attempt: plan, compare with what is free now, and take it. What
 * falls short says which step is next; an attempt that failed gives everything back
 * first. A smaller window pushes layers into RAM, and fewer layers in RAM push them
 * to the drive: that is the planner's doing, which only gets smaller budgets here.
 *
 * A plan is compared with what is free, and still its memory may be refused: between
 * the two looks other processes take theirs. Then the next budget is what is left.
 *
 * A context that was asked for is needed and stays; so does a device that was asked
 * for by name. Steps are told when one holds, each once, with what is had, what was
 * wanted and why. With no_fallback nothing is tried but what was asked for. An error
 * that remains says who holds the memory and which flags would fit: those of a plan
 * that is made for the purpose. */
#include "runtime/ladder.h"

#include "base/error.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define LEAST_BATCH   32
#define LEAST_CONTEXT 256

enum rung { RUNG_WINDOW, RUNG_BATCH, RUNG_SEQS, RUNG_CONTEXT, RUNG_HOST, RUNG_COUNT };

struct climb {
	const struct hr_ladder *l;
	struct hr_plan_options  now;                   /* what is asked for in this attempt */
	struct hr_plan_options  wanted;                /* what was asked for at first, in numbers */
	struct hr_rates         rates;                 /* of the device */
	int                     found_rates;           /* 0: there are none; -1: nobody looked yet */
	int                     wanted_host_layers;    /* by the first plan */
	double                  wanted_residents;      /* likewise; -1: there was none yet */
	char                    why[RUNG_COUNT][1000]; /* "": the step was not taken */
};

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static struct hr_device *device_of(const struct climb *c) { return c->l->backend->device; }

static bool is_gpu(const struct climb *c) { return device_of(c) && !device_of(c)->host_addressable; }

/* ---- What is known of the device ------------------------------------------------ */

/* Append "X has 1.0 of 8.0 MiB free; python (pid 7) holds 6.5 MiB." */
static void describe_memory(const struct climb *c, char *text, size_t capacity)
{
	struct hr_device       *device = device_of(c);
	struct hr_device_memory m = {0};
	struct hr_device_facts  facts = {0};
	if (device->ops->memory(device, &m))
		return;
	hr__text_append(text, capacity, "%s has %.1f of %.1f MiB free", device->name, mib(m.free_bytes),
	                mib(m.total_bytes));
	if (device->ops->describe)
		device->ops->describe(device, &facts);
	for (int i = 0; i < facts.n_holders; i++) {
		const struct hr_device_holder *h = &facts.holders[i];
		hr__text_append(text, capacity, "%s %s (pid %u) holds ", i ? "," : ";",
		                h->name[0] ? h->name : "a process", h->pid);
		if (h->bytes)
			hr__text_append(text, capacity, "%.1f MiB", mib(h->bytes));
		else
			hr__text_append(text, capacity, "an unknown part");
	}
	if (!facts.n_holders)
		hr__text_append(text, capacity, "; %.1f MiB are held by the driver and other processes",
		                mib(m.total_bytes - m.free_bytes - m.allocated_bytes));
	hr__text_append(text, capacity, ".");
}

/* What the device would hand out now: all but half of its margin, and a little for sizes
 * that are rounded up. (A plan that may choose leaves all of the margin.) */
static uint64_t available(const struct climb *c)
{
	struct hr_device_memory m;
	if (device_of(c)->ops->memory(device_of(c), &m))
		return 0;
	uint64_t left = m.margin_bytes / 2 + m.margin_bytes / 32;
	return m.free_bytes > left ? m.free_bytes - left : 0;
}

/* ---- One attempt ----------------------------------------------------------------- */

/* The look before anything is taken. */
static int check_need(const struct climb *c, struct hr_error *err)
{
	uint64_t need = (*c->l->plan)->placement.device_bytes, most = available(c);
	if (!is_gpu(c) || need <= most)
		return 0;
	return hr__fail(err, HR_EDEVMEM, "The plan needs %.1f MiB on the device, and %.1f MiB can be had.",
	                mib(need), mib(most));
}

static int check_asked(const struct climb *c, struct hr_error *err)
{
	const struct hr_placement *p = &(*c->l->plan)->placement;
	const char                *fallback = c->l->backend->fallback;
	if (!fallback[0] && p->n_fallbacks)
		fallback = p->fallback[0];
	if (!c->l->asked->no_fallback || !fallback[0])
		return 0;
	return hr__fail(err, HR_EBUDGET, "%s With --no-fallback that is an error.", fallback);
}

/* How many layers stay; those in part count in part. */
static double residents(const struct hr_plan_info *p)
{
	return p->resident_layers + p->kept_share * (p->n_layers - p->resident_layers);
}

static int find_rates(struct climb *c, struct hr_error *err)
{
	const struct hr_rates_source *source = c->l->rates;
	if (c->found_rates < 0)
		c->found_rates = source ? source->find(source->user, device_of(c), &c->rates, err) : 0;
	return c->found_rates < 0 ? c->found_rates : 0;
}

static int attempt(struct climb *c, struct hr_error *err)
{
	const struct hr_ladder *l = c->l;
	int                     rc = find_rates(c, err);
	if (!rc)
		rc = hr__plan_new(l->plan, l->model, &c->now, l->backend, c->found_rates ? &c->rates : NULL, err);
	if (rc)
		return rc;
	const struct hr_plan_info *info = &(*l->plan)->info;
	if (c->wanted_residents < 0) {
		c->wanted_residents = residents(info);
		c->wanted_host_layers = info->host_layers;
	}
	rc = check_asked(c, err);
	if (!rc)
		rc = check_need(c, err);
	return rc || !l->take ? rc : l->take(l->user, err);
}

/* ---- The steps ------------------------------------------------------------------- */

static bool step(struct climb *c, enum rung rung, const char *why)
{
	if (!c->why[rung][0])
		snprintf(c->why[rung], sizeof c->why[rung], "%s", why);
	return true;
}

/* `need`: what the plan wanted. The next one gets less in any case, for that was refused. */
static bool shrink_window(struct climb *c, uint64_t need, const char *why)
{
	uint64_t most = is_gpu(c) ? available(c) : need;
	uint64_t less = need - need / 32;
	char     reason[1000] = "";
	c->now.device_memory_bytes = most < less ? most : less;
	hr__text_append(reason, sizeof reason, "%s ", why);
	if (is_gpu(c))
		describe_memory(c, reason, sizeof reason);
	return c->now.device_memory_bytes && step(c, RUNG_WINDOW, reason);
}

/* A plan that chose its budget left all of the margin; half is enough. */
static bool spend_margin(struct climb *c)
{
	char reason[1000] = "";
	if (c->now.device_memory_bytes)
		return false;
	c->now.device_memory_bytes = available(c);
	describe_memory(c, reason, sizeof reason);
	return c->now.device_memory_bytes && step(c, RUNG_WINDOW, reason);
}

/* The budget is too small for any window: the rest must need less. */
static bool shrink_fixed(struct climb *c, const char *why)
{
	struct hr_plan_options *o = &c->now;
	int                     least = o->n_seqs > LEAST_BATCH ? o->n_seqs : LEAST_BATCH;
	if (o->n_batch > least) {
		o->n_batch = o->n_batch / 4 > least ? o->n_batch / 4 : least;
		return step(c, RUNG_BATCH, why);
	}
	if (o->n_seqs > 1) {
		o->n_seqs /= 2;
		return step(c, RUNG_SEQS, why);
	}
	if (!c->l->asked->n_ctx && o->n_ctx > LEAST_CONTEXT) {
		o->n_ctx = o->n_ctx / 2 > LEAST_CONTEXT ? o->n_ctx / 2 : LEAST_CONTEXT;
		return step(c, RUNG_CONTEXT, why);
	}
	return false;
}

static bool shrink_host(struct climb *c, const struct hr_plan *plan, const char *why)
{
	uint64_t staging = (uint64_t)plan->placement.staging_buffers * plan->placement.chunk_bytes;
	if (plan->placement.host_bytes <= staging) /* no layer is in RAM */
		return false;
	uint64_t half = plan->placement.host_bytes / 2;
	c->now.host_memory_bytes = half > staging ? half : staging;
	return step(c, RUNG_HOST, why);
}

/* "auto" may be the CPU, too. */
static bool leave_gpu(struct climb *c, const struct hr_error *why)
{
	struct hr_error err;
	const char     *asked = c->l->asked->device;
	bool            known = why->code == HR_EDEVMEM || why->code == HR_EBUDGET || why->code == HR_ENOMEM ||
	             why->code == HR_EDEVICE || why->code == HR_EUNSUPPORTED;
	if (!known || !is_gpu(c) || (asked && strcmp(asked, "auto")))
		return false;
	char reason[sizeof c->l->backend->fallback] = "The CPU is used: ";
	hr__text_append(reason, sizeof reason, "%s ", why->message);
	describe_memory(c, reason, sizeof reason);
	hr__backend_close(c->l->backend);
	c->now = c->wanted;
	c->now.device = "cpu";
	c->found_rates = -1;
	if (hr__backend_open(c->l->backend, &c->now, &err))
		return false;
	memcpy(c->l->backend->fallback, reason, sizeof reason);
	memset(c->why, 0, sizeof c->why);
	return true;
}

/* Ask for less, as `err` wants it; false when there is nothing less to ask for. */
static bool step_down(struct climb *c, const struct hr_plan *plan, const struct hr_error *err)
{
	if (err->code == HR_EDEVMEM && plan && shrink_window(c, plan->placement.device_bytes, err->message))
		return true;
	if (err->code == HR_EBUDGET && ((is_gpu(c) && spend_margin(c)) || shrink_fixed(c, err->message)))
		return true;
	if (err->code == HR_ENOMEM && plan && is_gpu(c) && shrink_host(c, plan, err->message))
		return true;
	return leave_gpu(c, err);
}

static int climb(struct climb *c, struct hr_error *err)
{
	const struct hr_ladder *l = c->l;
	struct hr_error         why;
	int                     rc;
	while ((rc = attempt(c, &why))) {
		if (*l->plan && l->give_back)
			l->give_back(l->user);
		bool again = !l->asked->no_fallback && step_down(c, *l->plan, &why);
		hr_plan_free(*l->plan);
		*l->plan = NULL;
		if (!again)
			break;
	}
	if (rc && err)
		*err = why;
	return rc;
}

static struct climb begin(const struct hr_ladder *l)
{
	struct climb c = {.l = l, .now = *l->asked, .found_rates = -1, .wanted_residents = -1};
	hr__plan_settle_needs(&c.now, l->model);
	c.wanted = c.now;
	return c;
}

/* ---- What is said of it ------------------------------------------------------------ */

/* Nobody asked for more than is free, but there would be more were it not for others. */
static bool is_crowded(const struct climb *c, const struct hr_plan *plan)
{
	struct hr_device_memory m;
	if (!is_gpu(c) || c->wanted.device_memory_bytes || !plan->placement.slots ||
	    device_of(c)->ops->memory(device_of(c), &m))
		return false;
	return m.total_bytes - m.free_bytes - m.allocated_bytes > m.total_bytes / 8;
}

static void note_steps(struct climb *c)
{
	struct hr_plan               *plan = *c->l->plan;
	const struct hr_plan_info    *p = &plan->info;
	const struct hr_plan_options *o = c->l->asked;
	if (!c->why[RUNG_WINDOW][0] && is_crowded(c, plan))
		describe_memory(c, c->why[RUNG_WINDOW], sizeof c->why[RUNG_WINDOW]);
	if (c->why[RUNG_WINDOW][0] && c->wanted_residents > residents(p))
		hr__plan_note(plan, o, "%.3g of %d layers stay on the device instead of %.3g, in %.1f MiB: %s",
		              residents(p), p->n_layers, c->wanted_residents, mib(p->device_budget_bytes),
		              c->why[RUNG_WINDOW]);
	else if (c->why[RUNG_WINDOW][0])
		hr__plan_note(plan, o, "%.3g of %d layers stay on the device, in %.1f MiB: %s", residents(p),
		              p->n_layers, mib(p->device_budget_bytes), c->why[RUNG_WINDOW]);
	if (c->why[RUNG_BATCH][0] && p->n_batch < c->wanted.n_batch)
		hr__plan_note(plan, o, "A pass takes %d tokens at most instead of %d: %s", p->n_batch,
		              c->wanted.n_batch, c->why[RUNG_BATCH]);
	if (c->why[RUNG_SEQS][0])
		hr__plan_note(plan, o, "%d sequences are computed at the same time instead of %d: %s", p->n_seqs,
		              c->wanted.n_seqs, c->why[RUNG_SEQS]);
	if (c->why[RUNG_CONTEXT][0])
		hr__plan_note(plan, o, "The context is %d tokens long instead of %d: %s", p->n_ctx, c->wanted.n_ctx,
		              c->why[RUNG_CONTEXT]);
	if (c->why[RUNG_HOST][0])
		hr__plan_note(plan, o,
		              "%d layers are kept in RAM instead of %d, the others are read from the drive: %s",
		              p->host_layers, c->wanted_host_layers, c->why[RUNG_HOST]);
}

/* Append the flags of a plan that fits what is free, " --device cpu" when none does. */
static void append_flags(const struct climb *failed, char *text, size_t capacity)
{
	struct hr_plan        *plan = NULL;
	struct hr_plan_options asked = *failed->l->asked;
	struct hr_ladder       l = {
	          .model = failed->l->model, .asked = &asked, .backend = failed->l->backend, .plan = &plan};
	asked.device = failed->l->backend->device->kind; /* no other */
	asked.device_memory_bytes = available(failed);
	asked.no_fallback = asked.full = false;
	asked.on_notice = NULL;
	struct climb c = begin(&l);
	c.rates = failed->rates;
	c.found_rates = failed->found_rates > 0;
	if (climb(&c, NULL)) {
		hr__text_append(text, capacity, " --device cpu");
		return;
	}
	hr__text_append(text, capacity, " --device-memory %lluKiB",
	                (unsigned long long)(plan->placement.device_bytes + 1023) / 1024);
	if (plan->info.n_batch != c.wanted.n_batch)
		hr__text_append(text, capacity, " -b %d", plan->info.n_batch);
	if (plan->info.n_seqs != c.wanted.n_seqs)
		hr__text_append(text, capacity, " -np %d", plan->info.n_seqs);
	if (plan->info.n_ctx != c.wanted.n_ctx)
		hr__text_append(text, capacity, " -c %d", plan->info.n_ctx);
	hr_plan_free(plan);
}

/* The error of last resort: what was wanted, what there is, who has the rest, what fits. */
static void explain(const struct climb *c, struct hr_error *err)
{
	if (!err || !is_gpu(c) || (err->code != HR_EDEVMEM && err->code != HR_EBUDGET))
		return;
	hr__text_append(err->message, sizeof err->message, " ");
	describe_memory(c, err->message, sizeof err->message);
	hr__text_append(err->message, sizeof err->message, " What fits now:");
	append_flags(c, err->message, sizeof err->message);
}

int hr__ladder_climb(const struct hr_ladder *l, struct hr_error *err)
{
	struct climb c = begin(l);
	int          rc = hr__backend_open(l->backend, l->asked, err);
	if (rc)
		return rc;
	rc = climb(&c, err);
	if (rc) {
		explain(&c, err);
		return rc;
	}
	(*l->plan)->wanted_seqs = c.wanted.n_seqs;
	note_steps(&c);
	hr__plan_tell(*l->plan, l->asked);
	return 0;
}
