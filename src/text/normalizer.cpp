#include "text/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/uchar.h>

#include <utility>

#include "text/utf8.h"

namespace mixserve::text {
namespace {

using FormGetter = const icu::Normalizer2* (*)(UErrorCode&);

const icu::Normalizer2* form_of(FormGetter get) {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* form = get(status);
    require(U_SUCCESS(status), "the Unicode library (ICU) has no normalization data: {}",
            u_errorName(status));
    return form;
}

icu::StringPiece piece_of(std::string_view text) {
    require(text.size() <= size_t{INT32_MAX}, "a text of {} bytes is too long to be normalized", text.size());
    return {text.data(), static_cast<int32_t>(text.size())};
}

}  // namespace

Normalizer Normalizer::from_json(const std::optional<JsonNode>& node) {
    Normalizer normalizer;
    if (node) normalizer.add_steps(*node, 0);
    return normalizer;
}

void Normalizer::add_steps(const JsonNode& node, int depth) {
    if (depth > max_sequence_depth) node.refuse("sequences nested too deep");
    const std::string& type = node.string("type");
    if (type == "Sequence") {
        node.allow_only({"type", "normalizers"});
        for (const JsonNode& step : node.at("normalizers").elements())
            add_steps(step, depth + 1);
    } else if (type == "Strip") {
        node.allow_only({"type", "strip_left", "strip_right"});
        steps_.emplace_back(Strip{node.boolean("strip_left", true), node.boolean("strip_right", true)});
    } else if (type == "Prepend") {
        node.allow_only({"type", "prepend"});
        steps_.emplace_back(Prepend{node.string("prepend")});
    } else if (type == "Replace") {
        node.allow_only({"type", "pattern", "content"});
        steps_.emplace_back(Replace{Pattern::from_json(node.at("pattern")), node.string("content")});
    } else {
        node.allow_only({"type"});
        if (type == "NFC") {
            steps_.emplace_back(UnicodeForm{form_of(icu::Normalizer2::getNFCInstance)});
        } else if (type == "NFD") {
            steps_.emplace_back(UnicodeForm{form_of(icu::Normalizer2::getNFDInstance)});
        } else if (type == "NFKC") {
            steps_.emplace_back(UnicodeForm{form_of(icu::Normalizer2::getNFKCInstance)});
        } else if (type == "NFKD") {
            steps_.emplace_back(UnicodeForm{form_of(icu::Normalizer2::getNFKDInstance)});
        } else if (type == "Lowercase") {
            steps_.emplace_back(Lowercase{});
        } else if (type == "StripAccents") {
            steps_.emplace_back(StripAccents{});
        } else {
            node.refuse("type '{}' is not supported", type);
        }
    }
}

std::string Normalizer::apply(std::string text, RegexScratch& scratch) const {
    for (const Step& step : steps_) {
        std::visit([&](const auto& s) { run(s, text, scratch); }, step);
    }
    return text;
}

void Normalizer::run(const UnicodeForm& step, std::string& text, RegexScratch&) {
    UErrorCode status = U_ZERO_ERROR;
    const icu::StringPiece piece = piece_of(text);
    if (step.form->isNormalizedUTF8(piece, status) && U_SUCCESS(status)) return;
    std::string out;
    out.reserve(text.size());
    icu::StringByteSink<std::string> sink(&out);
    status = U_ZERO_ERROR;
    step.form->normalizeUTF8(0, piece, sink, nullptr, status);
    require(U_SUCCESS(status), "a text of {} bytes could not be normalized: {}", text.size(),
            u_errorName(status));
    text = std::move(out);
}

void Normalizer::run(const Lowercase&, std::string& text, RegexScratch&) {
    constexpr char32_t capital_i_with_dot = 0x130;  // the only one that becomes two characters
    std::string out;
    out.reserve(text.size());
    for (size_t pos = 0; pos < text.size();) {
        const char32_t c = utf8::next(text, pos);
        if (c == capital_i_with_dot) {
            out += "i\xcc\x87";
        } else {
            utf8::append(out, static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
        }
    }
    text = std::move(out);
}

void Normalizer::run(const Strip& step, std::string& text, RegexScratch&) {
    size_t begin = 0;
    size_t end = text.size();
    while (step.right && end > begin) {
        size_t start = end;
        if (!utf8::is_white_space(utf8::previous(text, start))) break;
        end = start;
    }
    while (step.left && begin < end) {
        size_t after = begin;
        if (!utf8::is_white_space(utf8::next(text, after))) break;
        begin = after;
    }
    text = text.substr(begin, end - begin);
}

void Normalizer::run(const StripAccents&, std::string& text, RegexScratch&) {
    std::string out;
    out.reserve(text.size());
    for (size_t pos = 0; pos < text.size();) {
        const size_t start = pos;
        if (!utf8::is_mark(utf8::next(text, pos))) out.append(text, start, pos - start);
    }
    text = std::move(out);
}

void Normalizer::run(const Prepend& step, std::string& text, RegexScratch&) {
    if (!text.empty()) text.insert(0, step.text);
}

void Normalizer::run(const Replace& step, std::string& text, RegexScratch& scratch) {
    std::string out;
    step.pattern.replace(text, step.content, scratch, out);
    text = std::move(out);
}

}  // namespace mixserve::text
