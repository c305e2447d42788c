/* The ragged batch of one pass. */
#ifndef HR_RUNTIME_BATCH_H
#define HR_RUNTIME_BATCH_H

#include "runtime/forward.h"
#include "runtime/request.h"

/* Fill `pass` from running[n_seqs] (by row, NULL: free), at most n_batch tokens and
 * max_outputs logits rows; max_outputs and n_batch >= n_seqs. */
void hr__batch_compose(struct hr_pass *pass, struct hr_job *const *running, int n_seqs, int n_batch,
                       int max_outputs);

/* Tokens of the composed pass by kind; returns their sum. */
int hr__batch_counts(struct hr_job *const *running, int n_seqs, int *prefill, int *decode);

#endif
