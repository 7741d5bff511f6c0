#pragma once

#include <cstdint>
#include <memory>

#include "base/heartbeat.h"
#include "comm/communicator.h"

namespace mixserve::comm {

/// For work that takes the ranks different times, each for itself: those that are done wait for the others,
/// and their hearts beat for as long as every other rank's does. So a file system that is slow for one rank
/// alone is no hang, and a rank that stands still is noticed on all. The ranks go through rounds of a
/// reduction; one that still works takes part whenever its heart beats.
///
/// Collective: made by all ranks of `ranks`, who call wait_for_all() in the end and no other collective on
/// `ranks` before. A rank that fails alone may leave without, to end the job.
class SharedProgress : private BeatListener {
  public:
    explicit SharedProgress(const Communicator& ranks);
    ~SharedProgress() override;
    SharedProgress(const SharedProgress&) = delete;
    SharedProgress& operator=(const SharedProgress&) = delete;

    /// Returns when every rank is here.
    void wait_for_all();

  private:
    struct Round;
    void on_beat() override;
    void begin_round(bool done);

    const Communicator& ranks_;
    std::unique_ptr<Round> round_;
    double looked_s_ = 0;
    double begun_s_ = 0;
};

}  // namespace mixserve::comm
