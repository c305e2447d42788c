/* `headrace doctor`: what this machine can do, line by line as it is found out. */
#include "cli/cli.h"

#include <stdio.h>

static const char *const status_names[] = {
    [HR_CHECK_OK] = "ok", [HR_CHECK_SLOW] = "slow", [HR_CHECK_MISSING] = "missing"};

static void print_check(void *user, const struct hr_check *check)
{
	(void)user;
	printf("%-22s %-8s %s\n", check->name, status_names[check->status], check->detail);
	if (check->advice && *check->advice)
		printf("%-31s -> %s\n", "", check->advice);
	fflush(stdout);
}

static void collect_check(void *checks, const struct hr_check *check)
{
	json_array_append_new(
	    checks, json_pack("{s:s, s:s, s:o, s:o, s:f}", "name", check->name, "status",
	                      status_names[check->status], "detail", hr_cli_json_text(check->detail), "advice",
	                      hr_cli_json_text(check->advice ? check->advice : ""), "value", check->value));
}

int hr_cli_doctor(struct hr_cli_options *o)
{
	struct hr_error err;
	json_t         *checks = json_array();
	int             code = HR_EXIT_OK;
	if (hr_doctor(o->target, o->json ? collect_check : print_check, checks, &err))
		code = hr_cli_fail_error(&err);
	else if (o->json)
		hr_cli_write_json(json_pack("{s:s, s:O}", "version", hr_version(), "checks", checks), false);
	json_decref(checks);
	return code;
}
