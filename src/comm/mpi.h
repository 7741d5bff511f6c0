#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>

#include "base/heartbeat.h"
#include "comm/communicator.h"

namespace mixserve::comm {

struct Communicator::Handle {
    MPI_Comm comm = MPI_COMM_NULL;
    bool owned = false;
};

/// Throws Error naming the call and MPI's text for `code`, unless it is MPI_SUCCESS.
void check_mpi(int code, const char* call);

/// Makes an MPI call that may wait for other ranks, under its name for the watchdog; throws as check_mpi
/// does.
template <class Function, class... Arguments>
void call_mpi(const char* call, Function function, Arguments... arguments) {
    const WaitScope waiting(call);
    check_mpi(function(arguments...), call);
}

/// `count` as MPI's int; Error naming `call` when it does not fit.
int mpi_int(int64_t count, const char* call);

inline MPI_Comm raw(const Communicator& communicator) {
    return communicator.handle().comm;
}

/// A datatype of `n_bytes` contiguous bytes, so that counts and displacements of collectives are rows, which
/// fit an int where their bytes would not.
class RowType {
  public:
    explicit RowType(int64_t n_bytes);
    ~RowType();
    RowType(RowType&& other) noexcept;
    RowType& operator=(RowType&& other) noexcept;

    MPI_Datatype get() const { return type_; }
    int64_t n_bytes() const { return n_bytes_; }

  private:
    MPI_Datatype type_ = MPI_DATATYPE_NULL;
    int64_t n_bytes_ = 0;
};

/// Whether MPI can still be called: false before initialisation and after finalisation. Destructors ask.
bool mpi_is_running();

/// Whether destructors may call what waits for other ranks: MPI runs, and no error unwinds the stack. A rank
/// that fails alone must get to where it ends the others, not wait for them.
bool may_wait_for_others();

}  // namespace mixserve::comm
