/* Headrace: run transformer models larger than the memory of the device.
 *
 * A model is opened (its files are read and validated, no weights yet), a plan
 * says which layers stay on the device and which are streamed, a session holds
 * the memory and runs requests. Ten lines:
 *
 *     struct hr_error err; struct hr_model *model; struct hr_session *session; uint64_t id;
 *     if (hr_model_open(&model, "model.gguf", &err)) return fail(&err);
 *     struct hr_plan_options opts; hr_plan_options_init(&opts);
 *     opts.device_memory_bytes = 4ull << 30;
 *     if (hr_session_open(&session, model, &opts, &err)) return fail(&err);
 *     struct hr_request req; hr_request_init(&req);
 *     req.text = "Once upon a time"; req.max_new_tokens = 64;
 *     if (hr_session_submit(session, &req, &id, &err)) return fail(&err);
 *     do {
 *         n = hr_session_step(session, &err);
 *         while ((len = hr_session_read(session, id, buf, sizeof buf)) > 0) fwrite(buf, 1, len, stdout);
 *     } while (n > 0);
 *     hr_session_close(session); hr_model_close(model);
 *
 * Errors. Functions return 0 (or a count) on success and a negative HR_E code
 * on failure, with a sentence in *err (NULL is accepted). Nothing here prints,
 * exits or reads the environment.
 *
 * Ownership. The caller owns what it passes in; strings and arrays are copied.
 * What a function returns as `const` belongs to the object it came from, until
 * that object is closed. A session borrows its model: close the session first.
 *
 * Threads. A model is immutable once open: any number of threads and sessions may
 * use it. Within one session, submit, cancel, read, state and report may be called
 * from any thread at any time; step by one thread at a time; close by one, last.
 *
 * Structs with an _init function must be initialised by it, so that fields added
 * later keep their defaults.
 */
#ifndef HEADRACE_HEADRACE_H
#define HEADRACE_HEADRACE_H

#include "headrace/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEADRACE_VERSION "0.1.0"
const char *hr_version(void); /* of the library that is linked, "+commit" behind it where there is one */

/* ---- Models ---------------------------------------------------------------- */

struct hr_model;

/* Open a GGUF file (the first shard of a split one) or a Hugging Face directory.
 * Reads headers, not weights. HR_ENOENT, HR_EIO, HR_EFORMAT, HR_ETRUNCATED,
 * HR_EUNSUPPORTED (the family or type is named, with what is supported). */
int  hr_model_open(struct hr_model **out, const char *path, struct hr_error *err);
void hr_model_close(struct hr_model *model); /* NULL is fine */

struct hr_model_info {
	const char *path;
	const char *format; /* "gguf" or "safetensors" */
	const char *family; /* "llama", "bert", ... */
	const char *dtype;  /* of most weight bytes: "q4_1" */
	int         n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab;
	int         n_ctx_train; /* tokens */
	bool        tied_embedding;
	uint64_t    n_params;
	uint64_t    weight_bytes;
	uint64_t    largest_layer_bytes;
	uint64_t    embedding_bytes, head_bytes;
	int         n_tensors;
	int         n_files;
	const char *tokenizer;     /* "bpe", "spm", "wordpiece", "unigram", or NULL: none in the file */
	const char *chat_template; /* Jinja text, or NULL */
	int         bos, eos;      /* token ids, -1: none */
	float       rope_theta;
	const char *rope_scaling; /* "none", "linear", "llama3", "yarn", "longrope" */
	/* longrope (Phi-3 of 128k, Phi-4) has two lists of factors. A session takes the short one if its n_ctx is
	 * at most this, else the long one, for all of its tokens, in short texts, too; so ask for no longer a
	 * context than is needed. 0: no longrope. */
	int rope_original_context;

	bool        encoder;      /* for hr_session_classify() and hr_session_embed(); else for requests */
	int         n_labels;     /* of its classifier */
	bool        trained_head; /* the files hold the classifier */
	int         max_tokens;   /* of a text; longer ones are cut */
	const char *pooling;      /* "mean", "cls", "max", "mean_sqrt_len", "lasttoken" */
	bool        normalized;   /* embeddings are made of length 1 */
};
const struct hr_model_info *hr_model_info(const struct hr_model *model);

/* The name of label `index` of an encoder's classifier; NULL past the end. */
const char *hr_model_label(const struct hr_model *model, int index);
/* "llama, mistral, ...": the families that can be opened. */
const char *hr_families(void);
/* "f32, f16, ...": the types of weights that can be read. */
const char *hr_types(void);

