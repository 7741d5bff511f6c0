#include "text/decoder.h"

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

constexpr int64_t max_stripped = 1 << 20;

size_t count_of(const JsonNode& node) {
    const int64_t n = node.integer();
    if (n < 0 || n > max_stripped) node.refuse("must be from 0 to {}, is {}", max_stripped, n);
    return static_cast<size_t>(n);
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/// The byte of "<0xXX>".
std::optional<char> fallback_byte(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    const int high = hex_digit(token[3]);
    const int low = hex_digit(token[4]);
    if (high < 0 || low < 0) return std::nullopt;
    return static_cast<char>(high * 16 + low);
}

}  // namespace

Decoder Decoder::from_json(const std::optional<JsonNode>& node) {
    Decoder decoder;
    if (node) {
        decoder.add_steps(*node, 0);
    } else {
        decoder.steps_.emplace_back(JoinWithSpaces{});
    }
    return decoder;
}

void Decoder::add_steps(const JsonNode& node, int depth) {
    if (depth > max_sequence_depth) node.refuse("sequences nested too deep");
    const std::string& type = node.string("type");
    if (type == "Sequence") {
        node.allow_only({"type", "decoders"});
        for (const JsonNode& step : node.at("decoders").elements())
            add_steps(step, depth + 1);
    } else if (type == "ByteLevel") {
        node.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
        steps_.emplace_back(ByteLevel{});
    } else if (type == "ByteFallback") {
        node.allow_only({"type"});
        steps_.emplace_back(ByteFallback{});
    } else if (type == "Fuse") {
        node.allow_only({"type"});
        steps_.emplace_back(Fuse{});
    } else if (type == "Replace") {
        node.allow_only({"type", "pattern", "content"});
        steps_.emplace_back(Replace{Pattern::from_json(node.at("pattern")), node.string("content")});
    } else if (type == "Strip") {
        node.allow_only({"type", "content", "start", "stop"});
        steps_.emplace_back(Strip{utf8::from_char(node.at("content").character()), count_of(node.at("start")),
                                  count_of(node.at("stop"))});
    } else if (type == "Metaspace") {
        node.allow_only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
        const std::optional<JsonNode> scheme = node.find("prepend_scheme");
        const bool drops = scheme ? scheme->string() != "never" : node.boolean("add_prefix_space", true);
        steps_.emplace_back(Metaspace{utf8::from_char(node.at("replacement").character()), drops});
    } else {
        node.refuse("type '{}' is not supported", type);
    }
}

DecoderRun::DecoderRun(const Decoder& decoder, bool continues)
    : decoder_(&decoder), states_(decoder.steps_.size()) {
    if (!continues) return;
    bool fused = false;  // the one token that has all of the text began with the prompt
    for (size_t step = 0; step < states_.size(); ++step) {
        State& state = states_[step];
        state.n_ended = fused ? 0 : 1;
        state.at_token_start = !fused;
        const auto* strip = std::get_if<Decoder::Strip>(&decoder.steps_[step]);
        if (fused && strip != nullptr) state.n_stripped = strip->start;
        if (std::holds_alternative<Decoder::Fuse>(decoder.steps_[step])) fused = true;
    }
}

void DecoderRun::finish(RegexScratch& scratch) {
    for (size_t step = 0; step < states_.size(); ++step) {
        const Decoder::Step& kind = decoder_->steps_[step];
        std::string& held = states_[step].held;
        if (std::holds_alternative<Decoder::ByteLevel>(kind)) {
            give(step + 1, held.empty() ? std::string_view() : utf8::replacement, true, scratch);
            held.clear();
        } else if (std::holds_alternative<Decoder::ByteFallback>(kind)) {
            flush_bytes(step, scratch);
        } else if (std::holds_alternative<Decoder::Fuse>(kind)) {
            give(step + 1, {}, true, scratch);
        }
    }
}

void DecoderRun::give(size_t step, std::string_view fragment, bool ends, RegexScratch& scratch) {
    if (step == states_.size()) {
        out_ += fragment;
        return;
    }
    std::visit([&](const auto& kind) { take_fragment(kind, step, fragment, ends, scratch); },
               decoder_->steps_[step]);
    State& state = states_[step];
    state.at_token_start = ends;
    if (ends) {
        ++state.n_ended;
        state.n_stripped = 0;
        state.token.clear();
    }
}

