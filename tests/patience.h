/* Properties that only time shows. */
#ifndef HR_TESTS_PATIENCE_H
#define HR_TESTS_PATIENCE_H

#include <stdbool.h>

/* Whether one of ten trials shows it. Other programs may take the processor away for any
 * while, so a single trial proves nothing when it fails; but what works as promised shows it
 * in one that is left alone, and what doesn't never does. */
#define ONE_OF_TEN(trial)                                                                                    \
	({                                                                                                       \
		bool shown_ = false;                                                                                 \
		for (int i_ = 0; i_ < 10 && !shown_; i_++)                                                           \
			shown_ = (trial);                                                                                \
		shown_;                                                                                              \
	})

#endif
