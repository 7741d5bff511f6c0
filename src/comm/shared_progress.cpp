#include "comm/shared_progress.h"

#include "base/clock.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

// Beats are as frequent as lines of an input.
constexpr double look_every_s = 0.02;
constexpr double round_every_s = 0.5;

}  // namespace

struct SharedProgress::Round {
    int64_t all_done = 0;
    MPI_Request request = MPI_REQUEST_NULL;
};

SharedProgress::SharedProgress(const Communicator& ranks) : ranks_(ranks), round_(std::make_unique<Round>()) {
    looked_s_ = begun_s_ = now_s();
    if (ranks_.size() > 1) heartbeat.tell(this);
}

SharedProgress::~SharedProgress() {
    heartbeat.tell(nullptr);
    // MPI may still write to a round that was left, until the job has ended.
    if (round_->request != MPI_REQUEST_NULL) static_cast<void>(round_.release());
}

void SharedProgress::begin_round(bool done) {
    round_->all_done = done ? 1 : 0;
    check_mpi(MPI_Iallreduce(MPI_IN_PLACE, &round_->all_done, 1, MPI_INT64_T, MPI_MIN, raw(ranks_),
                             &round_->request),
              "MPI_Iallreduce");
}

void SharedProgress::on_beat() {
    const double now = now_s();
    if (now - looked_s_ < look_every_s) return;
    looked_s_ = now;
    int ended = 0;
    check_mpi(MPI_Test(&round_->request, &ended, MPI_STATUS_IGNORE), "MPI_Test");
    if (ended == 0 || now - begun_s_ < round_every_s) return;
    begun_s_ = now;
    begin_round(false);
}

void SharedProgress::wait_for_all() {
    heartbeat.tell(nullptr);
    const auto end_round = [&] { call_mpi("MPI_Iallreduce", MPI_Wait, &round_->request, MPI_STATUS_IGNORE); };
    end_round();  // of one that was begun with work left, or none
    do {
        begin_round(true);
        end_round();
    } while (round_->all_done == 0);
}

}  // namespace mixserve::comm
