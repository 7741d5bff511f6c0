#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace mixserve::text {

/// A pattern has a construct that PCRE2 does not have with the same meaning; the text names it.
class PatternError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The PCRE2 pattern (for UTF, UCP, MULTILINE, line ends LF) that matches what Oniguruma's `pattern` matches:
/// tokenizer.json has the latter. Rewritten are the classes (\s \w \h \b and what \p names, which differ in a
/// few characters), nested sets, inline flags, \u and {,n}. Follows Oniguruma's doc/RE and pcre2pattern(3).
std::string pcre2_from_oniguruma(std::string_view pattern);

}  // namespace mixserve::text
