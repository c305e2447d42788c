/* safetensors headers and indexes: valid ones are read as they are, and each way
 * to be wrong is answered with its own sentence. */
#include "runtime/format/safetensors.h"
#include "tests/format_testing.h"

/* A file: the length of `json`, `json`, `n_data` bytes. */
static void build(struct bytes *b, const char *json, size_t n_data)
{
	put_string(b, json);
	put_zeros(b, n_data);
}

static int parse(struct hr_tensor_list *list, const void *data, size_t n, struct hr_error *err)
{
	struct hr_source *s = malloc(sizeof *s);
	assert_non_null(s);
	hr__source_init_memory(s, "test.safetensors", data, n);
	int rc = hr_safetensors_read(list, s, err);
	if (!rc) {
		rc = hr__tensors_index(list, "test.safetensors", err);
		if (rc)
			hr__tensors_release(list);
	}
	free(s);
	return rc;
}

#define A "\"a\":{\"dtype\":\"F16\",\"shape\":[3,5],\"data_offsets\":[0,30]}"
#define B "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[30,46]}"

static void a_valid_header_is_read_as_it_is(void **state)
{
	(void)state;
	struct bytes          b = {0};
	struct hr_tensor_list list = {0};
	build(&b, "{\"__metadata__\":{\"format\":\"pt\"}," B "," A "}   ", 46);
	size_t data = b.n - 46;
	assert_int_equal(parse(&list, b.data, b.n, NULL), 0);
	assert_int_equal(list.n, 2);
	const struct hr_tensor *t = &list.items[0]; /* in the header's order */
	assert_string_equal(t->name, "b");
	assert_int_equal(t->type, HR_TYPE_F32);
	assert_int_equal(t->n_dims, 1);
	assert_int_equal(t->shape[0], 4);
	assert_int_equal(t->offset, data + 30); /* no multiple of 4: fine */
	assert_int_equal(t->bytes, 16);
	t = &list.items[1];
	assert_int_equal(t->type, HR_TYPE_F16);
	assert_int_equal(t->n_dims, 2);
	assert_int_equal(t->shape[0], 3);
	assert_int_equal(t->shape[1], 5);
	assert_int_equal(t->offset, data);
	hr__tensors_release(&list);
	free(b.data);
}

#define ONE(dtype, shape, offsets)                                                                           \
	"{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
	const char *json;
	int         code;
	const char *fragment;
} damages[] = {
    {"{", HR_EFORMAT, "claims to be 1 bytes long"},
    {"{x}", HR_EFORMAT, "not valid JSON (line 1, column"},
    {"[]", HR_EFORMAT, "is not an object"},
    {"{" A "," A "}", HR_EFORMAT, "duplicate object key"},
    {"{\"t\":[]}", HR_EFORMAT, "entry of tensor 't' is not an object"},
    {"{\"\":{}}", HR_EFORMAT, "its name is empty"},
    {"{\"t\":{}}", HR_EFORMAT, "tensor 't' has no \"dtype\""},
    {ONE("3", "[4]", "[0,16]"), HR_EFORMAT, "has no \"dtype\""},
    {ONE("\"F8_E5M2\"", "[4]", "[0,4]"), HR_EUNSUPPORTED, "the dtype F8_E5M2, which is not supported"},
    {ONE("\"I16\"", "[4]", "[0,8]"), HR_EUNSUPPORTED, "supported are F32, F16, BF16, F8_E4M3; convert"},
    {ONE("\"\"", "[4]", "[0,32]"), HR_EUNSUPPORTED, "tensor 't' has the dtype"},
    {ONE("\"F32\"", "4", "[0,16]"), HR_EFORMAT, "\"shape\" of tensor 't' must be an array"},
    {ONE("\"F32\"", "[]", "[0,8]"), HR_EFORMAT, "span 8 bytes, but its dtype and shape ask for 4"},
    {ONE("\"F32\"", "[1,1,1,1,1]", "[0,4]"), HR_EFORMAT, "at most 4 dimensions"},
    {ONE("\"F32\"", "[4,-1]", "[0,16]"), HR_EFORMAT, "dimension 1 of tensor 't' is not an integer"},
    {ONE("\"F32\"", "[4.0]", "[0,16]"), HR_EFORMAT, "dimension 0 of tensor 't' is not an integer"},
    {ONE("\"F32\"", "[0]", "[0,0]"), HR_EFORMAT, "dimension 0 of tensor 't' is 0"},
    {ONE("\"F32\"", "[4611686018427387904,8]", "[0,16]"), HR_EFORMAT, "multiply to more than 64 bits"},
    {ONE("\"F32\"", "[4611686018427387904]", "[0,16]"), HR_EFORMAT, "more bytes than 64 bits"},
    {ONE("\"F32\"", "[99999999999999999999]", "[0,16]"), HR_EFORMAT, "too big integer"},
    {ONE("\"F32\"", "[4]", "16"), HR_EFORMAT, "\"data_offsets\" of tensor 't' must be two integers"},
    {ONE("\"F32\"", "[4]", "[0]"), HR_EFORMAT, "must be two integers"},
    {ONE("\"F32\"", "[4]", "[0,16,32]"), HR_EFORMAT, "must be two integers"},
    {ONE("\"F32\"", "[4]", "[16,0]"), HR_EFORMAT, "must be two integers, [begin, end]"},
    {ONE("\"F32\"", "[4]", "[-16,0]"), HR_EFORMAT, "must be two integers"},
    {ONE("\"F32\"", "[4]", "[0,17]"), HR_EFORMAT, "span 17 bytes, but its dtype and shape ask for 16"},
    {ONE("\"BF16\"", "[4]", "[0,16]"), HR_EFORMAT, "span 16 bytes, but its dtype and shape ask for 8"},
    {ONE("\"F32\"", "[4]", "[31,47]"), HR_ETRUNCATED, "wants the bytes up to 47 of the data"},
    {ONE("\"F32\"", "[4]", "[9223372036854775791,9223372036854775807]"), HR_ETRUNCATED,
     "cut short or damaged"},
    {"{" A ",\"c\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[28,32]}}", HR_EFORMAT, "overlap"},
};

