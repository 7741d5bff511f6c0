#include "emulator/simt.h"

#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "emulator/device_memory.h"
#include "emulator/fiber.h"

namespace mixserve::emulator {

Thread* self = nullptr;
dim3 block_index(0, 0, 0);
dim3 block_size(0, 0, 0);
dim3 grid_size(0, 0, 0);
std::byte* block_memory = nullptr;

namespace {

struct PendingCopy {
    void* shared;
    const void* global;
    bool is_there;
};

struct Copies {
    std::vector<PendingCopy> copies;  // those that have not been made, in order
    std::vector<size_t> closed;       // ends of their closed groups
};

/// A thread with what the emulator knows of it.
struct ThreadState : Thread, Copies {};

struct Warp {
    uint32_t generation = 0;
    int n_arrived = 0;
    const char* what = "";
    std::array<Lanes, 2> lanes;
};

/// One block at a time.
class Block {
  public:
    void run(const char* name, int n_threads, const std::function<void()>& body, bool backwards) {
        name_ = name;
        body_ = &body;
        n_threads_ = n_threads;
        if (threads_.size() < static_cast<size_t>(n_threads)) threads_.resize(static_cast<size_t>(n_threads));
        if (warps_.size() < static_cast<size_t>((n_threads + 31) / 32))
            warps_.resize(static_cast<size_t>((n_threads + 31) / 32));
        for (Warp& warp : warps_)
            warp.n_arrived = 0;
        for (int t = 0; t < n_threads; ++t) {
            ThreadState& thread = threads_[static_cast<size_t>(t)];
            thread.index = dim3(static_cast<unsigned>(t), 0, 0);
            thread.lane = t % 32;
            thread.warp = t / 32;
            thread.copies.clear();
            thread.closed.clear();
        }
        n_started_ = n_ended_ = n_at_barrier_ = 0;
        backwards_ = backwards;
        std::vector<size_t> waiting;
        while (n_started_ < n_threads_) {
            const size_t fiber = free_fiber();
            fibers_[fiber].fiber->start([this, fiber] { run_threads(fiber); });
            resume(fiber);
            if (!fibers_[fiber].fiber->has_ended()) waiting.push_back(fiber);
        }
        while (!waiting.empty()) {
            const uint64_t before = n_events_;
            std::vector<size_t> left;
            for (const size_t fiber : waiting) {
                resume(fiber);
                if (!fibers_[fiber].fiber->has_ended()) left.push_back(fiber);
            }
            if (n_events_ == before) die("not all threads reach a barrier or a warp's exchange");
            waiting = std::move(left);
        }
    }

    void barrier() {
        const uint32_t generation = barrier_generation_;
        ++n_at_barrier_;
        release_barrier();
        while (barrier_generation_ == generation)
            wait();
    }

    const Lanes& exchange(const char* what, const uint64_t* words, int n_words) {
        Warp& warp = warps_[static_cast<size_t>(self->warp)];
        if (warp.n_arrived > 0 && std::string(warp.what) != what)
            die(std::string("lanes of a warp are at ") + warp.what + " and " + what);
        warp.what = what;
        const uint32_t generation = warp.generation;
        Lanes& lanes = warp.lanes[generation & 1U];
        if (n_words > 0)
            std::memcpy(lanes.words[self->lane], words, static_cast<size_t>(n_words) * sizeof(uint64_t));
        if (++warp.n_arrived == 32) {
            warp.n_arrived = 0;
            ++warp.generation;
            ++n_events_;
        }
        while (warp.generation == generation)
            wait();
        return lanes;
    }

    [[noreturn]] void die(const std::string& why) const {
        std::fprintf(stderr, "emulator: kernel %s, block (%u, %u, %u): %s\n", name_, block_index.x,
                     block_index.y, block_index.z, why.c_str());
        std::abort();
    }

  private:
    struct Slot {
        std::unique_ptr<Fiber> fiber;
        Thread* thread = nullptr;
    };

