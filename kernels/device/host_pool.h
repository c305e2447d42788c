/* Compute threads that run one kernel at a time, see host_pool.c. */
#ifndef HR_KERNELS_DEVICE_HOST_POOL_H
#define HR_KERNELS_DEVICE_HOST_POOL_H

#include "kernels/device/device.h"

#include <pthread.h>

struct hr__pool;

/* A thread that takes no signals, named for debuggers. 0 or HR_ENOMEM. */
int hr__host_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg);

/* `n_threads` - 1 helpers; the caller of run() is the missing one. */
int hr__pool_new(struct hr__pool **out, int n_threads, bool bind, const struct hr_notice_sink *notices,
                 struct hr_error *err);

/* Make the calling thread number 0, the only one to call run(). */
void hr__pool_join(struct hr__pool *pool);

/* Returns when all items are done. `args` must stay until then. */
void hr__pool_run(struct hr__pool *pool, hr_host_kernel fn, const void *args, int64_t n_items, int64_t grain);

void hr__pool_free(struct hr__pool *pool);

#endif
