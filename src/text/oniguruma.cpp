#include "text/oniguruma.h"

#include <fmt/format.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>

#include <cctype>
#include <utility>

namespace mixserve::text {
namespace {

constexpr std::string_view word_members = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
/// Outside of sets Oniguruma counts Latin-1's superscripts and fractions in.
constexpr std::string_view lone_word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view hex_members = "0-9a-fA-F";

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
    throw PatternError(fmt::format(format, std::forward<Args>(args)...));
}

/// What \p{name} is called in PCRE2: general categories by their short name, scripts without their
/// extensions.
std::string property_name(const std::string& name) {
    const int32_t category = u_getPropertyValueEnum(UCHAR_GENERAL_CATEGORY_MASK, name.c_str());
    if (category != UCHAR_INVALID_CODE) {
        const char* short_name =
            u_getPropertyValueName(UCHAR_GENERAL_CATEGORY_MASK, category, U_SHORT_PROPERTY_NAME);
        if (short_name) return short_name;
    }
    const int32_t script = u_getPropertyValueEnum(UCHAR_SCRIPT, name.c_str());
    if (script != UCHAR_INVALID_CODE) {
        const char* script_name = u_getPropertyValueName(UCHAR_SCRIPT, script, U_LONG_PROPERTY_NAME);
        if (script_name) return fmt::format("sc:{}", script_name);
    }
    if (u_getPropertyEnum(name.c_str()) != UCHAR_INVALID_CODE) return name;
    refuse("unknown property \\p{{{}}}", name);
}

class Converter {
  public:
    explicit Converter(std::string_view pattern) : pattern_(pattern) {}

    std::string run() {
        while (pos_ < pattern_.size()) {
            const char c = pattern_[pos_];
            if (c == '\\') {
                escape();
            } else if (c == '[') {
                ++pos_;
                out_ += '[';
                if (skip('^')) out_ += '^';
                set(0);
                out_ += ']';
            } else if (c == '(' && rest().starts_with("(?")) {
                group();
            } else if (c == '{') {
                interval();
            } else {
                take(1);
            }
        }
        return std::move(out_);
    }

  private:
    std::string_view rest() const { return pattern_.substr(pos_); }
    bool skip(char c) {
        if (pos_ >= pattern_.size() || pattern_[pos_] != c) return false;
        ++pos_;
        return true;
    }
    void take(size_t n) {
        out_ += pattern_.substr(pos_, n);
        pos_ += n;
    }

