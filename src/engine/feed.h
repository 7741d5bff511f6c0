#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.h"

namespace mixserve::engine {

/// A request on its way to the node that will serve it, packed.
struct FeedItem {
    std::vector<std::byte> bytes;
    int64_t n_sequences = 1;
    int64_t n_tokens = 0;  // of the prompt
};

/// The input and the output as world rank 0 has them.
class FeedRoot {
  public:
    virtual ~FeedRoot() = default;
    /// The next request, if one is ready.
    virtual std::optional<FeedItem> poll() = 0;
    /// Whether none will come any more.
    virtual bool at_end() = 0;
    /// Returns when poll() or at_end() may have changed, after a second at most.
    virtual void wait() = 0;
    /// Takes what a node has finished (packed by its leader).
    virtual void accept(std::vector<std::byte> finished) = 0;
};

/// What a node's leader says before each step.
struct FeedStatus {
    bool busy = false;        // it has sequences of its own
    int64_t free_places = 0;  // sequences it could start
    int64_t free_rows = 0;    // prompt tokens that its next step has room for
    std::vector<std::byte> finished;
};

/// The common queue: before each step every leader says what it has room for and what it has finished; the
/// root deals requests to whoever has most room, and says whether any node has work. So no node idles while
/// another has requests waiting, and no node holds requests that it cannot start. While the input is slow and
/// nobody has work, all step without tokens about once a second: every rank gets to look for signals, and no
/// watchdog takes the wait for a hang.
class Feed {
  public:
    /// `leaders`: one rank of each group that serves requests, rank 0 the root; `root` null elsewhere.
    /// Borrowed.
    Feed(const comm::Communicator& leaders, FeedRoot* root);

    struct Answer {
        bool go_on = false;   // false: no node has work, and none will come
        int stop_signal = 0;  // with work left: the signal that ends the job now
        std::vector<std::vector<std::byte>> requests;
    };
    /// Collective over the leaders. `stop_signal`, of the root: no requests are dealt any more.
    Answer exchange(FeedStatus status, int stop_signal);

  private:
    std::vector<Answer> deal(std::vector<FeedStatus>& nodes);
    std::vector<Answer> stop(const std::vector<FeedStatus>& nodes, int stop_signal);

    const comm::Communicator& leaders_;
    FeedRoot* root_;
};

}  // namespace mixserve::engine
