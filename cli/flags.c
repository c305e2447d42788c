/* The flags: one table, which parsing, the environment, --help, the manual page
 * and the command line that `plan` prints are all made from.
 *
 * A row names a flag, the commands that take it, and the field it fills. What was
 * said on the command line wins over the environment, where each flag has a twin
 * named HEADRACE_ and its name: --device-memory is HEADRACE_DEVICE_MEMORY. A flag
 * that a command has no use for is refused, never accepted in vain. */
#include "cli/cli.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	FLAG_BOOL,
	FLAG_TEXT,
	FLAG_CHOICE, /* one of the words of `value`; a word that ends with N stands for a number there */
	FLAG_INT,
	FLAG_INT_AUTO, /* "auto" is HR_AUTO */
	FLAG_WINDOW,   /* FLAG_INT_AUTO, or "full" */
	FLAG_SEED,
	FLAG_SIZE,
	FLAG_REAL,
};

struct flag {
	const char *names; /* the first is the name; others are accepted too */
	enum kind   kind;
	const char *value; /* what the help calls it */
	size_t      field;
	unsigned    commands;
	double      min, max;
	const char *group;
	const char *help;
};

#define FIELD(f) offsetof(struct hr_cli_options, f)
#define HR_CLI_ALL                                                                                           \
	(HR_CLI_RUN | HR_CLI_CHAT | HR_CLI_PLAN | HR_CLI_INSPECT | HR_CLI_DOCTOR | HR_CLI_SYNTH | HR_CLI_BENCH | \
	 HR_CLI_TUNE | HR_CLI_QUANTIZE | ENCODING)
#define PLANNING  (HR_CLI_RUN | HR_CLI_CHAT | HR_CLI_PLAN | ENCODING)
#define MEASURING (PLANNING | HR_CLI_BENCH | HR_CLI_TUNE)
#define TALKING   (HR_CLI_RUN | HR_CLI_CHAT)
#define ENCODING  (HR_CLI_CLASSIFY | HR_CLI_EMBED)