    size_t free_fiber() {
        for (; next_free_ < fibers_.size(); ++next_free_) {
            if (fibers_[next_free_].fiber->has_ended()) return next_free_;
        }
        fibers_.push_back({std::make_unique<Fiber>(), nullptr});
        return next_free_ = fibers_.size() - 1;
    }

    void resume(size_t fiber) {
        current_ = fiber;
        self = fibers_[fiber].thread;
        fibers_[fiber].fiber->resume();
        if (fibers_[fiber].fiber->has_ended()) next_free_ = 0;
    }

    /// Runs threads that have not started one after the other, while none of them waits.
    void run_threads(size_t fiber) {
        while (n_started_ < n_threads_) {
            const int t = backwards_ ? n_threads_ - 1 - n_started_ : n_started_;
            ++n_started_;
            fibers_[fiber].thread = self = &threads_[static_cast<size_t>(t)];
            (*body_)();
            ++n_ended_;
            ++n_events_;
            release_barrier();
        }
    }

    void release_barrier() {
        if (n_at_barrier_ == 0 || n_at_barrier_ + n_ended_ < n_threads_) return;
        n_at_barrier_ = 0;
        ++barrier_generation_;
        ++n_events_;
    }

    void wait() {
        const size_t fiber = current_;
        fibers_[fiber].fiber->yield();
    }

    const char* name_ = "";
    const std::function<void()>* body_ = nullptr;
    int n_threads_ = 0;
    int n_started_ = 0;
    int n_ended_ = 0;
    int n_at_barrier_ = 0;
    uint32_t barrier_generation_ = 0;
    uint64_t n_events_ = 0;
    bool backwards_ = false;
    size_t current_ = 0;
    size_t next_free_ = 0;
    std::vector<ThreadState> threads_;
    std::vector<Warp> warps_;
    std::vector<Slot> fibers_;
};

/// A block's shared memory, which ends at a forbidden page, as near as an alignment of 16 bytes allows.
class SharedMemory {
  public:
    explicit SharedMemory(size_t n_bytes) : size_((n_bytes + page - 1) / page * page) {
        void* memory =
            mmap(nullptr, size_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::runtime_error("no memory for a block");
        begin_ = static_cast<std::byte*>(memory);
        mprotect(begin_ + size_, page, PROT_NONE);
        data_ = begin_ + (size_ - n_bytes) / 16 * 16;
    }
    ~SharedMemory() { munmap(begin_, size_ + page); }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    std::byte* data() const { return data_; }

  private:
    static constexpr size_t page = 4096;
    size_t size_;
    std::byte* begin_ = nullptr;
    std::byte* data_ = nullptr;
};

Block& block() {
    static Block the_block;
    return the_block;
}

ThreadState& own_state() {
    return *static_cast<ThreadState*>(self);
}

}  // namespace

void enqueue(const char* name, device::GpuQueue& queue, dim3 grid, int n_threads, size_t shared_bytes,
             std::function<void()> thread) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    constexpr size_t most_shared = 227 << 10;  // of a block on sm_90
    if (n_threads < 1 || n_threads > 1024 || shared_bytes > most_shared || grid.y > 65535 || grid.z > 65535) {
        std::fprintf(stderr,
                     "emulator: %s: a launch that no GPU takes: %d threads, %zu bytes, grid %u %u %u\n", name,
                     n_threads, shared_bytes, grid.x, grid.y, grid.z);
        std::abort();
    }
    enqueue_work(queue, [=, thread = std::move(thread)] {
        const SharedMemory shared(shared_bytes);
        block_size = dim3(static_cast<unsigned>(n_threads));
        grid_size = grid;
        bool backwards = false;
        for (unsigned z = 0; z < grid.z; ++z) {
            for (unsigned y = 0; y < grid.y; ++y) {
                for (unsigned x = 0; x < grid.x; ++x) {
                    std::memset(shared.data(), 0xff, shared_bytes);  // NaN: what nobody wrote shows
                    block_index = dim3(x, y, z);
                    block_memory = shared.data();
                    block().run(name, n_threads, thread, backwards);
                    backwards = !backwards;
                }
            }
        }
    });
}

void block_barrier() {
    block().barrier();
}

const Lanes& exchange(const char* what, const uint64_t* words, int n_words) {
    return block().exchange(what, words, n_words);
}

}  // namespace mixserve::emulator

