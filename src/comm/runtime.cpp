#include <array>
#include <cstdlib>

#include "base/error.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

bool variable_exceeds_one(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && std::atoi(value) > 1;
}

}  // namespace

// Threads of a rank share its products, but only the main thread calls MPI: the exchange is driven from
// between the tiles of the products, which bench exchange showed to be no slower than a progress thread and
// which leaves every core to arithmetic. So MPI needs no locks.
Runtime::Runtime() {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    require(provided >= MPI_THREAD_FUNNELED,
            "this MPI library does not allow threads beside the one that calls it");
}

Runtime::~Runtime() {
    if (mpi_is_running()) MPI_Finalize();
}

void Runtime::abort(int exit_code) {
    if (mpi_is_running()) MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
}

std::string Runtime::library_version() {
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
    int n = 0;
    check_mpi(MPI_Get_library_version(text.data(), &n), "MPI_Get_library_version");
    std::string version(text.data());
    return version.substr(0, version.find_last_not_of(" \n") + 1);
}

bool Runtime::initialized() {
    return mpi_is_running();
}

// Open MPI's and MPICH's mpirun, and srun. In a batch script outside of srun SLURM_NTASKS is set too, so it
// tells nothing; SLURM_STEP_NUM_TASKS is a step's own.
bool Runtime::launched_with_several_ranks() {
    return variable_exceeds_one("OMPI_COMM_WORLD_SIZE") || variable_exceeds_one("PMI_SIZE") ||
           (std::getenv("SLURM_PROCID") != nullptr && variable_exceeds_one("SLURM_STEP_NUM_TASKS"));
}

}  // namespace mixserve::comm