/* clang-format off */
static const struct flag flags[] = {
#define G "Input"
	{"model m", FLAG_TEXT, "MODEL", FIELD(target), MEASURING | HR_CLI_INSPECT, 0, 0, G,
	 "a GGUF file (the first shard of a split one) or a Hugging Face directory"},
	{"prompt p", FLAG_TEXT, "TEXT", FIELD(prompt), HR_CLI_RUN, 0, 0, G, "the text to continue; - reads standard input"},
	{"file f", FLAG_TEXT, "FILE", FIELD(file), ENCODING, 0, 0, G,
	 "many texts: JSONL with \"text\" and perhaps a \"pair\" that belongs to it; writes JSONL"},
	{"pairs", FLAG_BOOL, NULL, FIELD(pairs), ENCODING, 0, 0, G, "the texts belong together two by two"},
	{"allow-untrained-head", FLAG_BOOL, NULL, FIELD(plan.allow_untrained_head), HR_CLI_CLASSIFY, 0, 0, G,
	 "make up a random classifier where the model has none"},
	{"file f", FLAG_TEXT, "FILE", FIELD(file), HR_CLI_RUN, 0, 0, G,
	 "many prompts as one batch: JSONL with \"prompt\" and perhaps \"max_new_tokens\"; writes JSONL"},
	{"chat", FLAG_BOOL, NULL, FIELD(chat), HR_CLI_RUN, 0, 0, G,
	 "put each prompt into the model's chat template (without it, it is continued as it stands)"},
	{"system", FLAG_TEXT, "TEXT", FIELD(system), TALKING, 0, 0, G, "a system message before the conversation"},
#undef G
#define G "Generation"
	{"n-predict n", FLAG_INT, "N", FIELD(n_predict), TALKING, -1, INT_MAX, G,
	 "most tokens to generate; -1: until the model stops (run: 128, chat: -1)"},
	{"temp", FLAG_REAL, "T", FIELD(sampling.temperature), TALKING, 0, 100, G, "temperature; 0 takes the likeliest token (0)"},
	{"top-k", FLAG_INT, "N", FIELD(sampling.top_k), TALKING, 0, INT_MAX, G, "sample from the N likeliest tokens; 0: all (0)"},
	{"top-p", FLAG_REAL, "P", FIELD(sampling.top_p), TALKING, 0, 1, G, "sample from the likeliest tokens that add up to P (1)"},
	{"min-p", FLAG_REAL, "P", FIELD(sampling.min_p), TALKING, 0, 1, G, "leave out tokens less likely than P times the likeliest (0)"},
	{"repeat-penalty", FLAG_REAL, "X", FIELD(sampling.repeat_penalty), TALKING, 0.01, 100, G,
	 "make tokens of the last 64 less likely; 1: off (1)"},
	{"seed", FLAG_SEED, "N", FIELD(sampling.seed), TALKING | HR_CLI_SYNTH, 0, 0, G, "the same seed gives the same result (0)"},
	{"ignore-eos", FLAG_BOOL, NULL, FIELD(ignore_eos), TALKING, 0, 0, G, "go on past the end-of-text token"},
#undef G
#define G "Memory"
	{"device", FLAG_CHOICE, "auto|cpu|cuda|cuda:N", FIELD(plan.device), MEASURING, 0, 0, G, "where to compute (auto)"},
	{"device-memory max-vram", FLAG_SIZE, "SIZE", FIELD(plan.device_memory_bytes), PLANNING | HR_CLI_TUNE, 0, 0, G,
	 "device memory to use; on the CPU, RAM for weights (what is free, less a margin)"},
	{"host-memory", FLAG_SIZE, "SIZE", FIELD(plan.host_memory_bytes), MEASURING, 0, 0, G,
	 "pinned RAM for layers that don't fit a GPU (what is free, less a margin)"},
	{"max-memory", FLAG_TEXT, "JSON", FIELD(max_memory), PLANNING, 0, 0, G,
	 "both, as Accelerate writes them: '{\"0\": \"8GiB\", \"cpu\": \"30GiB\"}'"},
	{"device-map", FLAG_TEXT, "auto|FILE", FIELD(device_map), PLANNING, 0, 0, G,
	 "JSON that says where each module goes: {\"model.layers.0\": 0, ...: \"cpu\", ...: \"disk\"} (auto)"},
	{"window", FLAG_WINDOW, "N|auto|full", FIELD(plan.window_layers), PLANNING | HR_CLI_TUNE, 0, INT_MAX, G,
	 "layers on the device, those that stay and the slots together; full: all, or fail (auto)"},
	{"no-fallback", FLAG_BOOL, NULL, FIELD(plan.no_fallback), PLANNING, 0, 0, G,
	 "fail where memory falls short, instead of a smaller window, pass or context, or the CPU"},
	{"resident-layers", FLAG_INT_AUTO, "N|auto", FIELD(plan.resident_layers), MEASURING, 0, INT_MAX, G,
	 "at most so many layers stay on the device (auto)"},
	{"slots", FLAG_INT_AUTO, "N|auto", FIELD(plan.slots), MEASURING, 2, INT_MAX, G,
	 "device memory for so many streamed layers, or pieces of large ones, at least 2 (auto)"},
	{"dtype", FLAG_CHOICE, "auto|f32|f16|bf16", FIELD(dtype), MEASURING, 0, 0, G,
	 "the type of the weights, converted once and kept in the cache; auto: as in the file (auto)"},
	{"quantize", FLAG_TEXT, "TYPE", FIELD(quantize), MEASURING, 0, 0, G,
	 "the same with a smaller type: q8_0, q4_0, q4_k, ... (`headrace quantize --help` lists them)"},
	{"kv-type", FLAG_CHOICE, "f16|f32", FIELD(plan.kv_type), MEASURING, 0, 0, G, "the type of the KV cache (f16)"},
	{"ctx-size c", FLAG_INT, "N", FIELD(plan.n_ctx), MEASURING, 1, INT_MAX, G,
	 "tokens of context for each sequence (what the prompts and -n need; plan, chat: at most 4096); with longrope also which factors"},
	{"assume", FLAG_TEXT, "CARD", FIELD(assume), HR_CLI_PLAN, 0, 0, G,
	 "plan for a machine that is described instead of measured: a JSON file, or a card by name (rtx-4090, laptop-rtx-4060, ...)"},
	{"batch-size b", FLAG_INT, "N", FIELD(plan.n_batch), MEASURING, 1, INT_MAX, G, "most tokens in a pass (512)"},
	{"parallel np", FLAG_INT, "N", FIELD(plan.n_seqs), HR_CLI_RUN | HR_CLI_PLAN, 1, INT_MAX, G,
	 "sequences at the same time (1; with -f as many as prompts, at most 64)"},
	{"parallel np", FLAG_INT, "N", FIELD(plan.n_seqs), HR_CLI_TUNE, 1, INT_MAX, G,
	 "sequences of the job; how many of them at a time is tuned (1; an encoder's texts: 64)"},
#undef G
#define G "Speed"
	{"threads t", FLAG_INT, "N", FIELD(plan.n_threads), MEASURING | HR_CLI_QUANTIZE, 1, 4096, G, "compute threads (one per core)"},
	{"reader", FLAG_CHOICE, "auto|uring|pread", FIELD(plan.reader), MEASURING, 0, 0, G, "how files are read (auto)"},
	{"chunk", FLAG_SIZE, "SIZE", FIELD(plan.chunk_bytes), MEASURING, 0, 0, G, "bytes of one read (auto)"},
	{"read-depth", FLAG_INT, "N", FIELD(plan.read_depth), MEASURING, 1, 4096, G, "reads in flight (auto)"},
	{"staging", FLAG_INT, "N", FIELD(plan.staging_buffers), MEASURING, 2, 4096, G,
	 "pinned buffers of one chunk each between the drive and a GPU (auto: the reads in flight, and 4)"},
	{"max-disk-rate", FLAG_SIZE, "SIZE", FIELD(plan.max_disk_rate), MEASURING, 0, 0, G,
	 "read at most so many bytes per second (unlimited)"},
	{"cpu-isa", FLAG_CHOICE, "auto|portable|avx2|avx512|amx", FIELD(plan.cpu_isa), MEASURING, 0, 0, G,
	 "the instruction set of the CPU kernels (auto)"},
#undef G
#define G "Measuring"
	{"window", FLAG_TEXT, "N,...,full", FIELD(windows), HR_CLI_BENCH, 0, 0, G,
	 "the windows to compare, in layers; full is the full load (some of each, and full)"},
	{"device-memory max-vram", FLAG_TEXT, "SIZE,...", FIELD(budgets), HR_CLI_BENCH, 0, 0, G,
	 "budgets to compare instead of windows; the full load goes without"},
	{"batch", FLAG_TEXT, "N,...", FIELD(batches), HR_CLI_BENCH, 0, 0, G, "sequences at the same time (1; an encoder's texts: 64)"},
	{"n-prompt p", FLAG_TEXT, "N,...", FIELD(prompts), HR_CLI_BENCH, 0, 0, G,
	 "tokens of the prompts; 0: time no prefill (512; of an encoder's texts: 128)"},
	{"n-prompt p", FLAG_INT, "N", FIELD(tune_prompt), HR_CLI_TUNE, 0, 1 << 20, G,
	 "tokens of the prompts of the job to tune for; 0: only what is generated counts (0; of an encoder's texts: 128)"},
	{"n-gen n", FLAG_TEXT, "N,...", FIELD(gens), HR_CLI_BENCH, 0, 0, G, "tokens to generate; 0: time no decode (32)"},
	{"n-gen n", FLAG_INT, "N", FIELD(tune_gen), HR_CLI_TUNE, 0, 1 << 20, G,
	 "tokens that the job generates for each sequence (128, of which a trial generates as many as take a second)"},
	{"repetitions r", FLAG_INT, "N", FIELD(repetitions), HR_CLI_BENCH | HR_CLI_TUNE, 1, 1000, G, "how often, all settings in turns (3)"},
	{"minutes", FLAG_REAL, "N", FIELD(minutes), HR_CLI_TUNE, 0.05, 1e4, G, "most time to spend on trials (3)"},
	{"io-only", FLAG_BOOL, NULL, FIELD(io_only), HR_CLI_TUNE, 0, 0, G, "measure the drive alone: chunks, reads in flight, readers"},
	{"no-full", FLAG_BOOL, NULL, FIELD(no_full), HR_CLI_BENCH, 0, 0, G, "leave the full load out"},
	{"no-predict", FLAG_BOOL, NULL, FIELD(no_predict), HR_CLI_BENCH, 0, 0, G,
	 "predict from what was measured earlier, if anything was; measure no rates first"},
	{"output o", FLAG_CHOICE, "md|csv|json|jsonl", FIELD(format), HR_CLI_BENCH, 0, 0, G, "the form of the table (md)"},
	{"html", FLAG_TEXT, "FILE", FIELD(html), HR_CLI_BENCH, 0, 0, G,
	 "write a page with pictures too: speed and memory over the window, predicted against measured, one pass in time"},
#undef G
#define G "Model to write"
	{"like", FLAG_TEXT, "SHAPE", FIELD(like), HR_CLI_SYNTH, 0, 0, G, "whose shapes"},
	{"type", FLAG_TEXT, "TYPE", FIELD(type), HR_CLI_QUANTIZE, 0, 0, G, "the type of the weights (q4_k_m)"},
	{"pure", FLAG_BOOL, NULL, FIELD(pure), HR_CLI_QUANTIZE, 0, 0, G,
	 "all matrices alike; without it some get a finer type, the same ones as with llama.cpp"},
	{"allow-requantize", FLAG_BOOL, NULL, FIELD(allow_requantize), HR_CLI_QUANTIZE, 0, 0, G,
	 "from weights that are quantised already, too, which adds to their error"},
	{"force", FLAG_BOOL, NULL, FIELD(force), HR_CLI_QUANTIZE, 0, 0, G, "replace OUT where there is such a file"},
	{"type", FLAG_CHOICE, "f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|q2_k|q3_k|q4_k|q5_k|q6_k|iq4_nl|iq4_xs|mxfp4", FIELD(type), HR_CLI_SYNTH, 0, 0, G, "the type of the weights (q4_0)"},
#undef G
#define G "Output"
	{"json", FLAG_BOOL, NULL, FIELD(json), HR_CLI_ALL, 0, 0, G, "one JSON document on standard output, and nothing else there"},
	{"stats", FLAG_BOOL, NULL, FIELD(stats), TALKING | ENCODING, 0, 0, G, "say at the end what was done and how fast, on standard error"},
	{"trace", FLAG_TEXT, "FILE", FIELD(trace), TALKING | ENCODING, 0, 0, G,
	 "write what happened when, on lanes disk, link, compute, host, as Chrome/Perfetto JSON"},
	{"tensors", FLAG_BOOL, NULL, FIELD(tensors), HR_CLI_INSPECT, 0, 0, G, "list every tensor with its shape, type and place"},
#undef G
};
/* clang-format on */

