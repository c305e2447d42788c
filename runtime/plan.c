/* The public plan: what a model needs on a device, handed to the planner, and its
 * answer in the words of the model.
 *
 * Device memory holds the weights' share (residents, slots, ends) and the fixed
 * share (KV cache, activations, workspace). On a GPU the budget covers both; on
 * the CPU `device_memory_bytes` is the RAM budget for weights alone, and the fixed
 * share comes on top. Both together never take more than the RAM that is free. */
#include "runtime/plan.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/topology.h"
#include "kernels/device/host_memory.h"
#include "runtime/card.h"
#include "runtime/forward.h"
#include "runtime/kv.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define DEFAULT_CONTEXT   4096
#define DEFAULT_BATCH     512
#define MAX_BATCH         4096
#define MAX_SEQS          256
#define PASS_BYTES        (96u << 20) /* of an encoder's states between two layers */
#define MAX_PASS          (1 << 17)
#define TEXT_TOKENS       8 /* of a short text: texts of a pass */
#define MAX_MARGIN_BYTES  (512ull << 20)
#define HOST_MARGIN_BYTES (32ull << 20) /* of RAM at least: stacks, the tokenizer, the program itself */

void hr_plan_options_init(struct hr_plan_options *o)
{
	*o = (struct hr_plan_options){
	    .device = "auto",
	    .window_layers = HR_AUTO,
	    .resident_layers = HR_AUTO,
	    .slots = HR_AUTO,
	    .reader = "auto",
	};
}

void hr__plan_note(struct hr_plan *plan, const struct hr_plan_options *options, const char *fmt, ...)
{
	char    sentence[sizeof plan->notices[0]];
	va_list args;
	va_start(args, fmt);
	vsnprintf(sentence, sizeof sentence, fmt, args);
	va_end(args);
	if (plan->info.n_fallbacks < (int)HR_COUNT_OF(plan->notices))
		memcpy(plan->notices[plan->info.n_fallbacks++], sentence, sizeof sentence);
	if (plan->told && options->on_notice)
		options->on_notice(options->user, sentence);
}

void hr__plan_tell(struct hr_plan *plan, const struct hr_plan_options *options)
{
	plan->told = true;
	for (int i = 0; i < plan->info.n_fallbacks && options->on_notice; i++)
		options->on_notice(options->user, plan->notices[i]);
}

/* What is planned for: a device that is open, or a card. */
struct target {
	const char *kind, *name;
	bool        host_addressable;
	uint64_t    device_free, host_free; /* what may be asked for, less a margin */
};

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

/* What may be asked of free memory: less a margin for everybody else and for what no
 * plan counts. */
static uint64_t usable(uint64_t free_bytes, uint64_t least_margin)
{
	uint64_t margin = free_bytes / 16 < MAX_MARGIN_BYTES ? free_bytes / 16 : MAX_MARGIN_BYTES;
	if (margin < least_margin)
		margin = least_margin;
	return free_bytes > margin ? free_bytes - margin : 0;
}

static struct target target_of(struct hr_device *device, const struct hr_card *card)
{
	struct hr_device_memory memory = {0};
	struct hr__host_memory  host;
	if (card->name[0])
		return (struct target){card->device, card->name, card->host_addressable,
		                       usable(card->device_memory_bytes, 0), usable(card->host_memory_bytes, 0)};
	hr__host_memory_read(&host);
	device->ops->memory(device, &memory);
	return (struct target){
	    device->kind, device->name, device->host_addressable,
	    usable(memory.free_bytes, device->host_addressable ? HOST_MARGIN_BYTES : memory.margin_bytes),
	    usable(host.free_bytes, HOST_MARGIN_BYTES)};
}

