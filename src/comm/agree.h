#pragma once

#include <functional>

#include "base/error.h"
#include "comm/communicator.h"

namespace mixserve::comm {

/// What all ranks have agreed to end with: main prints it on one rank, and every rank leaves through MPI's
/// normal end.
class AgreedError : public Error {
  public:
    AgreedError(const std::string& text, ExitCode code, bool speaks) : Error(text, code), speaks_(speaks) {}
    /// Whether this rank is the one that prints it.
    bool speaks() const { return speaks_; }

  private:
    bool speaks_;
};

/// Runs `step` on every rank of `world`, each for itself (no collectives inside). When it throws anywhere,
/// all ranks throw an AgreedError with the text and exit code of the lowest rank that failed. So a file that
/// one node cannot read ends the job with one message, and nobody waits for the rank that left. A signal that
/// asked any rank to stop (base/stop.h) ends all of them likewise, with its exit code.
void agree(const Communicator& world, const std::function<void()>& step);

}  // namespace mixserve::comm
