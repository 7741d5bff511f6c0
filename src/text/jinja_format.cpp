#include "text/jinja_format.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_number.h"
#include "text/jinja_print.h"
#include "text/jinja_string_ops.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

/// One conversion of printf-style formatting: flags, width and precision as read.
struct Conversion {
    bool left = false, plus = false, space = false, zero = false, alternate = false;
    Int width = 0;
    Int precision = -1;
    char type = 's';
};

class PercentFormatter {
  public:
    PercentFormatter(Budget& budget, const Str& pattern, const Value& argument)
        : budget_(budget), pattern_(pattern), argument_(argument) {}

    Value run() {
        const std::string_view s = pattern_.bytes;
        for (size_t pos = 0; pos < s.size();) {
            const size_t percent = s.find('%', pos);
            put(s.substr(pos, percent - pos));
            if (percent == std::string_view::npos) break;
            pos = percent + 1;
            conversion(s, pos);
        }
        const Seq* seq = argument_.if_seq();
        // What can be indexed counts as a mapping, and need not be used.
        const bool is_mapping = seq || argument_.if_dict() || argument_.is_undefined() ||
                                (argument_.if_object() && argument_.if_object()->is_sequence());
        const bool all_used = seq && seq->tuple ? used_ == seq->items.size() : used_ == 1 || is_mapping;
        if (!all_used) raise("not all arguments converted during string formatting");
        return Value::string(std::move(out_), pattern_.markup);
    }

  private:
    void put(std::string_view text) {
        out_ += text;
        budget_.string(static_cast<Int>(text.size()));
        if (out_.size() > static_cast<size_t>(Budget::max_string_bytes))
            budget_.string(static_cast<Int>(out_.size()));
    }

    Value next() {
        const Seq* seq = argument_.if_seq();
        const bool many = seq && seq->tuple;
        if (used_ >= (many ? seq->items.size() : 1)) raise("not enough arguments for format string");
        return many ? seq->items[used_++] : (++used_, argument_);
    }

    Int number(std::string_view s, size_t& pos) {
        if (pos < s.size() && s[pos] == '*') {
            ++pos;
            const auto n = next().if_int();
            if (!n) raise("* wants int");
            return std::min<Int>(*n, Budget::max_string_bytes + Int{1});
        }
        Int n = 0;
        for (; pos < s.size() && s[pos] >= '0' && s[pos] <= '9'; ++pos) {
            n = std::min<Int>(n * 10 + (s[pos] - '0'), Budget::max_string_bytes + Int{1});
        }
        return n;
    }

    void conversion(std::string_view s, size_t& pos) {
        Conversion c;
        std::optional<Value> named;
        if (pos < s.size() && s[pos] == '(') {
            size_t end = pos + 1;
            for (int open = 1; end < s.size(); ++end) {
                open += s[end] == '(' ? 1 : s[end] == ')' ? -1 : 0;
                if (open == 0) break;
            }
            if (end >= s.size()) raise("incomplete format key");
            const Dict* dict = argument_.if_dict();
            if (!dict) raise("format requires a mapping");
            const std::string_view key = s.substr(pos + 1, end - pos - 1);
            const Value* value = dict->find(key);
            if (!value) raise("{}", repr_string(key));
            named = *value;
            pos = end + 1;
        }
        for (; pos < s.size(); ++pos) {
            if (s[pos] == '-')
                c.left = true;
            else if (s[pos] == '+')
                c.plus = true;
            else if (s[pos] == ' ')
                c.space = true;
            else if (s[pos] == '0')
                c.zero = true;
            else if (s[pos] == '#')
                c.alternate = true;
            else
                break;
        }
        c.width = number(s, pos);
        if (c.width < 0) {
            c.left = true;
            c.width = -c.width;
        }
        if (pos < s.size() && s[pos] == '.') c.precision = std::max<Int>(number(s, ++pos), 0);
        while (pos < s.size() && (s[pos] == 'h' || s[pos] == 'l' || s[pos] == 'L'))
            ++pos;
        if (pos >= s.size()) raise("incomplete format");
        c.type = s[pos++];
        if (c.type == '%') {
            put("%");
            return;
        }
        put(convert(c, named ? *named : next()));
    }

