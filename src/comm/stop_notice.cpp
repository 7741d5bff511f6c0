#include "comm/stop_notice.h"

#include <array>

#include "base/stop.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {
constexpr int tag_stop = 91;
}

struct StopNotice::Message {
    int signal = 0;
    MPI_Request request = MPI_REQUEST_NULL;
};

StopNotice::StopNotice(const Communicator& world) : world_(world) {}
StopNotice::~StopNotice() = default;

int StopNotice::look() {
    const int own = stop_signal();
    if (world_.rank() == 0) {
        int any = 1;
        while (any != 0) {
            check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag_stop, raw(world_), &any, MPI_STATUS_IGNORE),
                      "MPI_Iprobe");
            if (any != 0) hear();
        }
        if (signal_ == 0) signal_ = own;
    } else if (own != 0 && !sent_) {
        sent_ = std::make_unique<Message>();
        sent_->signal = own;
        check_mpi(MPI_Isend(&sent_->signal, 1, MPI_INT, 0, tag_stop, raw(world_), &sent_->request),
                  "MPI_Isend");
    }
    return signal_;
}

void StopNotice::hear() {
    int signal = 0;
    call_mpi("MPI_Recv", MPI_Recv, &signal, 1, MPI_INT, MPI_ANY_SOURCE, tag_stop, raw(world_),
             MPI_STATUS_IGNORE);
    if (signal_ == 0) signal_ = signal;
    ++n_heard_;
}

void StopNotice::settle() {
    std::array<int64_t, 1> n_sent{sent_ ? 1 : 0};
    world_.all_reduce(n_sent, ReduceOp::sum);
    while (world_.rank() == 0 && n_heard_ < n_sent[0])
        hear();
    if (sent_) call_mpi("MPI_Wait", MPI_Wait, &sent_->request, MPI_STATUS_IGNORE);
}

}  // namespace mixserve::comm