static int check_options(const struct hr_plan_options *o, struct hr_error *err)
{
	static const char *const readers[] = {"auto", "uring", "io_uring", "pread"};
	bool                     known = !o->reader;
	for (size_t i = 0; i < HR_COUNT_OF(readers) && !known; i++)
		known = !strcmp(o->reader, readers[i]);
	if (!known)
		return hr__fail(err, HR_EINVAL, "Reader \"%s\" is unknown; use auto, uring or pread.", o->reader);
	if (o->kv_type && strcmp(o->kv_type, "f16") && strcmp(o->kv_type, "f32"))
		return hr__fail(err, HR_EINVAL, "Cache type \"%s\" is unknown; use f16 or f32.", o->kv_type);
	if (o->n_ctx < 0 || o->n_seqs < 0 || o->n_seqs > MAX_SEQS || o->n_batch < 0 || o->n_batch > MAX_BATCH)
		return hr__fail(
		    err, HR_EINVAL,
		    "Context %d, sequences %d or batch %d is out of range; sequences go up to %d, a batch up to %d.",
		    o->n_ctx, o->n_seqs, o->n_batch, MAX_SEQS, MAX_BATCH);
	if (o->n_threads < 0 || o->n_threads > 1024)
		return hr__fail(err, HR_EINVAL, "%d threads is out of range; use 1 to 1024, or 0 for one per core.",
		                o->n_threads);
	if (o->chunk_bytes && (o->chunk_bytes < HR_IO_ALIGN || o->chunk_bytes > (1u << 30)))
		return hr__fail(err, HR_EINVAL, "A chunk of %llu bytes is out of range; use 4KiB to 1GiB.",
		                (unsigned long long)o->chunk_bytes);
	if (o->staging_buffers < 0 || o->staging_buffers == 1 || o->staging_buffers > 4096)
		return hr__fail(err, HR_EINVAL, "%d staging buffers is out of range; use 2 to 4096.",
		                o->staging_buffers);
	if (o->read_depth < 0 || o->read_depth > 1024)
		return hr__fail(err, HR_EINVAL, "A read depth of %d is out of range; use 1 to 1024.", o->read_depth);
	return 0;
}

/* An encoder's pass: texts of as many tokens as states of PASS_BYTES are for, each whole in one chunk. */
static void describe_encoder(struct hr_plan *plan, bool allow_untrained_head)
{
	const struct hr_hparams *h = &plan->model->checkpoint.hparams;
	struct hr_plan_info     *info = &plan->info;
	int                      n = (int)(PASS_BYTES / sizeof(float) / (size_t)h->n_embd);
	if (info->n_batch < info->n_ctx)
		info->n_batch = info->n_ctx;
	plan->n_pass = n > MAX_PASS ? MAX_PASS : n > info->n_batch ? n : info->n_batch;
	plan->max_outputs = plan->n_pass / TEXT_TOKENS + 1;
	plan->kv_type = HR_KV_F32;
	info->kv_bytes = 0;
	plan->random_head = allow_untrained_head && !plan->model->info.trained_head;
}

void hr__plan_settle_needs(struct hr_plan_options *o, const struct hr_model *model)
{
	int trained = model->checkpoint.hparams.n_ctx_train;
	if (!o->n_ctx)
		o->n_ctx = trained > 0 && trained < DEFAULT_CONTEXT ? trained : DEFAULT_CONTEXT;
	if (!o->n_seqs)
		o->n_seqs = 1;
	if (!o->n_batch)
		o->n_batch = DEFAULT_BATCH;
	if (o->n_batch < o->n_seqs)
		o->n_batch = o->n_seqs;
}

static int describe_needs(struct hr_plan *plan, const struct hr_plan_options *o, const struct hr_ops *ops,
                          struct hr_error *err)
{
	const struct hr_hparams *h = &plan->model->checkpoint.hparams;
	struct hr_plan_info     *info = &plan->info;
	struct hr_plan_options   needs = *o;
	hr__plan_settle_needs(&needs, plan->model);
	info->n_ctx = needs.n_ctx;
	info->n_seqs = needs.n_seqs;
	info->n_batch = needs.n_batch;
	if (plan->model->checkpoint.ends.position_embedding >= 0 && info->n_ctx > h->n_ctx_train)
		return hr__fail(err, HR_EINVAL,
		                "A context of %d was asked for, but the model has learned %d positions and no more.",
		                info->n_ctx, h->n_ctx_train);
	info->n_threads = o->n_threads ? o->n_threads : hr_topology_n_cores();
	plan->kv_type = o->kv_type && !strcmp(o->kv_type, "f32") ? HR_KV_F32 : HR_KV_F16;
	plan->page_tokens = HR_KV_PAGE_TOKENS;
	plan->n_pass = info->n_batch;
	plan->max_outputs = info->n_seqs + 16;
	info->kv_bytes = hr__kv_bytes(h, plan->kv_type, info->n_ctx, info->n_seqs);
	if (h->encoder)
		describe_encoder(plan, o->allow_untrained_head);
	info->activation_bytes = hr__forward_bytes(plan, ops);
	return 0;
}

