/* Cards. Compute is a roofline: a layer takes the time to read its weights, or the time of
 * its arithmetic, whichever is longer, and its launches. The figures of a card are what
 * programs reach on it, not what its box says; where the two are given, a share goes with them.
 *
 *     {"name": "...", "device": "cuda:0", "device_memory_gib": 24, "host_memory_gib": 64,
 *      "memory_gbps": 1008, "memory_share": 0.8, "tflops": 165, "tflops_share": 0.45,
 *      "layer_us": 60, "pass_us": 300, "link_gbps": 25, "link_us": 8,
 *      "disk_gbps": 7, "disk_us": 80} */
#include "runtime/card.h"

#include "base/error.h"
#include "runtime/format/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *key;
	double      least, most, otherwise; /* otherwise NAN: it must be there */
} numbers[] = {
    {"device_memory_gib", 0.01, 1e5, NAN},
    {"host_memory_gib", 0, 1e6, NAN},
    {"memory_gbps", 0.1, 1e6, NAN},
    {"memory_share", 0.01, 1, 1},
    {"tflops", 0.001, 1e6, NAN},
    {"tflops_share", 0.01, 1, 1},
    {"layer_us", 0, 1e6, 0},
    {"pass_us", 0, 1e6, 0},
    {"link_gbps", 0, 1e5, 0},
    {"link_us", 0, 1e6, 0},
    {"disk_gbps", 0.001, 1e5, NAN},
    {"disk_us", 0, 1e6, 0},
};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

static int check_keys(json_t *o, struct hr_error *err)
{
	const char *key;
	json_t     *value;
	json_object_foreach(o, key, value)
	{
		bool known = !strcmp(key, "name") || !strcmp(key, "device") || !strcmp(key, "note");
		for (int i = 0; i < N_NUMBERS && !known; i++)
			known = !strcmp(key, numbers[i].key);
		if (!known)
			return hr__fail(err, HR_EFORMAT,
			                "The card has an unknown key \"%s\"; see those that come with "
			                "Headrace, in share/headrace/cards.",
			                key);
	}
	return 0;
}

int hr__card_parse(struct hr_card *card, const char *text, struct hr_error *err)
{
	json_t *o = NULL;
	double  x[N_NUMBERS];
	int     rc = hr__json_parse(&o, "The card", text, strlen(text), err);
	if (!rc)
		rc = check_keys(o, err);
	for (int i = 0; i < N_NUMBERS && !rc; i++) {
		const json_t *value = json_object_get(o, numbers[i].key);
		x[i] = value ? json_number_value(value) : numbers[i].otherwise;
		if (value ? !json_is_number(value) || !(x[i] >= numbers[i].least && x[i] <= numbers[i].most)
		          : isnan(x[i]))
			rc = hr__fail(err, HR_EFORMAT, "The card should have a number \"%s\" from %g to %g.",
			              numbers[i].key, numbers[i].least, numbers[i].most);
	}
	const char *device = json_string_value(json_object_get(o, "device"));
	const char *name = json_string_value(json_object_get(o, "name"));
	if (!rc && (!name || !*name || !device || (strcmp(device, "cpu") && strncmp(device, "cuda", 4))))
		rc = hr__fail(err, HR_EFORMAT,
		              "The card should have a \"name\" and a \"device\", \"cuda:0\" or \"cpu\".");
	if (!rc && strcmp(device, "cpu") && !(x[8] > 0))
		rc = hr__fail(err, HR_EFORMAT, "The card of device %s should have \"link_gbps\" above zero.", device);
	if (!rc) {
		*card = (struct hr_card){
		    .host_addressable = !strcmp(device, "cpu"),
		    .device_memory_bytes = (uint64_t)(x[0] * 0x1p30),
		    .host_memory_bytes = (uint64_t)(x[1] * 0x1p30),
		    .memory_gbps = x[2] * x[3],
		    .tflops = x[4] * x[5],
		    .layer_ns = x[6] * 1e3,
		    .pass_ns = x[7] * 1e3,
		    .link_gbps = x[8],
		    .link_latency_ns = x[9] * 1e3,
		    .disk_gbps = x[10],
		    .disk_latency_ns = x[11] * 1e3,
		};
		snprintf(card->name, sizeof card->name, "%s", name);
		snprintf(card->device, sizeof card->device, "%s", device);
	}
	json_decref(o);
	return rc;
}

/* The longer of reading `bytes` and of 2 operations for each of `params` and `n` tokens. */
static double roofline_ns(const struct hr_card *c, double bytes, double params, int n)
{
	return fmax(bytes / c->memory_gbps, 2 * params * n / (c->tflops * 1e3)) + c->layer_ns;
}

void hr__card_rates(const struct hr_card *c, const struct hr_model *m, struct hr_rates *r)
{
	const struct hr_hparams *h = &m->checkpoint.hparams;
	double bytes = 0, q_dim = (double)h->n_heads * h->head_dim, kv_dim = (double)h->n_kv_heads * h->head_dim;
	double params = h->n_embd * (2 * q_dim + 2 * kv_dim) + 3.0 * h->n_embd * h->n_ff;
	for (int i = 0; i < m->n_blocks; i++)
		bytes += (double)m->block_layers[i].file_bytes / m->n_blocks;
	*r = (struct hr_rates){
	    .link_rate = c->link_gbps, .link_latency_ns = c->link_latency_ns, .block_bytes = bytes};
	for (int n = 1; n <= 4096; n *= 2)
		r->compute[r->n_compute++] =
		    (struct hr_compute_point){n, roofline_ns(c, bytes, params, n), c->pass_ns};
	for (int n = 1; n <= 64; n *= 4)
		r->head[r->n_head++] = (struct hr_head_point){
		    n, roofline_ns(c, (double)m->head.layer.file_bytes, (double)h->n_embd * h->n_vocab, n)};
	r->context_ns_decode = 4 * kv_dim / c->memory_gbps; /* keys and values, f16 */
	r->context_ns_prefill = 4 * q_dim / (c->tflops * 1e3);
	for (uint64_t chunk = 256u << 10; chunk <= 8u << 20; chunk *= 2) {
		for (int depth = 1; depth <= 16 && r->n_disk < HR_RATES_MAX_DISK; depth *= depth == 1 ? 4 : 2) {
			double one = c->disk_latency_ns + (double)chunk / c->disk_gbps;
			r->disk[r->n_disk++] =
			    (struct hr_disk_point){chunk, depth, fmin(c->disk_gbps, depth * (double)chunk / one)};
		}
	}
}
