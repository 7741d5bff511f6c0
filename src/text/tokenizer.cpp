#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/json_node.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

/// What a thread needs while it encodes.
struct EncodeScratch {
    RegexScratch regex;
    BpeScratch bpe;
};

/// Scratches that are free. A call takes one, so that threads share a tokenizer and keep its word caches
/// warm.
class ScratchPool {
  public:
    std::unique_ptr<EncodeScratch> take() {
        {
            const std::lock_guard lock(mutex_);
            if (!free_.empty()) {
                std::unique_ptr<EncodeScratch> scratch = std::move(free_.back());
                free_.pop_back();
                return scratch;
            }
        }
        return std::make_unique<EncodeScratch>();
    }
    void give_back(std::unique_ptr<EncodeScratch> scratch) {
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(scratch));
    }

  private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<EncodeScratch>> free_;
};

json parse_json(std::string_view text) {
    try {
        return json::parse(text);
    } catch (const json::exception& e) {
        fail_usage("tokenizer.json is not valid JSON: {}", e.what());
    }
}

}  // namespace

struct Tokenizer::Impl {
    struct Token {
        std::string text;
        bool exists = false;
        bool special = false;
    };

    Normalizer normalizer;
    AddedTokens added;
    PreTokenizer pre_tokenizer;
    Bpe model;
    PostProcessor post_processor;
    Decoder decoder;
    std::unordered_map<std::string, int32_t> added_ids;
    std::vector<Token> tokens;  // by id
    mutable ScratchPool scratches;

    explicit Impl(const JsonNode& root);
    void index_tokens(const JsonNode& root);
    const Token* find(int32_t id) const {
        const bool there =
            id >= 0 && static_cast<size_t>(id) < tokens.size() && tokens[static_cast<size_t>(id)].exists;
        return there ? &tokens[static_cast<size_t>(id)] : nullptr;
    }
    const Token& token(int32_t id) const {
        const Token* found = find(id);
        require(found != nullptr, "token id {} is not in the tokenizer's vocabulary (ids go up to {})", id,
                static_cast<int64_t>(tokens.size()) - 1);
        return *found;
    }
    void encode_plain(std::string_view piece, bool at_start, EncodeScratch& scratch,
                      std::vector<int32_t>& ids) const;
    void encode_normalized(std::string_view piece, bool at_start, EncodeScratch& scratch,
                           std::vector<int32_t>& ids) const;
};

// `truncation` and `padding` are left out of account: they describe batches, and callers of transformers turn
// them off too.
Tokenizer::Impl::Impl(const JsonNode& root)
    : normalizer(Normalizer::from_json(root.find("normalizer"))),
      added(AddedTokens::from_json(root.find("added_tokens"), normalizer)),
      pre_tokenizer(PreTokenizer::from_json(root.find("pre_tokenizer"))),
      model(Bpe::from_json(root.at("model"), pre_tokenizer.byte_level())),
      post_processor(PostProcessor::from_json(root.find("post_processor"))),
      decoder(Decoder::from_json(root.find("decoder"))) {
    root.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                     "post_processor", "decoder", "model"});
    index_tokens(root);
}

void Tokenizer::Impl::index_tokens(const JsonNode& root) {
    int32_t last = -1;
    for (const auto& [text, id] : model.vocab())
        last = std::max(last, id);
    for (const AddedToken& token : added.tokens())
        last = std::max(last, token.id);
    tokens.resize(static_cast<size_t>(int64_t{last} + 1));
    for (const auto& [text, id] : model.vocab()) {
        Token& token = tokens[static_cast<size_t>(id)];
        if (token.exists)
            root.refuse("model.vocab: tokens '{}' and '{}' have the same id {}", token.text, text, id);
        token = Token{text, true, false};
    }
    for (const AddedToken& added_token : added.tokens()) {
        const auto in_vocab = model.vocab().find(added_token.content);
        if (in_vocab != model.vocab().end() && in_vocab->second != added_token.id) {
            root.refuse("added_tokens: '{}' has id {}, but {} in model.vocab", added_token.content,
                        added_token.id, in_vocab->second);
        }
        tokens[static_cast<size_t>(added_token.id)] = Token{added_token.content, true, added_token.special};
        added_ids.emplace(added_token.content, added_token.id);
    }
    for (const std::vector<int32_t>* ids : {&post_processor.before, &post_processor.after}) {
        for (const int32_t id : *ids) {
            if (!find(id)) root.refuse("post_processor: id {} is no token", id);
        }
    }
}

