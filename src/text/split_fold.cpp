#include "text/split_fold.h"

#include <utility>

namespace mixserve::text {

void SplitFold::add(Match part, bool is_match) {
    const bool previous = std::exchange(previous_is_match_, is_match);
    bool joins_held = false;
    switch (behavior_) {
        case SplitBehavior::removed:
            if (!is_match) give(part);
            return;
        case SplitBehavior::isolated:
            give(part);
            return;
        case SplitBehavior::merged_with_previous:
            joins_held = is_match && !previous;
            break;
        case SplitBehavior::merged_with_next:
            joins_held = !is_match && previous;
            break;
        case SplitBehavior::contiguous:
            joins_held = is_match == previous;
            break;
    }
    if (joins_held && holds_) {
        held_.end = part.end;
    } else {
        hold(part);
    }
}

}  // namespace mixserve::text
