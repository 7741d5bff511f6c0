#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/function_ref.h"
#include "text/json_node.h"
#include "text/pattern.h"
#include "text/split_fold.h"

namespace mixserve::text {

/// The `pre_tokenizer` of tokenizer.json: cuts a text into the words that are then encoded one by one. Const
/// and safe to share.
class PreTokenizer {
  public:
    /// Without a node: the text is one word. UsageError names what is not supported.
    static PreTokenizer from_json(const std::optional<JsonNode>& node);

    /// Words are bytes; otherwise characters.
    bool byte_level() const { return byte_level_; }

    /// Calls `visit` with every word, which is never empty and lives until `visit` returns. `at_start`: the
    /// text is the first of the prompt. `text` must be valid UTF-8.
    void split(std::string_view text, bool at_start, RegexScratch& scratch,
               FunctionRef<void(std::string_view)> visit) const;

  private:
    struct Split {
        Pattern pattern;
        SplitBehavior behavior;
        bool invert;
    };
    struct ByteLevel {  // bytes become characters of the byte alphabet
        bool add_prefix_space;
        std::optional<Pattern> words;
    };
    struct Metaspace {
        enum class Prepend : uint8_t { always, first, never };
        std::string replacement;
        Prepend prepend;
        bool split;
    };
    using Step = std::variant<Split, ByteLevel, Metaspace>;
    using Visit = FunctionRef<void(std::string_view)>;
    struct Run {
        RegexScratch& scratch;
        Visit visit;
    };

    void add_steps(const JsonNode& node, int depth);
    void add_regex(std::string_view pcre2_pattern, SplitBehavior behavior, bool invert);
    void add_metaspace(const JsonNode& node);
    /// Steps `next` and on, of a piece.
    void descend(size_t next, std::string_view piece, bool at_start, const Run& run) const;
    void apply(const Split& step, size_t next, std::string_view piece, bool at_start, const Run& run) const;
    void apply(const ByteLevel& step, size_t next, std::string_view piece, bool at_start,
               const Run& run) const;
    void apply(const Metaspace& step, size_t next, std::string_view piece, bool at_start,
               const Run& run) const;

    std::vector<Step> steps_;
    bool byte_level_ = false;
};

}  // namespace mixserve::text
