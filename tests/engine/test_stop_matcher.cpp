#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "engine/stop_matcher.h"

namespace mixserve::engine {
namespace {

struct Outcome {
    std::string text;
    bool stopped = false;
    bool operator==(const Outcome&) const = default;
};

// Looks at every end of the text in turn, from `first_end` on.
Outcome brute_force(const std::string& text, const std::vector<std::string>& stops, bool include,
                    size_t first_end = 0) {
    for (size_t end = std::max<size_t>(1, first_end); end <= text.size(); ++end) {
        size_t longest = 0;
        for (const std::string& stop : stops) {
            if (std::string_view(text).substr(0, end).ends_with(stop))
                longest = std::max(longest, stop.size());
        }
        if (longest > 0) return {text.substr(0, include ? end : end - longest), true};
    }
    return {text, false};
}

TEST(StopMatcher, FindsStopsAcrossPieces) {
    const std::vector<std::string> stops{"\n\n", "END"};
    StopMatcher matcher(stops, false);
    matcher.push("one\n");
    EXPECT_EQ(matcher.take(), "one");
    matcher.push("two E");
    EXPECT_EQ(matcher.take(), "\ntwo ");
    matcher.push("N");
    EXPECT_EQ(matcher.take(), "");
    matcher.push("ND EN");
    EXPECT_EQ(matcher.take(), "ENND ");
    EXPECT_FALSE(matcher.stopped());
    matcher.push("D and more");
    EXPECT_TRUE(matcher.stopped());
    matcher.push("END");
    EXPECT_EQ(matcher.take() + matcher.finish(), "");
}

TEST(StopMatcher, IncludesTheStopStringWhenAsked) {
    const std::vector<std::string> stops{"</s>"};
    StopMatcher matcher(stops, true);
    matcher.push("a</");
    EXPECT_EQ(matcher.take(), "a");
    matcher.push("s>b");
    EXPECT_TRUE(matcher.stopped());
    EXPECT_EQ(matcher.take(), "</s>");
}

TEST(StopMatcher, WithoutStopsNothingIsHeld) {
    StopMatcher matcher({}, false);
    matcher.push("abc");
    EXPECT_EQ(matcher.take(), "abc");
    const std::vector<std::string> empty{""};
    EXPECT_THROW(StopMatcher(empty, false), Error);
}

TEST(StopMatcher, AgreesWithBruteForceHoweverTheTextIsCut) {
    std::mt19937 random(11);
    int n_stopped = 0;
    for (int round = 0; round < 20'000; ++round) {
        const auto random_text = [&](size_t least, size_t most) {
            std::string text(least + random() % (most - least + 1), 'a');
            for (char& c : text)
                c = static_cast<char>('a' + random() % 2);
            return text;
        };
        std::vector<std::string> stops(random() % 4);
        for (std::string& stop : stops)
            stop = random_text(1, 6);
        const std::string text = random_text(0, 24);
        const bool include = random() % 2 == 0;
        const size_t n_unchecked =
            random() % 3 == 0 ? random() % 12 : 0;  // matches that end in here do not count

        StopMatcher matcher(stops, include);
        std::string out;
        for (size_t at = 0; at < text.size();) {
            const size_t end = at < n_unchecked ? std::min(n_unchecked, text.size()) : text.size();
            const size_t n = std::min<size_t>(1 + random() % 5, end - at);
            matcher.push(std::string_view(text).substr(at, n), at >= n_unchecked);
            at += n;
            out += matcher.take();
            // What is given out is never taken back.
            const Outcome so_far = brute_force(text.substr(0, at), stops, include, n_unchecked + 1);
            ASSERT_TRUE(so_far.text.starts_with(out));
        }
        out += matcher.finish();
        const Outcome wanted = brute_force(text, stops, include, n_unchecked + 1);
        ASSERT_EQ(out, wanted.text) << text;
        ASSERT_EQ(matcher.stopped(), wanted.stopped) << text;
        n_stopped += wanted.stopped;
    }
    EXPECT_GT(n_stopped, 5000);
    EXPECT_LT(n_stopped, 15'000);
}

TEST(StopMatcher, HoldsBackNoMoreThanItMust) {
    const std::vector<std::string> stops{"abab"};
    StopMatcher matcher(stops, false);
    matcher.push("xaba");
    EXPECT_EQ(matcher.take(), "x");
    matcher.push("c");
    EXPECT_EQ(matcher.take(), "abac");
    matcher.push("abab", false);
    EXPECT_EQ(matcher.take(), "ab");
    EXPECT_FALSE(matcher.stopped());
    matcher.push("ab");
    EXPECT_TRUE(matcher.stopped());
    EXPECT_EQ(matcher.take(), "");
}

}  // namespace
}  // namespace mixserve::engine
