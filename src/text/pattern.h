#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "text/function_ref.h"
#include "text/json_node.h"

namespace mixserve::text {

/// Where a match lies, in bytes.
struct Match {
    size_t begin = 0;
    size_t end = 0;
};

/// What a thread needs to run regular expressions. Used by one thread at a time.
class RegexScratch {
  public:
    RegexScratch();
    ~RegexScratch();
    RegexScratch(RegexScratch&&) noexcept;
    RegexScratch& operator=(RegexScratch&&) noexcept;

    struct Impl;
    Impl& impl() { return *impl_; }

  private:
    std::unique_ptr<Impl> impl_;
};

/// A compiled regular expression. Const and safe to share; a scratch is not.
class Regex {
  public:
    /// In the syntax of Oniguruma. PatternError if it cannot be compiled.
    static Regex compile(std::string_view oniguruma_pattern);
    /// In the syntax of PCRE2.
    static Regex compile_pcre2(const std::string& pattern);
    ~Regex();
    Regex(Regex&&) noexcept;
    Regex& operator=(Regex&&) noexcept;

    /// The first match that begins at or after `from`, by the properties of PCRE2's Unicode. `text` must be
    /// valid UTF-8, and `from` the start of a character. Error if the pattern takes more steps than a few a
    /// byte.
    std::optional<Match> find(std::string_view text, size_t from, RegexScratch& scratch) const;

  private:
    struct Impl;
    explicit Regex(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// The `pattern` of tokenizer.json: {"String": "..."} or {"Regex": "..."}.
class Pattern {
  public:
    static Pattern from_json(const JsonNode& node);
    explicit Pattern(std::string literal) : data_(std::move(literal)) {}
    explicit Pattern(Regex regex) : data_(std::move(regex)) {}

    /// All matches from left to right, none overlapping; an empty one only where no match ended just before.
    /// None in an empty text.
    void for_each_match(std::string_view text, RegexScratch& scratch, FunctionRef<void(Match)> visit) const;
    /// `out` becomes `text` with every match replaced by `content`.
    void replace(std::string_view text, std::string_view content, RegexScratch& scratch,
                 std::string& out) const;

  private:
    std::variant<std::string, Regex> data_;
};

}  // namespace mixserve::text