    std::string convert(const Conversion& c, const Value& value) {
        switch (c.type) {
            case 's':
            case 'r':
            case 'a': {
                std::string text = c.type == 's' ? to_text(budget_, value) : repr(budget_, value);
                const Str* s = value.if_str();
                if (pattern_.markup && c.type == 's' && !(s && s->markup)) text = escape_html(text);
                if (c.precision >= 0) text.resize(offset_of_char(text, static_cast<size_t>(c.precision)));
                return pad(budget_, text, c.width, " ", c.left ? '<' : '>');
            }
            case 'c': {
                std::string text;
                if (const Str* s = value.if_str(); s && length_of(value) == 1)
                    text = s->bytes;
                else if (const auto i = value.if_int(); i && *i >= 0 && *i < 0x110000)
                    append_char(text, static_cast<char32_t>(*i));
                else
                    raise("%c requires int or char");
                return pad(budget_, text, c.width, " ", c.left ? '<' : '>');
            }
            case 'd':
            case 'i':
            case 'u':
            case 'x':
            case 'X':
            case 'o':
                return signed_text(c, digits(c, value));
            case 'e':
            case 'E':
            case 'f':
            case 'F':
            case 'g':
            case 'G': {
                if (const Undefined* u = value.if_undefined()) raise("{}", u->message());
                const auto d = value.if_number();
                if (!d) raise("must be real number, not {}", type_name(value));
                return signed_text(
                    c, print_float(*d, c.type,
                                   c.precision < 0 ? 6 : static_cast<int>(std::min<Int>(c.precision, 2000)),
                                   c.alternate));
            }
            default:
                raise("unsupported format character '{}'", c.type);
        }
    }

    std::string digits(const Conversion& c, const Value& value) {
        if (const Undefined* u = value.if_undefined()) raise("{}", u->message());
        const bool decimal = c.type == 'd' || c.type == 'i' || c.type == 'u';
        auto i = value.if_int();
        if (!i && value.is_float() && decimal) i = int_of_float(*value.if_number());
        if (!i)
            raise("%{} format: {} is required, not {}", c.type, decimal ? "a real number" : "an integer",
                  type_name(value));
        std::string text = c.type == 'x'   ? fmt::format("{:x}", *i)
                           : c.type == 'X' ? fmt::format("{:X}", *i)
                           : c.type == 'o' ? fmt::format("{:o}", *i)
                                           : int_text(*i);
        const bool negative = text[0] == '-';
        if (negative) text.erase(0, 1);
        const Int missing = std::min<Int>(c.precision, 1000) - static_cast<Int>(text.size());
        if (missing > 0) text.insert(0, static_cast<size_t>(missing), '0');
        if (c.alternate && !decimal) text = fmt::format("0{}{}", c.type, text);
        return negative ? fmt::format("-{}", text) : text;
    }

    std::string signed_text(const Conversion& c, std::string text) {
        std::string sign;
        if (text[0] == '-') {
            sign = "-";
            text.erase(0, 1);
        } else if (c.plus || c.space) {
            sign.push_back(c.plus ? '+' : ' ');
        }
        if (c.zero && !c.left && text.find_first_of("0123456789") != std::string::npos) {
            text = pad(budget_, text, c.width - static_cast<Int>(sign.size()), "0", '>');
        }
        return pad(budget_, sign + text, c.width, " ", c.left ? '<' : '>');
    }

    Budget& budget_;
    const Str& pattern_;
    const Value& argument_;
    std::string out_;
    size_t used_ = 0;
};

}  // namespace

Value format_percent(Budget& budget, const Str& pattern, const Value& argument) {
    return PercentFormatter(budget, pattern, argument).run();
}

}  // namespace mixserve::text::jinja
