/* What a session measures while it runs. */
#ifndef HR_RUNTIME_REPORT_H
#define HR_RUNTIME_REPORT_H

#include "headrace/headrace.h"
#include "io/reader.h"
#include "scheduler/window.h"

#define HR_PASS_SAMPLES 4096

/* The last HR_PASS_SAMPLES pass times of one kind. */
struct hr_pass_times {
	double   ms[HR_PASS_SAMPLES];
	uint64_t n;
	double   total_ms;
};

struct hr_measure {
	double                 load_ms;
	struct hr_pass_times   prefill, decode;
	uint64_t               prefill_tokens, decode_tokens;
	struct hr_window_stats window0; /* counters when the report was reset */
	struct hr_reader_stats reader0;
};

void hr__measure_pass(struct hr_measure *m, double ms, int prefill_tokens, int decode_tokens);

/* Everything of the report that follows from the counters. `max_disk_rate`: 0, or
 * the throttle's bytes per second, which then is the disk rate of the ceiling. */
void hr__measure_report(const struct hr_measure *m, const struct hr_window_stats *window,
                        const struct hr_reader_stats *reader, uint64_t max_disk_rate, struct hr_report *out);

#endif