struct hr_tensor_info {
	const char *name;
	const char *type; /* "f16", "q4_0", ... */
	int         n_dims;
	uint64_t    shape[4]; /* row-major, slowest first */
	const char *file;
	uint64_t    offset, bytes;
};
/* HR_EINVAL: no tensor `index`. */
int hr_model_tensor(const struct hr_model *model, int index, struct hr_tensor_info *out);

/* ---- Text ------------------------------------------------------------------ */

/* Token ids of UTF-8 text. `add_special`: with BOS/EOS as the model says;
 * `parse_special`: control tokens spelled in the text are recognised. Returns how
 * many ids the text has and stores the first `capacity`. HR_EUNSUPPORTED: no tokenizer. */
int64_t hr_model_tokenize(const struct hr_model *model, const char *text, size_t length, bool add_special,
                          bool parse_special, int32_t *ids, size_t capacity, struct hr_error *err);

/* Text of ids, NUL-terminated when it fits; control tokens are left out unless
 * `special`. Returns its length in bytes. */
int64_t hr_model_detokenize(const struct hr_model *model, const int32_t *ids, size_t n_ids, bool special,
                            char *text, size_t capacity, struct hr_error *err);

struct hr_chat_message {
	const char *role;    /* "system", "user", "assistant" */
	const char *content; /* UTF-8 */
};

/* The conversation in the model's own chat template, NUL-terminated, with the
 * assistant's turn opened; release with hr_free(). Tokenize it with add_special
 * false and parse_special true. HR_EUNSUPPORTED: no template, or an unknown one. */
int hr_model_chat_format(const struct hr_model *model, const struct hr_chat_message *messages, int n_messages,
                         char **text, struct hr_error *err);
void hr_free(void *memory);

/* ---- Plans ----------------------------------------------------------------- */

#define HR_AUTO (-1)

/* A sentence that a user should see once: a fallback and its reason. */
typedef void (*hr_notice_fn)(void *user, const char *sentence);
/* Progress, in bytes. Return 0 to go on, anything else to stop with HR_ECANCELED. */
typedef int (*hr_progress_fn)(void *user, uint64_t done, uint64_t total);

struct hr_plan_options {
	const char    *device;              /* "auto", "cpu", "cuda", "cuda:N" */
	uint64_t       device_memory_bytes; /* 0: what is free, less a margin. On the CPU: RAM for weights */
	uint64_t       host_memory_bytes;   /* 0: what is free, less a margin; pinned RAM tier of a GPU */
	int            window_layers;       /* blocks on the device, residents + slots; HR_AUTO */
	bool           full;                /* everything resident, or fail */
	bool           no_fallback;         /* fail where the plan would fall short of what is asked for */
	int            resident_layers;     /* upper bound; HR_AUTO */
	int            slots;               /* >= 2, for streamed layers or pieces of large ones; HR_AUTO */
	const char    *device_map;          /* JSON text {"model.layers.0": 0, ...: "cpu" | "disk"}; NULL: auto */
	uint64_t       chunk_bytes;         /* of one read; 0: auto */
	int            read_depth;          /* reads in flight; 0: auto */
	int            staging_buffers;     /* of one chunk each, between disk and a GPU; 0: auto */
	const char    *reader;              /* "auto", "uring", "pread" */
	uint64_t       max_disk_rate;       /* bytes per second; 0: unlimited */
	int            n_ctx;               /* tokens of KV cache per sequence; 0: min(n_ctx_train, 4096) */
	int            n_seqs;              /* sequences at the same time; 0: 1 */
	bool           seqs_may_wait;       /* a profile may say to take fewer than n_seqs at a time */
	int            n_batch;             /* most tokens in a pass; 0: 512 */
	int            n_threads;           /* 0: one per core */
	const char    *kv_type;             /* "f16" (NULL), "f32" */
	const char    *cpu_isa;             /* "auto" (NULL), "portable", "avx2", "avx512", "amx" */
	bool           trace;               /* record spans for hr_session_write_trace() */
	const char    *cache_dir;           /* where measured rates and profiles are kept; NULL: there are none */
	bool           measure;             /* rates that cache_dir lacks are measured now, in seconds */
	bool           ignore_profile;      /* what was tuned for this model earlier is not used */
	const char    *assume;              /* JSON text of a card, for hr_plan_new(): plan for that machine */
	bool           allow_untrained_head; /* classify with random weights where there is no classifier */
	hr_notice_fn   on_notice;
	hr_progress_fn on_progress; /* while a session loads */
	void          *user;        /* for both */
};
void hr_plan_options_init(struct hr_plan_options *options);

