/* GGUF headers: a valid one is read as it is, from memory and from a file, and
 * each way to damage it is answered with its own sentence. */
#include "runtime/format/gguf.h"
#include "tests/format_testing.h"

enum mark {
	MAGIC,
	VERSION,
	N_TENSORS,
	N_KVS,
	KEY_LENGTH,
	KEY_TEXT,
	ALIGNMENT_TYPE,
	ALIGNMENT,
	FLAG_TYPE,
	FLAG,
	ARRAY_ELEM,
	ARRAY_N,
	STRINGS_N,
	STRINGS_FIRST,
	TWIN_KEY_END,
	NAME_LENGTH,
	NAME_TEXT,
	N_DIMS,
	NE0,
	NE1,
	TYPE,
	OFFSET,
	TENSOR_B,
	B_NAME_TEXT,
	B_NE0,
	B_OFFSET,
	C_OFFSET,
	DATA,
};

static void put_tensor(struct bytes *b, const char *name, uint64_t ne0, uint64_t ne1, uint32_t type,
                       uint64_t offset)
{
	put_string(b, name);
	put_u32(b, ne1 ? 2 : 1);
	put_u64(b, ne0);
	if (ne1)
		put_u64(b, ne1);
	put_u32(b, type);
	put_u64(b, offset);
}

static void put_kvs(struct bytes *b)
{
	mark(b, KEY_LENGTH);
	put_u64(b, strlen("general.alignment"));
	mark(b, KEY_TEXT);
	put(b, "general.alignment", strlen("general.alignment"));
	mark(b, ALIGNMENT_TYPE);
	put_u32(b, HR_GGUF_U32);
	mark(b, ALIGNMENT);
	put_u32(b, 64);

	put_string(b, "test.flag");
	mark(b, FLAG_TYPE);
	put_u32(b, HR_GGUF_BOOL);
	mark(b, FLAG);
	put(b, "\1", 1);

	put_string(b, "test.array");
	put_u32(b, HR_GGUF_ARRAY);
	mark(b, ARRAY_ELEM);
	put_u32(b, HR_GGUF_I16);
	mark(b, ARRAY_N);
	put_u64(b, 3);
	put(b, "\1\0\2\0\xff\xff", 6);

	put_string(b, "test.strings");
	put_u32(b, HR_GGUF_ARRAY);
	put_u32(b, HR_GGUF_STRING);
	mark(b, STRINGS_N);
	put_u64(b, 2);
	mark(b, STRINGS_FIRST);
	put_string(b, "one");
	put_string(b, "");

	put_string(b, "test.x");
	put_u32(b, HR_GGUF_I64);
	put_u64(b, (uint64_t)-5);
	put_string(b, "test.y");
	mark(b, TWIN_KEY_END);
	put_u32(b, HR_GGUF_STRING);
	put_string(b, "text");
	put_string(b, "test.z");
	put_u32(b, HR_GGUF_F64);
	double z = 0.5;
	put(b, &z, 8);
}

/* Three tensors: a f32 [2][24], b q8_0 [3][32], c f16 [40]. */
static void build(struct bytes *b)
{
	mark(b, MAGIC);
	put(b, "GGUF", 4);
	mark(b, VERSION);
	put_u32(b, 3);
	mark(b, N_TENSORS);
	put_u64(b, 3);
	mark(b, N_KVS);
	put_u64(b, 7);
	put_kvs(b);

	mark(b, NAME_LENGTH);
	put_u64(b, 1);
	mark(b, NAME_TEXT);
	put(b, "a", 1);
	mark(b, N_DIMS);
	put_u32(b, 2);
	mark(b, NE0);
	put_u64(b, 24);
	mark(b, NE1);
	put_u64(b, 2);
	mark(b, TYPE);
	put_u32(b, 0);
	mark(b, OFFSET);
	put_u64(b, 0);
	mark(b, TENSOR_B);
	put_tensor(b, "b", 32, 3, 8, 192);
	b->marks[B_NAME_TEXT] = b->marks[TENSOR_B] + 8;
	b->marks[B_NE0] = b->marks[TENSOR_B] + 13;
	b->marks[B_OFFSET] = b->n - 8;
	put_tensor(b, "c", 40, 0, 1, 320);
	b->marks[C_OFFSET] = b->n - 8;
	put_zeros(b, (64 - b->n % 64) % 64);
	mark(b, DATA);
	put_zeros(b, 400);
}

