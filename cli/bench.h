/* What the files of `bench` share: settings, the rows of their results, one pass in time. */
#ifndef HR_CLI_BENCH_H
#define HR_CLI_BENCH_H

#include "cli/cli.h"

#include <stdio.h>

/* A span of a pass; times in ms from its begin. */
struct hr_bench_span {
	char   lane; /* 'd'isk, 'l'ink, 'c'ompute, 'h'ost */
	char   name[40];
	double begin, end;
};

/* One pass as it happened (or as it was predicted). */
struct hr_bench_pass {
	struct hr_bench_span *spans;
	int                   n, capacity;
	double                ms;
	double                stall_disk_ms, stall_link_ms; /* compute idle: by who was still at work */
};
void hr_bench_pass_add(struct hr_bench_pass *pass, const struct hr_span *span);

/* One setting. */
struct hr_bench_arm {
	struct hr_plan_options plan;
	bool                   full, encoder, by_budget;
	double                 weight_bytes;    /* of the model */
	int                    n_seqs;          /* or an encoder's texts, at a time */
	int                    n_prompt, n_gen; /* tokens of each sequence */
	bool                   fits;
	char                   why_not[1200];
	/* What was carried out; its strings are copied to `reader` and `device`. */
	struct hr_plan_info  info;
	char                 reader[16], device[16], device_name[128];
	struct hr_bench_pass measured, predicted; /* one decode pass, or prefill where there is none */
	double               cached_share;        /* of the files, after a repetition, at most */
	bool                 direct;
};

/* One line of the table: the prefill or the decode of an arm. */
struct hr_bench_row {
	const struct hr_bench_arm *arm;
	bool                       decode;
	uint64_t                   tokens; /* of one repetition, all sequences */
	int                        n;      /* repetitions so far */
	double                    *ns;     /* [repetitions] */
	struct hr_report          *reports;
	double                     predicted_ns; /* 0: nothing was predicted */
	double                     stall_link_share;
	char                       test_time[24];

	/* Over the repetitions. */
	double   median_ns, avg_ns, stddev_ns, median_ts, avg_ts, stddev_ts, min_ts, max_ts;
	double   efficiency, stall_ns, ceiling_ns, disk_gbps, link_gbps, disk_bytes; /* medians */
	uint64_t device_peak_bytes, host_peak_bytes;
	double   vs_full;  /* 0: there is nothing to compare with */
	bool     stand_in; /* the full load does not fit: this is what its compute alone would take */
};

struct hr_bench {
	const struct hr_model *model;
	struct hr_bench_arm   *arms;
	struct hr_bench_row   *rows;
	int                    n_arms, n_rows, repetitions;
};

/* Run every arm once; adds a sample to its rows. An exit code. */
int hr_bench_repeat(struct hr_bench *b, int repetition);

/* Medians and ratios, after the last repetition. */
void hr_bench_settle(struct hr_bench *b);

/* Texts of `n_tokens` tokens each, for an encoder. HR_ENOMEM, HR_EUNSUPPORTED; release them in any case. */
struct hr_bench_texts {
	struct hr_text *items; /* [n_texts] */
	char           *content;
};
int hr_bench_make_texts(struct hr_bench_texts *texts, const struct hr_model *model, int n_texts, int n_tokens,
                        struct hr_error *err);
void hr_bench_release_texts(struct hr_bench_texts *texts);

/* "pp512", "tg32"; and the state of the page cache in a word or two. */
struct hr_cli_text hr_bench_test_name(const struct hr_bench_row *row);
/* "7", or "7 (60 %)" where so much of each other layer stays. */
struct hr_cli_text hr_bench_residents(const struct hr_plan_info *plan);
struct hr_cli_text hr_bench_window_name(const struct hr_bench_arm *arm);
/* Layers on the device; with budgets, per cent of the weights there. Its name has the unit. */
double             hr_bench_window(const struct hr_bench_arm *arm);
struct hr_cli_text hr_bench_cache_state(const struct hr_bench_arm *arm);

bool hr_bench_print(const struct hr_bench *b, const char *format); /* md, csv, json, jsonl */
int  hr_bench_write_page(const struct hr_bench *b, const char *path);

/* The figures of the page, as SVG; and text as HTML has it. */
void hr_bench_put_text(FILE *f, const char *text);
void hr_bench_chart_speed(FILE *f, const struct hr_bench *b, bool decode);
void hr_bench_chart_memory(FILE *f, const struct hr_bench *b);
void hr_bench_chart_share(FILE *f, const struct hr_bench *b);
void hr_bench_chart_prediction(FILE *f, const struct hr_bench *b);
void hr_bench_chart_pass(FILE *f, const struct hr_bench_arm *arm, const struct hr_bench_pass *pass,
                         double axis_ms);

/* Bytes of the model's files that are in the page cache, and dropping them (page_cache.c). */
double hr_cli_cached_share(const struct hr_model *model);
void   hr_cli_drop_cached(const struct hr_model *model);

#endif