struct hr_plan_info {
	const char *device; /* "cpu", "cuda:0" */
	const char *device_name;
	int         n_layers;
	int         window_layers, resident_layers, slots, host_layers, disk_layers;
	uint64_t    device_budget_bytes;
	uint64_t    device_bytes; /* weights: residents, slots, ends */
	uint64_t    resident_bytes, slot_bytes;
	uint64_t    kept_bytes; /* of resident_bytes: parts of layers whose rest is streamed */
	double      kept_share; /* those parts, 0 to 1 of their layers */
	uint64_t    kv_bytes, activation_bytes;
	uint64_t    host_bytes; /* staging and RAM tier */
	uint64_t    disk_bytes_per_pass, link_bytes_per_pass;
	const char *reader; /* "io_uring", "pread"; NULL before a session is open */
	uint64_t    chunk_bytes;
	int         read_depth;
	int         staging_buffers; /* 0: reads land on the device */
	int         n_ctx, n_seqs, n_batch, n_threads;
	double      predicted_pass_ms;    /* decode, a token for each sequence; 0: nothing measured yet */
	double      predicted_decode_tps; /* of all sequences together */
	double      predicted_prefill_ms; /* a pass of n_batch prompt tokens, or what the context holds */
	double      predicted_prefill_tps;
	double      decode_ceiling_ms, prefill_ceiling_ms; /* the fastest that these passes could be */
	const char *decode_bound, *prefill_bound;          /* by what: "disk", "link", "compute"; NULL */
	const char *rates;     /* where the rates are from: "measured", a card's name; NULL: there are none */
	const char *profile;   /* what was tuned earlier and is used, in words; NULL: nothing */
	int         n_modules; /* of the device map */
	int         n_fallbacks;
};

struct hr_plan;
/* What would go where; reads nothing but the model's headers. What does not fit gets a
 * smaller window, then smaller passes, fewer sequences and, where none was asked for, a shorter
 * context, then, with "auto", the CPU: each told once, with its reason. HR_EBUDGET, HR_EDEVMEM:
 * the message says what was wanted, what is free, who holds the rest, and which flags fit. */
int  hr_plan_new(struct hr_plan **out, const struct hr_model *model, const struct hr_plan_options *options,
                 struct hr_error *err);
void hr_plan_free(struct hr_plan *plan);
const struct hr_plan_info *hr_plan_info(const struct hr_plan *plan);
/* Entry `index` of the device map: a Hugging Face module name ("model.embed_tokens",
 * "model.layers.0", "model.norm", "lm_head") and "device", "host" or "disk". HR_EINVAL past the end. */
int hr_plan_module(const struct hr_plan *plan, int index, const char **module, const char **tier,
                   uint64_t *bytes);
/* Sentence `index` < n_fallbacks: what was asked for and not done, and why. NULL past the end. */
const char *hr_plan_fallback(const struct hr_plan *plan, int index);

/* A pass that was not run yet, or a span of it. */
struct hr_prediction {
	double      pass_ms;
	double      disk_ms, link_ms, compute_ms; /* what each would take alone */
	double      stall_ms;                     /* compute idle, waiting for weights */
	double      ceiling_ms;                   /* the largest of disk, link and compute */
	const char *bound;                        /* which of them: "disk", "link", "compute" */
};

struct hr_span {
	const char *lane; /* "disk", "link", "compute", "host" */
	const char *name; /* a layer, or what the host does */
	double      begin_ms, end_ms;
	uint64_t    bytes; /* 0: none travelled */
};
typedef void (*hr_span_fn)(void *user, const struct hr_span *span);

/* Predict a pass of `n_tokens` tokens of `n_seqs` sequences that look back on `context` tokens on
 * average, by simulating the pipeline under this plan. `on_span`: NULL, or told what happens when,
 * 0 being the begin of the pass. HR_EUNSUPPORTED: the plan was made without rates (see
 * options.cache_dir, measure and assume). */
int hr_plan_predict(const struct hr_plan *plan, int n_tokens, int n_seqs, double context,
                    struct hr_prediction *out, hr_span_fn on_span, void *user, struct hr_error *err);