/* Read as a model would be: the header, then the tensors against each other. */
static int parse(struct hr_gguf *g, const void *data, size_t n, struct hr_error *err)
{
	struct hr_source *s = malloc(sizeof *s);
	assert_non_null(s);
	hr__source_init_memory(s, "test.gguf", data, n);
	int rc = hr_gguf_read(g, s, err);
	if (!rc) {
		rc = hr__tensors_index(&g->tensors, "test.gguf", err);
		if (rc)
			hr_gguf_release(g);
	}
	free(s);
	return rc;
}

static void check_content(const struct hr_gguf *g, uint64_t data_offset)
{
	const struct hr_gguf_kv *kv;
	const struct hr_tensor  *t = g->tensors.items;
	uint64_t                 u;
	bool                     flag = false;
	float                    z = 0;
	const char              *text = NULL;
	assert_int_equal(g->version, 3);
	assert_int_equal(g->alignment, 64);
	assert_int_equal(g->data_offset, data_offset);
	assert_int_equal(g->n_kvs, 7);
	assert_int_equal(hr_gguf_get_u64(g, "general.alignment", &u, NULL), 1);
	assert_int_equal(hr_gguf_get_bool(g, "test.flag", &flag, NULL), 1);
	assert_true(flag);
	assert_int_equal(hr_gguf_get_string(g, "test.y", &text, NULL), 1);
	assert_string_equal(text, "text");
	assert_int_equal(hr_gguf_get_f32(g, "test.z", &z, NULL), 1);
	assert_true(z == 0.5f);
	assert_int_equal(hr_gguf_get_u64(g, "test.none", &u, NULL), 0);
	assert_int_equal(hr_gguf_get_array(g, "test.strings", HR_GGUF_STRING, &kv, NULL), 1);
	assert_int_equal(kv->n, 2);
	assert_memory_equal(kv->data, "\3\0\0\0\0\0\0\0one\0\0\0\0\0\0\0\0", 19);
	assert_int_equal(g->tensors.n, 3);
	assert_string_equal(t[0].name, "a");
	assert_int_equal(t[0].type, HR_TYPE_F32);
	assert_int_equal(t[0].n_dims, 2);
	assert_int_equal(t[0].shape[0], 2);
	assert_int_equal(t[0].shape[1], 24);
	assert_int_equal(t[0].bytes, 192);
	assert_int_equal(t[0].offset, data_offset);
	assert_int_equal(t[1].bytes, 102);
	assert_int_equal(t[1].offset, data_offset + 192);
	assert_int_equal(t[2].n_dims, 1);
	assert_int_equal(t[2].bytes, 80);
	assert_int_equal(hr__tensors_find(&g->tensors, "c"), 2);
	assert_int_equal(hr__tensors_find(&g->tensors, "d"), -1);
}

static void a_valid_header_is_read_as_it_is(void **state)
{
	(void)state;
	struct bytes    b = {0};
	struct hr_gguf  g;
	struct hr_error err = {0};
	build(&b);
	assert_int_equal(parse(&g, b.data, b.n, &err), 0);
	assert_string_equal(err.message, "");
	check_content(&g, b.marks[DATA]);
	hr_gguf_release(&g);
	b.data[b.marks[VERSION]] = 2;
	assert_int_equal(parse(&g, b.data, b.n, NULL), 0);
	hr_gguf_release(&g);
	free(b.data);
}

