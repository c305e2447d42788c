/* The two ways in, hr_plan_new() and hr_session_open(): what a profile says is taken into the options, and
 * plans are given the rates of each device that they are made for.
 *
 * Rates come out of the cache, or, where the options say so, are measured and kept there for the next
 * time. Measuring takes sessions, which take plans: so plans, sessions and the probe stand below this file,
 * and none of them looks for rates by itself. A file of rates that can't be used or written is a notice. */
#include "base/text.h"
#include "runtime/probe.h"
#include "runtime/profile.h"
#include "runtime/rates_cache.h"
#include "runtime/session.h"

#include <stdio.h>
#include <string.h>

struct way {
	const struct hr_model *model;
	struct hr_plan_options options;
	char                   profile[160];
	struct hr_rates_source rates;
	char                   notices[2][1000]; /* of the last find_rates() */
	int                    n_notices;
};

static void keep_notice(struct way *way, const struct hr_error *why, const char *consequence)
{
	char *sentence = way->notices[way->n_notices++];
	*sentence = 0;
	hr__text_append(sentence, sizeof way->notices[0], "%s%s", why->message, consequence);
}

/* Measure on this device and no other. HR_EDEVMEM, HR_EBUDGET: there is no room to measure in. */
static int measure(struct way *way, const struct hr_device *device, struct hr_rates *rates,
                   struct hr_error *err)
{
	struct hr_plan_options o = way->options;
	if (!o.device || !strcmp(o.device, "auto"))
		o.device = device->kind;
	return hr__probe(rates, way->model, &o, err);
}

static int find_rates(void *user, const struct hr_device *device, struct hr_rates *rates,
                      struct hr_error *err)
{
	struct way                   *way = user;
	const struct hr_plan_options *o = &way->options;
	struct hr_error               why;
	char                          name[160];
	way->n_notices = 0;
	if (way->model->checkpoint.hparams.encoder || o->assume)
		return 0; /* what is measured are passes of a decoder */
	snprintf(name, sizeof name, "%s %s", device->kind, device->name);
	int rc = o->cache_dir ? hr__rates_load(rates, way->model, o, name, &why) : HR_ENOENT;
	if (!rc)
		return 1;
	if (rc != HR_ENOENT)
		keep_notice(way, &why, o->measure ? " It is measured again." : " It is not used.");
	if (!o->measure)
		return 0;
	rc = measure(way, device, rates, err);
	if (rc)
		return rc == HR_EDEVMEM || rc == HR_EBUDGET ? 0 : rc;
	if (o->cache_dir && hr__rates_store(rates, way->model, o, name, &why))
		keep_notice(way, &why, "");
	return 1;
}

static void begin(struct way *way, const struct hr_model *model, const struct hr_plan_options *options)
{
	*way = (struct way){.model = model, .options = *options, .rates = {find_rates, way}};
	hr__profile_apply(&way->options, model, way->profile);
}

/* What a plan that holds says of the way to it. */
static void tell(const struct way *way, struct hr_plan *plan)
{
	hr__plan_name_profile(plan, way->profile);
	for (int i = 0; i < way->n_notices; i++)
		hr__plan_note(plan, &way->options, "%s", way->notices[i]);
}

int hr_plan_new(struct hr_plan **out, const struct hr_model *model, const struct hr_plan_options *options,
                struct hr_error *err)
{
	struct way        way;
	struct hr_backend backend = {0};
	struct hr_plan   *plan = NULL;
	begin(&way, model, options);
	if (way.options.assume)
		way.options.device = "cpu"; /* which knows how much workspace its kernels need */
	struct hr_ladder ladder = {
	    .model = model, .asked = &way.options, .backend = &backend, .plan = &plan, .rates = &way.rates};
	int rc = hr__ladder_climb(&ladder, err);
	if (!rc) {
		tell(&way, plan);
		*out = plan;
	}
	hr__backend_close(&backend);
	return rc;
}

int hr_session_open(struct hr_session **out, const struct hr_model *model,
                    const struct hr_plan_options *options, struct hr_error *err)
{
	struct way way;
	begin(&way, model, options);
	int rc = hr__session_open(out, model, &way.options, &way.rates, err);
	if (!rc)
		tell(&way, (*out)->plan);
	return rc;
}