enum { N_FLAGS = sizeof flags / sizeof *flags, NAME_MAX_BYTES = 32 };

static const char *given[N_FLAGS]; /* the text a flag was given; NULL: not given */

/* The `index`th name of a flag; false past the last. */
static bool flag_name(const struct flag *f, int index, char name[NAME_MAX_BYTES])
{
	const char *p = f->names;
	for (; index; index--) {
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	size_t n = strcspn(p, " ");
	snprintf(name, NAME_MAX_BYTES, "%.*s", (int)n, p);
	return n > 0;
}

/* "-n" and "-np", but "--slots". */
static const char *dashes(const char *name) { return strlen(name) <= 2 ? "-" : "--"; }

/* Is `word`, dashes and all, one of the names? */
static bool has_name(const struct flag *f, const char *word, size_t length)
{
	char name[NAME_MAX_BYTES];
	for (int i = 0; flag_name(f, i, name); i++) {
		size_t n_dashes = strlen(dashes(name));
		if (length == n_dashes + strlen(name) && !strncmp(word, dashes(name), n_dashes) &&
		    !strncmp(word + n_dashes, name, strlen(name)))
			return true;
	}
	return false;
}

/* The flag of this name that a command has, or else one that others have; `*commands`: all of them. */
static const struct flag *find_flag(const char *word, size_t length, unsigned command_bit, unsigned *commands)
{
	const struct flag *found = NULL;
	*commands = 0;
	for (const struct flag *f = flags; f < flags + N_FLAGS; f++) {
		if (!has_name(f, word, length))
			continue;
		*commands |= f->commands;
		if (!found || (f->commands & command_bit))
			found = f;
	}
	return found;
}

/* ---- One value into its field -------------------------------------------------- */

/* `text` is one of the words of "auto|cpu|cuda:N". */
static bool is_choice(const char *choices, const char *text)
{
	for (const char *p = choices; *p; p += strcspn(p, "|"), p += *p == '|') {
		size_t n = strcspn(p, "|");
		if (p[n - 1] == 'N' && !strncmp(p, text, n - 1) && text[n - 1] &&
		    strspn(text + n - 1, "0123456789") == strlen(text + n - 1))
			return true;
		if (strlen(text) == n && !strncmp(p, text, n))
			return true;
	}
	return false;
}

static bool read_bool(const char *text, bool *value)
{
	static const char *const words[] = {"", "0", "false", "no", "off", "1", "true", "yes", "on"};
	for (int i = 0; i < (int)(sizeof words / sizeof *words); i++) {
		if (!strcmp(text, words[i])) {
			*value = i >= 5;
			return true;
		}
	}
	return false;
}

/* Store `text` in the flag's field; false when it isn't a value of this flag. */
static bool store_value(struct hr_cli_options *o, const struct flag *f, const char *text)
{
	void     *field = (char *)o + f->field;
	long long n;
	double    x;
	switch (f->kind) {
	case FLAG_BOOL:
		return read_bool(text, field);
	case FLAG_CHOICE:
		if (!is_choice(f->value, text))
			return false;
		__attribute__((fallthrough));
	case FLAG_TEXT:
		*(const char **)field = text;
		return true;
	case FLAG_WINDOW:
		o->plan.full = !strcmp(text, "full");
		if (o->plan.full)
			return true;
		__attribute__((fallthrough));
	case FLAG_INT_AUTO:
		if (!strcmp(text, "auto")) {
			*(int *)field = HR_AUTO;
			return true;
		}
		__attribute__((fallthrough));
	case FLAG_INT:
		if (!hr_cli_parse_int(text, (long long)f->min, (long long)f->max, &n))
			return false;
		*(int *)field = (int)n;
		return f->field != FIELD(n_predict) || n; /* 0 tokens would be nothing at all */
	case FLAG_SEED:
		if (!hr_cli_parse_int(text, 0, LLONG_MAX, &n))
			return false;
		*(uint64_t *)field = (uint64_t)n;
		return true;
	case FLAG_SIZE:
		return hr_cli_parse_size(text, field);
	case FLAG_REAL:
		if (!hr_cli_parse_real(text, f->min, f->max, &x))
			return false;
		*(float *)field = (float)x;
		return true;
	}
	return false;
}

static int fail_value(const struct flag *f, const char *where, const char *text)
{
	switch (f->kind) {
	case FLAG_BOOL:
		return hr_cli_fail_usage("%s wants 1 or 0, not \"%s\".", where, text);
	case FLAG_SIZE:
		return hr_cli_fail_usage("%s wants a size above zero such as 300MB, 1.5GiB or 4096, not \"%s\".",
		                         where, text);
	case FLAG_REAL:
		return hr_cli_fail_usage("%s wants a number from %g to %g, not \"%s\".", where, f->min, f->max, text);
	case FLAG_SEED:
		return hr_cli_fail_usage("%s wants a whole number, not \"%s\".", where, text);
	case FLAG_CHOICE:
		return hr_cli_fail_usage("%s wants %s, not \"%s\".", where, f->value, text);
	default:
		return hr_cli_fail_usage("%s wants %s, a whole number from %.0f%s, not \"%s\".", where, f->value,
		                         f->min, f->field == FIELD(n_predict) ? " but not 0" : "", text);
	}
}

static int set_flag(struct hr_cli_options *o, const struct flag *f, const char *where, const char *text)
{
	if (f->field == FIELD(target) && o->target)
		return hr_cli_fail_usage("The model is %s already; %s %s is one too many.", o->target, where, text);
	if (!store_value(o, f, text))
		return fail_value(f, where, text);
	given[f - flags] = text;
	return HR_EXIT_OK;
}

/* ---- The command line and the environment ---------------------------------------- */

static int edit_distance(const char *a, const char *b)
{
	int row[64];
	int n = (int)strlen(b);
	if (n > 63)
		return n;
	for (int j = 0; j <= n; j++)
		row[j] = j;
	for (int i = 1; a[i - 1]; i++) {
		int diagonal = row[0];
		row[0] = i;
		for (int j = 1; j <= n; j++) {
			int change = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			int insert = row[j - 1] + 1, delete = row[j] + 1;
			row[j] = change < insert ? change : insert;
			row[j] = row[j] < delete ? row[j] : delete;
		}
	}
	return row[n];
}

const char *hr_cli_nearest(const char *word, const char *const *names, int n_names)
{
	const char *nearest = NULL;
	int         least = INT_MAX;
	for (int i = 0; i < n_names; i++) {
		int distance = edit_distance(word, names[i]);
		if (distance < least) {
			least = distance;
			nearest = names[i];
		}
	}
	return nearest;
}

static int fail_unknown(const struct hr_cli_command *command, const char *word)
{
	static char names[N_FLAGS][NAME_MAX_BYTES + 2];
	const char *list[N_FLAGS];
	int         n = 0;
	for (int i = 0; i < N_FLAGS; i++) {
		char name[NAME_MAX_BYTES];
		if (!(flags[i].commands & command->bit))
			continue;
		flag_name(&flags[i], 0, name);
		snprintf(names[n], sizeof names[n], "%s%s", dashes(name), name);
		list[n] = names[n];
		n++;
	}
	return hr_cli_fail_usage("`headrace %s` has no flag %s; the nearest is %s.", command->name, word,
	                         hr_cli_nearest(word, list, n));
}

static int fail_not_here(const struct hr_cli_command *command, unsigned commands, const char *word)
{
	char where[128] = "";
	for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++) {
		size_t n = strlen(where);
		if (c->bit & commands)
			snprintf(where + n, sizeof where - n, "%s`%s`", n ? ", " : "", c->name);
	}
	return hr_cli_fail_usage("%s would do nothing for `headrace %s`; it is a flag of %s.", word,
	                         command->name, where);
}

