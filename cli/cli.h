/* What the subcommands share. Each command is one file with one function
 * `int hr_cli_<name>(struct hr_cli_options *)` that returns the exit code.
 *
 * Exit codes: 0; 1 an error, told in one sentence on stderr; 2 wrong usage, told
 * the same way; 130 stopped by Ctrl-C. Standard output holds what was asked for
 * and nothing else. */
#ifndef HR_CLI_H
#define HR_CLI_H

#include "headrace/headrace.h"

#include <jansson.h>

enum { HR_EXIT_OK = 0, HR_EXIT_ERROR = 1, HR_EXIT_USAGE = 2, HR_EXIT_INTERRUPTED = 130 };

enum { HR_CLI_ENCODER_TOKENS = 128, HR_CLI_ENCODER_TEXTS = 64 }; /* what encoders are timed with */

/* ---- Commands and flags (flags.c) ------------------------------------------- */

enum hr_cli_command_bit {
	HR_CLI_RUN = 1 << 0,
	HR_CLI_CHAT = 1 << 1,
	HR_CLI_PLAN = 1 << 2,
	HR_CLI_INSPECT = 1 << 3,
	HR_CLI_DOCTOR = 1 << 4,
	HR_CLI_SYNTH = 1 << 5,
	HR_CLI_BENCH = 1 << 6,
	HR_CLI_TUNE = 1 << 7,
	HR_CLI_CLASSIFY = 1 << 8,
	HR_CLI_EMBED = 1 << 9,
	HR_CLI_QUANTIZE = 1 << 10,
};

/* Everything the flags can say. Filled from the defaults, then the environment,
 * then the command line; strings are borrowed from there. */
struct hr_cli_options {
	struct hr_plan_options plan;
	struct hr_sampling     sampling;
	const char            *target; /* MODEL, OUT or DIRECTORY: the one word that is no flag */
	char                 **words;  /* [n_words] those behind it, for commands that take more */
	int                    n_words;
	const char            *prompt, *file, *system;
	const char            *max_memory, *device_map, *dtype, *quantize;
	const char            *trace;
	const char            *like, *type;
	const char            *assume;
	const char            *windows, *budgets, *batches, *prompts, *gens; /* lists */
	const char            *format, *html;
	int                    repetitions, tune_prompt, tune_gen; /* tune_gen -1: not said */
	float                  minutes;
	int                    n_predict; /* -1: until the model stops */
	bool chat, ignore_eos, json, stats, tensors, no_full, no_predict, io_only, pairs, pure, force,
	    allow_requantize;
};

struct hr_cli_command {
	const char *name;
	unsigned    bit;
	const char *target; /* what the one word is called in the help: "MODEL" */
	bool        target_required;
	const char *usage;   /* the rest of the usage line */
	const char *summary; /* one line */
	const char *example;
	int (*run)(struct hr_cli_options *options);
};
extern const struct hr_cli_command hr_cli_commands[]; /* ends with a NULL name; main.c */

/* Fill `options` for `command`. 0, or HR_EXIT_USAGE after saying why. `*help`: --help was given. */
int hr_cli_parse(struct hr_cli_options *options, const struct hr_cli_command *command, int argc, char **argv,
                 bool *help);

void hr_cli_print_help(const struct hr_cli_command *command);
void hr_cli_print_man(void); /* headrace.1, in roff */

/* The values that were given (command line or environment) to flags that `command_bit` has too,
 * as text for a shell: " --window 4 ...". Allocated. */
char *hr_cli_given_flags(unsigned command_bit);

/* The one of `names` that `word` is closest to, in edits. */
const char *hr_cli_nearest(const char *word, const char *const *names, int n_names);

/* ---- Values (values.c) ------------------------------------------------------ */

/* "1.5GiB", "300MB", "4096": bytes. K, M, G and T alone count in 1024s. False: no size above zero. */
bool hr_cli_parse_size(const char *text, uint64_t *bytes);
bool hr_cli_parse_int(const char *text, long long min, long long max, long long *value);
bool hr_cli_parse_real(const char *text, double min, double max, double *value);