void Tokenizer::Impl::encode_normalized(std::string_view piece, bool at_start, EncodeScratch& scratch,
                                        std::vector<int32_t>& ids) const {
    added.split(piece, true, [&](std::string_view part, const AddedToken* token) {
        if (token) {
            ids.push_back(token->id);
            return;
        }
        const bool starts = at_start && part.data() == piece.data();
        pre_tokenizer.split(part, starts, scratch.regex,
                            [&](std::string_view word) { model.encode(word, scratch.bpe, ids); });
    });
}

void Tokenizer::Impl::encode_plain(std::string_view piece, bool at_start, EncodeScratch& scratch,
                                   std::vector<int32_t>& ids) const {
    if (normalizer.empty()) {
        encode_normalized(piece, at_start, scratch, ids);
    } else {
        encode_normalized(normalizer.apply(std::string(piece), scratch.regex), at_start, scratch, ids);
    }
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json) {
    const json document = parse_json(tokenizer_json);
    return Tokenizer(std::make_unique<Impl>(JsonNode(document, "")));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
    require(utf8::is_valid(text), "the text is not valid UTF-8");
    std::vector<int32_t> ids;
    if (add_special_tokens) ids = impl_->post_processor.before;
    std::unique_ptr<EncodeScratch> scratch = impl_->scratches.take();
    impl_->added.split(text, false, [&](std::string_view piece, const AddedToken* token) {
        if (token) {
            ids.push_back(token->id);
        } else {
            impl_->encode_plain(piece, piece.data() == text.data(), *scratch, ids);
        }
    });
    impl_->scratches.give_back(std::move(scratch));
    if (add_special_tokens) {
        ids.insert(ids.end(), impl_->post_processor.after.begin(), impl_->post_processor.after.end());
    }
    return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
    StreamDecoder decoder(*this, skip_special_tokens);
    std::string text;
    for (const int32_t id : ids)
        text += decoder.push(id);
    text += decoder.finish();
    return text;
}

int32_t Tokenizer::vocab_size() const {
    return static_cast<int32_t>(impl_->tokens.size());
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
    const std::string key(token);
    if (const auto it = impl_->added_ids.find(key); it != impl_->added_ids.end()) return it->second;
    if (const auto it = impl_->model.vocab().find(key); it != impl_->model.vocab().end()) return it->second;
    return std::nullopt;
}

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
    const Impl::Token* token = impl_->find(id);
    return token ? std::optional(token->text) : std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const {
    const Impl::Token* token = impl_->find(id);
    return token && token->special;
}

struct StreamDecoder::Impl {
    const Tokenizer::Impl* tokenizer;
    bool skip_special_tokens;
    RegexScratch scratch;
    DecoderRun run;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, bool continues)
    : impl_(std::make_unique<Impl>(Impl{&tokenizer.impl(), skip_special_tokens, RegexScratch(),
                                        DecoderRun(tokenizer.impl().decoder, continues)})) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
    const Tokenizer::Impl::Token& token = impl_->tokenizer->token(id);
    if (!(token.special && impl_->skip_special_tokens)) impl_->run.push(token.text, impl_->scratch);
    return impl_->run.take();
}

std::string StreamDecoder::held() const {
    DecoderRun rest = impl_->run;
    rest.finish(impl_->scratch);
    return rest.take();
}

std::string StreamDecoder::finish() {
    impl_->run.finish(impl_->scratch);
    return impl_->run.take();
}

}  // namespace mixserve::text
