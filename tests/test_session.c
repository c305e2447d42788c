/* Sessions through the public header: requests, text, cancelling, threads, budgets,
 * and files that go bad while they are streamed. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "headrace/headrace.h"

static char directory[] = "/tmp/headrace-session-XXXXXX";
static char model_path[128];

static int make_model(void **state)
{
	(void)state;
	struct hr_error err;
	if (!mkdtemp(directory))
		return -1;
	snprintf(model_path, sizeof model_path, "%s/tiny.gguf", directory);
	return hr_synth(model_path, "tiny-llama", "q8_0", 1, NULL, NULL, &err);
}

static int remove_model(void **state)
{
	(void)state;
	unlink(model_path);
	return rmdir(directory);
}

struct world {
	struct hr_model       *model;
	struct hr_session     *session;
	struct hr_plan_options options;
	struct hr_error        err;
};

/* The smallest budget that works, from the planner's own sentence. */
static uint64_t smallest_budget(const struct hr_model *model)
{
	struct hr_plan_options o;
	struct hr_plan        *plan;
	struct hr_error        err = {0};
	unsigned long long     bytes = 0;
	hr_plan_options_init(&o);
	o.device = "cpu";
	o.device_memory_bytes = 1;
	assert_int_equal(hr_plan_new(&plan, model, &o, &err), HR_EBUDGET);
	const char *at = strstr(err.message, "the smallest budget that works is ");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "the smallest budget that works is %llu", &bytes), 1);
	return bytes;
}

static void setup(struct world *w, const char *path, int n_seqs)
{
	assert_int_equal(hr_model_open(&w->model, path, &w->err), 0);
	hr_plan_options_init(&w->options);
	w->options.device = "cpu";
	w->options.n_threads = 2;
	w->options.n_ctx = 128;
	w->options.n_seqs = n_seqs;
	w->options.device_memory_bytes = smallest_budget(w->model);
}

static void start(struct world *w, const char *path, int n_seqs)
{
	setup(w, path, n_seqs);
	assert_int_equal(hr_session_open(&w->session, w->model, &w->options, &w->err), 0);
}

static void stop(struct world *w)
{
	hr_session_close(w->session);
	hr_model_close(w->model);
}

static uint64_t submit(struct world *w, const char *text, int max_new)
{
	struct hr_request r;
	uint64_t          id = 0;
	hr_request_init(&r);
	r.text = text;
	r.max_new_tokens = max_new;
	r.ignore_eos = true;
	assert_int_equal(hr_session_submit(w->session, &r, &id, &w->err), 0);
	return id;
}

static void run_all(struct world *w)
{
	int rc;
	while ((rc = hr_session_step(w->session, &w->err)) > 0)
		;
	assert_int_equal(rc, 0);
}

static void smallest_budget_works_and_less_does_not(void **state)
{
	(void)state;
	struct world w;
	start(&w, model_path, 1);
	const struct hr_plan_info *p = hr_plan_info(hr_session_plan(w.session));
	assert_true(p->disk_layers > 0 && p->slots >= 2);
	assert_true(p->device_bytes <= w.options.device_memory_bytes);
	submit(&w, "hello", 4);
	run_all(&w);
	hr_session_close(w.session);
	w.options.device_memory_bytes -= 1;
	assert_int_equal(hr_session_open(&w.session, w.model, &w.options, &w.err), HR_EBUDGET);
	w.session = NULL;
	w.options.full = true;
	assert_int_equal(hr_session_open(&w.session, w.model, &w.options, &w.err), HR_EBUDGET);
	w.session = NULL;
	stop(&w);
}

