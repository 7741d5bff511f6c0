#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mixserve::text {

/// A tokenizer.json of Hugging Face: byte-level BPE and SentencePiece-style BPE. Const and safe to share
/// between threads. What the file asks for and this does not do is a UsageError that names the key.
class Tokenizer {
  public:
    static Tokenizer from_json(std::string_view tokenizer_json);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    /// `add_special_tokens`: the post-processor's (BOS and so on). Special tokens written in the text are
    /// always found.
    std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;
    /// Ids outside of the vocabulary are an Error. The result is valid UTF-8 (U+FFFD for broken sequences).
    std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

    int32_t vocab_size() const;  // largest id + 1
    std::optional<int32_t> token_to_id(std::string_view token) const;
    std::optional<std::string> id_to_token(int32_t id) const;
    bool is_special(int32_t id) const;

    struct Impl;
    const Impl& impl() const { return *impl_; }

  private:
    explicit Tokenizer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// Text of a sequence as its tokens come, a piece at a time; never splits a character. The pieces of push()
/// and finish() together equal decode() of the whole; where it `continues` a prompt, what decode() adds when
/// the tokens stand after others (a SentencePiece word keeps the space before it).
class StreamDecoder {
  public:
    StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, bool continues = false);
    ~StreamDecoder();
    StreamDecoder(StreamDecoder&&) noexcept;
    StreamDecoder& operator=(StreamDecoder&&) noexcept;
    /// The text that `id` completes; may be empty.
    std::string push(int32_t id);
    /// What finish() would give now. A stop string may end in it: text that later tokens could still change
    /// (a run of SentencePiece's byte tokens, "\n" among them) is held back.
    std::string held() const;
    /// What is still held back. The last call.
    std::string finish();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace mixserve::text
