#include "text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>

#include "text/newer_characters.h"
#include "text/oniguruma.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

constexpr size_t jit_stack_start_bytes = size_t{32} << 10;
constexpr size_t jit_stack_max_bytes = size_t{16} << 20;
/// Steps of one search: harmless patterns take a few a byte where a long run of spaces is tried and given
/// back.
constexpr uint64_t base_match_limit = 10'000'000;
constexpr uint64_t match_limit_per_byte = 8;

template <class T, void (*release)(T*)>
struct Releaser {
    void operator()(T* object) const { release(object); }
};
template <class T, void (*release)(T*)>
using Handle = std::unique_ptr<T, Releaser<T, release>>;

using CodeHandle = Handle<pcre2_code, pcre2_code_free>;
using CompileContextHandle = Handle<pcre2_compile_context, pcre2_compile_context_free>;
using MatchDataHandle = Handle<pcre2_match_data, pcre2_match_data_free>;
using MatchContextHandle = Handle<pcre2_match_context, pcre2_match_context_free>;
using JitStackHandle = Handle<pcre2_jit_stack, pcre2_jit_stack_free>;

std::string pcre2_message(int code) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(code, text.data(), text.size());
    return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct RegexScratch::Impl {
    MatchDataHandle match{pcre2_match_data_create(1, nullptr)};
    MatchContextHandle context{pcre2_match_context_create(nullptr)};
    JitStackHandle stack{pcre2_jit_stack_create(jit_stack_start_bytes, jit_stack_max_bytes, nullptr)};
};

RegexScratch::RegexScratch() : impl_(std::make_unique<Impl>()) {
    if (!impl_->match || !impl_->context) throw std::bad_alloc();
    if (impl_->stack) pcre2_jit_stack_assign(impl_->context.get(), nullptr, impl_->stack.get());
}
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;

struct Regex::Impl {
    CodeHandle code;
    bool jit = false;
};

Regex::Regex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Regex Regex::compile(std::string_view oniguruma_pattern) {
    return compile_pcre2(pcre2_from_oniguruma(oniguruma_pattern));
}

Regex Regex::compile_pcre2(const std::string& pattern) {
    const CompileContextHandle context(pcre2_compile_context_create(nullptr));
    if (!context) throw std::bad_alloc();
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE offset = 0;
    auto impl = std::make_unique<Impl>();
    impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                                   &offset, context.get()));
    if (!impl->code)
        throw PatternError(fmt::format("{} (at byte {} of '{}')", pcre2_message(code), offset, pattern));
    impl->jit = pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
    return Regex(std::move(impl));
}

std::optional<Match> Regex::find(std::string_view text, size_t from, RegexScratch& scratch) const {
    RegexScratch::Impl& own = scratch.impl();
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() ? text.data() : "");
    const uint64_t limit = base_match_limit + match_limit_per_byte * (text.size() - from);
    pcre2_set_match_limit(own.context.get(), static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
    int code = PCRE2_ERROR_JIT_STACKLIMIT;
    if (impl_->jit) {
        code = pcre2_jit_match(impl_->code.get(), subject, text.size(), from, 0, own.match.get(),
                               own.context.get());
    }
    if (code == PCRE2_ERROR_JIT_STACKLIMIT) {
        code = pcre2_match(impl_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                           own.match.get(), own.context.get());
    }
    if (code == PCRE2_ERROR_NOMATCH) return std::nullopt;
    require(code >= 0, "tokenizer: a pattern of tokenizer.json failed on a text of {} bytes: {}", text.size(),
            pcre2_message(code));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(own.match.get());
    return Match{bounds[0], bounds[1]};
}

Pattern Pattern::from_json(const JsonNode& node) {
    node.allow_only({"String", "Regex"});
    const std::optional<JsonNode> literal = node.find("String");
    if (literal && node.find("Regex")) node.refuse("has both String and Regex");
    if (literal) {
        if (literal->string().empty()) literal->refuse("must not be empty");
        return Pattern(literal->string());
    }
    const JsonNode regex = node.at("Regex");
    try {
        return Pattern(Regex::compile(regex.string()));
    } catch (const PatternError& e) {
        regex.refuse("the pattern '{}' cannot be used: {}", regex.string(), e.what());
    }
}

void Pattern::for_each_match(std::string_view text, RegexScratch& scratch,
                             FunctionRef<void(Match)> visit) const {
    if (text.empty()) return;
    if (const auto* literal = std::get_if<std::string>(&data_)) {
        for (size_t at = text.find(*literal); at != std::string_view::npos;
             at = text.find(*literal, at + literal->size())) {
            visit({at, at + literal->size()});
        }
        return;
    }
    const Regex& regex = std::get<Regex>(data_);
    std::string buffer;
    text = with_known_characters(text, buffer);
    std::optional<size_t> last_end;
    size_t from = 0;
    while (from <= text.size()) {
        const std::optional<Match> match = regex.find(text, from, scratch);
        if (!match || match->begin < from || match->end < match->begin) return;
        const bool empty = match->begin == match->end;
        if (!(empty && match->end == last_end)) visit(*match);
        last_end = match->end;
        from = match->end;
        if (empty) from += from < text.size() ? utf8::length(text[from]) : 1;
    }
}

void Pattern::replace(std::string_view text, std::string_view content, RegexScratch& scratch,
                      std::string& out) const {
    out.clear();
    size_t copied = 0;
    for_each_match(text, scratch, [&](Match match) {
        out += text.substr(copied, match.begin - copied);
        out += content;
        copied = match.end;
    });
    out += text.substr(copied);
}

}  // namespace mixserve::text