static void more_requests_than_rows_all_finish_with_their_own_text(void **state)
{
	(void)state;
	struct world w;
	uint64_t     ids[7];
	start(&w, model_path, 3);
	for (int i = 0; i < 7; i++) {
		char text[16];
		snprintf(text, sizeof text, "prompt %d", i);
		ids[i] = submit(&w, text, 5 + i);
	}
	run_all(&w);
	for (int i = 0; i < 7; i++) {
		struct hr_request_state st;
		int32_t                 tokens[32];
		char                    text[512] = "", want[512];
		size_t                  used = 0;
		int64_t                 n;
		assert_int_equal(hr_session_state(w.session, ids[i], &st), 0);
		assert_int_equal(st.finish, HR_FINISH_LENGTH);
		assert_int_equal(st.n_new_tokens, 5 + i);
		assert_int_equal(hr_session_tokens(w.session, ids[i], tokens, 32), 5 + i);
		while ((n = hr_session_read(w.session, ids[i], text + used, 7)) > 0) /* small reads */
			used += (size_t)n;
		text[used] = '\0';
		n = hr_model_detokenize(w.model, tokens, (size_t)st.n_new_tokens, false, want, sizeof want, &w.err);
		assert_true(n >= 0);
		assert_true(used > 0);
		/* A leading space and broken characters are the only liberties. */
		if (!memchr(want, '\xef', strlen(want)) && used == strlen(want))
			assert_string_equal(text, want);
		assert_int_equal(hr_session_forget(w.session, ids[i]), 0);
		assert_int_equal(hr_session_state(w.session, ids[i], &st), HR_EINVAL);
	}
	stop(&w);
}

static void bad_requests_are_refused_with_a_sentence(void **state)
{
	(void)state;
	struct world      w;
	struct hr_request r;
	uint64_t          id;
	int32_t           many[200] = {0}, outside[1] = {1 << 20};
	start(&w, model_path, 1);
	hr_request_init(&r);
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), HR_EINVAL);
	r.ids = many;
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), HR_EINVAL);
	assert_non_null(strstr(w.err.message, "empty"));
	r.n_ids = 128;
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), HR_ECONTEXT);
	assert_non_null(strstr(w.err.message, "128"));
	r.ids = outside;
	r.n_ids = 1;
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), HR_EINVAL);
	assert_non_null(strstr(w.err.message, "1048576"));
	r.ids = many;
	r.sampling.top_p = 7;
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), HR_EINVAL);
	assert_int_equal(hr_session_step(w.session, &w.err), 0); /* nothing was queued */
	stop(&w);
}

static void the_longest_prompt_fits_and_its_output_ends_with_the_context(void **state)
{
	(void)state;
	struct world            w;
	struct hr_request       r;
	struct hr_request_state st;
	uint64_t                id;
	int32_t                 ids[127];
	for (int i = 0; i < 127; i++)
		ids[i] = 3 + i % 50;
	start(&w, model_path, 1);
	hr_request_init(&r);
	r.ids = ids;
	r.n_ids = 127;
	r.ignore_eos = true;
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), 0);
	r.n_ids = 120;
	uint64_t second;
	assert_int_equal(hr_session_submit(w.session, &r, &second, &w.err), 0);
	run_all(&w);
	hr_session_state(w.session, id, &st);
	assert_int_equal(st.n_new_tokens, 1);
	assert_int_equal(st.finish, HR_FINISH_LENGTH);
	hr_session_state(w.session, second, &st);
	assert_int_equal(st.n_new_tokens, 8);
	stop(&w);
}

static void a_stop_string_ends_the_text_before_itself(void **state)
{
	(void)state;
	struct world w;
	char         all[512];
	start(&w, model_path, 1);
	uint64_t id = submit(&w, "once", 40);
	run_all(&w);
	int64_t n = hr_session_read(w.session, id, all, sizeof all - 1);
	assert_true(n > 6);
	all[n] = '\0';
	/* Two bytes from the middle of what it says, as a stop string. */
	size_t at = (size_t)n / 2;
	while (at > 1 && ((unsigned char)all[at] >= 0x80 || (unsigned char)all[at + 1] >= 0x80))
		at--;
	char              piece[3] = {all[at], all[at + 1], '\0'};
	const char       *stops[] = {"never said by anyone", piece};
	struct hr_request r;
	hr_request_init(&r);
	r.text = "once";
	r.max_new_tokens = 40;
	r.ignore_eos = true;
	r.stop = stops;
	r.n_stop = 2;
	assert_int_equal(hr_session_submit(w.session, &r, &id, &w.err), 0);
	run_all(&w);
	char   text[512];
	size_t want = (size_t)(strstr(all, piece) - all);
	assert_int_equal(hr_session_read(w.session, id, text, sizeof text), (int64_t)want);
	assert_memory_equal(text, all, want);
	struct hr_request_state st;
	hr_session_state(w.session, id, &st);
	assert_int_equal(st.finish, HR_FINISH_STOP);
	stop(&w);
}

