/* What the files of `tune` share: a trial, and running it. */
#ifndef HR_CLI_TUNE_H
#define HR_CLI_TUNE_H

#include "cli/cli.h"

struct hr_cli_trial {
	struct hr_plan_options plan;
	double                 predicted_tps;
	double                 tps, noise;             /* of the job; 0: it failed */
	int                    resident_layers, slots; /* as the trial had them; slots 0: all stay */
	double                 kept_share;             /* likewise */
	char                   why[200];
};

/* Run it as `headrace bench` in a process of its own and fill in what came of it. While it runs, `status`
 * is called a few times a second. */
void hr_cli_run_trial(struct hr_cli_trial *trial, const struct hr_cli_options *options,
                      const struct hr_tuner_job *job, void (*status)(void *user), void *user);

double hr_cli_now_seconds(void);

#endif