/* ---- Sessions -------------------------------------------------------------- */

struct hr_session;

/* Plan, allocate everything and load the residents; blocks until loaded. After this no memory is allocated
 * on the device. Memory that others took since the plan is met as in hr_plan_new(). HR_EBUDGET, HR_EDEVMEM,
 * HR_ENOMEM, HR_EIO, HR_EUNSUPPORTED, ... */
int  hr_session_open(struct hr_session **out, const struct hr_model *model,
                     const struct hr_plan_options *options, struct hr_error *err);
void hr_session_close(struct hr_session *session); /* NULL is fine; drains whatever is in flight */

/* The plan that was carried out; valid until close. */
const struct hr_plan *hr_session_plan(const struct hr_session *session);

struct hr_sampling {
	float    temperature;    /* 0: greedy (the default) */
	int      top_k;          /* 0: off */
	float    top_p;          /* 1: off */
	float    min_p;          /* 0: off */
	float    repeat_penalty; /* 1: off; over the last repeat_last_n tokens */
	int      repeat_last_n;  /* 64 */
	uint64_t seed;
};

/* Called on the stepping thread with the logits of every sampled position (all
 * positions of the prompt too when logits_all): f32[n_vocab], valid during the call. */
typedef void (*hr_logits_fn)(void *user, uint64_t id, int position, const float *logits, int n_vocab);

struct hr_request {
	const char        *text;   /* UTF-8, tokenized as hr_model_tokenize(add_special, parse_special) ... */
	size_t             length; /* 0: strlen(text) */
	bool               add_special, parse_special;
	const int32_t     *ids; /* ... or token ids, when not NULL */
	size_t             n_ids;
	int                max_new_tokens; /* 0: until EOS or the end of the context */
	bool               ignore_eos;
	struct hr_sampling sampling;
	const char *const *stop; /* strings that end the output, not part of it */
	int                n_stop;
	bool               logits_all;
	bool               hash_logits; /* true: keep logits_xxh64. Without it, and without on_logits, only what
	                                 * sampling needs leaves a GPU; the tokens are the same */
	hr_logits_fn on_logits;
	void        *user;
};
void hr_request_init(struct hr_request *request);

/* Queue a request; it joins the batch at the next step that has room for it.
 * HR_ECONTEXT: prompt (plus one token) longer than n_ctx. HR_EINVAL: an empty prompt, a bad id. */
int hr_session_submit(struct hr_session *session, const struct hr_request *request, uint64_t *id,
                      struct hr_error *err);

/* One pass through all layers for the current batch: prefill and decode mixed.
 * 1: more to do; 0: idle, every request is finished; negative: the pass failed, and
 * so does every later step (the session can only be closed). Blocks for the pass. */
int hr_session_step(struct hr_session *session, struct hr_error *err);

/* Move text that `id` has produced and that was not read yet to `text` (whole UTF-8 characters,
 * not NUL-terminated). Returns bytes, 0: none now, HR_EINVAL: no such request. */
int64_t hr_session_read(struct hr_session *session, uint64_t id, char *text, size_t capacity);

enum hr_finish { HR_RUNNING, HR_FINISH_STOP, HR_FINISH_LENGTH, HR_FINISH_CANCELED, HR_FINISH_ERROR };

struct hr_request_state {
	enum hr_finish finish;
	int            n_prompt_tokens;
	int            n_new_tokens;
	uint64_t       logits_xxh64;        /* over the raw bits of the logits of every sampled position; of
	                                     * nothing without hash_logits */
	uint64_t first_token_ns, finish_ns; /* since submit; 0: not yet */
};
int hr_session_state(struct hr_session *session, uint64_t id, struct hr_request_state *out);
/* Generated ids so far; returns how many there are. */
int64_t hr_session_tokens(struct hr_session *session, uint64_t id, int32_t *ids, size_t capacity);
int     hr_session_cancel(struct hr_session *session, uint64_t id); /* takes effect between passes */
int     hr_session_forget(struct hr_session *session, uint64_t id); /* a finished request: free its memory */

/* ---- Encoders -------------------------------------------------------------- */

struct hr_text {
	const char *text; /* UTF-8 */
	size_t      length;
	const char *pair; /* a second text that belongs to it, or NULL */
	size_t      pair_length;
};

