/* Inside a session. */
#ifndef HR_RUNTIME_SESSION_H
#define HR_RUNTIME_SESSION_H

#include "runtime/backend.h"
#include "runtime/forward.h"
#include "runtime/ladder.h"
#include "runtime/report.h"
#include "runtime/request.h"
#include "scheduler/trace.h"

#include <pthread.h>

struct hr_session {
	const struct hr_model *model; /* borrowed */
	struct hr_plan_options options;
	struct hr_plan        *plan;

	/* What is held, in the order it was taken. */
	struct hr_backend backend;
	struct hr_reader *reader;
	struct hr_trace  *trace;
	struct hr_stream *compute;
	struct hr_part   *parts;      /* [n_blocks] */
	int               head_layer; /* in the window's list */
	struct hr_layer  *layers;     /* [n_layers] the window's list; extents borrowed from model and parts */
	enum hr_tier     *tiers;      /* [n_layers] */
	int               n_layers;
	struct hr_window *window;
	void             *kv_memory;
	struct hr_kv      kv;
	struct hr_embedding_rows *rows;
	struct hr_forward        *forward;

	/* The stepping thread's. */
	struct hr_job **running; /* [n_seqs] by row; NULL: free */
	bool            failed;

	pthread_mutex_t   lock; /* what follows */
	struct hr_job    *jobs; /* all, in order of submission */
	uint64_t          next_id;
	struct hr_measure measure;
	XXH64_state_t     encoded; /* over all that an encoder gave */
};

/* hr_session_open() with options that no profile has to add to. `rates`: what is planned with; NULL: none. */
int hr__session_open(struct hr_session **out, const struct hr_model *model,
                     const struct hr_plan_options *options, const struct hr_rates_source *rates,
                     struct hr_error *err);

/* The model's files are what they were; else an error that says so. */
int hr__session_check_files(const struct hr_session *s, struct hr_error *err);

#endif