/* Of the blocks that are not resident. */
static double kept_share(const struct hr_plan *plan)
{
	uint64_t bytes = 0;
	for (int i = 0; i < plan->placement.n_blocks; i++)
		if (plan->placement.block_tier[i] != HR_TIER_DEVICE)
			bytes += plan->model->block_layers[i].memory_bytes;
	return bytes ? (double)plan->placement.kept_bytes / (double)bytes : 0;
}

static void describe_placement(struct hr_plan *plan, uint64_t budget, const struct target *device)
{
	const struct hr_placement *p = &plan->placement;
	struct hr_plan_info       *info = &plan->info;
	bool                       gpu_budget = !device->host_addressable;
	info->device = plan->device;
	info->device_name = plan->device_name;
	info->n_layers = p->n_blocks;
	info->resident_layers = p->n_resident;
	info->slots = p->slots;
	int window = p->n_resident + p->slots;
	info->window_layers = window < p->n_blocks ? window : p->n_blocks;
	info->host_layers = p->n_host;
	info->disk_layers = p->n_disk;
	info->device_budget_bytes = budget;
	info->device_bytes = p->device_bytes - (gpu_budget ? info->kv_bytes + info->activation_bytes : 0);
	info->slot_bytes = p->slot_bytes;
	info->kept_bytes = p->kept_bytes;
	info->kept_share = kept_share(plan);
	info->resident_bytes = info->device_bytes - p->slot_bytes * (uint64_t)p->slots;
	info->host_bytes = p->host_bytes;
	info->disk_bytes_per_pass = p->disk_bytes_per_pass;
	info->link_bytes_per_pass = device->host_addressable ? 0 : p->streamed_bytes_per_pass;
	info->chunk_bytes = p->chunk_bytes;
	info->read_depth = p->read_depth;
	info->staging_buffers = p->staging_buffers;
	info->n_modules = p->n_blocks + (plan->model->n_head_parts ? 3 : 2);
}

/* Rates: the card's, or those of this machine where there are any. */
static void take_rates(struct hr_plan *plan, const struct hr_plan_options *o, const struct hr_rates *measured,
                       const struct hr_card *card)
{
	if (plan->model->checkpoint.hparams.encoder || !(card->name[0] || measured))
		return; /* what is measured are passes of a decoder */
	if (card->name[0])
		hr__card_rates(card, plan->model, &plan->rates);
	else
		plan->rates = *measured;
	snprintf(plan->rates_name, sizeof plan->rates_name, "%s", card->name[0] ? card->name : "measured");
	plan->info.rates = plan->rates_name;
	plan->cost = (struct hr_cost){&plan->rates, hr__plan_decode_work(&plan->info), o->max_disk_rate};
}

static uint64_t largest_part(const struct hr_model *model)
{
	uint64_t part = 0;
	for (int i = 0; i < model->n_head_parts; i++)
		if (model->head_parts[i].layer.memory_bytes > part)
			part = model->head_parts[i].layer.memory_bytes;
	return part;
}

/* The part of the last block that all tokens go through; see forward.c. */
static double kv_share(const struct hr_model *model)
{
	const struct hr_block *last = &model->blocks[model->n_blocks - 1];
	return (double)(hr_weight_bytes(&last->k) + hr_weight_bytes(&last->v) + hr_weight_bytes(&last->qkv)) /
	       (double)model->block_layers[model->n_blocks - 1].file_bytes;
}

