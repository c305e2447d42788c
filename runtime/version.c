/* The version of the library that is linked. */
#include "headrace/headrace.h"

const char *hr_version(void) { return HEADRACE_VERSION; }
