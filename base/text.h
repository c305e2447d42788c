/* Sentences put together from parts, in the caller's memory. */
#ifndef HR_BASE_TEXT_H
#define HR_BASE_TEXT_H

#include <stddef.h>

/* printf onto the end of `text`, which is NUL-terminated and lies in `capacity` bytes; what doesn't
 * fit is left out. */
void hr__text_append(char *text, size_t capacity, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
