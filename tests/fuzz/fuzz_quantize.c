/* Fuzzes quantising: the first byte picks the type and the options, the rest is a GGUF. Whatever the
 * bytes, the answer is a model that can be opened, or an error with a sentence and no file. */
#include "fuzz_directory.h"
#include "headrace/headrace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const types[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0", "q4_1", "q5_0",
                                    "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q4_k_m"};
enum { N_TYPES = sizeof types / sizeof *types };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char in[sizeof fuzz_directory + 16], out[sizeof fuzz_directory + 16];
	if (fuzz_make_directory()) {
		snprintf(in, sizeof in, "%s/in.gguf", fuzz_directory);
		snprintf(out, sizeof out, "%s/out.gguf", fuzz_directory);
		for (int i = 0; i < N_TYPES; i++)
			if (!hr_quantize_has_type(types[i]))
				abort();
	}
	if (!n)
		return 0;
	struct hr_error            err = {0};
	struct hr_model           *model = NULL;
	struct hr_quantize_options o;
	hr_quantize_options_init(&o);
	o.type = types[data[0] % 16 % N_TYPES];
	o.pure = data[0] & 16;
	o.allow_requantize = data[0] & 32;
	o.n_threads = 1;
	fuzz_write_file("in.gguf", data + 1, n - 1);
	int rc = hr_quantize(out, in, &o, NULL, &err);
	if (rc && (err.code != rc || !err.message[0] || !access(out, F_OK)))
		abort();
	if (!rc && hr_model_open(&model, out, &err)) {
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	hr_model_close(model);
	unlink(out);
	return 0;
}