/* One word that begins with a dash; `next` is the word after it, or NULL. `*used_next` as it says. */
static int parse_flag(struct hr_cli_options *o, const struct hr_cli_command *command, const char *word,
                      const char *next, bool *used_next)
{
	size_t             length = strcspn(word, "=");
	char               name[64];
	unsigned           commands;
	const struct flag *f = find_flag(word, length, command->bit, &commands);
	snprintf(name, sizeof name, "%.*s", (int)length, word);
	if (!f)
		return fail_unknown(command, name);
	if (!(f->commands & command->bit))
		return fail_not_here(command, commands, name);
	if (f->kind == FLAG_BOOL)
		return word[length] ? set_flag(o, f, name, word + length + 1) : set_flag(o, f, name, "1");
	if (word[length])
		return set_flag(o, f, name, word + length + 1);
	if (!next)
		return hr_cli_fail_usage("%s wants a value: %s.", name, f->value);
	*used_next = true;
	return set_flag(o, f, name, next);
}

static int parse_environment(struct hr_cli_options *o, const struct hr_cli_command *command)
{
	for (const struct flag *f = flags; f < flags + N_FLAGS; f++) {
		char name[NAME_MAX_BYTES], twin[NAME_MAX_BYTES + 16];
		for (int i = 0; (f->commands & command->bit) && !given[f - flags] && flag_name(f, i, name); i++) {
			snprintf(twin, sizeof twin, "HEADRACE_%s", name);
			for (char *p = twin; *p; p++)
				*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
			const char *text = getenv(twin);
			/* The word on the command line is as good as --model. */
			if (!text || (f->field == FIELD(target) && o->target))
				continue;
			int code = set_flag(o, f, twin, text);
			if (code)
				return code;
		}
	}
	return HR_EXIT_OK;
}

