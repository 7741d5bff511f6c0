// A GPU's runtime without a GPU, strict where the real one is lenient:
//  - device memory is forbidden to the host: a kernel's argument that is read on the host ends the test at
//  once;
//  - what is enqueued runs when the host waits for it, and not before; copies from pinned memory read it only
//  then;
//  - fresh device memory holds NaN, and each allocation ends at a forbidden page;
//  - what a queue records runs only when it is replayed, and while it records, nothing is waited for,
//  allocated, freed or copied from memory that is not pinned: the test ends there.

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "device/gpu.h"
#include "emulator/device_memory.h"

namespace mixserve::device {
namespace {

constexpr size_t page = 4096;
constexpr size_t arena_bytes = size_t{64} << 30;  // of addresses; pages come when they are written

size_t pages_of(size_t n_bytes) {
    return (n_bytes + page - 1) / page * page;
}

/// All device memory, in one range of addresses.
class Arena {
  public:
    Arena() {
        void* memory =
            mmap(nullptr, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        require(memory != MAP_FAILED, "no addresses for the emulated GPU's memory");
        base_ = static_cast<std::byte*>(memory);
    }

    void* allocate(size_t n_bytes) {
        const size_t size = pages_of(n_bytes);
        std::byte* at = nullptr;
        auto& free_list = free_[size];
        if (!free_list.empty()) {
            at = free_list.back();
            free_list.pop_back();
        } else {
            at = base_ + used_;
            used_ += size + page;  // the page behind it stays forbidden
            require(used_ <= arena_bytes, "the emulated GPU is full");
        }
        mprotect(at, size, PROT_READ | PROT_WRITE);
        std::memset(at, 0xff, size);
        if (!is_open_) mprotect(at, size, PROT_NONE);
        live_[at] = size;
        // Its end at the forbidden page, as near as an alignment of 16 bytes allows.
        return at + (size - n_bytes) / 16 * 16;
    }

    void release(void* data) {
        auto found = live_.upper_bound(static_cast<std::byte*>(data));
        --found;
        mprotect(found->first, found->second, PROT_READ | PROT_WRITE);
        madvise(found->first, found->second, MADV_DONTNEED);
        mprotect(found->first, found->second, PROT_NONE);
        free_[found->second].push_back(found->first);
        live_.erase(found);
    }

    /// Lets the caller touch device memory for the length of a scope.
    class Access {
      public:
        explicit Access(Arena& arena) : arena_(arena), was_open_(arena.is_open_) {
            if (!was_open_) arena_.set_open(true);
        }
        ~Access() {
            if (!was_open_) arena_.set_open(false);
        }
        Access(const Access&) = delete;
        Access& operator=(const Access&) = delete;

      private:
        Arena& arena_;
        bool was_open_;
    };

  private:
    void set_open(bool open) {
        is_open_ = open;
        for (const auto& [at, size] : live_)
            mprotect(at, size, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    }

    std::byte* base_ = nullptr;
    size_t used_ = 0;
    bool is_open_ = false;
    std::map<std::byte*, size_t> live_;
    std::map<size_t, std::vector<std::byte*>> free_;
};

// Never destroyed, like all that follows: streams that tests keep are, later.
Arena& arena() {
    static Arena& the_arena = *new Arena;
    return the_arena;
}

/// What is pinned, so that copies from it can be told from others.
std::map<const std::byte*, size_t>& pinned() {
    static auto& ranges = *new std::map<const std::byte*, size_t>;
    return ranges;
}

bool is_pinned(const void* data) {
    const auto* at = static_cast<const std::byte*>(data);
    auto found = pinned().upper_bound(at);
    if (found == pinned().begin()) return false;
    --found;
    return at < found->first + found->second;
}

int64_t allocated_bytes = 0;
int64_t high_water_bytes = 0;
uint64_t n_memory_changes = 0;
std::map<void*, size_t>& sizes() {
    static auto& all = *new std::map<void*, size_t>;
    return all;
}

}  // namespace

/// What a queue's handle() points to.
struct WorkQueue {
    std::optional<std::vector<std::function<bool()>>> recorded;  // while it captures
    std::deque<std::function<bool()>> work;  // false: it waits for others, and is to be called again
    uint64_t n_enqueued = 0;
    uint64_t n_done = 0;
    bool is_inside = false;