/* A private copy of the model, to be spoiled. */
static void copy_model(char *path, size_t size)
{
	char command[400];
	snprintf(path, size, "%s/copy.gguf", directory);
	snprintf(command, sizeof command, "cp %s %s", model_path, path);
	assert_int_equal(system(command), 0);
}

static void a_file_that_shrinks_or_changes_is_an_error_not_garbage(void **state)
{
	(void)state;
	for (int shrink = 0; shrink < 2; shrink++) {
		struct world w;
		char         path[160];
		copy_model(path, sizeof path);
		start(&w, path, 1);
		uint64_t id = submit(&w, "hello", 100);
		assert_int_equal(hr_session_step(w.session, &w.err), 1);
		int fd = open(path, O_RDWR);
		assert_true(fd >= 0);
		if (shrink)
			assert_int_equal(ftruncate(fd, 4096), 0);
		else
			assert_int_equal(pwrite(fd, "x", 1, 1 << 16), 1);
		close(fd);
		int rc = 1, steps = 0;
		while (rc == 1 && steps++ < 20)
			rc = hr_session_step(w.session, &w.err);
		assert_true(rc == HR_ECHANGED || (shrink && rc == HR_ETRUNCATED));
		assert_true(steps <= 3);
		assert_non_null(strstr(w.err.message, "copy.gguf"));
		assert_int_equal(hr_session_step(w.session, &w.err), HR_ECANCELED);
		struct hr_request_state st;
		hr_session_state(w.session, id, &st);
		assert_int_equal(st.finish, HR_FINISH_ERROR);
		stop(&w);
		unlink(path);
	}
}

static void closing_in_the_middle_is_clean(void **state)
{
	(void)state;
	for (int steps = 0; steps < 4; steps++) {
		struct world w;
		start(&w, model_path, 2);
		submit(&w, "hello", 50);
		submit(&w, "world", 50);
		for (int i = 0; i < steps; i++)
			assert_int_equal(hr_session_step(w.session, &w.err), 1);
		stop(&w);
	}
}

static void a_device_map_is_followed(void **state)
{
	(void)state;
	struct world w;
	setup(&w, model_path, 1);
	w.options.device_memory_bytes = 0;
	w.options.device_map = "{\"\": \"device\", \"model.layers.1\": \"disk\", \"model.layers.2\": \"disk\"}";
	assert_int_equal(hr_session_open(&w.session, w.model, &w.options, &w.err), 0);
	const struct hr_plan *plan = hr_session_plan(w.session);
	const char           *module, *tier;
	int                   on_disk = 0;
	for (int i = 0; !hr_plan_module(plan, i, &module, &tier, NULL); i++) {
		bool disk = !strcmp(module, "model.layers.1") || !strcmp(module, "model.layers.2");
		assert_string_equal(tier, disk ? "disk" : "device");
		on_disk += disk;
	}
	assert_int_equal(on_disk, 2);
	submit(&w, "hello", 3);
	run_all(&w);
	stop(&w);
}

static void the_trace_is_json_with_every_lane(void **state)
{
	(void)state;
	struct world w;
	char         path[160];
	setup(&w, model_path, 1);
	w.options.trace = true;
	assert_int_equal(hr_session_open(&w.session, w.model, &w.options, &w.err), 0);
	submit(&w, "hello", 3);
	run_all(&w);
	assert_int_equal(hr_session_write_trace(w.session, "/nonexistent/trace.json", &w.err), HR_EIO);
	assert_non_null(strstr(w.err.message, "/nonexistent/trace.json"));
	snprintf(path, sizeof path, "%s/trace.json", directory);
	assert_int_equal(hr_session_write_trace(w.session, path, &w.err), 0);
	json_t *trace = json_load_file(path, 0, NULL);
	assert_non_null(trace);
	assert_true(json_array_size(json_object_get(trace, "traceEvents")) > 20);
	json_decref(trace);
	unlink(path);
	stop(&w);
}

