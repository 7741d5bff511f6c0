#pragma once

#include <cstdint>
#include <string_view>

#include "text/function_ref.h"
#include "text/pattern.h"

namespace mixserve::text {

/// What becomes of the matches of a Split.
enum class SplitBehavior : uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// Joins the alternating parts of a text, matches and what lies between, into the pieces of a SplitBehavior;
/// one part is held back. Empty pieces are dropped.
class SplitFold {
  public:
    SplitFold(std::string_view text, SplitBehavior behavior, FunctionRef<void(std::string_view)> emit)
        : text_(text), behavior_(behavior), emit_(emit) {}

    void add(Match part, bool is_match);
    /// After the last part.
    void finish() { give_held(); }

  private:
    void give(Match part) {
        if (part.begin < part.end) emit_(text_.substr(part.begin, part.end - part.begin));
    }
    void give_held() {
        if (holds_) give(held_);
        holds_ = false;
    }
    void hold(Match part) {
        give_held();
        held_ = part;
        holds_ = true;
    }

    std::string_view text_;
    SplitBehavior behavior_;
    FunctionRef<void(std::string_view)> emit_;
    Match held_;
    bool holds_ = false;
    bool previous_is_match_ = false;
};

}  // namespace mixserve::text
