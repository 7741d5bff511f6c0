#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/json_node.h"
#include "text/pattern.h"

namespace mixserve::text {

/// The `decoder` of tokenizer.json: how the texts of tokens become one text. Const and safe to share.
class Decoder {
  public:
    /// Without a node: tokens are joined with spaces. UsageError names what is not supported.
    static Decoder from_json(const std::optional<JsonNode>& node);

  private:
    friend class DecoderRun;
    struct JoinWithSpaces {};
    struct ByteLevel {};     // the byte alphabet, and U+FFFD for what is no UTF-8
    struct ByteFallback {};  // runs of <0x..>; a run that is no UTF-8 is a U+FFFD each
    struct Fuse {};          // all tokens become one
    struct Replace {
        Pattern pattern;
        std::string content;
    };
    struct Strip {  // at most so many of a character at the ends of each token
        std::string character;
        size_t start;
        size_t stop;
    };
    struct Metaspace {  // becomes a space, or nothing in the first token
        std::string replacement;
        bool drops_first;
    };
    using Step = std::variant<JoinWithSpaces, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace>;

    void add_steps(const JsonNode& node, int depth);

    std::vector<Step> steps_;
};

/// One text being decoded, token by token. Each step holds back only what later tokens may still change, so
/// that the text comes out as soon as it is settled. Copyable.
class DecoderRun {
  public:
    /// `continues`: the tokens go on with a text that stands elsewhere (a prompt), so that nothing is taken
    /// from their beginning.
    explicit DecoderRun(const Decoder& decoder, bool continues = false);

    void push(std::string_view token, RegexScratch& scratch) { give(0, token, true, scratch); }
    /// After the last token.
    void finish(RegexScratch& scratch);
    /// What came out since the last call.
    std::string take() { return std::exchange(out_, {}); }

  private:
    struct State {
        std::string token;      // what has come of it, for steps that need all of it
        std::string held;       // of earlier tokens (bytes), or of the end of this one
        size_t n_ended = 0;     // tokens
        size_t n_stripped = 0;  // of the start of the current token
        bool at_token_start = true;
    };

    // A token comes to a step in fragments of whole characters, the last of which ends it.
    void give(size_t step, std::string_view fragment, bool ends, RegexScratch& scratch);
    void take_fragment(const Decoder::Fuse&, size_t step, std::string_view fragment, bool ends,
                       RegexScratch&);
    void take_fragment(const Decoder::JoinWithSpaces&, size_t step, std::string_view fragment, bool ends,
                       RegexScratch&);
    void take_fragment(const Decoder::Strip&, size_t step, std::string_view fragment, bool ends,
                       RegexScratch&);
    void take_fragment(const Decoder::Metaspace&, size_t step, std::string_view fragment, bool ends,
                       RegexScratch&);
    template <class WholeTokenStep>
    void take_fragment(const WholeTokenStep&, size_t step, std::string_view fragment, bool ends,
                       RegexScratch&);
    void take_token(const Decoder::ByteLevel&, size_t step, std::string_view token, RegexScratch&);
    void take_token(const Decoder::ByteFallback&, size_t step, std::string_view token, RegexScratch&);
    void take_token(const Decoder::Replace&, size_t step, std::string_view token, RegexScratch&);
    /// The text of the bytes that a ByteFallback holds.
    void flush_bytes(size_t step, RegexScratch& scratch);

    const Decoder* decoder_;
    std::vector<State> states_;
    std::string out_;
};

}  // namespace mixserve::text
