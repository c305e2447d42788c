/* A number that only grows, and threads that wait for it to arrive somewhere.
 *
 * Everything that the host device waits for is one of these: the commands
 * written to a ring and those read from it, the completed records of an event,
 * the kernels given to a pool and the threads that have left them. A waiter
 * spins for about the time between two kernels and then sleeps on a futex, so
 * that kernels in a row cost about a microsecond and a stall costs no CPU. The
 * number wraps; a target may be at most 2^31 ahead. */
#ifndef HR_KERNELS_DEVICE_HOST_SEQUENCE_H
#define HR_KERNELS_DEVICE_HOST_SEQUENCE_H

#include "base/clock.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HR__SPIN_NS 40000u

struct hr__sequence {
	_Alignas(64) _Atomic uint32_t value;
	_Atomic uint32_t sleepers;
};

static inline void hr__pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline uint32_t hr__sequence_value(struct hr__sequence *s)
{
	return atomic_load_explicit(&s->value, memory_order_acquire);
}

static inline bool hr__sequence_reached(struct hr__sequence *s, uint32_t target)
{
	return (int32_t)(hr__sequence_value(s) - target) >= 0;
}

/* A sleeper announces itself before it looks a last time, and the value moves
 * before sleepers are looked for: in the one order of all four (seq_cst) one of
 * the two sees the other. */
static inline void hr__sequence_wake(struct hr__sequence *s)
{
	if (atomic_load(&s->sleepers))
		syscall(SYS_futex, &s->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static inline void hr__sequence_add(struct hr__sequence *s, uint32_t n)
{
	atomic_fetch_add(&s->value, n);
	hr__sequence_wake(s);
}

/* At least `target`: a late smaller one changes nothing. */
static inline void hr__sequence_raise(struct hr__sequence *s, uint32_t target)
{
	uint32_t old = atomic_load(&s->value);
	while ((int32_t)(old - target) < 0 && !atomic_compare_exchange_weak(&s->value, &old, target)) {
	}
	hr__sequence_wake(s);
}

static inline void hr__sequence_sleep(struct hr__sequence *s, uint32_t target)
{
	atomic_fetch_add(&s->sleepers, 1);
	for (;;) {
		uint32_t seen = atomic_load(&s->value);
		if ((int32_t)(seen - target) >= 0)
			break;
		syscall(SYS_futex, &s->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	}
	atomic_fetch_sub(&s->sleepers, 1);
}

static inline void hr__sequence_wait(struct hr__sequence *s, uint32_t target)
{
	if (hr__sequence_reached(s, target))
		return;
	uint64_t end_ns = hr__now_ns() + HR__SPIN_NS;
	do {
		for (int i = 0; i < 16; i++) {
			hr__pause();
			if (hr__sequence_reached(s, target))
				return;
		}
	} while (hr__now_ns() < end_ns);
	hr__sequence_sleep(s, target);
}

#endif
