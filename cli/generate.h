/* What run and chat share: a session with its model, and requests followed until
 * they are over. */
#ifndef HR_CLI_GENERATE_H
#define HR_CLI_GENERATE_H

#include "cli/cli.h"

/* One prompt and what became of it. Zeroed at first; `prompt` is borrowed. */
struct hr_cli_job {
	const char    *prompt; /* as the user wrote it */
	int32_t       *prompt_ids;
	int64_t        n_prompt_ids;
	int            max_new_tokens; /* 0: until the model stops */
	uint64_t       id;
	char          *text; /* NUL-terminated once there is any */
	size_t         bytes, capacity;
	size_t         written; /* of `bytes`, to stdout */
	int32_t       *ids;
	int64_t        n_ids;
	enum hr_finish finish;
};

/* The ids of the prompt as it stands, or of a conversation. An exit code. */
int  hr_cli_job_tokenize(struct hr_cli_job *job, const struct hr_model *model);
int  hr_cli_job_tokenize_chat(struct hr_cli_job *job, const struct hr_model *model,
                              const struct hr_chat_message *messages, int n_messages);
void hr_cli_job_release(struct hr_cli_job *job);

json_t     *hr_cli_json_job(const struct hr_cli_job *job);
const char *hr_cli_finish_name(enum hr_finish finish);

/* Load; from here on Ctrl-C is held until the next pass ends. An exit code. */
int hr_cli_open_session(struct hr_session **session, const struct hr_model *model,
                        struct hr_cli_options *options);
int hr_cli_job_submit(struct hr_cli_job *job, struct hr_session *session,
                      const struct hr_cli_options *options);

/* Pass after pass until all jobs are over, Ctrl-C comes or `after_pass` returns
 * false (it may write what is new). The jobs then hold what there is. An exit code. */
int hr_cli_generate(struct hr_session *session, struct hr_cli_job *jobs, int n_jobs,
                    bool (*after_pass)(struct hr_cli_job *jobs, int n_jobs));

/* For `after_pass`: what is new of the only job, to stdout; or nothing at all. */
bool hr_cli_show_text(struct hr_cli_job *job, int n_jobs);
bool hr_cli_show_nothing(struct hr_cli_job *jobs, int n_jobs);

/* The trace and the statistics, as asked for; at the end. Returns `code`, or an error's. */
int hr_cli_report(const struct hr_model *model, struct hr_session *session,
                  const struct hr_cli_options *options, int code);

#endif
