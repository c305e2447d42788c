/* Fuzzes a Hugging Face directory as a whole: config.json, a zero byte, and model.safetensors. Whatever the
 * bytes, the answer is a model that runs (converted, where it must be), or an error with a sentence. */
#include "fuzz_directory.h"
#include "headrace/headrace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int rc, const struct hr_error *err)
{
	if (rc < 0 && (err->code != rc || !err->message[0]))
		abort();
}

static int submit(struct hr_session *session, struct hr_error *err)
{
	static const int32_t ids[] = {1, 0, 2};
	struct hr_request    request;
	uint64_t             id;
	hr_request_init(&request);
	request.ids = ids;
	request.n_ids = 3;
	request.max_new_tokens = 2;
	request.ignore_eos = true;
	return hr_session_submit(session, &request, &id, err);
}

static void run(const struct hr_model *model)
{
	struct hr_session     *session = NULL;
	struct hr_plan_options o;
	struct hr_error        err = {0};
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.reader = "pread";
	o.n_ctx = o.n_batch = 8;
	o.n_threads = 1;
	o.window_layers = 2;
	int rc = hr_session_open(&session, model, &o, &err);
	if (!rc)
		rc = submit(session, &err);
	while (!rc && (rc = hr_session_step(session, &err)) > 0)
		rc = 0;
	check(rc, &err);
	hr_session_close(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char                out[sizeof fuzz_directory + 16];
	const uint8_t             *end = n ? memchr(data, 0, n) : NULL;
	struct hr_error            err = {0};
	struct hr_model           *model = NULL;
	struct hr_quantize_options o;
	if (fuzz_make_directory())
		snprintf(out, sizeof out, "%s.gguf", fuzz_directory);
	if (!end)
		return 0;
	fuzz_write_file("config.json", data, (size_t)(end - data));
	fuzz_write_file("model.safetensors", end + 1, n - (size_t)(end - data) - 1);
	int rc = hr_model_open(&model, fuzz_directory, &err);
	check(rc, &err);
	if (!rc)
		run(model);
	hr_model_close(model);
	if (rc && rc != HR_EUNSUPPORTED)
		return 0;

	model = NULL;
	err.code = 0;
	hr_quantize_options_init(&o);
	o.type = "bf16";
	o.n_threads = 1;
	rc = hr_quantize(out, fuzz_directory, &o, NULL, &err);
	check(rc, &err);
	if (!rc) {
		rc = hr_model_open(&model, out, &err);
		check(rc, &err);
	}
	if (!rc)
		run(model);
	hr_model_close(model);
	unlink(out);
	return 0;
}