/* Classify texts: logits[n_texts][n_labels] and, made of them by softmax or sigmoid as the model's
 * problem_type says, scores of the same shape; either may be NULL. Texts go through the layers many at a
 * time, sorted by length; results are in the order of `texts`. Blocks; `progress` (NULL is fine) counts texts
 * and may stop it between passes. HR_EUNSUPPORTED: no encoder, or no trained head (see
 * hr_plan_options.allow_untrained_head), or no template for pairs; HR_ECANCELED; as hr_session_step(). */
int hr_session_classify(struct hr_session *session, const struct hr_text *texts, size_t n_texts,
                        float *logits, float *scores, hr_progress_fn progress, void *user,
                        struct hr_error *err);

/* The same for embeddings[n_texts][n_embd], pooled and normalised as the model's files say. */
int hr_session_embed(struct hr_session *session, const struct hr_text *texts, size_t n_texts,
                     float *embeddings, hr_progress_fn progress, void *user, struct hr_error *err);

/* What was measured since the session was opened (or since hr_session_reset_report). */
struct hr_report {
	double   load_ms;
	uint64_t prefill_tokens, decode_tokens, passes;
	double   prefill_ms, decode_ms; /* a pass counts as prefill when it holds prompt tokens */
	double   pass_ms_median, decode_pass_ms_median;
	uint64_t disk_bytes, link_bytes; /* streamed */
	double   disk_gbps, link_gbps;   /* 1e9 bytes per second while busy; 0: not used */
	double   compute_ms, stall_ms;
	double   ceiling_ms; /* of all passes: the slowest of disk, link and compute alone */
	double   efficiency; /* ceiling_ms / time of the passes */
	uint64_t device_peak_bytes, host_peak_bytes, rss_peak_bytes;
	uint64_t logits_xxh64; /* over all requests in order of submission; of an encoder, over the raw bits of
	                        * all logits and embeddings that were asked for, in order of the texts */
};
void hr_session_report(struct hr_session *session, struct hr_report *out);
void hr_session_reset_report(struct hr_session *session);

/* Chrome/Perfetto JSON of the passes so far. HR_EINVAL without options.trace; HR_EIO. */
int hr_session_write_trace(struct hr_session *session, const char *path, struct hr_error *err);

/* The same, span by span in order of begin; times are CLOCK_MONOTONIC's. HR_EINVAL, HR_ENOMEM. */
int hr_session_visit_trace(struct hr_session *session, hr_span_fn fn, void *user, struct hr_error *err);

/* ---- Tuning ---------------------------------------------------------------- */

/* What is tuned for: every sequence has a prompt and generates; an encoder's texts are prompts alone. */
struct hr_tuner_job {
	int n_prompt; /* tokens; 0: only generating counts */
	int n_gen;
};

/* Finds the slots, chunk, depth, staging, reader and threads that are the quickest on this machine, and,
 * where the job has several sequences or long prompts, how many sequences and tokens to take at a time: out
 * of those that `options` leave open (options->n_seqs: how many sequences there are). The tuner says what to
 * try; the caller tries it, in a process of its own if a failure should cost no more than that, and tells
 * what came of it:
 *
 *     while (hr_tuner_next(tuner, &trial, &predicted) > 0)
 *         hr_tuner_tell(tuner, tokens per second of the job with `trial`, how far off that may be);
 *     hr_tuner_store(tuner, &err);      later runs with the same cache_dir use it
 *
 * Tokens are those of prompts (if they count) and those generated, of all sequences together.
 * Rates that cache_dir lacks are measured first. */
struct hr_tuner;
int  hr_tuner_new(struct hr_tuner **out, const struct hr_model *model, const struct hr_plan_options *options,
                  const struct hr_tuner_job *job, struct hr_error *err);
void hr_tuner_free(struct hr_tuner *tuner); /* NULL is fine */

/* 1: `trial` is to be tried (its strings are the tuner's or the caller's own); 0: nothing better is to
 * be found nearby. `*predicted_tps`: of the job, 0 when nothing is predicted. */
int hr_tuner_next(struct hr_tuner *tuner, struct hr_plan_options *trial, double *predicted_tps);
/* What the last trial reached; 0 when it failed. */
void hr_tuner_tell(struct hr_tuner *tuner, double tps, double noise);
/* The best trial so far. HR_EINVAL: none succeeded. */
int hr_tuner_best(const struct hr_tuner *tuner, struct hr_plan_options *best, double *tps, int *n_trials);
/* Keep it as the profile of this machine and model. HR_EINVAL, HR_EIO (what was there stays). */
int hr_tuner_store(const struct hr_tuner *tuner, struct hr_error *err);

