#include "text/pre_tokenizer.h"

#include <array>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

/// GPT-2's words.
constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> behaviors{{
    {"Removed", SplitBehavior::removed},
    {"Isolated", SplitBehavior::isolated},
    {"MergedWithPrevious", SplitBehavior::merged_with_previous},
    {"MergedWithNext", SplitBehavior::merged_with_next},
    {"Contiguous", SplitBehavior::contiguous},
}};

SplitBehavior behavior_of(const JsonNode& node) {
    for (const auto& [name, behavior] : behaviors) {
        if (node.string() == name) return behavior;
    }
    node.refuse("behavior '{}' is not supported", node.string());
}

void for_each_piece(const Pattern& pattern, SplitBehavior behavior, bool invert, std::string_view text,
                    RegexScratch& scratch, FunctionRef<void(std::string_view)> emit) {
    SplitFold fold(text, behavior, emit);
    size_t covered = 0;
    pattern.for_each_match(text, scratch, [&](Match match) {
        if (covered < match.begin) fold.add({covered, match.begin}, invert);
        fold.add(match, !invert);
        covered = match.end;
    });
    if (covered < text.size()) fold.add({covered, text.size()}, invert);
    fold.finish();
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const std::optional<JsonNode>& node) {
    PreTokenizer pre_tokenizer;
    if (node) pre_tokenizer.add_steps(*node, 0);
    return pre_tokenizer;
}

void PreTokenizer::add_regex(std::string_view pcre2_pattern, SplitBehavior behavior, bool invert) {
    steps_.emplace_back(Split{Pattern(Regex::compile_pcre2(std::string(pcre2_pattern))), behavior, invert});
}

void PreTokenizer::add_steps(const JsonNode& node, int depth) {
    if (depth > max_sequence_depth) node.refuse("sequences nested too deep");
    const std::string& type = node.string("type");
    if (type == "Sequence") {
        node.allow_only({"type", "pretokenizers"});
        for (const JsonNode& step : node.at("pretokenizers").elements())
            add_steps(step, depth + 1);
    } else if (type == "Split") {
        node.allow_only({"type", "pattern", "behavior", "invert"});
        steps_.emplace_back(Split{Pattern::from_json(node.at("pattern")), behavior_of(node.at("behavior")),
                                  node.boolean("invert", false)});
    } else if (type == "ByteLevel") {
        node.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
        if (byte_level_) node.refuse("a second ByteLevel is not supported");
        byte_level_ = true;
        ByteLevel step{node.boolean("add_prefix_space", true), std::nullopt};
        if (node.boolean("use_regex", true)) step.words = Pattern(Regex::compile(gpt2_words));
        steps_.emplace_back(std::move(step));
    } else if (type == "Digits") {
        node.allow_only({"type", "individual_digits"});
        add_regex(
            R"(\p{N})",
            node.boolean("individual_digits", false) ? SplitBehavior::isolated : SplitBehavior::contiguous,
            false);
    } else if (type == "Whitespace") {
        node.allow_only({"type"});
        constexpr std::string_view word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control})";
        add_regex(fmt::format(R"([{0}]+|[^{0}\p{{White_Space}}]+)", word), SplitBehavior::removed, true);
    } else if (type == "WhitespaceSplit") {
        node.allow_only({"type"});
        add_regex(R"(\p{White_Space})", SplitBehavior::removed, false);
    } else if (type == "Punctuation") {
        node.allow_only({"type", "behavior"});
        const std::optional<JsonNode> behavior = node.find("behavior");
        add_regex(R"([\p{P}$+<=>^`|~])", behavior ? behavior_of(*behavior) : SplitBehavior::isolated, false);
    } else if (type == "Metaspace") {
        add_metaspace(node);
    } else {
        node.refuse("type '{}' is not supported", type);
    }
}

void PreTokenizer::add_metaspace(const JsonNode& node) {
    node.allow_only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
    if (byte_level_) node.refuse("Metaspace after ByteLevel is not supported");
    Metaspace step{utf8::from_char(node.at("replacement").character()), Metaspace::Prepend::always,
                   node.boolean("split", true)};
    const std::optional<JsonNode> scheme = node.find("prepend_scheme");
    const bool adds_space = node.boolean("add_prefix_space", true);
    if (!scheme) {
        if (!adds_space) step.prepend = Metaspace::Prepend::never;
    } else if (scheme->string() == "first") {
        step.prepend = Metaspace::Prepend::first;
    } else if (scheme->string() == "never") {
        step.prepend = Metaspace::Prepend::never;
    } else if (scheme->string() != "always") {
        scheme->refuse("'{}' is not one of always, first, never", scheme->string());
    }
    if (!adds_space && step.prepend != Metaspace::Prepend::never) {
        node.refuse("add_prefix_space is false, but prepend_scheme is '{}'", scheme->string());
    }
    steps_.emplace_back(std::move(step));
}

void PreTokenizer::split(std::string_view text, bool at_start, RegexScratch& scratch,
                         FunctionRef<void(std::string_view)> visit) const {
    descend(0, text, at_start, Run{scratch, visit});
}

void PreTokenizer::descend(size_t next, std::string_view piece, bool at_start, const Run& run) const {
    if (next < steps_.size()) {
        std::visit([&](const auto& step) { apply(step, next + 1, piece, at_start, run); }, steps_[next]);
        return;
    }
    if (piece.empty()) return;
    if (!byte_level_ || std::holds_alternative<ByteLevel>(steps_.back())) {
        run.visit(piece);
    } else {
        run.visit(byte_alphabet::bytes_of(piece).value());
    }
}

void PreTokenizer::apply(const Split& step, size_t next, std::string_view piece, bool at_start,
                         const Run& run) const {
    for_each_piece(step.pattern, step.behavior, step.invert, piece, run.scratch, [&](std::string_view part) {
        descend(next, part, at_start && part.data() == piece.data(), run);
    });
}

void PreTokenizer::apply(const ByteLevel& step, size_t next, std::string_view piece, bool at_start,
                         const Run& run) const {
    std::string prefixed;
    if (step.add_prefix_space && !piece.starts_with(' ')) {
        prefixed = fmt::format(" {}", piece);
        piece = prefixed;
    }
    const bool last = next == steps_.size();
    const auto give = [&](std::string_view word) {
        const bool starts = at_start && word.data() == piece.data();
        if (last) {
            descend(next, word, starts, run);
        } else {
            descend(next, byte_alphabet::text_of(word), starts, run);
        }
    };
    if (step.words) {
        for_each_piece(*step.words, SplitBehavior::isolated, false, piece, run.scratch, give);
    } else {
        give(piece);
    }
}

void PreTokenizer::apply(const Metaspace& step, size_t next, std::string_view piece, bool at_start,
                         const Run& run) const {
    std::string text;
    text.reserve(piece.size() + piece.size() / 2);
    const bool prepends =
        step.prepend == Metaspace::Prepend::always || (step.prepend == Metaspace::Prepend::first && at_start);
    if (prepends && !piece.starts_with(' ') && !piece.starts_with(step.replacement)) text += step.replacement;
    for (const char byte : piece) {
        if (byte == ' ') {
            text += step.replacement;
        } else {
            text += byte;
        }
    }
    const std::string_view whole = text;
    if (!step.split) {
        descend(next, whole, at_start, run);
        return;
    }
    for (size_t begin = 0; begin < whole.size();) {
        size_t end = whole.find(step.replacement, begin + 1);
        if (end == std::string_view::npos) end = whole.size();
        descend(next, whole.substr(begin, end - begin), at_start && begin == 0, run);
        begin = end;
    }
}

}  // namespace mixserve::text