    WorkQueue() { all().insert(this); }
    ~WorkQueue() {
        // A rank that fails does not wait for others.
        if (std::uncaught_exceptions() == 0) run_until(n_enqueued);
        all().erase(this);
    }
    WorkQueue(const WorkQueue&) = delete;
    WorkQueue& operator=(const WorkQueue&) = delete;

    void add(std::function<void()> item) {
        add_waiting([run = std::move(item)] {
            run();
            return true;
        });
    }
    void add_waiting(std::function<bool()> item) {
        if (recorded) {
            recorded->push_back(std::move(item));
            return;
        }
        work.push_back(std::move(item));
        ++n_enqueued;
    }

    /// Whether the first item has ended now.
    bool advance() {
        if (is_inside || work.empty()) return false;
        is_inside = true;
        const bool has_ended = work.front()();
        is_inside = false;
        if (!has_ended) return false;
        work.pop_front();
        ++n_done;
        return true;
    }
    /// The other queues run only while this one waits for somebody: at the latest allowed moment.
    void run_until(uint64_t n) {
        if (n_done >= n) return;
        const Arena::Access access(arena());
        while (n_done < n) {
            if (!advance() && !advance_others()) std::this_thread::yield();
        }
    }
    bool advance_others() {
        bool any = false;
        for (WorkQueue* queue : all())
            any = (queue != this && queue->advance()) || any;
        return any;
    }

    /// For what a queue that captures must not be asked for.
    void forbid_capture(const char* call) const {
        require(!recorded, "emulated GPU: {} while a queue captures", call);
    }
    static void forbid_captures(const char* call) {
        for (const WorkQueue* queue : all())
            queue->forbid_capture(call);
    }

