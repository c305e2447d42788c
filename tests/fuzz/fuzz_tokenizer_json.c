/* Fuzzes reading a tokenizer.json: arbitrary bytes are a vocabulary or an error with a sentence,
 * and a vocabulary that is accepted can encode a text and give the bytes of every id. */
#include "fuzz_directory.h"
#include "runtime/tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const struct hr_tokenizer *t)
{
	static const char text[] =
	    "The caf\xc3\xa9's  42 a\xcc\x8a\r\n\t<s>aab\xf0\x9f\x98\x80</s> \xe2\x96\x81x\xff";
	int32_t         ids[256];
	struct hr_error err = {0};
	for (int special = 0; special < 2; special++) {
		int64_t n = hr_tokenizer_encode(t, text, sizeof text - 1, true, special, ids, 256, &err);
		if (n < 0 && (err.code != n || !err.message[0]))
			abort();
		for (int64_t i = 0; i < n && i < 256; i++)
			if (hr_tokenizer_token_bytes(t, ids[i], true, NULL, 0) < 0)
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hr_vocab      v = {0};
	struct hr_tokenizer *t = NULL;
	struct hr_error      err = {0};
	fuzz_make_directory();
	fuzz_write_file("tokenizer.json", data, n);
	int rc = hr_vocab_read_hf(&v, fuzz_directory, &err);
	if (!rc)
		rc = hr_tokenizer_new(&t, &v, &err);
	if (rc && (rc != err.code || !err.message[0]))
		abort();
	if (t)
		use(t);
	hr_tokenizer_free(t);
	return 0;
}