/* Fields of every size up to 8, ending at every place about the end of the buffer. */
static void the_buffer_of_a_file_hides_nothing(void **state)
{
	(void)state;
	char             *directory = make_directory();
	uint8_t           data[HR_SOURCE_BUFFER_BYTES + 999], got[8];
	struct hr_file    file;
	struct hr_source *s = malloc(sizeof *s);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	write_file(join(directory, "bytes"), data, sizeof data);
	assert_int_equal(hr_file_open(&file, join(directory, "bytes"), NULL), 0);
	for (size_t first = 1; first <= 8; first++)
		for (size_t step = 1; step <= 8; step++) {
			hr__source_init_file(s, &file);
			assert_int_equal(hr__source_read(s, got, first, "a field", NULL), 0);
			for (size_t at = first; at + step <= sizeof data; at += step) {
				assert_int_equal(hr__source_read(s, got, step, "a field", NULL), 0);
				if (memcmp(got, data + at, step) != 0)
					fail_msg("first %zu, step %zu: wrong bytes at %zu", first, step, at);
			}
			assert_int_equal(hr__source_read(s, got, 8, "a field", NULL), HR_ETRUNCATED);
		}
	hr_file_close(&file);
	free(s);
	remove_directory(directory);
}

/* Keys longer than the buffer of the source, so that fields straddle its ends. */
static void a_file_reads_like_memory(void **state)
{
	(void)state;
	struct bytes big = {0};
	put(&big, "GGUF\3\0\0\0", 8);
	put_u64(&big, 1);
	put_u64(&big, 301);
	for (int i = 0; i < 300; i++) {
		char key[32];
		snprintf(key, sizeof key, "key.%d", i);
		put_string(&big, key);
		put_u32(&big, HR_GGUF_ARRAY);
		put_u32(&big, HR_GGUF_U8);
		put_u64(&big, (uint64_t)i * 7);
		for (int k = 0; k < i * 7; k++)
			put(&big, &(uint8_t){(uint8_t)(i + k)}, 1);
	}
	put_string(&big, "long");
	put_u32(&big, HR_GGUF_STRING);
	put_u64(&big, 200000);
	for (int i = 0; i < 200000; i++)
		put(&big, "x", 1);
	put_tensor(&big, "t", 4, 0, 0, 0);
	put_zeros(&big, (32 - big.n % 32) % 32 + 16);

	char             *directory = make_directory();
	struct hr_file    file;
	struct hr_gguf    a, c;
	struct hr_source *s = malloc(sizeof *s);
	write_file(join(directory, "big.gguf"), big.data, big.n);
	assert_int_equal(hr_file_open(&file, join(directory, "big.gguf"), NULL), 0);
	hr__source_init_file(s, &file);
	assert_int_equal(hr_gguf_read(&a, s, NULL), 0);
	assert_int_equal(parse(&c, big.data, big.n, NULL), 0);
	assert_int_equal(a.n_kvs, 301);
	assert_int_equal(a.n_kvs, c.n_kvs);
	assert_int_equal(a.data_offset, c.data_offset);
	assert_ptr_equal(a.tensors.items[0].file, &file);
	for (int i = 0; i < a.n_kvs; i++) {
		assert_string_equal(a.kvs[i].key, c.kvs[i].key);
		assert_int_equal(a.kvs[i].data_bytes, c.kvs[i].data_bytes);
		assert_memory_equal(a.kvs[i].data, c.kvs[i].data, a.kvs[i].data_bytes);
	}
	const struct hr_gguf_kv *kv = hr_gguf_find(&a, "key.299");
	assert_int_equal(kv->n, 299 * 7);
	for (int k = 0; k < 299 * 7; k++)
		assert_int_equal(kv->data[k], (uint8_t)(299 + k));
	hr_gguf_release(&a);
	hr_gguf_release(&c);
	hr_file_close(&file);
	free(s);
	free(big.data);
	remove_directory(directory);
}

/* `width` bytes at `mark` (+ `skip`) become `value`. */
struct damage {
	enum mark   mark;
	int         skip, width;
	uint64_t    value;
	int         code;
	const char *fragment;
};

