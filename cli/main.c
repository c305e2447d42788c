/* The program: picks the subcommand. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
const struct hr_cli_command hr_cli_commands[] = {
	{"run", HR_CLI_RUN, "MODEL", true, "(-p TEXT | -f FILE) [flags]", "generate text; it streams to standard output",
	 "headrace run model.gguf -p 'Once upon a time' --device-memory 4GiB --stats", hr_cli_run},
	{"chat", HR_CLI_CHAT, "MODEL", true, "[flags]", "the same, as a conversation, with the model's own chat template",
	 "headrace chat model.gguf --system 'You answer in one sentence.'", hr_cli_chat},
	{"classify", HR_CLI_CLASSIFY, "MODEL", true, "(TEXT... | -f FILE) [flags]", "the classes of texts, by an encoder such as BERT",
	 "headrace classify bert-large/ 'A fine film.' 'A waste of time.' --device-memory 300MiB", hr_cli_classify},
	{"embed", HR_CLI_EMBED, "MODEL", true, "(TEXT... | -f FILE) [flags]", "the embeddings of texts, as sentence-transformers makes them",
	 "headrace embed all-MiniLM-L6-v2/ -f texts.jsonl", hr_cli_embed},
	{"plan", HR_CLI_PLAN, "MODEL", true, "[flags]", "before loading anything: what goes where, and how many bytes",
	 "headrace plan model.gguf --device-memory 4GiB -c 2048", hr_cli_plan},
	{"bench", HR_CLI_BENCH, "MODEL", true, "[--window 2,8,full] [flags]",
	 "the window against the full load, side by side: a table with a row for each setting",
	 "headrace bench model.gguf --window 2,8,16,full -p 512 -n 32 -r 5 --html bench.html", hr_cli_bench},
	{"tune", HR_CLI_TUNE, "MODEL", true, "[--minutes N] [flags]",
	 "find the quickest settings for this machine and model; later runs use them by themselves",
	 "headrace tune model.gguf --device-memory 4GiB", hr_cli_tune},
	{"inspect", HR_CLI_INSPECT, "MODEL", true, "[--tensors] [--json]", "what is in the file",
	 "headrace inspect model.gguf --tensors", hr_cli_inspect},
	{"doctor", HR_CLI_DOCTOR, "[DIRECTORY]", false, "[--json]", "what this machine can do; the disk is that of DIRECTORY",
	 "headrace doctor /mnt/models", hr_cli_doctor},
	{"quantize", HR_CLI_QUANTIZE, "IN OUT", true, "[--type TYPE]",
	 "a GGUF or a Hugging Face directory as a GGUF with smaller weights, which llama.cpp reads too",
	 "headrace quantize Llama-3.2-1B/ llama-1b.gguf --type q4_k_m", hr_cli_quantize},
	{"synth", HR_CLI_SYNTH, "OUT", true, "--like SHAPE [--type TYPE] [--seed N]",
	 "write a model of real shapes with random weights", "headrace synth big.gguf --like llama-7b --type q4_0", hr_cli_synth},
	{0},
};
/* clang-format on */

static void print_usage(FILE *to)
{
	fprintf(to,
	        "headrace %s: run transformer models larger than the memory of the device\n\n"
	        "usage: headrace COMMAND ...\n\n",
	        hr_version());
	for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++)
		fprintf(to, "  %-9s %s\n", c->name, c->summary);
	fprintf(to, "\n`headrace COMMAND --help` says the rest.\n");
}

static const struct hr_cli_command *find_command(const char *name)
{
	for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++) {
		if (!strcmp(c->name, name))
			return c;
	}
	return NULL;
}

static int fail_unknown(const char *word)
{
	const char *names[32];
	int         n = 0;
	for (const struct hr_cli_command *c = hr_cli_commands; c->name; c++)
		names[n++] = c->name;
	return hr_cli_fail_usage(
	    "There is no command \"%s\"; the nearest is \"%s\", and `headrace --help` lists them all.", word,
	    hr_cli_nearest(word, names, n));
}

static int run_command(const struct hr_cli_command *command, int argc, char **argv)
{
	struct hr_cli_options options = {.words = argv}; /* gathered in place: a word never moves up */
	struct hr_request     request;
	bool                  help = false;
	hr_request_init(&request);
	options.sampling = request.sampling;
	options.tune_gen = -1;
	hr_plan_options_init(&options.plan);
	int code = hr_cli_parse(&options, command, argc, argv, &help);
	if (!code && help)
		hr_cli_print_help(command);
	else if (!code)
		code = command->run(&options);
	return code;
}

int main(int argc, char **argv)
{
	const char                  *word = argc > 1 ? argv[1] : "";
	const struct hr_cli_command *command = find_command(word);
	int                          code = HR_EXIT_OK;
	hr_cli_catch_interrupts();
	if (command)
		code = run_command(command, argc - 2, argv + 2);
	else if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
		print_usage(stdout);
	else if (!strcmp(word, "--version"))
		printf("headrace %s\n", hr_version());
	else if (!strcmp(word, "--man"))
		hr_cli_print_man();
	else if (*word)
		code = fail_unknown(word);
	else
		code = hr_cli_fail_usage("Give a command: run, chat, classify, embed, plan, tune, bench, inspect, "
		                         "doctor, quantize or synth; "
		                         "`headrace --help` says more.");
	return hr_cli_finish_output(code);
}
