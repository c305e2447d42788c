/* The report as text, for --stats. The same figures as in the document of
 * `run --json`, with units. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

static double per_second(uint64_t n, double ms) { return ms > 0 ? (double)n * 1e3 / ms : 0; }

static void print_plan(const struct hr_plan_info *p)
{
	fprintf(stderr, "plan      %s, %d layers: %s, %d slots; %d from RAM, %d from disk\n", p->device,
	        p->n_layers, hr_cli_residents(p).s, p->slots, p->host_layers, p->disk_layers);
	if (p->reader)
		fprintf(stderr, "reads     %s, %d in flight of %.4g MiB\n", p->reader, p->read_depth,
		        (double)p->chunk_bytes / 1048576);
	if (p->profile)
		fprintf(stderr, "profile   %s\n", p->profile);
	if (p->predicted_pass_ms > 0)
		fprintf(stderr, "predicted %.2f ms a pass of decode, bound by %s\n", p->predicted_pass_ms,
		        p->decode_bound);
}

void hr_cli_print_stats(const struct hr_model *model, struct hr_session *session)
{
	const struct hr_model_info *m = hr_model_info(model);
	const struct hr_plan_info  *p = hr_plan_info(hr_session_plan(session));
	struct hr_report            r;
	hr_session_report(session, &r);
	fprintf(stderr, "\nmodel     %s, %s, %d layers, %s of weights\n", m->family, m->dtype, m->n_layers,
	        hr_cli_bytes(m->weight_bytes).s);
	print_plan(p);
	fprintf(stderr, "time      loaded in %.0f ms; %" PRIu64 " passes, median %.2f ms\n", r.load_ms, r.passes,
	        r.pass_ms_median);
	fprintf(stderr, "prefill   %" PRIu64 " tokens, %.1f tokens/s\n", r.prefill_tokens,
	        per_second(r.prefill_tokens, r.prefill_ms));
	fprintf(stderr, "decode    %" PRIu64 " tokens, %.1f tokens/s\n", r.decode_tokens,
	        per_second(r.decode_tokens, r.decode_ms));
	fprintf(stderr, "disk      %s at %.2f GB/s\n", hr_cli_bytes(r.disk_bytes).s, r.disk_gbps);
	if (r.link_bytes)
		fprintf(stderr, "link      %s at %.2f GB/s\n", hr_cli_bytes(r.link_bytes).s, r.link_gbps);
	fprintf(stderr, "compute   %.0f ms, and %.0f ms of waiting for weights\n", r.compute_ms, r.stall_ms);
	fprintf(stderr, "ceiling   %.0f ms, of which %.0f %% were reached\n", r.ceiling_ms, 100 * r.efficiency);
	fprintf(
	    stderr,
	    "memory    %s of weights on the device, of a budget of %s; peaks: device %s, host %s, process %s\n",
	    hr_cli_bytes(p->device_bytes).s, hr_cli_bytes(p->device_budget_bytes).s,
	    hr_cli_bytes(r.device_peak_bytes).s, hr_cli_bytes(r.host_peak_bytes).s,
	    hr_cli_bytes(r.rss_peak_bytes).s);
	fprintf(stderr, "logits    %016" PRIx64 "\n", r.logits_xxh64);
}
