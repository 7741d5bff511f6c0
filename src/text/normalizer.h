#pragma once

#include <unicode/normalizer2.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/json_node.h"
#include "text/pattern.h"

namespace mixserve::text {

/// The `normalizer` of tokenizer.json: what is done to a text before it is split. Const and safe to share.
class Normalizer {
  public:
    /// Without a node: nothing is done. UsageError names what is not supported.
    static Normalizer from_json(const std::optional<JsonNode>& node);

    bool empty() const { return steps_.empty(); }
    /// `text` must be valid UTF-8; so is the result.
    std::string apply(std::string text, RegexScratch& scratch) const;

  private:
    struct UnicodeForm {  // NFC, NFD, NFKC, NFKD
        const icu::Normalizer2* form;
    };
    struct Lowercase {};  // a character at a time, without context
    struct Strip {        // white space at the ends
        bool left;
        bool right;
    };
    struct StripAccents {};  // marks
    struct Prepend {         // unless the text is empty
        std::string text;
    };
    struct Replace {
        Pattern pattern;
        std::string content;
    };
    using Step = std::variant<UnicodeForm, Lowercase, Strip, StripAccents, Prepend, Replace>;

    void add_steps(const JsonNode& node, int depth);
    static void run(const UnicodeForm& step, std::string& text, RegexScratch& scratch);
    static void run(const Lowercase& step, std::string& text, RegexScratch& scratch);
    static void run(const Strip& step, std::string& text, RegexScratch& scratch);
    static void run(const StripAccents& step, std::string& text, RegexScratch& scratch);
    static void run(const Prepend& step, std::string& text, RegexScratch& scratch);
    static void run(const Replace& step, std::string& text, RegexScratch& scratch);

    std::vector<Step> steps_;
};

}  // namespace mixserve::text