static const struct damage damages[] = {
    {MAGIC, 0, 1, 'X', HR_EFORMAT, "this is no GGUF file (it begins with the bytes 58 47 55 46"},
    {MAGIC, 0, 4, 0x67676d6c, HR_EUNSUPPORTED, "from before GGUF"},
    {MAGIC, 0, 4, 0x67676a74, HR_EUNSUPPORTED, "from before GGUF"},
    {VERSION, 0, 4, 0, HR_EUNSUPPORTED, "version 0; supported are 2 and 3"},
    {VERSION, 0, 4, 1, HR_EUNSUPPORTED, "version 1; supported are 2 and 3"},
    {VERSION, 0, 4, 4, HR_EUNSUPPORTED, "version 4; supported are 2 and 3"},
    {VERSION, 0, 4, 0x03000000, HR_EUNSUPPORTED, "big-endian"},
    {N_KVS, 0, 8, UINT64_MAX, HR_ETRUNCATED, "claims 18446744073709551615 metadata keys"},
    {N_KVS, 0, 8, 100, HR_ETRUNCATED, "claims 100 metadata keys"},
    {N_KVS, 0, 8, 6, HR_EFORMAT, "header is damaged"},
    {N_KVS, 0, 8, 8, HR_EFORMAT, "a tensor name at byte"},
    {N_TENSORS, 0, 8, UINT64_MAX, HR_ETRUNCATED, "claims 18446744073709551615 tensors"},
    {N_TENSORS, 0, 8, 1u << 31, HR_ETRUNCATED, "claims 2147483648 tensors"},
    {N_TENSORS, 0, 8, 4, HR_EFORMAT, "a tensor name at byte"},
    {KEY_LENGTH, 0, 8, 0, HR_EFORMAT, "a metadata key at byte 24 is 0 bytes long"},
    {KEY_LENGTH, 0, 8, 65536, HR_EFORMAT, "65536 bytes long, 1 to 65535"},
    {KEY_LENGTH, 0, 8, 60000, HR_ETRUNCATED, "in the middle of a metadata key"},
    {KEY_LENGTH, 0, 8, UINT64_MAX, HR_EFORMAT, "a metadata key at byte 24"},
    {KEY_TEXT, 2, 1, 0, HR_EFORMAT, "holds the byte 0x00"},
    {KEY_TEXT, 2, 1, 0xff, HR_EFORMAT, "holds the byte 0xff"},
    {ALIGNMENT_TYPE, 0, 4, HR_GGUF_TYPE_COUNT, HR_EFORMAT,
     "key 'general.alignment' at byte 49 has value type 13"},
    {ALIGNMENT_TYPE, 0, 4, UINT32_MAX, HR_EFORMAT, "value type 4294967295, which does not exist"},
    {ALIGNMENT_TYPE, 0, 4, HR_GGUF_F32, HR_EFORMAT, "is of type float32, but an integer is needed"},
    {ALIGNMENT, 0, 4, 0, HR_EFORMAT, "general.alignment is 0, but it must be a power of two"},
    {ALIGNMENT, 0, 4, 48, HR_EFORMAT, "general.alignment is 48"},
    {ALIGNMENT, 0, 4, 1u << 31, HR_EFORMAT, "general.alignment is 2147483648"},
    {ALIGNMENT, 0, 4, 128, HR_EFORMAT,
     "begins at byte 192 of the data, which is no multiple of the alignment 128"},
    {ALIGNMENT, 0, 4, 1u << 20, HR_ETRUNCATED, "which begins at byte 1048576"},
    {FLAG, 0, 1, 2, HR_EFORMAT, "key 'test.flag' is a bool of value 2"},
    {FLAG_TYPE, 0, 4, HR_GGUF_STRING, HR_ETRUNCATED, "the value of key 'test.flag'"},
    {ARRAY_ELEM, 0, 4, HR_GGUF_ARRAY, HR_EUNSUPPORTED, "key 'test.array' is an array of arrays"},
    {ARRAY_ELEM, 0, 4, 13, HR_EFORMAT, "is an array of value type 13"},
    {ARRAY_ELEM, 0, 4, HR_GGUF_BOOL, HR_EFORMAT, "is a bool of value 2"},
    {ARRAY_N, 0, 8, UINT64_MAX, HR_ETRUNCATED, "key 'test.array' claims 18446744073709551615 elements"},
    {ARRAY_N, 0, 8, 1ull << 63, HR_ETRUNCATED, "key 'test.array' claims"},
    {ARRAY_N, 0, 8, 2000, HR_ETRUNCATED, "key 'test.array' claims 2000 elements"},
    {STRINGS_N, 0, 8, 1ull << 61, HR_ETRUNCATED, "key 'test.strings' claims"},
    {STRINGS_FIRST, 0, 8, UINT64_MAX, HR_ETRUNCATED, "in the middle of the value of key 'test.strings'"},
    {STRINGS_FIRST, 0, 8, 100000, HR_ETRUNCATED, "in the middle of the value of key 'test.strings'"},
    {TWIN_KEY_END, -1, 1, 'x', HR_EFORMAT, "the metadata key 'test.x' stands there twice"},
    {NAME_LENGTH, 0, 8, 0, HR_EFORMAT, "a tensor name at byte"},
    {NAME_LENGTH, 0, 8, 256, HR_EFORMAT, "is 256 bytes long, 1 to 255"},
    {NAME_TEXT, 0, 1, '\n', HR_EFORMAT, "holds the byte 0x0a"},
    {N_DIMS, 0, 4, 0, HR_EFORMAT, "tensor 'a' has 0 dimensions"},
    {N_DIMS, 0, 4, 5, HR_EFORMAT, "tensor 'a' has 5 dimensions, 1 to 4"},
    {N_DIMS, 0, 4, UINT32_MAX, HR_EFORMAT, "tensor 'a' has 4294967295 dimensions"},
    {NE0, 0, 8, 0, HR_EFORMAT, "dimension 1 of tensor 'a' is 0"},
    {NE1, 0, 8, 0, HR_EFORMAT, "dimension 0 of tensor 'a' is 0"},
    {NE0, 0, 8, 1ull << 63, HR_EFORMAT, "tensor 'a' multiply to more than 64 bits"},
    {NE0, 0, 8, 1ull << 62, HR_EFORMAT, "tensor 'a' has more bytes than 64 bits count"},
    {NE0, 0, 8, 1ull << 50, HR_ETRUNCATED, "tensor 'a' wants 9007199254740992 bytes"},
    {NE1, 0, 8, 1000, HR_ETRUNCATED, "tensor 'a' wants 96000 bytes at offset 0"},
    {NE1, 0, 8, 3, HR_EFORMAT, "tensors 'a'"},
    {TYPE, 0, 4, 15, HR_EUNSUPPORTED,
     "tensor 'a' has the type Q8_K, which is not supported; supported are f32, f16,"},
    {TYPE, 0, 4, 21, HR_EUNSUPPORTED, "type IQ3_S"},
    {TYPE, 0, 4, 34, HR_EUNSUPPORTED, "type TQ1_0"},
    {TYPE, 0, 4, 4, HR_EUNSUPPORTED, "the unknown type id 4"},
    {TYPE, 0, 4, 200, HR_EUNSUPPORTED, "the unknown type id 200"},
    {TYPE, 0, 4, UINT32_MAX, HR_EUNSUPPORTED, "the unknown type id 4294967295"},
    {TYPE, 0, 4, 2, HR_EFORMAT, "a row of tensor 'a' has 24 elements, but q4_0 comes in blocks of 32"},
    {OFFSET, 0, 8, 1, HR_EFORMAT, "tensor 'a' begins at byte 1 of the data, which is no multiple"},
    {OFFSET, 0, 8, 64, HR_EFORMAT, "overlap"},
    {OFFSET, 0, 8, 1ull << 40, HR_ETRUNCATED, "at offset 1099511627776"},
    {OFFSET, 0, 8, UINT64_MAX - 63, HR_ETRUNCATED, "tensor 'a' wants"},
    {B_NE0, 0, 8, 33, HR_EFORMAT, "a row of tensor 'b' has 33 elements, but q8_0 comes in blocks of 32"},
    {B_OFFSET, 0, 8, 128, HR_EFORMAT, "tensors 'a' (bytes"},
    {B_OFFSET, 0, 8, 256, HR_EFORMAT, "and 'c' (from byte"},
    {B_NAME_TEXT, 0, 1, 'a', HR_EFORMAT, "tensor 'a' stands there twice"},
    {C_OFFSET, 0, 8, 384, HR_ETRUNCATED, "tensor 'c' wants 80 bytes at offset 384"},
};

