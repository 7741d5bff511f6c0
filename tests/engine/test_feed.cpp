#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <thread>

#include "comm/communicator.h"
#include "engine/feed.h"

namespace mixserve::engine {
namespace {

/// An input that gives what it is told to, and is at its end when it is told so.
class FakeRoot final : public FeedRoot {
  public:
    std::optional<FeedItem> poll() override {
        if (items.empty()) return std::nullopt;
        FeedItem item = std::move(items.front());
        items.pop_front();
        return item;
    }
    bool at_end() override { return ended && items.empty(); }
    void wait() override { std::this_thread::sleep_for(std::chrono::milliseconds(300)); }
    void accept(std::vector<std::byte> finished) override { n_accepted += finished.size(); }

    std::deque<FeedItem> items;
    bool ended = false;
    size_t n_accepted = 0;
};

struct Leaders {
    comm::Communicator world = comm::Communicator::world();
    FakeRoot input;  // used on rank 0
    Feed feed{world, world.rank() == 0 ? &input : nullptr};

    Feed::Answer exchange(bool busy, int stop_signal = 0) {
        return feed.exchange(
            {.busy = busy, .free_places = 1, .free_rows = 10, .finished = std::vector<std::byte>(3)},
            stop_signal);
    }
};

TEST(Feed, DealsAndEnds) {
    Leaders leaders;
    const int n = leaders.world.size();
    for (int i = 0; i < n; ++i)
        leaders.input.items.push_back({{std::byte{1}}, 1, 2});
    leaders.input.ended = true;
    const Feed::Answer answer = leaders.exchange(false);
    EXPECT_TRUE(answer.go_on);
    EXPECT_EQ(answer.requests.size(), 1U);
    EXPECT_EQ(answer.stop_signal, 0);
    const Feed::Answer last = leaders.exchange(false);
    EXPECT_FALSE(last.go_on);
    EXPECT_EQ(last.stop_signal, 0);
    if (leaders.world.rank() == 0) {
        EXPECT_EQ(leaders.input.n_accepted, static_cast<size_t>(2 * 3 * n));
    }
}

TEST(Feed, AllStepWithoutTokensWhileTheInputIsSlow) {
    Leaders leaders;
    const Feed::Answer answer = leaders.exchange(false);
    EXPECT_TRUE(answer.go_on);
    EXPECT_TRUE(answer.requests.empty());
    leaders.input.ended = true;
    EXPECT_FALSE(leaders.exchange(false).go_on);
}

TEST(Feed, StopLeavesRequestsInTheInputAndTakesWhatIsFinished) {
    Leaders leaders;
    leaders.input.items.push_back({{std::byte{1}}, 1, 2});
    leaders.input.ended = true;
    const Feed::Answer answer = leaders.exchange(false, 15);
    EXPECT_FALSE(answer.go_on);
    EXPECT_EQ(answer.stop_signal, 15);
    EXPECT_TRUE(answer.requests.empty());
    if (leaders.world.rank() == 0) {
        EXPECT_EQ(leaders.input.items.size(), 1U);
        EXPECT_EQ(leaders.input.n_accepted, static_cast<size_t>(3 * leaders.world.size()));
    }
}

TEST(Feed, StopWithRunningRequestsIsAStop) {
    Leaders leaders;
    leaders.input.ended = true;
    const bool is_last = leaders.world.rank() == leaders.world.size() - 1;
    EXPECT_EQ(leaders.exchange(is_last, 10).stop_signal, 10);
}

TEST(Feed, StopAfterTheLastRowIsNoStop) {
    Leaders leaders;
    leaders.input.ended = true;
    const Feed::Answer answer = leaders.exchange(false, 15);
    EXPECT_FALSE(answer.go_on);
    EXPECT_EQ(answer.stop_signal, 0);
}

}  // namespace
}  // namespace mixserve::engine