int hr_cli_parse(struct hr_cli_options *o, const struct hr_cli_command *command, int argc, char **argv,
                 bool *help)
{
	bool only_words = false;
	int  code = HR_EXIT_OK;
	for (int i = 0; i < argc && !code; i++) {
		const char *word = argv[i];
		if (!only_words && (!strcmp(word, "--help") || !strcmp(word, "-h"))) {
			*help = true;
			return HR_EXIT_OK;
		}
		if (!only_words && !strcmp(word, "--")) {
			only_words = true;
		} else if (!only_words && word[0] == '-' && word[1]) {
			bool used_next = false;
			code = parse_flag(o, command, word, i + 1 < argc ? argv[i + 1] : NULL, &used_next);
			i += used_next;
		} else if (o->target &&
		           (command->bit & ENCODING || (command->bit & HR_CLI_QUANTIZE && !o->n_words))) {
			o->words[o->n_words++] = argv[i];
		} else if (o->target) {
			return hr_cli_fail_usage(
			    "`headrace %s` takes one %s, which is %s already; \"%s\" is one word too many.",
			    command->name, command->target, o->target, word);
		} else {
			o->target = word;
		}
	}
	if (!code)
		code = parse_environment(o, command);
	if (!code && !o->target && command->target_required)
		code = hr_cli_fail_usage("`headrace %s` wants a %s: headrace %s %s %s.", command->name,
		                         command->target, command->name, command->target, command->usage);
	return code;
}

