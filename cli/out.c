/* Talking: sentences and the progress bar on stderr, results on stdout, and figures as words.
 *
 * A write to stdout that fails is remembered and told once, at the end; whoever
 * produces output stops when a write returns false. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int  output_errno;
static bool bar_is_shown;

static void hide_bar(void)
{
	if (bar_is_shown)
		fputs("\r\033[K", stderr);
	bar_is_shown = false;
}

static void say(const char *fmt, va_list args)
{
	hide_bar();
	fputs("headrace: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
}

int hr_cli_fail(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
	return HR_EXIT_ERROR;
}

int hr_cli_fail_usage(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
	return HR_EXIT_USAGE;
}

void hr_cli_note(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
}

int hr_cli_fail_error(const struct hr_error *err)
{
	return err->code == HR_ECANCELED && hr_cli_interrupted() ? HR_EXIT_INTERRUPTED
	                                                         : hr_cli_fail("%s", err->message);
}

bool hr_cli_write(const void *text, size_t bytes)
{
	if (!output_errno && (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout)))
		output_errno = errno;
	return !output_errno;
}

static int write_piece(const char *text, size_t bytes, void *user)
{
	(void)user;
	return fwrite(text, 1, bytes, stdout) == bytes ? 0 : -1;
}

bool hr_cli_write_json(json_t *document, bool one_line)
{
	size_t flags = JSON_REAL_PRECISION(9) | (one_line ? JSON_COMPACT : JSON_INDENT(2));
	if (!output_errno && json_dump_callback(document, write_piece, NULL, flags))
		output_errno = errno ? errno : ENOMEM;
	json_decref(document);
	return hr_cli_write("\n", 1);
}

int hr_cli_finish_output(int code)
{
	if (!output_errno && (fflush(stdout) || ferror(stdout)))
		output_errno = errno ? errno : EIO;
	if (!output_errno || code == HR_EXIT_INTERRUPTED)
		return code;
	if (output_errno == EPIPE)
		return hr_cli_fail("Standard output was closed before everything was written to it.");
	return hr_cli_fail("Standard output could not be written: %s.", strerror(output_errno));
}

struct hr_cli_text hr_cli_residents(const struct hr_plan_info *p)
{
	struct hr_cli_text text;
	if (p->kept_share >= HR_CLI_KEPT_SHOWN)
		snprintf(text.s, sizeof text.s, "%d layers stay, %.0f %% of each other", p->resident_layers,
		         100 * p->kept_share);
	else
		snprintf(text.s, sizeof text.s, "%d layers stay", p->resident_layers);
	return text;
}

struct hr_cli_text hr_cli_bytes(uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	struct hr_cli_text       out;
	double                   x = (double)bytes;
	int                      unit = 0;
	while (x >= 999.5 && unit < 5) {
		x /= 1000;
		unit++;
	}
	snprintf(out.s, sizeof out.s, "%.*f %s", !unit || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2, x, units[unit]);
	return out;
}

void hr_cli_on_notice(void *user, const char *sentence)
{
	(void)user;
	hr_cli_note("%s", sentence);
}

static double now_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Redrawn ten times a second at most. A sink that starts over (done shrinks) starts a new bar. */
int hr_cli_on_progress(void *user, uint64_t done, uint64_t total)
{
	static double   begin, drawn;
	static uint64_t last = UINT64_MAX;
	double          now = now_seconds();
	(void)user;
	if (done < last || !begin)
		begin = now;
	last = done;
	if (isatty(STDERR_FILENO) && done < total && now - drawn >= 0.1) {
		double rate = now > begin ? (double)done / (now - begin) : 0;
		fprintf(stderr, "\r\033[K%3.0f %%  %s of %s", 100.0 * (double)done / (double)total,
		        hr_cli_bytes(done).s, hr_cli_bytes(total).s);
		if (rate > 0)
			fprintf(stderr, "  %.2f GB/s  %.0f s left", rate / 1e9, (double)(total - done) / rate);
		drawn = now;
		bar_is_shown = true;
	}
	if (done >= total)
		hide_bar();
	return hr_cli_interrupted();
}

void hr_cli_show_status(const char *fmt, ...)
{
	va_list args;
	if (!isatty(STDERR_FILENO))
		return;
	hide_bar();
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	bar_is_shown = true;
}

void hr_cli_hide_status(void) { hide_bar(); }

int hr_cli_on_count(void *user, uint64_t done, uint64_t total)
{
	(void)user;
	if (isatty(STDERR_FILENO) && done < total) {
		fprintf(stderr, "\r\033[K%3.0f %%  %llu of %llu texts", 100.0 * (double)done / (double)total,
		        (unsigned long long)done, (unsigned long long)total);
		bar_is_shown = true;
	}
	if (done >= total)
		hide_bar();
	return hr_cli_interrupted();
}
