/* Filling a caller's struct hr_error. */
#ifndef HR_BASE_ERROR_H
#define HR_BASE_ERROR_H

#include "headrace/error.h"

/* Store `code` and the formatted sentence in `err` (NULL: ignored) and return
 * `code`, so that a failure is one line: return hr__fail(err, HR_EIO, ...). */
int hr__fail(struct hr_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "fmt: " before the sentence `err` already holds; returns err->code. */
int hr__fail_context(struct hr_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
