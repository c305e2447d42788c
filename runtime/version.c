/* The version of the library that is linked: "0.1.0", or "0.1.0+1a2b3c4" with the commit
 * that it was built from, where there is one. What was measured is kept by this name. */
#include "headrace/headrace.h"

const char *hr_version(void) { return HEADRACE_VERSION HR_COMMIT; }
