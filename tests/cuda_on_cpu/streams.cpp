/* Streams and events of the layer. A stream is a queue and a thread. An event
 * counts, as the host device's do: a wait is for the record that was newest when
 * the wait was put. Tasks hold a reference to the event's state, so that it may
 * be destroyed while they are on their way. */
#include "layer.h"

#include <cstdlib>

namespace cuda_on_cpu
{

struct State {
	std::mutex              mutex; /* protects all that follows */
	std::condition_variable changed;
	uint64_t                recorded = 0, completed = 0;
	Clock::time_point       time;
};

} // namespace cuda_on_cpu

using namespace cuda_on_cpu;

struct CUevent_st {
	std::shared_ptr<State> state;
	unsigned               flags;
};

struct CUstream_st {
	std::mutex                        mutex; /* protects all that follows */
	std::condition_variable           changed;
	std::deque<std::function<void()>> tasks;
	uint64_t                          n_put = 0, n_done = 0;
	bool                              closing = false;
	uint32_t                          random = 0;
	std::thread                       thread;
};

namespace cuda_on_cpu
{

static void run_tasks(cudaStream_t s)
{
	std::unique_lock<std::mutex> lock(s->mutex);
	for (;;) {
		s->changed.wait(lock, [s] { return !s->tasks.empty() || s->closing; });
		if (s->tasks.empty())
			return;
		auto task = std::move(s->tasks.front());
		s->tasks.pop_front();
		lock.unlock();
		task();
		task = nullptr; /* and what it holds, before anybody sees it done */
		lock.lock();
		s->n_done++;
		s->changed.notify_all();
	}
}

static bool exists(cudaStream_t stream)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	return machine().streams.count(stream) > 0;
}

static bool exists(cudaEvent_t event)
{
	std::lock_guard<std::mutex> lock(machine().mutex);
	return machine().events.count(event) > 0;
}

/* A copy or kernel: counted, late by chance, skipped or failing once something went wrong. */
static std::function<void()> as_work(cudaStream_t stream, std::function<void()> task)
{
	Machine    &m = machine();
	cudaError_t error = cudaSuccess;
	int         delay_us = 0;
	{
		std::lock_guard<std::mutex> lock(m.mutex);
		m.n_work++;
		if (m.planned_work.meets(""))
			error = m.planned_work.error;
		if (m.is.jitter_us)
			delay_us = rand_r(&stream->random) % (m.is.jitter_us + 1);
	}
	return [=, task = std::move(task)] {
		if (delay_us)
			std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
		if (error)
			cuda_on_cpu_raise(error);
		if (!machine().sticky)
			task();
	};
}

cudaError_t put(cudaStream_t stream, std::function<void()> task, bool is_mark)
{
	if (!exists(stream)) {
		misuse(stream ? "Work was put on a stream that does not exist."
		              : "Work was put on the default stream, which waits for the whole device.");
		return cudaErrorInvalidResourceHandle;
	}
	if (!is_mark)
		task = as_work(stream, std::move(task));
	std::lock_guard<std::mutex> lock(stream->mutex);
	stream->tasks.push_back(std::move(task));
	stream->n_put++;
	stream->changed.notify_all();
	return cudaSuccess;
}

void wait_for(cudaStream_t s)
{
	std::unique_lock<std::mutex> lock(s->mutex);
	uint64_t                     put = s->n_put;
	s->changed.wait(lock, [s, put] { return s->n_done >= put; });
}

void wait_for_all()
{
	std::vector<cudaStream_t> all;
	{
		std::lock_guard<std::mutex> lock(machine().mutex);
		for (auto &entry : machine().streams)
			all.push_back(entry.first);
	}
	for (cudaStream_t stream : all)
		wait_for(stream);
}

void reap()
{
	std::vector<cudaStream_t> gone;
	{
		std::lock_guard<std::mutex> lock(machine().mutex);
		gone.swap(machine().destroyed);
	}
	for (cudaStream_t s : gone) {
		s->thread.join();
		delete s;
	}
}

static void complete(State &state, uint64_t record)
{
	std::lock_guard<std::mutex> lock(state.mutex);
	state.completed = record;
	state.time = Clock::now();
	state.changed.notify_all();
}

static void wait_until(State &state, uint64_t record)
{
	std::unique_lock<std::mutex> lock(state.mutex);
	state.changed.wait(lock, [&] { return state.completed >= record; });
}

static uint64_t newest(State &state)
{
	std::lock_guard<std::mutex> lock(state.mutex);
	return state.recorded;
}

/* Stream and event must be of one device to meet in a record. */
static cudaError_t check_pair(cudaStream_t stream, cudaEvent_t event)
{
	Machine                    &m = machine();
	std::lock_guard<std::mutex> lock(m.mutex);
	auto                        s = m.streams.find(stream);
	auto                        e = m.events.find(event);
	bool                        good = s != m.streams.end() && e != m.events.end() && s->second == e->second;
	return good ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

} // namespace cuda_on_cpu