/* ---- What the table says -------------------------------------------------------- */

/* "-n, --n-predict N" */
static void describe_flag(const struct flag *f, char *out, size_t capacity)
{
	char   name[NAME_MAX_BYTES];
	size_t n = 0;
	out[0] = 0;
	for (int pass = 0; pass < 2; pass++) { /* one letter first */
		for (int i = 0; flag_name(f, i, name); i++) {
			if ((strlen(name) <= 2) == (pass == 0))
				n += (size_t)snprintf(out + n, capacity - n, "%s%s%s", n ? ", " : "", dashes(name), name);
		}
	}
	if (f->value)
		snprintf(out + n, capacity - n, " %s", f->value);
}

void hr_cli_print_help(const struct hr_cli_command *command)
{
	const char *group = "";
	printf("headrace %s: %s\n\nusage: headrace %s %s %s\n\nexample: %s\n", command->name, command->summary,
	       command->name, command->target, command->usage, command->example);
	for (const struct flag *f = flags; f < flags + N_FLAGS; f++) {
		char text[128];
		if (!(f->commands & command->bit))
			continue;
		if (strcmp(group, f->group))
			printf("\n%s\n", f->group);
		group = f->group;
		describe_flag(f, text, sizeof text);
		if (strlen(text) > 32)
			printf("  %s\n  %-32s  %s\n", text, "", f->help);
		else
			printf("  %-32s  %s\n", text, f->help);
	}
	if (command->bit & (PLANNING | HR_CLI_INSPECT | HR_CLI_QUANTIZE))
		printf("\nModel families: %s\n", hr_families());
	if (command->bit & HR_CLI_INSPECT)
		printf("\nTypes of weights: %s\n", hr_types());
	if (command->bit & HR_CLI_QUANTIZE)
		printf("\nTypes: %s\n", hr_quantize_types());
	if (command->bit & HR_CLI_SYNTH)
		printf("\nShapes: %s\n", hr_synth_shapes());
	printf("\nSizes are bytes, or have a unit: MB, GB (1000s), MiB, GiB, M, G (1024s).\n"
	       "Each flag has an environment twin: --device-memory is HEADRACE_DEVICE_MEMORY. The flag wins.\n");
}

