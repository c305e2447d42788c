/* Error texts and the one way to fill a struct hr_error. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *hr_error_text(int code)
{
	switch (code) {
	case HR_OK:
		return "success";
#define HR_X(name, value, text)                                                                              \
	case name:                                                                                               \
		return text;
		HR_ERROR_CODES(HR_X)
#undef HR_X
	default:
		return "unknown error";
	}
}

int hr__fail(struct hr_error *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list args;
		va_start(args, fmt);
		err->code = code;
		vsnprintf(err->message, sizeof err->message, fmt, args);
		va_end(args);
	}
	return code;
}

int hr__fail_context(struct hr_error *err, const char *fmt, ...)
{
	if (!err)
		return HR_EINTERNAL;
	char old[sizeof err->message];
	memcpy(old, err->message, sizeof old);
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(err->message, sizeof err->message, fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n + 2 < sizeof err->message)
		snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", old);
	return err->code;
}