/* "98.4 MB", in powers of 1000. */
struct hr_cli_text {
	char s[48];
};
struct hr_cli_text hr_cli_bytes(uint64_t bytes);
/* "12 layers stay", "2 layers stay, 61 % of each other". */
#define HR_CLI_KEPT_SHOWN 0.005 /* a smaller share that stays, such as norms, is not told */
struct hr_cli_text hr_cli_residents(const struct hr_plan_info *plan);
/* `text` as one word of a shell command; allocated. */
char *hr_cli_quote(const char *text);

/* What --max-memory and --device-map say, put into options->plan, with the directory for what
 * is measured; --trace and --html are tried. `*map` is the text of the device map, to be freed. 0, or an exit
 * code after saying why. */
int hr_cli_resolve(struct hr_cli_options *options, char **map);
/* The text of the card that --assume names, a file or one of those that are installed; allocated, NULL after
 * saying why. */
char *hr_cli_read_card(const char *name);
/* The whole of a file, or of standard input for "-"; NUL-terminated, allocated; NULL after saying why. */
char *hr_cli_read_file(const char *path, const char *what);

/* ---- Talking (out.c) -------------------------------------------------------- */

/* One sentence on stderr; they return the exit code that goes with it. */
int  hr_cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int  hr_cli_fail_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int  hr_cli_fail_error(const struct hr_error *err);
void hr_cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Standard output. False once it can't be written; hr_cli_finish_output() says so. */
bool hr_cli_write(const void *text, size_t bytes);
bool hr_cli_write_json(json_t *document, bool one_line); /* steals the reference */
/* Flush; `code`, or HR_EXIT_ERROR after a sentence when something could not be written. */
int hr_cli_finish_output(int code);

/* For hr_plan_options and hr_synth(); the bar shows on a terminal only. */
void hr_cli_on_notice(void *user, const char *sentence);
int  hr_cli_on_progress(void *user, uint64_t done, uint64_t total); /* user: "loading" */

/* A line on a terminal's stderr that says what goes on, until something else is said. */
void hr_cli_show_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void hr_cli_hide_status(void);

int hr_cli_on_count(void *user, uint64_t done, uint64_t total); /* the same, for texts */

/* ---- Ctrl-C (interrupt.c) --------------------------------------------------- */

void hr_cli_catch_interrupts(void);
/* While held, the first Ctrl-C only sets a flag (else it exits at once, as the second does). */
void hr_cli_hold_interrupts(bool hold);
bool hr_cli_interrupted(void);

/* ---- Models (quantize.c) ------------------------------------------------------ */

/* The model of the command, its weights converted where --dtype or --quantize say so; after hr_cli_resolve().
 * 0, or an exit code after saying why. */
int hr_cli_open_model(struct hr_model **model, const struct hr_cli_options *options);

/* ---- Documents (json.c) and their text (stats.c) ------------------------------ */

json_t *hr_cli_json_text(const char *text); /* null for NULL; what isn't UTF-8 becomes U+FFFD */
json_t *hr_cli_json_model(const struct hr_model *model);
json_t *hr_cli_json_plan(const struct hr_plan *plan);
/* The document of `run --json`. Steals `outputs`. */
json_t *hr_cli_json_run(const struct hr_model *model, struct hr_session *session, json_t *outputs);
/* What --stats says, on stderr. */
void hr_cli_print_stats(const struct hr_model *model, struct hr_session *session);

/* ---- Commands ----------------------------------------------------------------- */

int hr_cli_run(struct hr_cli_options *options);
int hr_cli_chat(struct hr_cli_options *options);
int hr_cli_classify(struct hr_cli_options *options);
int hr_cli_embed(struct hr_cli_options *options);
int hr_cli_plan(struct hr_cli_options *options);
int hr_cli_inspect(struct hr_cli_options *options);
int hr_cli_doctor(struct hr_cli_options *options);
int hr_cli_quantize(struct hr_cli_options *options);
int hr_cli_synth(struct hr_cli_options *options);
int hr_cli_bench(struct hr_cli_options *options);
int hr_cli_tune(struct hr_cli_options *options);

#endif
