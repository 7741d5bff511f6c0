#include "comm/mpi.h"

#include <exception>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace mixserve::comm {

void check_mpi(int code, const char* call) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    fail("{} failed: {}", call, std::string(text, static_cast<size_t>(length)));
}

int mpi_int(int64_t count, const char* call) {
    require(count >= 0 && count <= std::numeric_limits<int>::max(),
            "{}: a count of {} does not fit MPI's int; use more ranks or smaller steps", call, count);
    return static_cast<int>(count);
}

bool mpi_is_running() {
    int initialized = 0;
    int finalized = 0;
    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    return initialized != 0 && finalized == 0;
}

bool may_wait_for_others() {
    return std::uncaught_exceptions() == 0 && mpi_is_running();
}

RowType::RowType(int64_t n_bytes) : n_bytes_(n_bytes) {
    check_mpi(MPI_Type_contiguous(mpi_int(n_bytes, "MPI_Type_contiguous"), MPI_BYTE, &type_),
              "MPI_Type_contiguous");
    check_mpi(MPI_Type_commit(&type_), "MPI_Type_commit");
}

RowType::~RowType() {
    if (type_ != MPI_DATATYPE_NULL && mpi_is_running()) MPI_Type_free(&type_);
}

RowType::RowType(RowType&& other) noexcept
    : type_(std::exchange(other.type_, MPI_DATATYPE_NULL)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}

RowType& RowType::operator=(RowType&& other) noexcept {
    std::swap(type_, other.type_);
    std::swap(n_bytes_, other.n_bytes_);
    return *this;
}

}  // namespace mixserve::comm