static void print_roff(const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '-')
			putchar('\\');
		putchar(*text);
	}
}

void hr_cli_print_man(void)
{
	printf(".TH HEADRACE 1 \"\" \"headrace %s\" \"User Commands\"\n.SH NAME\nheadrace \\- run transformer "
	       "models "
	       "larger than the memory of the device\n.SH SYNOPSIS\n",
	       hr_version());
	for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++) {
		printf(".B headrace %s\n", c->name);
		print_roff(c->target);
		putchar(' ');
		print_roff(c->usage);
		printf("\n.br\n");
	}
	printf(".SH COMMANDS\n");
	for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++) {
		printf(".TP\n.B %s\n", c->name);
		print_roff(c->summary);
		printf(".\n.br\nExample: ");
		print_roff(c->example);
		putchar('\n');
	}
	printf(".SH FLAGS\n");
	for (const struct flag *f = flags; f < flags + N_FLAGS; f++) {
		char text[128];
		describe_flag(f, text, sizeof text);
		printf(".TP\n.B ");
		print_roff(text);
		putchar('\n');
		print_roff(f->help);
		printf("\n(");
		const char *comma = "";
		for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++) {
			if (c->bit & f->commands) {
				printf("%s%s", comma, c->name);
				comma = ", ";
			}
		}
		printf(")\n");
	}
	printf(".SH ENVIRONMENT\nEach flag has a twin: HEADRACE_ and its name in capitals, with _ for \\-. The "
	       "flag wins.\n"
	       ".SH EXIT STATUS\n0 success; 1 an error; 2 wrong usage; 130 stopped by Ctrl\\-C.\n");
}

char *hr_cli_given_flags(unsigned command_bit)
{
	char  *text = NULL;
	size_t bytes;
	FILE  *out = open_memstream(&text, &bytes);
	for (int i = 0; out && i < N_FLAGS; i++) {
		char name[NAME_MAX_BYTES];
		if (!given[i] || !(flags[i].commands & command_bit) || flags[i].kind == FLAG_BOOL ||
		    flags[i].field == FIELD(target))
			continue;
		flag_name(&flags[i], 0, name);
		char *value = hr_cli_quote(given[i]);
		fprintf(out, " %s%s %s", dashes(name), name, value ? value : "");
		free(value);
	}
	if (out)
		fclose(out);
	return text;
}