static void every_damage_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
		const struct damage *d = &damages[i];
		struct bytes         b = {0};
		struct hr_gguf       g;
		struct hr_error      err = {0};
		char                 what[32];
		build(&b);
		memcpy(b.data + b.marks[d->mark] + d->skip, &d->value, (size_t)d->width);
		snprintf(what, sizeof what, "damage %zu", i);
		check_failure(what, parse(&g, b.data, b.n, &err), &err, d->code, d->fragment);
		assert_non_null(strstr(err.message, "test.gguf"));
		free(b.data);
	}
}

/* A long file can hold absurd counts: they cost no memory either. */
static void absurd_counts_are_refused(void **state)
{
	(void)state;
	struct hr_gguf  g;
	struct hr_error err = {0};
	size_t          n = 64u << 20;
	uint8_t        *data = calloc(n, 1);
	uint64_t        counts[2] = {0, (1u << 20) + 1};
	assert_non_null(data);
	memcpy(data, "GGUF\3\0\0\0", 8);
	memcpy(data + 8, counts, 16);
	check_failure("keys", parse(&g, data, n, &err), &err, HR_EFORMAT,
	              "claims 1048577 metadata keys, which is absurdly");
	counts[0] = counts[1];
	counts[1] = 0;
	memcpy(data + 8, counts, 16);
	check_failure("tensors", parse(&g, data, n, &err), &err, HR_EFORMAT,
	              "claims 1048577 tensors, which is absurdly");
	free(data);
}

