#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mixserve::engine {

StopMatcher::StopMatcher(std::span<const std::string> stops, bool include) : include_(include) {
    for (const std::string& stop : stops) {
        require(!stop.empty(), "a stop string is empty");
        Pattern pattern{stop, std::vector<int32_t>(stop.size() + 1, 0)};
        int32_t border = 0;
        for (size_t i = 1; i < stop.size(); ++i) {
            while (border > 0 && stop[i] != stop[static_cast<size_t>(border)])
                border = pattern.fallback[static_cast<size_t>(border)];
            if (stop[i] == stop[static_cast<size_t>(border)]) ++border;
            pattern.fallback[i + 1] = border;
        }
        patterns_.push_back(std::move(pattern));
    }
}

// A match that did not count is no beginning of another, but its end may be.
int32_t StopMatcher::n_begun(const Pattern& pattern) {
    const bool whole = pattern.n_matched == static_cast<int32_t>(pattern.text.size());
    return whole ? pattern.fallback.back() : pattern.n_matched;
}

bool StopMatcher::advance(Pattern& pattern, char c) {
    int32_t n = n_begun(pattern);
    while (n > 0 && pattern.text[static_cast<size_t>(n)] != c)
        n = pattern.fallback[static_cast<size_t>(n)];
    if (pattern.text[static_cast<size_t>(n)] == c) ++n;
    pattern.n_matched = n;
    return n == static_cast<int32_t>(pattern.text.size());
}

void StopMatcher::push(std::string_view piece, bool may_stop) {
    if (stopped_) return;
    if (patterns_.empty()) {
        pending_.append(piece);
        return;
    }
    for (const char c : piece) {
        pending_.push_back(c);
        size_t matched = 0;
        for (Pattern& pattern : patterns_) {
            if (advance(pattern, c)) matched = std::max(matched, pattern.text.size());
        }
        if (matched == 0 || !may_stop) continue;
        stopped_ = true;
        if (!include_) pending_.resize(pending_.size() - matched);
        return;
    }
}

std::string StopMatcher::take() {
    size_t n_held = 0;
    for (const Pattern& pattern : patterns_) {
        if (!stopped_) n_held = std::max(n_held, static_cast<size_t>(n_begun(pattern)));
    }
    std::string settled = pending_.substr(0, pending_.size() - n_held);
    pending_.erase(0, settled.size());
    return settled;
}

std::string StopMatcher::finish() {
    return std::exchange(pending_, {});
}

}  // namespace mixserve::engine