void cuda_on_cpu_enqueue(cudaStream_t stream, std::function<void()> work)
{
	cudaError_t error = cuda_on_cpu_enter("cudaLaunchKernel");
	if (!error) {
		std::lock_guard<std::mutex> lock(machine().mutex);
		auto                        s = machine().streams.find(stream);
		if (s != machine().streams.end() && s->second != current_device())
			error = cudaErrorInvalidResourceHandle;
	}
	cuda_on_cpu_return(error ? error : put(stream, std::move(work), false));
}

cudaError_t cuda_on_cpu_launch(cudaStream_t stream, void (*fn)(void *user), void *user)
{
	cuda_on_cpu_enqueue(stream, [=] { fn(user); });
	return cudaGetLastError();
}

/* ---- Streams --------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error && !(flags & cudaStreamNonBlocking))
		error = cudaErrorInvalidValue; /* it would wait for the default stream */
	if (error)
		return cuda_on_cpu_return(error);
	auto *s = new CUstream_st;
	{
		std::lock_guard<std::mutex> lock(machine().mutex);
		machine().streams[s] = current_device();
		s->random = machine().is.seed + (uint32_t)machine().streams.size();
	}
	s->thread = std::thread(run_tasks, s);
	*out = s;
	return cudaSuccess;
}

/* Returns at once; what is on the stream still runs. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	{
		std::lock_guard<std::mutex> lock(machine().mutex);
		if (!machine().streams.erase(stream))
			return cuda_on_cpu_return(cudaErrorInvalidResourceHandle);
		machine().destroyed.push_back(stream);
	}
	std::lock_guard<std::mutex> lock(stream->mutex);
	stream->closing = true;
	stream->changed.notify_all();
	return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error && !exists(stream))
		error = cudaErrorInvalidResourceHandle;
	if (!error)
		wait_for(stream);
	return cuda_on_cpu_return(error ? error : (cudaError_t)machine().sticky.load());
}

cudaError_t cudaDeviceSynchronize(void)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error) {
		wait_for_all();
		reap();
	}
	return cuda_on_cpu_return(error ? error : (cudaError_t)machine().sticky.load());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error && !exists(event))
		error = cudaErrorInvalidResourceHandle;
	if (error)
		return cuda_on_cpu_return(error);
	std::shared_ptr<State> state = event->state;
	uint64_t               record = newest(*state);
	return cuda_on_cpu_return(put(
	    stream, [=] { wait_until(*state, record); }, true));
}

/* ---- Events ---------------------------------------------------------------- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (error)
		return error;
	auto                       *event = new CUevent_st{std::make_shared<State>(), flags};
	std::lock_guard<std::mutex> lock(machine().mutex);
	machine().events[event] = current_device();
	*out = event;
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	{
		std::lock_guard<std::mutex> lock(machine().mutex);
		if (!machine().events.erase(event))
			return cuda_on_cpu_return(cudaErrorInvalidResourceHandle);
	}
	delete event;
	return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error)
		error = check_pair(stream, event);
	if (error)
		return cuda_on_cpu_return(error);
	std::shared_ptr<State> state = event->state;
	uint64_t               record;
	{
		std::lock_guard<std::mutex> lock(state->mutex);
		record = ++state->recorded;
	}
	return cuda_on_cpu_return(put(
	    stream, [=] { complete(*state, record); }, true));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error && !exists(event))
		error = cudaErrorInvalidResourceHandle;
	if (error)
		return cuda_on_cpu_return(error);
	std::lock_guard<std::mutex> lock(event->state->mutex);
	return event->state->completed >= event->state->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error && !exists(event))
		error = cudaErrorInvalidResourceHandle;
	if (error)
		return cuda_on_cpu_return(error);
	std::shared_ptr<State> state = event->state;
	wait_until(*state, newest(*state));
	return cuda_on_cpu_return((cudaError_t)machine().sticky.load());
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
	cudaError_t error = cuda_on_cpu_enter(__func__);
	if (!error && (!exists(start) || !exists(end)))
		error = cudaErrorInvalidResourceHandle;
	if (error)
		return cuda_on_cpu_return(error);
	Clock::time_point times[2];
	cudaEvent_t       events[2] = {start, end};
	for (int i = 0; i < 2; i++) {
		State                      &state = *events[i]->state;
		std::lock_guard<std::mutex> lock(state.mutex);
		if ((events[i]->flags & cudaEventDisableTiming) || !state.recorded)
			return cuda_on_cpu_return(cudaErrorInvalidResourceHandle);
		if (state.completed < state.recorded)
			return cudaErrorNotReady;
		times[i] = state.time;
	}
	*ms = std::chrono::duration<float, std::milli>(times[1] - times[0]).count();
	return cudaSuccess;
}
