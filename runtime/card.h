/* A card: a machine that is described instead of measured. */
#ifndef HR_RUNTIME_CARD_H
#define HR_RUNTIME_CARD_H

#include "runtime/model.h"
#include "scheduler/rates.h"

struct hr_card {
	char     name[96];
	char     device[16]; /* "cuda:0", or "cpu": the host computes, there is no link */
	bool     host_addressable;
	uint64_t device_memory_bytes, host_memory_bytes;
	double   memory_gbps; /* that kernels reach */
	double   tflops;      /* that matrix products reach */
	double   layer_ns;    /* launches of one layer */
	double   pass_ns;     /* the host's turn between passes */
	double   link_gbps, link_latency_ns;
	double   disk_gbps, disk_latency_ns;
};

/* HR_EFORMAT names what is missing, unknown or out of range. */
int hr__card_parse(struct hr_card *card, const char *json, struct hr_error *err);

/* What would be measured on it with this model: the slower of memory and arithmetic. */
void hr__card_rates(const struct hr_card *card, const struct hr_model *model, struct hr_rates *rates);

#endif