namespace mixserve::simt {

using emulator::Lanes;

void copy_16_async(void* shared, const void* global, bool is_there) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
        (is_there && reinterpret_cast<uintptr_t>(global) % 16 != 0))
        emulator::block().die("cp.async of 16 bytes at an address that is not a multiple of 16");
    emulator::own_state().copies.push_back({shared, global, is_there});
}

void close_copies() {
    emulator::own_state().closed.push_back(emulator::own_state().copies.size());
}

void wait_for_copies_but(int n_groups) {
    auto& [copies, closed] = static_cast<emulator::Copies&>(emulator::own_state());
    const auto n_closed = static_cast<int>(closed.size());
    if (n_closed <= n_groups) return;
    const auto n_done = n_closed - n_groups;
    const size_t end = closed[static_cast<size_t>(n_done - 1)];
    for (size_t i = 0; i < end; ++i) {
        if (copies[i].is_there) {
            std::memcpy(copies[i].shared, copies[i].global, 16);
        } else {
            std::memset(copies[i].shared, 0, 16);
        }
    }
    copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(end));
    closed.erase(closed.begin(), closed.begin() + n_done);
    for (size_t& at : closed)
        at -= end;
}

namespace {

uint32_t pair_of(const Lanes& rows, int matrix, int row0, int column0, int row1, int column1) {
    const auto element = [&](int row, int column) {
        const auto* at = emulator::lane_value<const uint16_t*>(rows, 8 * matrix + row);
        return static_cast<uint32_t>(at[column]);
    };
    return element(row0, column0) | element(row1, column1) << 16;
}

const Lanes& give_row(const void* row) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
        emulator::block().die("ldmatrix of a row at an address that is not a multiple of 16");
    return emulator::exchange_value("ldmatrix", row);
}

float widen(bool is_bf16, uint32_t pair, int half) {
    const auto bits = static_cast<uint16_t>(pair >> (16 * half));
    return is_bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

}  // namespace

// Everything is read before the exchange that lets the others go on.

void load_matrices(uint32_t (&r)[4], const void* row) {
    const Lanes& rows = give_row(row);
    const int lane = emulator::self->lane;
    const int column = 2 * (lane % 4);
    for (int m = 0; m < 4; ++m)
        r[m] = pair_of(rows, m, lane / 4, column, lane / 4, column + 1);
    __syncwarp();
}

void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
    const Lanes& rows = give_row(row);
    const int lane = emulator::self->lane;
    const int first = 2 * (lane % 4);
    for (int m = 0; m < 4; ++m)
        r[m] = pair_of(rows, m, first, lane / 4, first + 1, lane / 4);
    __syncwarp();
}

void multiply_tile_of(bool is_bf16, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint64_t words[] = {a[0], a[1], a[2], a[3], b0, b1};
    const Lanes& lanes = emulator::exchange("mma", words, 6);
    const int g = emulator::self->lane / 4;
    const int t = emulator::self->lane % 4;
    const auto a_at = [&](int row, int k) {
        const int lane = row % 8 * 4 + k % 8 / 2;
        const int word = row / 8 + 2 * (k / 8);
        return widen(is_bf16, static_cast<uint32_t>(lanes.words[lane][word]), k % 2);
    };
    const auto b_at = [&](int k, int column) {
        const int lane = column * 4 + k % 8 / 2;
        return widen(is_bf16, static_cast<uint32_t>(lanes.words[lane][4 + k / 8]), k % 2);
    };
    for (int i = 0; i < 4; ++i) {
        const int row = g + 8 * (i / 2);
        const int column = 2 * t + i % 2;
        for (int k = 0; k < 16; ++k)
            c[i] = std::fma(a_at(row, k), b_at(k, column), c[i]);
    }
}

}  // namespace mixserve::simt