/* The model's bytes and the user's wishes, as the planner wants them. */
static struct hr_plan_request describe_request(const struct hr_plan *plan, const struct hr_plan_options *o,
                                               const struct target *target, uint64_t budget)
{
	const struct hr_model *model = plan->model;
	bool                   tied = model->checkpoint.ends.head == model->checkpoint.ends.embedding;
	uint64_t               fixed = plan->info.kv_bytes + plan->info.activation_bytes;
	return (struct hr_plan_request){
	    .blocks = model->block_layers,
	    .n_blocks = model->n_blocks,
	    .kv_share = kv_share(model),
	    .cuts = model->cuts.bytes,
	    .n_cuts = model->cuts.n,
	    .head_bytes = model->head.layer.memory_bytes,
	    .head_part_bytes = largest_part(model),
	    .embedding_bytes = tied ? 0 : model->embedding.layer.memory_bytes,
	    .tied = tied,
	    .globals_bytes = model->globals.memory_bytes,
	    .fixed_bytes = target->host_addressable ? 0 : fixed,
	    .device_budget_bytes = o->full ? UINT64_MAX / 4 : budget,
	    .host_budget_bytes = o->host_memory_bytes ? o->host_memory_bytes : target->host_free,
	    .host_addressable = target->host_addressable,
	    .window_layers = o->window_layers,
	    .resident_layers = o->resident_layers,
	    .slots = o->slots,
	    .chunk_bytes = o->chunk_bytes,
	    .read_depth = o->read_depth,
	    .staging_buffers = o->staging_buffers,
	    .cost = plan->info.rates ? &plan->cost : NULL,
	};
}

/* On the CPU the KV cache and the activations are no part of the budget: it is what they leave. */
static uint64_t largest_budget(const struct hr_plan *plan, const struct target *target)
{
	uint64_t on_top = target->host_addressable ? plan->info.kv_bytes + plan->info.activation_bytes : 0;
	return target->device_free > on_top ? target->device_free - on_top : 0;
}

/* The budget of the planner: what the user says, or what is free; on the CPU never more than that. */
static uint64_t find_budget(const struct hr_plan *plan, const struct hr_plan_options *o,
                            const struct target *target)
{
	uint64_t most = largest_budget(plan, target);
	if (o->device_memory_bytes && !target->host_addressable)
		return o->device_memory_bytes;
	return o->device_memory_bytes && o->device_memory_bytes < most ? o->device_memory_bytes : most;
}

/* The fixed share leaves too little of the RAM that is free. */
static int fail_beside(const struct hr_plan *plan, const struct target *target, uint64_t budget,
                       struct hr_error *err)
{
	const struct hr_plan_info *info = &plan->info;
	return hr__fail(
	    err, HR_EBUDGET,
	    "Of %.1f MiB of RAM that can be had, the KV cache of %d x %d tokens wants %.1f MiB and the "
	    "activations of a pass %.1f MiB, which leaves %.1f MiB for weights, too few for this model; "
	    "ask for a shorter context (-c) or fewer sequences (-np).",
	    mib(target->device_free), info->n_seqs, info->n_ctx, mib(info->kv_bytes), mib(info->activation_bytes),
	    mib(budget));
}

/* A budget that was asked for and is not there is told where that makes a difference. */
static int check_budget(struct hr_plan *plan, const struct hr_plan_options *o, uint64_t budget,
                        struct hr_error *err)
{
	char sentence[400];
	if (budget >= o->device_memory_bytes || !plan->placement.slots)
		return 0;
	snprintf(sentence, sizeof sentence,
	         "A device budget of %.1f MiB was asked for; beside the KV cache (%.1f MiB) and the activations "
	         "(%.1f MiB) %.1f MiB of RAM can be had.",
	         mib(o->device_memory_bytes), mib(plan->info.kv_bytes), mib(plan->info.activation_bytes),
	         mib(budget));
	if (o->no_fallback)
		return hr__fail(err, HR_EBUDGET, "%s With --no-fallback that is an error.", sentence);
	hr__plan_note(plan, o, "%s", sentence);
	return 0;
}

static int fail_full(const struct hr_plan *plan, const struct target *target, uint64_t budget,
                     struct hr_error *err)
{
	double needed = mib(plan->placement.device_bytes);
	if (plan->placement.device_bytes > largest_budget(plan, target))
		return hr__fail(
		    err, HR_EBUDGET,
		    "The full model needs %.1f MiB on the device, of which %.1f MiB can be had; leave out "
		    "--window full.",
		    needed, mib(budget));
	return hr__fail(err, HR_EBUDGET,
	                "The full model needs %.1f MiB on the device, but the budget is %.1f MiB; leave out "
	                "--window full, or give --device-memory %.1fMiB.",
	                needed, mib(budget), needed + 0.1);
}

