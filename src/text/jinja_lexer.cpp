#include "text/jinja_lexer.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <array>

#include "text/jinja_number.h"
#include "text/jinja_string_literal.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {

std::string Token::describe() const {
    switch (kind) {
        case TokenKind::data:
            return "template data / text";
        case TokenKind::variable_begin:
            return "begin of print statement";
        case TokenKind::variable_end:
            return "end of print statement";
        case TokenKind::block_begin:
            return "begin of statement block";
        case TokenKind::block_end:
            return "end of statement block";
        case TokenKind::end:
            return "end of template";
        case TokenKind::string:
            return "string";
        case TokenKind::integer:
            return "integer";
        case TokenKind::floating:
            return "float";
        default:
            return text;
    }
}

std::string normalize_source(std::string_view source) {
    std::string out;
    out.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
        if (source[i] != '\r') {
            out.push_back(source[i]);
            continue;
        }
        out.push_back('\n');
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
    if (!out.empty() && out.back() == '\n') out.pop_back();
    return out;
}

namespace {

class Lexer {
  public:
    explicit Lexer(const std::string& source) : s_(source) {}

    std::vector<Token> run() {
        while (pos_ < s_.size())
            root();
        add(TokenKind::end, pos_);
        return std::move(tokens_);
    }

  private:
    [[noreturn]] void fail(const std::string& cause, size_t at) const {
        throw SyntaxError(cause, offset(at));
    }
    static uint32_t offset(size_t at) { return static_cast<uint32_t>(at); }
    bool looking_at(std::string_view what, size_t at) const { return s_.compare(at, what.size(), what) == 0; }
    char peek(size_t at) const { return at < s_.size() ? s_[at] : '\0'; }

    void add(TokenKind kind, size_t at, std::string text = {}, Value number = {}) {
        tokens_.push_back(Token{kind, std::move(text), std::move(number), offset(at)});
    }

    void skip_space() {
        while (pos_ < s_.size()) {
            size_t next = pos_;
            if (!is_space(read_char(s_, next))) return;
            pos_ = next;
        }
    }

    /// Text between two tags, up to `end`. `sign` ('-', '+' or 0) is that of the tag that follows.
    void data(size_t begin, size_t end, char sign, bool tag_is_print) {
        std::string_view text(s_.data() + begin, end - begin);
        if (sign == '-') {
            text = strip(text, Side::right);
        } else if (sign != '+' && !tag_is_print) {
            const size_t newline = text.rfind('\n');
            const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
            if ((line > 0 || line_starting_) && strip(text.substr(line), Side::both).empty())
                text = text.substr(0, line);
        }
        if (!text.empty()) add(TokenKind::data, begin, std::string(text));
    }

    /// After the closing delimiter of a block or comment at `pos_` was read, with the sign before it.
    void after_block(char sign) {
        if (sign == '-')
            skip_space();
        else if (sign != '+' && peek(pos_) == '\n')
            ++pos_;
        line_starting_ = s_[pos_ - 1] == '\n';
    }

    /// The next "{%", "{{" or "{#", or npos.
    size_t find_tag(size_t from) const {
        for (size_t at = s_.find('{', from); at != std::string::npos; at = s_.find('{', at + 1)) {
            const char c = peek(at + 1);
            if (c == '%' || c == '{' || c == '#') return at;
        }
        return std::string::npos;
    }

    void root() {
        const size_t begin = pos_;
        const size_t tag = find_tag(pos_);
        if (tag == std::string::npos) {
            pos_ = s_.size();
            add(TokenKind::data, begin, s_.substr(begin));
            return;
        }
        const char kind = s_[tag + 1];
        const char sign = peek(tag + 2) == '-' || peek(tag + 2) == '+' ? s_[tag + 2] : '\0';
        data(begin, tag, sign, kind == '{');
        pos_ = tag + (sign ? 3 : 2);
        if (kind == '#') {
            comment(tag);
        } else if (kind == '{') {
            add(TokenKind::variable_begin, tag);
            inside(tag, true);
        } else if (raw_begin()) {
            raw(tag);
        } else {
            add(TokenKind::block_begin, tag);
            inside(tag, false);
        }
    }

    void comment(size_t tag) {
        const size_t end = s_.find("#}", pos_);
        if (end == std::string::npos) fail("Missing end of comment tag", tag);
        const char sign = end > pos_ && (s_[end - 1] == '-' || s_[end - 1] == '+') ? s_[end - 1] : '\0';
        pos_ = end + 2;
        after_block(sign);
    }

    /// Reads the rest of `{% raw %}` behind its `{%`; leaves `pos_` alone when something else stands there.
    bool raw_begin() {
        const size_t start = pos_;
        skip_space();
        if (looking_at("raw", pos_)) {
            pos_ += 3;
            skip_space();
            if (looking_at("%}", pos_)) {
                pos_ += 2;
                line_starting_ = false;
                return true;
            }
            if (looking_at("-%}", pos_)) {
                pos_ += 3;
                skip_space();
                line_starting_ = s_[pos_ - 1] == '\n';
                return true;
            }
        }
        pos_ = start;
        return false;
    }

