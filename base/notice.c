/* Formats a notice and hands it to the program's sink. */
#include "base/notice.h"

#include <stdarg.h>
#include <stdio.h>

void hr__notice(const struct hr_notice_sink *sink, const char *fmt, ...)
{
	if (!sink || !sink->fn)
		return;
	char    sentence[1000];
	va_list args;
	va_start(args, fmt);
	vsnprintf(sentence, sizeof sentence, fmt, args);
	va_end(args);
	sink->fn(sink->user, sentence);
}
