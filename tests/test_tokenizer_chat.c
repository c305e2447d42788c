/* hr_chat_format() writes what the models' own templates render, byte for byte, and
 * refuses what they refuse (tests/golden/chat.json, scripts/make-chat-goldens). */
#include "runtime/tokenizer/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int format_case(char **out, const json_t *root, const json_t *one, struct hr_error *err)
{
	struct hr_chat_message messages[16];
	const json_t          *list = json_object_get(one, "messages");
	int                    n = (int)json_array_size(list);
	assert_in_range(n, 1, 16);
	for (int i = 0; i < n; i++)
		messages[i] = (struct hr_chat_message){string_of(json_array_get(list, (size_t)i), "role"),
		                                       string_of(json_array_get(list, (size_t)i), "content")};
	return hr_chat_format(out, string_of(json_object_get(root, "templates"), string_of(one, "template")),
	                      string_of(one, "bos"), string_of(one, "eos"), messages, n,
	                      json_is_true(json_object_get(one, "prompt")), err);
}

static void test_golden(void **state)
{
	(void)state;
	const char  *path = getenv("HR_CHAT_GOLDEN");
	json_error_t reason;
	json_t      *root = json_load_file(path ? path : "tests/golden/chat.json", 0, &reason), *one;
	size_t       i;
	int          bad = 0, n = 0;
	assert_non_null(root);
	json_array_foreach(json_object_get(root, "cases"), i, one)
	{
		struct hr_error err = {0};
		char           *got = NULL;
		int             rc = format_case(&got, root, one, &err);
		const char     *want = string_of(one, "text");
		bool            same = want ? rc == 0 && strcmp(got, want) == 0 : rc == HR_EINVAL;
		n++;
		if (!same && bad++ < 20)
			fprintf(stderr, "%s:\nwant %s\ngot  %s\n", string_of(one, "name"),
			        want ? want : string_of(one, "error"), rc ? err.message : got);
		free(got);
	}
	json_decref(root);
	fprintf(stderr, "%d of %d conversations differ\n", bad, n);
	assert_int_equal(bad, 0);
	if (!path)
		assert_in_range(n, 500, 1000);
}

static const struct hr_chat_message hello = {"user", "Hello"};

static void refuse(const char *jinja, int code)
{
	struct hr_error err = {0};
	char           *out = NULL;
	assert_int_equal(hr_chat_format(&out, jinja, "<s>", "</s>", &hello, 1, true, &err), code);
	assert_int_equal(err.code, code);
	assert_true(strlen(err.message) > 20);
	assert_null(out);
}

static void test_refuses_unknown_templates(void **state)
{
	(void)state;
	refuse(NULL, HR_EUNSUPPORTED);
	refuse("", HR_EUNSUPPORTED);
	refuse("{{ messages[0]['content'] }}", HR_EUNSUPPORTED);
	refuse("{{ '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' }}", HR_EUNSUPPORTED);
	refuse("{% unterminated '", HR_EUNSUPPORTED);
	refuse("{# comment", HR_EUNSUPPORTED);
	refuse("{{ 'literal\\", HR_EUNSUPPORTED);
	refuse("{", HR_EUNSUPPORTED);
}

static void test_refuses_bad_messages(void **state)
{
	(void)state;
	const char *jinja = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'}}";
	const struct hr_chat_message tool = {"tool", "42"}, empty = {"user", NULL};
	char                        *out = NULL;
	assert_int_equal(hr_chat_format(&out, jinja, "", "", &hello, 0, true, NULL), HR_EINVAL);
	assert_int_equal(hr_chat_format(&out, jinja, "", "", &tool, 1, true, NULL), HR_EINVAL);
	assert_int_equal(hr_chat_format(&out, jinja, "", "", &empty, 1, true, NULL), HR_EINVAL);
	assert_null(out);
	assert_int_equal(hr_chat_format(&out, jinja, NULL, NULL, &hello, 1, true, NULL), 0);
	assert_string_equal(out, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_golden),
	    cmocka_unit_test(test_refuses_unknown_templates),
	    cmocka_unit_test(test_refuses_bad_messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
