/* Sentences put together from parts. */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void hr__text_append(char *text, size_t capacity, const char *fmt, ...)
{
	size_t  n = strlen(text);
	va_list args;
	va_start(args, fmt);
	vsnprintf(text + n, capacity - n, fmt, args);
	va_end(args);
}