int hr__plan_new(struct hr_plan **out, const struct hr_model *model, const struct hr_plan_options *o,
                 const struct hr_backend *backend, const struct hr_rates *rates, struct hr_error *err)
{
	struct hr_plan *plan = hr__calloc(1, sizeof *plan);
	struct hr_card  card = {0};
	enum hr_tier   *map = NULL;
	int rc = plan ? check_options(o, err) : hr__fail(err, HR_ENOMEM, "Out of memory while planning.");
	if (!rc && o->assume)
		rc = hr__card_parse(&card, o->assume, err);
	if (rc)
		goto done;
	struct target target = target_of(backend->device, &card);
	plan->model = model;
	if (backend->fallback[0])
		hr__plan_note(plan, o, "%s", backend->fallback);
	snprintf(plan->device, sizeof plan->device, "%s", target.kind);
	snprintf(plan->device_name, sizeof plan->device_name, "%s", target.name);
	rc = describe_needs(plan, o, backend->ops, err);
	if (!rc && o->device_map && strcasecmp(o->device_map, "auto")) {
		map = hr__calloc((size_t)model->n_blocks + 2, sizeof *map);
		rc = map ? hr__device_map_parse(map, model->n_blocks, o->device_map, target.host_addressable, err)
		         : hr__fail(err, HR_ENOMEM, "Out of memory while reading the device map.");
	}
	if (rc)
		goto done;

	take_rates(plan, o, rates, &card);
	uint64_t budget = find_budget(plan, o, &target);
	plan->request = describe_request(plan, o, &target, budget);
	plan->request.map = map;
	rc = hr_plan_make(&plan->placement, &plan->request, err);
	plan->request.map = NULL;
	plan->request.cost = NULL;
	if (rc == HR_EBUDGET && target.host_addressable &&
	    (!o->device_memory_bytes || budget < o->device_memory_bytes))
		rc = fail_beside(plan, &target, budget, err);
	if (!rc && o->full && plan->placement.device_bytes > budget)
		rc = fail_full(plan, &target, budget, err);
	if (rc)
		goto done;
	describe_placement(plan, budget, &target);
	rc = check_budget(plan, o, budget, err);
	if (rc)
		goto done;
	for (int i = 0; i < plan->placement.n_fallbacks; i++)
		hr__plan_note(plan, o, "%s", plan->placement.fallback[i]);
	if (plan->info.rates)
		rc = hr__plan_predict(plan, err);
done:
	free(map);
	if (rc)
		hr_plan_free(plan);
	else
		*out = plan;
	return rc;
}

void hr__plan_name_profile(struct hr_plan *plan, const char *words)
{
	snprintf(plan->profile, sizeof plan->profile, "%s", words);
	plan->info.profile = *words ? plan->profile : NULL;
}

void hr_plan_free(struct hr_plan *plan)
{
	if (!plan)
		return;
	hr_plan_release(&plan->placement);
	free(plan);
}

const struct hr_plan_info *hr_plan_info(const struct hr_plan *plan) { return &plan->info; }

const char *hr_plan_fallback(const struct hr_plan *plan, int index)
{
	return index >= 0 && index < plan->info.n_fallbacks ? plan->notices[index] : NULL;
}

/* Modules in the order of a pass: embedding, blocks, norm, head. */
int hr_plan_module(const struct hr_plan *plan, int index, const char **module, const char **tier,
                   uint64_t *bytes)
{
	const struct hr_model     *m = plan->model;
	const struct hr_placement *p = &plan->placement;
	const struct hr_layer     *layer;
	enum hr_tier               where;
	if (index == 0) {
		layer = &m->embedding.layer;
		where = p->embedding_tier;
	} else if (index >= 1 && index <= p->n_blocks) {
		layer = &m->block_layers[index - 1];
		where = p->block_tier[index - 1];
	} else if (index == p->n_blocks + 1) {
		layer = &m->globals;
		where = HR_TIER_DEVICE;
	} else if (index == p->n_blocks + 2 && m->n_head_parts) {
		layer = &m->head.layer;
		where = p->head_tier;
	} else {
		return HR_EINVAL;
	}
	if (module)
		*module = layer->name;
	if (tier)
		*tier = hr_tier_name(where);
	if (bytes)
		*bytes = layer->file_bytes;
	return 0;
}
