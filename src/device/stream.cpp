#include "device/stream.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/heartbeat.h"
#include "device/buffer.h"
#include "device/upload_ring.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mixserve::device {
namespace {

constexpr double spin_s = 20e-6;
constexpr double yield_s = 200e-6;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

/// Waits until `ready()`: spins first, then gives the core away between looks. False after `limit_s`.
template <class Ready>
bool wait_briefly(const Ready& ready, double limit_s) {
    const double begin = now_s();
    for (;;) {
        for (int i = 0; i < 32; ++i) {
            if (ready()) return true;
            relax();
        }
        const double waited = now_s() - begin;
        if (waited > limit_s) return false;
        if (waited > spin_s) std::this_thread::yield();
    }
}

// The state of a team in one word, so that a worker joins a call only while it is open: call number, open
// bit, workers inside. A worker that wakes too late finds the call closed and is not waited for.
constexpr uint64_t open_bit = uint64_t{1} << 31;
constexpr uint64_t call_unit = uint64_t{1} << 32;
constexpr uint64_t inside_mask = open_bit - 1;

}  // namespace

struct Stream::Impl {
    struct alignas(64) Shared {
        std::atomic<uint64_t> state{0};
        std::atomic<uint32_t> call{0};  // what sleepers wait on
        std::atomic<bool> stop{false};
        alignas(64) std::atomic<int64_t> next_task{0};
    };

    int n_threads = 1;
    Shared shared;
    const void* context = nullptr;
    Task task = nullptr;
    int64_t n_tasks = 0;
    std::mutex error_mutex;
    std::exception_ptr error;
    std::atomic<bool> failed{false};
    std::function<void()> poll;
    std::vector<Buffer> scratch;
    Buffer shared_scratch;
    std::vector<std::thread> workers;
    std::optional<GpuQueue> gpu;
    std::array<Buffer, n_scratch_slots> device_scratch;
    std::optional<UploadRing> uploads;

    ~Impl() { stop_workers(); }

    void stop_workers() {
        shared.stop.store(true);
        shared.call.fetch_add(1);
        shared.call.notify_all();
        for (std::thread& worker : workers)
            worker.join();
        workers.clear();
    }

    void fail_call() {
        const std::scoped_lock lock(error_mutex);
        if (!error) error = std::current_exception();
        failed.store(true);
        shared.next_task.store(n_tasks);
    }

    // A poll that throws must not end the call while workers are inside it.
    void poll_while_waiting() {
        if (!poll || failed.load(std::memory_order_relaxed)) return;
        try {
            poll();
        } catch (...) {
            fail_call();
        }
    }

    void take_tasks(int thread) {
        try {
            for (;;) {
                const int64_t index = shared.next_task.fetch_add(1, std::memory_order_relaxed);
                if (index >= n_tasks) return;
                task(context, index, thread);
                if (thread == 0 && poll) poll();
            }
        } catch (...) {
            fail_call();
        }
    }

    void work(int thread) {
        uint64_t last_call = 0;
        uint32_t seen = 0;
        while (!shared.stop.load(std::memory_order_relaxed)) {
            const auto has_new_call = [&] { return shared.call.load(std::memory_order_acquire) != seen; };
            if (!wait_briefly(has_new_call, yield_s)) shared.call.wait(seen);
            seen = shared.call.load(std::memory_order_acquire);
            uint64_t state = shared.state.load(std::memory_order_acquire);
            while ((state & open_bit) != 0 && state / call_unit != last_call) {
                if (!shared.state.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel))
                    continue;
                last_call = state / call_unit;
                take_tasks(thread);
                shared.state.fetch_sub(1, std::memory_order_release);
                break;
            }
        }
    }
};

Stream::Stream(int n_threads) : impl_(std::make_unique<Impl>()) {
    require(n_threads >= 1, "a stream of {} threads: give at least 1", n_threads);
    impl_->n_threads = n_threads;
    impl_->scratch.resize(static_cast<size_t>(n_threads));
    try {
        for (int thread = 1; thread < n_threads; ++thread)
            impl_->workers.emplace_back([impl = impl_.get(), thread] { impl->work(thread); });
    } catch (const std::system_error& e) {
        fail("cannot start {} threads: {}; give fewer with --threads-per-rank", n_threads, e.what());
    }
}

Stream::Stream(int n_threads, GpuQueue queue) : Stream(n_threads) {
    impl_->gpu.emplace(std::move(queue));
    impl_->uploads.emplace();
}

Stream::~Stream() = default;
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;

int Stream::n_threads() const {
    return impl_->n_threads;
}

void Stream::run(int64_t n_tasks, const void* context, Task task) {
    Impl& impl = *impl_;
    heartbeat.beat();
    if (impl.n_threads == 1 || n_tasks <= 1) {
        for (int64_t index = 0; index < n_tasks; ++index) {
            task(context, index, 0);
            if (impl.poll) impl.poll();
        }
        return;
    }
    Impl::Shared& shared = impl.shared;
    impl.context = context;
    impl.task = task;
    impl.n_tasks = n_tasks;
    shared.next_task.store(0, std::memory_order_relaxed);
    const uint64_t call = shared.state.load(std::memory_order_relaxed) / call_unit + 1;
    shared.state.store(call * call_unit | open_bit, std::memory_order_release);
    shared.call.fetch_add(1, std::memory_order_release);
    shared.call.notify_all();

    impl.take_tasks(0);

    shared.state.fetch_and(~open_bit, std::memory_order_acq_rel);
    const auto all_left = [&] {
        impl.poll_while_waiting();
        return (shared.state.load(std::memory_order_acquire) & inside_mask) == 0;
    };
    while (!wait_briefly(all_left, yield_s)) {
    }
    if (impl.failed.exchange(false)) std::rethrow_exception(std::exchange(impl.error, nullptr));
}

std::byte* Stream::scratch(int thread, size_t n_bytes) {
    Buffer& buffer = impl_->scratch[static_cast<size_t>(thread)];
    buffer.reserve(n_bytes);
    return buffer.data();
}

std::byte* Stream::shared_scratch(size_t n_bytes) {
    impl_->shared_scratch.reserve(n_bytes);
    return impl_->shared_scratch.data();
}

GpuQueue* Stream::gpu() {
    return impl_->gpu ? &*impl_->gpu : nullptr;
}

Memory Stream::memory() const {
    return impl_->gpu ? Memory::device : Memory::host;
}

std::byte* Stream::device_scratch(ScratchSlot slot, size_t n_bytes) {
    Buffer& buffer = impl_->device_scratch[static_cast<size_t>(slot)];
    if (n_bytes > buffer.size()) {
        impl_->gpu->synchronize();  // what is enqueued may still use the old memory
        buffer.grow(n_bytes, Memory::device);
    }
    return buffer.data();
}

void Stream::upload(void* device, const void* bytes, size_t n_bytes) {
    impl_->uploads->upload(device, bytes, n_bytes, *impl_->gpu);
}

Buffer place(std::span<const float> values, Stream& stream) {
    Buffer buffer(values.size_bytes(), stream.memory());
    if (stream.gpu() != nullptr) {
        stream.upload(buffer.data(), values.data(), values.size_bytes());
    } else {
        std::copy(values.begin(), values.end(), buffer.as<float>().begin());
    }
    return buffer;
}

void Stream::set_poll(std::function<void()> poll) {
    impl_->poll = std::move(poll);
}

void Stream::poll() {
    if (impl_->poll) impl_->poll();
}

}  // namespace mixserve::device