    void raw(size_t tag) {
        const size_t begin = pos_;
        for (size_t at = s_.find("{%", begin); at != std::string::npos; at = s_.find("{%", at + 1)) {
            const char open_sign = peek(at + 2) == '-' || peek(at + 2) == '+' ? s_[at + 2] : '\0';
            pos_ = at + (open_sign ? 3 : 2);
            skip_space();
            if (!looking_at("endraw", pos_)) continue;
            pos_ += 6;
            skip_space();
            const char close_sign = peek(pos_) == '-' || peek(pos_) == '+' ? s_[pos_] : '\0';
            if (close_sign) ++pos_;
            if (!looking_at("%}", pos_)) continue;
            pos_ += 2;
            data(begin, at, open_sign, false);
            after_block(close_sign);
            return;
        }
        fail("Missing end of raw directive", tag);
    }

    /// The end of the tag at `pos_`, where no bracket is open. True when it was there.
    bool tag_end(bool is_print) {
        const std::string_view close = is_print ? "}}" : "%}";
        const char c = peek(pos_);
        const char sign = c == '-' || (c == '+' && !is_print) ? c : '\0';
        if (!looking_at(close, pos_ + (sign ? 1 : 0))) return false;
        add(is_print ? TokenKind::variable_end : TokenKind::block_end, pos_);
        pos_ += sign ? 3 : 2;
        if (is_print) {
            if (sign == '-') skip_space();
            line_starting_ = s_[pos_ - 1] == '\n';
        } else {
            after_block(sign);
        }
        return true;
    }

    void inside(size_t tag, bool is_print) {
        std::string open;
        while (true) {
            skip_space();
            if (pos_ >= s_.size()) {
                add(TokenKind::end, tag);
                return;
            }
            if (open.empty() && tag_end(is_print)) return;
            const auto c = static_cast<unsigned char>(s_[pos_]);
            if (c >= '0' && c <= '9')
                number();
            else if (c == '"' || c == '\'')
                string();
            else if (c >= 0x80 || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
                name();
            else
                symbol(open);
        }
    }

    void number() {
        const size_t begin = pos_;
        const bool after_dot = !tokens_.empty() && begin > 0 && s_[begin - 1] == '.';
        const NumberLiteral literal = read_number_literal(s_, begin, !after_dot);
        if (literal.overflow) fail("the integer does not fit", begin);
        pos_ = literal.end;
        add(literal.value.is_float() ? TokenKind::floating : TokenKind::integer, begin,
            s_.substr(begin, pos_ - begin), literal.value);
    }

    void string() {
        const size_t begin = pos_;
        const char quote = s_[begin];
        size_t at = begin + 1;
        while (at < s_.size() && s_[at] != quote)
            at += s_[at] == '\\' ? 2 : 1;
        if (at >= s_.size())
            fail(fmt::format("unexpected char {}: the string has no end", quote == '"' ? "'\"'" : "\"'\""),
                 begin);
        try {
            add(TokenKind::string, begin,
                unescape_string(std::string_view(s_).substr(begin + 1, at - begin - 1)));
        } catch (const EvalError& e) {
            fail(e.what(), begin);
        }
        pos_ = at + 1;
    }

    void name() {
        const size_t begin = pos_;
        while (pos_ < s_.size()) {
            size_t next = pos_;
            const char32_t c = read_char(s_, next);
            const auto u = static_cast<UChar32>(c);
            const bool ok =
                c == '_' || u_hasBinaryProperty(u, pos_ == begin ? UCHAR_XID_START : UCHAR_XID_CONTINUE);
            if (!ok) break;
            pos_ = next;
        }
        if (pos_ == begin) {
            size_t next = pos_;
            read_char(s_, next);
            fail(fmt::format("unexpected char '{}'", s_.substr(pos_, next - pos_)), pos_);
        }
        add(TokenKind::name, begin, s_.substr(begin, pos_ - begin));
    }

    void symbol(std::string& open) {
        static constexpr std::array<std::string_view, 26> symbols = {
            "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
            "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
        const auto found =
            std::find_if(symbols.begin(), symbols.end(), [this](auto s) { return looking_at(s, pos_); });
        if (found == symbols.end()) fail(fmt::format("unexpected char {}", repr_char(s_[pos_])), pos_);
        const char c = found->front();
        if (c == '{') open.push_back('}');
        if (c == '(') open.push_back(')');
        if (c == '[') open.push_back(']');
        if (c == '}' || c == ')' || c == ']') {
            if (open.empty()) fail(fmt::format("unexpected '{}'", c), pos_);
            if (open.back() != c) fail(fmt::format("unexpected '{}', expected '{}'", c, open.back()), pos_);
            open.pop_back();
        }
        add(TokenKind::op, pos_, std::string(*found));
        pos_ += found->size();
    }

    static std::string repr_char(char c) {
        const auto u = static_cast<unsigned char>(c);
        return u < 0x20 || u == 0x7F ? fmt::format("'\\x{:02x}'", u) : fmt::format("'{}'", c);
    }

    const std::string& s_;
    size_t pos_ = 0;
    bool line_starting_ = true;
    std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(const std::string& source) {
    return Lexer(source).run();
}

}  // namespace mixserve::text::jinja
