/* Headrace error codes and the error a caller reads.
 *
 * Functions return 0 or one of the negative codes below. Functions that can
 * fail for a reason worth explaining also take a `struct hr_error *`: on
 * failure it holds the code and one complete sentence for a person; on success
 * it is left untouched. NULL is accepted wherever an hr_error is.
 */
#ifndef HEADRACE_ERROR_H
#define HEADRACE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text) */
#define HR_ERROR_CODES(X)                                                                                    \
	X(HR_EINVAL, -1, "invalid argument")                                                                     \
	X(HR_ENOMEM, -2, "out of host memory")                                                                   \
	X(HR_EDEVMEM, -3, "out of device memory")                                                                \
	X(HR_EBUDGET, -4, "the budget is below the smallest that works")                                         \
	X(HR_EIO, -5, "input/output error")                                                                      \
	X(HR_ETRUNCATED, -6, "file ends before its data does")                                                   \
	X(HR_ECHANGED, -7, "file changed while in use")                                                          \
	X(HR_ENOENT, -8, "no such file")                                                                         \
	X(HR_EFORMAT, -9, "malformed file")                                                                      \
	X(HR_EUNSUPPORTED, -10, "unsupported")                                                                   \
	X(HR_EAGAIN, -11, "not now, try again later")                                                            \
	X(HR_ECANCELED, -12, "canceled")                                                                         \
	X(HR_EDEVICE, -13, "device failure")                                                                     \
	X(HR_ECONTEXT, -14, "longer than the context")                                                           \
	X(HR_EINTERNAL, -15, "internal error")

enum hr_error_code {
	HR_OK = 0,
#define HR_X(name, value, text) name = value,
	HR_ERROR_CODES(HR_X)
#undef HR_X
};

/* One failure, told once. `message` is a NUL-terminated UTF-8 sentence that
 * says what was wrong, where, and what to do. */
struct hr_error {
	int  code;
	char message[1000];
};

/* The short text of a code, static storage; "unknown error" for others. */
const char *hr_error_text(int code);

#ifdef __cplusplus
}
#endif
#endif
