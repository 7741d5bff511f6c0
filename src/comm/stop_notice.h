#pragma once

#include <memory>

#include "comm/communicator.h"

namespace mixserve::comm {

/// How world rank 0 learns that a signal has asked any rank to stop (base/stop.h). A rank that got one sends
/// its number once; without signals nothing is sent, and nobody waits.
class StopNotice {
  public:
    /// Borrowed.
    explicit StopNotice(const Communicator& world);
    ~StopNotice();
    StopNotice(const StopNotice&) = delete;
    StopNotice& operator=(const StopNotice&) = delete;

    /// To be called on every rank now and then: passes on a signal of this rank. On rank 0 the signal that
    /// stops the job, the first that it has heard of, else 0; on other ranks 0.
    int look();

    /// Collective, once, after the last look(): leaves no message behind.
    void settle();

  private:
    struct Message;
    void hear();

    const Communicator& world_;
    std::unique_ptr<Message> sent_;  // once this rank has sent one
    int signal_ = 0;                 // on rank 0
    int n_heard_ = 0;
};

}  // namespace mixserve::comm