struct client {
	struct world *w;
	int           number;
	int           finished;
	atomic_int   *n_gone;
};

static void *client_main(void *arg)
{
	struct client *c = arg;
	for (int i = 0; i < 5; i++) {
		struct hr_error   err;
		struct hr_request r;
		uint64_t          id;
		char              text[64];
		hr_request_init(&r);
		r.text = c->number % 2 ? "a client" : "another client";
		r.max_new_tokens = 6;
		r.ignore_eos = true;
		if (hr_session_submit(c->w->session, &r, &id, &err))
			break;
		struct hr_request_state st = {0};
		if (i == 3)
			hr_session_cancel(c->w->session, id);
		do {
			hr_session_read(c->w->session, id, text, sizeof text);
			hr_session_state(c->w->session, id, &st);
			struct hr_report report;
			hr_session_report(c->w->session, &report);
			usleep(500);
		} while (st.finish == HR_RUNNING);
		c->finished += hr_session_forget(c->w->session, id) == 0;
	}
	atomic_fetch_add(c->n_gone, 1);
	return NULL;
}

static void clients_on_many_threads_are_served(void **state)
{
	(void)state;
	struct world  w;
	struct client clients[4];
	pthread_t     threads[4];
	atomic_int    n_gone = 0;
	start(&w, model_path, 2);
	for (int i = 0; i < 4; i++) {
		clients[i] = (struct client){.w = &w, .number = i, .n_gone = &n_gone};
		assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
	}
	int total = 0;
	while (n_gone < 4) {
		int rc = hr_session_step(w.session, &w.err);
		assert_true(rc >= 0);
		if (!rc)
			usleep(200);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		total += clients[i].finished;
	}
	assert_int_equal(total, 20);
	stop(&w);
}

struct progress {
	int      calls, stop_at; /* stop_at 0: never */
	uint64_t done, total;
};

static int on_progress(void *user, uint64_t done, uint64_t total)
{
	struct progress *p = user;
	assert_true(done >= p->done && done <= total && total > 0);
	p->done = done;
	p->total = total;
	return ++p->calls == p->stop_at;
}

static void loading_tells_its_progress_and_stops_when_asked(void **state)
{
	(void)state;
	struct world    w;
	struct progress all = {0}, some = {.stop_at = 1};
	setup(&w, model_path, 1);
	w.options.device_memory_bytes = 0;
	w.options.on_progress = on_progress;
	w.options.user = &all;
	assert_int_equal(hr_session_open(&w.session, w.model, &w.options, &w.err), 0);
	assert_true(all.calls > 0 && all.total > 0);
	assert_int_equal(all.done, all.total);
	hr_session_close(w.session);
	w.options.user = &some;
	assert_int_equal(hr_session_open(&w.session, w.model, &w.options, &w.err), HR_ECANCELED);
	assert_int_equal(some.calls, 1);
	hr_model_close(w.model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(smallest_budget_works_and_less_does_not),
	    cmocka_unit_test(more_requests_than_rows_all_finish_with_their_own_text),
	    cmocka_unit_test(bad_requests_are_refused_with_a_sentence),
	    cmocka_unit_test(the_longest_prompt_fits_and_its_output_ends_with_the_context),
	    cmocka_unit_test(a_stop_string_ends_the_text_before_itself),
	    cmocka_unit_test(a_file_that_shrinks_or_changes_is_an_error_not_garbage),
	    cmocka_unit_test(loading_tells_its_progress_and_stops_when_asked),
	    cmocka_unit_test(closing_in_the_middle_is_clean),
	    cmocka_unit_test(a_device_map_is_followed),
	    cmocka_unit_test(the_trace_is_json_with_every_lane),
	    cmocka_unit_test(clients_on_many_threads_are_served),
	};
	return cmocka_run_group_tests(tests, make_model, remove_model);
}
