/* Fibers: stacks that one thread switches between. Sanitizers are told. */
#ifndef CUDA_ON_CPU_FIBER_H
#define CUDA_ON_CPU_FIBER_H

#include <cstddef>

namespace cuda_on_cpu
{

struct Fiber {
	void       *stack_pointer = nullptr; /* while another one runs */
	char       *stack = nullptr;
	const void *bottom = nullptr; /* as AddressSanitizer sees the stack */
	size_t      stack_bytes = 0;
	void       *fake_stack = nullptr;
	void       *tsan = nullptr;
	void (*entry)(void *) = nullptr;
	void *argument = nullptr;
};

/* The fiber that a thread is by nature. */
void fiber_adopt(Fiber *fiber);
/* A fiber that runs entry(argument), which must not return, once it is switched to. */
void fiber_init(Fiber *fiber, void (*entry)(void *), void *argument);
void fiber_release(Fiber *fiber);
/* The first thing that entry() does. */
void fiber_begin(Fiber *self, Fiber *from);
/* From the running fiber to another; returns when somebody switches back. */
void fiber_switch(Fiber *from, Fiber *to);

} // namespace cuda_on_cpu
#endif