    static std::set<WorkQueue*>& all() {
        static auto& queues = *new std::set<WorkQueue*>;
        return queues;
    }
    static void run_all() {
        for (WorkQueue* queue : all())
            queue->run_until(queue->n_enqueued);
    }
};

struct GpuQueue::Impl : WorkQueue {};

GpuSurvey survey_gpus() {
    // One, or as many as tests ask for: then each rank of a host has its own, and may use NCCL's border.
    const char* n_gpus = std::getenv("MIXSERVE_EMULATED_GPUS");
    GpuSurvey survey;
    for (int i = 0; i < (n_gpus == nullptr ? 1 : std::atoi(n_gpus)); ++i)
        survey.gpus.push_back(
            {"emulated GPU", fmt::format("{:02}", i), 90, 4, int64_t{64} << 30, int64_t{50} << 20});
    return survey;
}
bool built_with_cuda() {
    return true;
}
void use_gpu(int) {}
const GpuProperties& gpu_in_use() {
    static const GpuProperties properties = survey_gpus().gpus[0];
    return properties;
}
GpuMemory gpu_memory() {
    return {int64_t{64} << 30, int64_t{64} << 30};
}

void* gpu_allocate(size_t n_bytes, Memory memory) {
    WorkQueue::forbid_captures("an allocation");
    if (memory == Memory::pinned) {
        auto* data = static_cast<std::byte*>(std::aligned_alloc(page, pages_of(n_bytes)));
        pinned()[data] = pages_of(n_bytes);
        return data;
    }
    void* data = arena().allocate(n_bytes);
    ++n_memory_changes;
    sizes()[data] = n_bytes;
    allocated_bytes += static_cast<int64_t>(n_bytes);
    high_water_bytes = std::max(high_water_bytes, allocated_bytes);
    return data;
}

void gpu_free(void* data, Memory memory) noexcept {
    WorkQueue::forbid_captures("a free");
    WorkQueue::run_all();  // freeing waits for the device
    if (memory == Memory::pinned) {
        pinned().erase(static_cast<std::byte*>(data));
        std::free(data);
        return;
    }
    ++n_memory_changes;
    allocated_bytes -= static_cast<int64_t>(sizes()[data]);
    sizes().erase(data);
    arena().release(data);
}

int64_t gpu_high_water_bytes() {
    return high_water_bytes;
}
uint64_t gpu_memory_changes() {
    return n_memory_changes;
}
bool enable_peer_access(int, int) {
    return false;
}

GpuQueue::GpuQueue() : impl_(std::make_unique<Impl>()) {}
GpuQueue::~GpuQueue() = default;
GpuQueue::GpuQueue(GpuQueue&&) noexcept = default;
GpuQueue& GpuQueue::operator=(GpuQueue&&) noexcept = default;

void GpuQueue::copy_in(void* device, const void* host, size_t n_bytes) {
    if (n_bytes == 0) return;
    if (is_pinned(host)) {
        impl_->add([=] { std::memcpy(device, host, n_bytes); });
        return;
    }
    impl_->forbid_capture("a copy from memory that is not pinned");
    const auto* bytes = static_cast<const std::byte*>(host);
    impl_->add([device, staged = std::vector<std::byte>(bytes, bytes + n_bytes)] {
        std::memcpy(device, staged.data(), staged.size());
    });
}
void GpuQueue::copy_out(void* host, const void* device, size_t n_bytes) {
    if (n_bytes == 0) return;
    if (!is_pinned(host)) impl_->forbid_capture("a copy to memory that is not pinned");
    impl_->add([=] { std::memcpy(host, device, n_bytes); });
}
void GpuQueue::copy_inside(void* to, const void* from, size_t n_bytes) {
    if (n_bytes == 0) return;
    impl_->add([=] { std::memcpy(to, from, n_bytes); });
}
void GpuQueue::clear(void* device, size_t n_bytes) {
    if (n_bytes == 0) return;
    impl_->add([=] { std::memset(device, 0, n_bytes); });
}
struct GpuGraph::Impl {
    std::vector<std::function<bool()>> work;
};
GpuGraph::GpuGraph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GpuGraph::~GpuGraph() = default;
GpuGraph::GpuGraph(GpuGraph&&) noexcept = default;
GpuGraph& GpuGraph::operator=(GpuGraph&&) noexcept = default;

void GpuQueue::begin_capture() {
    impl_->forbid_capture("begin_capture");
    impl_->recorded.emplace();
}
GpuGraph GpuQueue::end_capture() {
    require(impl_->recorded.has_value(), "emulated GPU: end_capture without begin_capture");
    auto graph = std::make_unique<GpuGraph::Impl>();
    graph->work = std::move(*impl_->recorded);
    impl_->recorded.reset();
    return GpuGraph(std::move(graph));
}
void GpuQueue::abandon_capture() noexcept {
    impl_->recorded.reset();
}
void GpuQueue::replay(const GpuGraph& graph) {
    impl_->forbid_capture("replay");
    for (const std::function<bool()>& item : graph.impl().work)
        impl_->add_waiting(item);
}

void GpuQueue::synchronize() {
    impl_->forbid_capture("synchronize");
    impl_->run_until(impl_->n_enqueued);
}
bool GpuQueue::is_idle() {
    impl_->forbid_capture("is_idle");
    impl_->run_until(impl_->n_enqueued);
    return true;
}
void* GpuQueue::handle() const {
    return static_cast<WorkQueue*>(impl_.get());
}

struct GpuEvent::Impl {
    WorkQueue* queue = nullptr;
    uint64_t place = 0;
};

GpuEvent::GpuEvent() : impl_(std::make_unique<Impl>()) {}
GpuEvent::~GpuEvent() = default;
GpuEvent::GpuEvent(GpuEvent&&) noexcept = default;
GpuEvent& GpuEvent::operator=(GpuEvent&&) noexcept = default;
void GpuEvent::record(GpuQueue& queue) {
    impl_->queue = static_cast<WorkQueue*>(queue.handle());
    impl_->queue->forbid_capture("the record of an event");
    impl_->place = impl_->queue->n_enqueued;
}
void GpuEvent::wait() {
    if (impl_->queue != nullptr && WorkQueue::all().contains(impl_->queue))
        impl_->queue->run_until(impl_->place);
}
void GpuEvent::hold_back(GpuQueue& queue) const {
    static_cast<WorkQueue*>(queue.handle())->forbid_capture("the wait for an event");
    static_cast<WorkQueue*>(queue.handle())->add_waiting([event = *impl_] {
        if (event.queue == nullptr || !WorkQueue::all().contains(event.queue)) return true;
        while (event.queue->n_done < event.place && event.queue->advance()) {
        }
        return event.queue->n_done >= event.place;
    });
}
double GpuEvent::seconds_since(const GpuEvent&) const {
    return 0;
}

}  // namespace mixserve::device

namespace mixserve::emulator {

void enqueue_work(device::GpuQueue& queue, std::function<void()> work) {
    static_cast<device::WorkQueue*>(queue.handle())->add(std::move(work));
}

void enqueue_waiting_work(device::GpuQueue& queue, std::function<bool()> work) {
    static_cast<device::WorkQueue*>(queue.handle())->add_waiting(std::move(work));
}

void run_all_queues() {
    device::WorkQueue::run_all();
}

}  // namespace mixserve::emulator
