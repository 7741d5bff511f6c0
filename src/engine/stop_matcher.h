#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mixserve::engine {

/// Looks for stop strings in a text that comes in pieces, and holds back the end of it that may become one.
/// The match that is completed first wins, of those that end together the longest; it does not matter how the
/// text is cut. (Knuth, Morris and Pratt 1977, one automaton a string.)
class StopMatcher {
  public:
    /// `stops` have at least one byte each. `include`: the stop string is part of the text.
    StopMatcher(std::span<const std::string> stops, bool include);

    /// Adds text. With `may_stop` false, a match that it completes does not count. After a stop, nothing is
    /// added.
    void push(std::string_view piece, bool may_stop = true);
    bool stopped() const { return stopped_; }
    /// The text that is settled since the last call. After a stop, that up to it.
    std::string take();
    /// The rest, what was held back included. The last call.
    std::string finish();

  private:
    struct Pattern {
        std::string text;
        std::vector<int32_t> fallback;  // length of the longest border of each prefix
        int32_t n_matched = 0;
    };
    /// Bytes at the end of the text that a match may begin with.
    static int32_t n_begun(const Pattern& pattern);
    /// Whether `c` completes the pattern.
    static bool advance(Pattern& pattern, char c);

    std::vector<Pattern> patterns_;
    bool include_;
    bool stopped_ = false;
    std::string pending_;  // not given out yet
};

}  // namespace mixserve::engine