/* The drive alone: its rate in GB/s over chunk and reads in flight, with `reader` ("uring", "pread"),
 * reading the model's largest file for about `seconds`. Blocks. */
typedef void (*hr_disk_rate_fn)(void *user, uint64_t chunk_bytes, int depth, double gbps);
int hr_model_measure_disk(const struct hr_model *model, const char *reader, double seconds,
                          hr_disk_rate_fn fn, void *user, struct hr_error *err);

/* ---- The machine ----------------------------------------------------------- */

enum hr_check_status { HR_CHECK_OK, HR_CHECK_SLOW, HR_CHECK_MISSING };
struct hr_check {
	const char          *name; /* "io_uring", "disk", "gpu_memory", "link_to_gpu", ... */
	enum hr_check_status status;
	const char          *detail; /* what was found, with units */
	const char          *advice; /* what to do; empty when ok */
	double               value;  /* the figure, where there is one: GB/s, bytes; else 0 */
};
/* Look at this machine; disk rates are measured with a temporary file in
 * `directory` (NULL: the current one), removed afterwards. Strings are valid during the call. */
typedef void (*hr_check_fn)(void *user, const struct hr_check *check);
int hr_doctor(const char *directory, hr_check_fn fn, void *user, struct hr_error *err);

/* ---- Converting ------------------------------------------------------------ */

struct hr_quantize_options {
	const char *type;      /* one of hr_quantize_types() */
	bool        pure;      /* all matrices alike; else some get a finer type, as llama.cpp has it */
	bool allow_requantize; /* also from weights that are quantised already, which adds to their error */
	bool replace;          /* an existing file */
	int  n_threads;        /* 0: one per core; the result is the same for any number */
	hr_notice_fn   on_notice;
	hr_progress_fn on_progress; /* bytes of the result */
	void          *user;        /* for both */
};
void hr_quantize_options_init(struct hr_quantize_options *options);

struct hr_quantize_result {
	uint64_t source_bytes, bytes; /* of the weights before, and of the file */
	int      n_tensors;
	int      n_converted; /* that changed their type */
	int      n_fallbacks; /* whose rows are no multiple of the type's block: they got another one */
};

/* Write the weights of a model, a GGUF (also split in shards) or a Hugging Face directory, as one GGUF of
 * another type, with its metadata and tokenizer, readable by llama.cpp too; tensors are aligned to 4096
 * bytes, for direct I/O. Matrices are converted, norms and biases stay floats. Needs some megabytes of memory
 * for each thread, whatever the model's size. The file appears under its name once it is whole and on the
 * disk; a failure leaves nothing behind. `result`: NULL is fine. HR_EINVAL: an unknown type, or the file is
 * there already; HR_EUNSUPPORTED: weights that are quantised already, or a model or tokenizer that GGUF can't
 * describe; HR_ECANCELED; HR_EIO; as hr_model_open(). Blocks. */
int         hr_quantize(const char *out, const char *model, const struct hr_quantize_options *options,
                        struct hr_quantize_result *result, struct hr_error *err);
bool        hr_quantize_has_type(const char *type);
const char *hr_quantize_types(void); /* "f32, f16, ..., q4_k_m, ..." */

/* Open a model with its weights as `options->type`: converted once to a GGUF in `cache_dir`, which is
 * streamed from and found again as long as the model's files are the same. A notice says where it is. A model
 * that has that type already is opened as it is; the type "auto" does so with every model. As hr_quantize()
 * and hr_model_open(); HR_EINVAL: no cache_dir. */
int hr_model_open_as(struct hr_model **out, const char *model, const struct hr_quantize_options *options,
                     const char *cache_dir, struct hr_error *err);

/* Write a GGUF of real shapes and random weights. `like`: a name out of
 * hr_synth_shapes(); `type`: "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0",
 * "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4". The same seed gives the same
 * file. Written to a temporary name and renamed; HR_EIO leaves nothing behind. */
int hr_synth(const char *path, const char *like, const char *type, uint64_t seed, hr_progress_fn progress,
             void *user, struct hr_error *err);
const char *hr_synth_shapes(void); /* "tinyllama-1.1b, llama-7b, ..." */

#ifdef __cplusplus
}
#endif
#endif