static void every_cut_is_noticed(void **state)
{
	(void)state;
	struct bytes b = {0};
	build(&b);
	for (size_t n = 0; n < b.n; n++) {
		struct hr_gguf  g;
		struct hr_error err = {0};
		uint8_t        *cut = malloc(n + 1); /* so that a sanitizer sees a read behind the end */
		memcpy(cut, b.data, n);
		cut = realloc(cut, n ? n : 1);
		check_failure("a cut file", parse(&g, cut, n, &err), &err, HR_ETRUNCATED, "cut short or damaged");
		free(cut);
	}
	free(b.data);
}

static void values_of_the_wrong_kind_are_refused(void **state)
{
	(void)state;
	struct bytes             b = {0};
	struct hr_gguf           g;
	const struct hr_gguf_kv *kv;
	uint64_t                 u = 7;
	int32_t                  i = 7;
	float                    f = 7;
	bool                     flag = true;
	const char              *text = "untouched";
	build(&b);
	assert_int_equal(parse(&g, b.data, b.n, NULL), 0);
	struct hr_error err = {0};
	check_failure("x", hr_gguf_get_u64(&g, "test.x", &u, &err), &err, HR_EFORMAT,
	              "'test.x' is -5, but it cannot be");
	check_failure("y", hr_gguf_get_i32(&g, "test.y", &i, &err), &err, HR_EFORMAT,
	              "of type string, but an integer");
	check_failure("y", hr_gguf_get_f32(&g, "test.y", &f, &err), &err, HR_EFORMAT, "but a float is needed");
	check_failure("z", hr_gguf_get_bool(&g, "test.z", &flag, &err), &err, HR_EFORMAT, "but a bool is needed");
	check_failure("z", hr_gguf_get_string(&g, "test.z", &text, &err), &err, HR_EFORMAT,
	              "but a string is needed");
	check_failure("array", hr_gguf_get_u64(&g, "test.array", &u, &err), &err, HR_EFORMAT,
	              "an array of int16");
	check_failure("array", hr_gguf_get_array(&g, "test.array", HR_GGUF_I32, &kv, &err), &err, HR_EFORMAT,
	              "but an array of int32 is needed");
	assert_int_equal(u, 7);
	assert_int_equal(i, 7);
	assert_true(f == 7 && flag);
	assert_string_equal(text, "untouched");
	hr_gguf_release(&g);
	free(b.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_valid_header_is_read_as_it_is),
	    cmocka_unit_test(the_buffer_of_a_file_hides_nothing),
	    cmocka_unit_test(a_file_reads_like_memory),
	    cmocka_unit_test(every_damage_is_named),
	    cmocka_unit_test(absurd_counts_are_refused),
	    cmocka_unit_test(every_cut_is_noticed),
	    cmocka_unit_test(values_of_the_wrong_kind_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
