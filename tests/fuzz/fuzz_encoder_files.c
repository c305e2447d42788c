/* Fuzzes the files that say how an encoder is used. The first byte is the number of labels; then
 * come four texts with a zero byte after each: config.json, modules.json, 1_Pooling/config.json and
 * sentence_bert_config.json; an empty one is a file that is not there. */
#include "fuzz_directory.h"
#include "runtime/format/encoder_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void write_or_remove(const char *name, const uint8_t *data, size_t n)
{
	char path[sizeof fuzz_directory + 64];
	snprintf(path, sizeof path, "%s/%s", fuzz_directory, name);
	unlink(path);
	if (n)
		fuzz_write_file(name, data, n);
}

static void check(int rc, const struct hr_error *err)
{
	if (rc < 0 && (err->code != rc || !err->message[0]))
		abort();
}

static void use(const struct hr_json *config, int n_labels)
{
	struct hr_encoder_use use = {0};
	struct hr_error       err = {0};
	int                   rc = hr__encoder_use_read(&use, fuzz_directory, config, n_labels, &err);
	check(rc, &err);
	for (int i = 0; !rc && i < n_labels; i++)
		if (!use.labels[i])
			abort();
	if (!rc && (use.n_labels != n_labels || use.max_tokens < 0 || use.problem > HR_PROBLEM_REGRESSION ||
	            !strcmp(hr__pooling_name(use.pooling), "?")))
		abort();
	if (!rc)
		hr__encoder_use_release(&use);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const names[] = {NULL, "modules.json", "1_Pooling/config.json",
	                                    "sentence_bert_config.json"};
	if (!n)
		return 0;
	if (fuzz_make_directory()) {
		char folder[sizeof fuzz_directory + 16];
		snprintf(folder, sizeof folder, "%s/1_Pooling", fuzz_directory);
		if (mkdir(folder, 0700))
			abort();
	}
	int            n_labels = 1 + data[0] % 8;
	json_t        *root = NULL;
	const uint8_t *at = data + 1, *end = data + n;
	for (int i = 0; i < 4; i++) {
		const uint8_t  *stop = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
		size_t          length = (size_t)((stop ? stop : end) - at);
		struct hr_error err = {0};
		if (names[i])
			write_or_remove(names[i], at, length);
		else
			check(hr__json_parse(&root, "config.json", (const char *)at, length, &err), &err);
		at = stop ? stop + 1 : end;
	}
	struct hr_json config = {.path = "config.json", .object = root};
	if (root)
		use(&config, n_labels);
	json_decref(root);
	return 0;
}