    /// At a backslash outside of sets.
    void escape() {
        if (pos_ + 1 >= pattern_.size()) refuse("ends in a backslash");
        const char c = pattern_[pos_ + 1];
        switch (c) {
            case 'w':
                replace(fmt::format("[{}]", lone_word));
                return;
            case 'W':
                replace(fmt::format("[^{}]", lone_word));
                return;
            case 'h':
                replace(fmt::format("[{}]", hex_members));
                return;
            case 'H':
                replace(fmt::format("[^{}]", hex_members));
                return;
            case 'b':
                replace(fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", lone_word));
                return;
            case 'B':
                replace(fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", lone_word));
                return;
            default:
                shared_escape(c);
        }
    }

    void replace(std::string_view text) {
        out_ += text;
        pos_ += 2;
    }

    /// At an escape that means the same inside and outside of sets.
    void shared_escape(char c) {
        switch (c) {
            case 's':
                replace(R"(\p{White_Space})");
                return;
            case 'S':
                replace(R"(\P{White_Space})");
                return;
            case 'p':
            case 'P':
                property();
                return;
            case 'u':
                hex4();
                return;
            case 'Q':
            case 'E':
            case 'C':
            case 'N':
            case 'O':
            case 'K':
            case 'X':
            case 'y':
            case 'Y':
            case 'c':
            case 'M':
                refuse("\\{} is not supported", c);
            default:
                take(2);
        }
    }

    /// At \p or \P, which has a name in braces, maybe with ^.
    void property() {
        bool negated = pattern_[pos_ + 1] == 'P';
        pos_ += 2;
        const size_t end = pattern_.find('}', pos_);
        if (!skip('{') || end == std::string_view::npos) refuse("\\p must have a name in braces");
        if (skip('^')) negated = !negated;
        const std::string name(pattern_.substr(pos_, end - pos_));
        out_ += fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', property_name(name));
        pos_ = end + 1;
    }

    void hex4() {
        const std::string_view digits = pattern_.substr(pos_ + 2, 4);
        bool ok = digits.size() == 4;
        for (const char digit : digits)
            ok = ok && std::isxdigit(static_cast<unsigned char>(digit));
        if (!ok) refuse("\\u must have four hexadecimal digits");
        out_ += fmt::format("\\x{{{}}}", digits);
        pos_ += 6;
    }

    /// After `[` and `^` of a set, to behind its `]`. Sets inside are joined to the outermost; its brackets
    /// are the caller's.
    void set(int depth) {
        if (depth > 8) refuse("sets nested too deep");
        if (skip(']')) out_ += "\\]";  // first in a set it is a member
        while (pos_ < pattern_.size()) {
            const std::string_view tail = rest();
            const char c = tail[0];
            if (c == ']') {
                ++pos_;
                return;
            }
            if (tail.starts_with("&&")) refuse("set intersection (&&) is not supported");
            if (tail.starts_with("[:")) {
                const size_t end = tail.find(":]");
                if (end == std::string_view::npos) refuse("[: without :]");
                take(end + 2);
            } else if (tail.starts_with("[^")) {
                refuse("a negated set inside a set is not supported");
            } else if (c == '[') {
                ++pos_;
                set(depth + 1);
            } else if (c == '\\') {
                set_escape();
            } else {
                take(1);
            }
        }
        refuse("a set without its ]");
    }

    void set_escape() {
        if (pos_ + 1 >= pattern_.size()) refuse("ends in a backslash");
        const char c = pattern_[pos_ + 1];
        if (c == 'w') {
            replace(word_members);
        } else if (c == 'h') {
            replace(hex_members);
        } else if (c == 'W' || c == 'H' || c == 'R') {
            refuse("\\{} inside a set is not supported", c);
        } else {
            shared_escape(c);
        }
    }

    /// At "(?": flags are renamed (m: . matches line ends), everything else is the same.
    void group() {
        size_t i = pos_ + 2;
        std::string flags;
        while (i < pattern_.size() &&
               (std::isalpha(static_cast<unsigned char>(pattern_[i])) || pattern_[i] == '-')) {
            const char flag = pattern_[i++];
            if (flag != 'i' && flag != 'm' && flag != 'x' && flag != '-')
                refuse("flag '{}' is not supported", flag);
            flags += flag == 'm' ? 's' : flag;
        }
        if (flags.empty()) {
            if (rest().starts_with("(?~")) refuse("(?~ is not supported");
            take(2);
            return;
        }
        out_ += "(?" + flags;
        pos_ = i;
    }

    /// At "{": an interval, or the character.
    void interval() {
        const size_t end = pattern_.find('}', pos_);
        const std::string_view inside =
            end == std::string_view::npos ? std::string_view() : pattern_.substr(pos_ + 1, end - pos_ - 1);
        bool counts = !inside.empty() && inside != ",";
        for (const char c : inside)
            counts = counts && (std::isdigit(static_cast<unsigned char>(c)) || c == ',');
        if (!counts) {
            out_ += "\\{";
            ++pos_;
            return;
        }
        out_ += inside[0] == ',' ? fmt::format("{{0{}}}", inside) : fmt::format("{{{}}}", inside);
        pos_ = end + 1;
        if (skip('+')) refuse("{{{}}}+ (a repeated interval) is not supported", inside);
    }

    std::string_view pattern_;
    size_t pos_ = 0;
    std::string out_;
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern) {
    return Converter(pattern).run();
}

}  // namespace mixserve::text