static void every_damage_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
		struct bytes          b = {0};
		struct hr_tensor_list list;
		struct hr_error       err = {0};
		build(&b, damages[i].json, 46);
		check_failure(damages[i].json, parse(&list, b.data, b.n, &err), &err, damages[i].code,
		              damages[i].fragment);
		assert_non_null(strstr(err.message, "test.safetensors"));
		free(b.data);
	}
}

static void a_length_that_lies_is_noticed(void **state)
{
	(void)state;
	static const struct {
		uint64_t    length;
		int         code;
		const char *fragment;
	} lengths[] = {
	    {0, HR_EFORMAT, "claims to be 0 bytes long"},
	    {UINT64_MAX, HR_EFORMAT, "this is no safetensors file"},
	    {100000001, HR_EFORMAT, "100000001 bytes long, 2 to 100000000"},
	    {1000, HR_ETRUNCATED, "claims to be 1000 bytes long, but the file ends at byte"},
	    {10, HR_EFORMAT, "not valid JSON"},
	};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct bytes          b = {0};
		struct hr_tensor_list list;
		struct hr_error       err = {0};
		build(&b, "{" A "}", 46);
		memcpy(b.data, &lengths[i].length, 8);
		check_failure("a length", parse(&list, b.data, b.n, &err), &err, lengths[i].code,
		              lengths[i].fragment);
		free(b.data);
	}
}

static void every_cut_is_noticed(void **state)
{
	(void)state;
	struct bytes b = {0};
	build(&b, "{" A "," B "}", 46);
	for (size_t n = 0; n < b.n; n++) {
		struct hr_tensor_list list;
		struct hr_error       err = {0};
		uint8_t              *cut = malloc(n ? n : 1); /* so that a sanitizer sees a read behind the end */
		memcpy(cut, b.data, n);
		check_failure("a cut file", parse(&list, cut, n, &err), &err, HR_ETRUNCATED, "cut short or damaged");
		free(cut);
	}
	free(b.data);
}

/* ---- The index ---------------------------------------------------------------- */

static int read_index(struct hr_safetensors_index *index, const char *text, struct hr_error *err)
{
	json_t *root;
	int     rc = hr__json_parse(&root, "index.json", text, strlen(text), err);
	return rc ? rc : hr_safetensors_index_read(index, "index.json", root, err);
}

static void an_index_names_each_file_once(void **state)
{
	(void)state;
	struct hr_safetensors_index index;
	assert_int_equal(
	    read_index(&index, "{\"weight_map\":{\"a\":\"y.st\",\"b\":\"x.st\",\"c\":\"y.st\"}}", NULL), 0);
	assert_int_equal(index.n_files, 2);
	assert_string_equal(index.files[0], "y.st");
	assert_string_equal(index.files[1], "x.st");

	struct bytes          b = {0};
	struct hr_tensor_list list;
	struct hr_error       err = {0};
	build(&b, "{" A "," B "}", 46);
	assert_int_equal(parse(&list, b.data, b.n, NULL), 0);
	check_failure("a tensor too few", hr_safetensors_index_check(&index, "index.json", &list, &err), &err,
	              HR_EFORMAT, "tensor 'c' is said to be in y.st, but it is in none");
	hr__tensors_release(&list);
	hr_safetensors_index_release(&index);
	free(b.data);
}

static void an_index_stays_in_its_directory(void **state)
{
	(void)state;
	static const char *const bad[][2] = {
	    {"{}", "no \"weight_map\""},
	    {"{\"weight_map\":[]}", "no \"weight_map\""},
	    {"{\"weight_map\":{}}", "no \"weight_map\""},
	    {"{\"weight_map\":{\"a\":1}}", "tensor 'a' is said to be in \"(not a string)\""},
	    {"{\"weight_map\":{\"a\":\"\"}}", "not the name of a file in this directory"},
	    {"{\"weight_map\":{\"a\":\"..\"}}", "not the name of a file in this directory"},
	    {"{\"weight_map\":{\"a\":\"../x.st\"}}", "tensor 'a' is said to be in \"../x.st\""},
	    {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not the name of a file in this directory"},
	    {"{\"weight_map\":{\"a\":\"sub/x.st\"}}", "not the name of a file in this directory"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct hr_safetensors_index index;
		struct hr_error             err = {0};
		check_failure(bad[i][0], read_index(&index, bad[i][0], &err), &err, HR_EFORMAT, bad[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_valid_header_is_read_as_it_is), cmocka_unit_test(every_damage_is_named),
	    cmocka_unit_test(a_length_that_lies_is_noticed),   cmocka_unit_test(every_cut_is_noticed),
	    cmocka_unit_test(an_index_names_each_file_once),   cmocka_unit_test(an_index_stays_in_its_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