template <class WholeTokenStep>
void DecoderRun::take_fragment(const WholeTokenStep& kind, size_t step, std::string_view fragment, bool ends,
                               RegexScratch& scratch) {
    State& state = states_[step];
    if (ends && state.token.empty()) {
        take_token(kind, step, fragment, scratch);
        return;
    }
    state.token += fragment;
    if (ends) take_token(kind, step, state.token, scratch);
}

void DecoderRun::take_fragment(const Decoder::Fuse&, size_t step, std::string_view fragment, bool,
                               RegexScratch& scratch) {
    give(step + 1, fragment, false, scratch);
}

void DecoderRun::take_fragment(const Decoder::JoinWithSpaces&, size_t step, std::string_view fragment,
                               bool ends, RegexScratch& scratch) {
    const State& state = states_[step];
    if (state.at_token_start && state.n_ended > 0) give(step + 1, " ", false, scratch);
    give(step + 1, fragment, ends, scratch);
}

void DecoderRun::take_fragment(const Decoder::Strip& strip, size_t step, std::string_view fragment, bool ends,
                               RegexScratch& scratch) {
    State& state = states_[step];
    // n_stripped reaches strip.start as soon as another character is seen.
    while (state.n_stripped < strip.start && !fragment.empty()) {
        if (fragment.starts_with(strip.character)) {
            fragment.remove_prefix(strip.character.size());
            ++state.n_stripped;
        } else {
            state.n_stripped = strip.start;
        }
    }
    std::string text = std::exchange(state.held, {}).append(fragment);
    size_t kept = text.size();
    for (size_t n = 0; n < strip.stop && std::string_view(text).substr(0, kept).ends_with(strip.character);
         ++n) {
        kept -= strip.character.size();
    }
    if (!ends) state.held = text.substr(kept);
    text.resize(kept);
    give(step + 1, text, ends, scratch);
}

void DecoderRun::take_fragment(const Decoder::Metaspace& metaspace, size_t step, std::string_view fragment,
                               bool ends, RegexScratch& scratch) {
    const std::string_view space = metaspace.drops_first && states_[step].n_ended == 0 ? "" : " ";
    std::string text;
    for (size_t pos = 0; pos < fragment.size();) {
        const size_t next = fragment.find(metaspace.replacement, pos);
        text += fragment.substr(pos, next - pos);
        if (next == std::string_view::npos) break;
        text += space;
        pos = next + metaspace.replacement.size();
    }
    give(step + 1, text, ends, scratch);
}

void DecoderRun::take_token(const Decoder::ByteLevel&, size_t step, std::string_view token,
                            RegexScratch& scratch) {
    std::string& held = states_[step].held;
    const std::optional<std::string> bytes = byte_alphabet::bytes_of(token);
    held += bytes ? std::string_view(*bytes) : token;
    std::string text;
    held.erase(0, utf8::append_lossy(text, held));
    give(step + 1, text, false, scratch);
}

void DecoderRun::take_token(const Decoder::ByteFallback&, size_t step, std::string_view token,
                            RegexScratch& scratch) {
    if (const std::optional<char> byte = fallback_byte(token)) {
        states_[step].held += *byte;
        return;
    }
    flush_bytes(step, scratch);
    give(step + 1, token, true, scratch);
}

void DecoderRun::take_token(const Decoder::Replace& replace, size_t step, std::string_view token,
                            RegexScratch& scratch) {
    std::string text;
    replace.pattern.replace(token, replace.content, scratch, text);
    give(step + 1, text, true, scratch);
}

void DecoderRun::flush_bytes(size_t step, RegexScratch& scratch) {
    const std::string bytes = std::exchange(states_[step].held, {});
    if (bytes.empty()) return;
    if (utf8::is_valid(bytes)) {
        give(step + 1, bytes, true, scratch);
        return;
    }
    for (size_t i = 0; i < bytes.size(); ++i)
        give(step + 1, utf8::replacement, true, scratch);
}

}  // namespace mixserve::text
