/* Fibers by hand on x86-64, where a switch is a dozen instructions, and with
 * ucontext elsewhere, where it costs a system call.
 *
 * A fiber's stack has a guard page below it. AddressSanitizer hears of each switch
 * before and after, so that it knows whose stack it looks at; for ThreadSanitizer
 * a fiber is a thread of its own that synchronises with each switch. */
#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace cuda_on_cpu
{

static const size_t STACK_BYTES = 128 << 10, GUARD_BYTES = 4096;

#ifdef __x86_64__

/* Save what a call must preserve, change stacks, restore. */
extern "C" void cuda_on_cpu_switch_stack(void **save, void *load);
asm(R"(
	.text
	.globl cuda_on_cpu_switch_stack
	.type cuda_on_cpu_switch_stack, @function
cuda_on_cpu_switch_stack:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size cuda_on_cpu_switch_stack, . - cuda_on_cpu_switch_stack
)");

/* r12 and r13 hold the entry and its argument when the first switch "returns" here. */
extern "C" void cuda_on_cpu_start_fiber();
asm(R"(
	.text
	.type cuda_on_cpu_start_fiber, @function
	.globl cuda_on_cpu_start_fiber
cuda_on_cpu_start_fiber:
	movq %r13, %rdi
	callq *%r12
	ud2
	.size cuda_on_cpu_start_fiber, . - cuda_on_cpu_start_fiber
)");

static void prepare(Fiber *f)
{
	/* As switch_stack leaves it: r15 r14 r13 r12 rbx rbp, return address; then a slot
	 * so that the stack is aligned as the call in start_fiber wants it. */
	void **top = (void **)(f->stack + f->stack_bytes) - 2;
	*top = nullptr;
	*--top = (void *)cuda_on_cpu_start_fiber;
	*--top = nullptr;
	*--top = nullptr;
	*--top = (void *)f->entry;
	*--top = f->argument;
	*--top = nullptr;
	*--top = nullptr;
	f->stack_pointer = top;
}

static void release_context(Fiber *) {}
static void change_stack(Fiber *from, Fiber *to)
{
	cuda_on_cpu_switch_stack(&from->stack_pointer, to->stack_pointer);
}

#else

static void start(unsigned high, unsigned low)
{
	Fiber *f = (Fiber *)((uintptr_t)high << 16 << 16 | low);
	f->entry(f->argument);
}

static void prepare(Fiber *f)
{
	ucontext_t *context = new ucontext_t;
	getcontext(context);
	context->uc_stack.ss_sp = f->stack;
	context->uc_stack.ss_size = f->stack_bytes;
	context->uc_link = nullptr;
	makecontext(context, (void (*)())start, 2, (unsigned)((uintptr_t)f >> 16 >> 16), (unsigned)(uintptr_t)f);
	f->stack_pointer = context;
}

static void release_context(Fiber *f) { delete (ucontext_t *)f->stack_pointer; }

static void change_stack(Fiber *from, Fiber *to)
{
	if (!from->stack_pointer)
		from->stack_pointer = new ucontext_t;
	swapcontext((ucontext_t *)from->stack_pointer, (ucontext_t *)to->stack_pointer);
}

#endif

void fiber_adopt(Fiber *f)
{
	*f = Fiber();
#ifdef __SANITIZE_THREAD__
	f->tsan = __tsan_get_current_fiber();
#endif
}

void fiber_init(Fiber *f, void (*entry)(void *), void *argument)
{
	*f = Fiber();
	f->entry = entry;
	f->argument = argument;
	char *map = (char *)mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
	                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (map == MAP_FAILED || mprotect(map, GUARD_BYTES, PROT_NONE)) {
		fprintf(stderr, "CUDA on CPU: no memory for the stack of a thread.\n");
		abort();
	}
	f->stack = map + GUARD_BYTES;
	f->stack_bytes = STACK_BYTES;
	f->bottom = f->stack;
	prepare(f);
#ifdef __SANITIZE_THREAD__
	f->tsan = __tsan_create_fiber(0);
#endif
}

void fiber_release(Fiber *f)
{
	if (f->stack) {
		release_context(f);
#ifdef __SANITIZE_ADDRESS__
		__asan_unpoison_memory_region(f->stack, f->stack_bytes); /* what is mapped there next is no stack */
#endif
		munmap(f->stack - GUARD_BYTES, f->stack_bytes + GUARD_BYTES);
	}
#ifdef __SANITIZE_THREAD__
	if (f->stack)
		__tsan_destroy_fiber(f->tsan);
#endif
}

static void arrived(Fiber *self, Fiber *from)
{
#ifdef __SANITIZE_ADDRESS__
	const void *bottom;
	size_t      bytes;
	__sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &bytes);
	if (from && !from->stack) { /* the thread's own stack, whose place only ASan knows */
		from->bottom = bottom;
		from->stack_bytes = bytes;
	}
#else
	(void)self;
	(void)from;
#endif
}

void fiber_begin(Fiber *self, Fiber *from) { arrived(self, from); }

void fiber_switch(Fiber *from, Fiber *to)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->stack_bytes);
#endif
#ifdef __SANITIZE_THREAD__
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
	change_stack(from, to);
	arrived(from, nullptr);
}

} // namespace cuda_on_cpu
