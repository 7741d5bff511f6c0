#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mixserve::comm {

/// MPI's start and end. One in main; nothing else initialises or finalises. `initialized()` is false in the
/// commands that need no ranks. Only the thread that makes it may call MPI.
class Runtime {
  public:
    Runtime();
    ~Runtime();
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;
    /// Ends all ranks of the job at once with `exit_code`.
    [[noreturn]] static void abort(int exit_code);
    static bool initialized();
    /// As the library names itself: "Open MPI v4.1.4, ...".
    static std::string library_version();
    /// Whether the launcher (mpirun, srun) started more than one process, without initialising MPI.
    static bool launched_with_several_ranks();
};

enum class ReduceOp : uint8_t { sum, min, max };

/// A group of ranks. Move-only; owns its MPI communicator unless it is the world's. Counts are 64-bit; one
/// that MPI's int cannot hold is sent in pieces or is an Error, never wrapped. Calls are collective and
/// blocking unless said. A failed MPI call is an Error with its name and MPI's text. Tags of send and receive
/// are below 32000.
class Communicator {
  public:
    static Communicator world();
    ~Communicator();
    Communicator(Communicator&&) noexcept;
    Communicator& operator=(Communicator&&) noexcept;

    int rank() const;
    int size() const;

    /// Ranks of equal `color` form a group, ordered by `key`.
    Communicator split(int color, int key) const;
    /// Groups of ranks that share memory.
    Communicator split_shared_memory() const;

    void barrier() const;
    void broadcast(std::span<std::byte> bytes, int root) const;
    /// Broadcast of a buffer whose size only the root knows.
    void broadcast_resize(std::vector<std::byte>& bytes, int root) const;
    /// bytes of each rank, at the root (elsewhere empty).
    std::vector<std::vector<std::byte>> gather(std::span<const std::byte> bytes, int root) const;
    /// parts[r] goes to rank r (read at the root only).
    std::vector<std::byte> scatter(std::span<const std::vector<std::byte>> parts, int root) const;
    void all_reduce(std::span<int64_t> values, ReduceOp op) const;
    void all_reduce(std::span<double> values, ReduceOp op) const;
    std::vector<int64_t> all_gather(int64_t value) const;
    std::vector<std::string> all_gather(const std::string& text) const;
    void send(std::span<const std::byte> bytes, int to, int tag) const;
    /// Waits for a message of any size.
    std::vector<std::byte> receive(int from, int tag) const;

    struct Handle;  // comm/mpi.h; only comm sees mpi.h
    const Handle& handle() const { return *handle_; }

  private:
    explicit Communicator(std::unique_ptr<Handle> handle);
    std::unique_ptr<Handle> handle_;
};

}  // namespace mixserve::comm
