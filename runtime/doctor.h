/* What the doctor's files share. */
#ifndef HR_RUNTIME_DOCTOR_H
#define HR_RUNTIME_DOCTOR_H

#include "headrace/headrace.h"

struct doctor {
	hr_check_fn fn;
	void       *user;
};

/* One line; `advice` is left out when the status is ok. */
void hr__doctor_tell(const struct doctor *d, const char *name, enum hr_check_status status, double value,
                     const char *advice, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Every GPU, its memory and its link; one line when there is none. */
void hr__doctor_check_gpus(const struct doctor *d);

#endif
