#include <algorithm>
#include <array>

#include "text/jinja_builtins.h"
#include "text/jinja_format.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_params.h"
#include "text/jinja_print.h"
#include "text/jinja_string_ops.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

const Str& str(const Value& self) {
    return *self.if_str();
}

Value same_kind(Interpreter& in, const Value& self, std::string bytes) {
    return in.make_string(std::move(bytes), str(self).markup);
}

template <std::string (*convert)(std::string_view)>
Value converted(Interpreter& in, const Value& self, const Args& args) {
    const Params params("str method", args, {});
    in.budget().scan(str(self).bytes.size());
    return same_kind(in, self, convert(str(self).bytes));
}

template <Side side>
Value stripped(Interpreter& in, const Value& self, const Args& args) {
    const Params params("strip", args, {"chars"});
    const std::string& bytes = str(self).bytes;
    in.budget().scan(bytes.size());
    const bool any = params.given(0);
    return same_kind(in, self,
                     std::string(any ? strip(bytes, params.string(0, ""), side) : strip(bytes, side)));
}

template <bool from_right>
Value split(Interpreter& in, const Value& self, const Args& args) {
    const Params params("split", args, {"sep", "maxsplit"});
    const std::string& bytes = str(self).bytes;
    in.budget().scan(bytes.size());
    const Int most = params.integer(1, -1);
    std::vector<std::string_view> parts;
    if (params.given(0)) {
        const std::string& sep = params.string(0, "");
        if (sep.empty()) raise("empty separator");
        parts = from_right ? split_right(bytes, sep, most) : split_left(bytes, sep, most);
    } else {
        parts = from_right ? split_space_right(bytes, most) : split_space_left(bytes, most);
    }
    std::vector<Value> items;
    for (const std::string_view part : parts)
        items.push_back(same_kind(in, self, std::string(part)));
    return in.make_list(std::move(items));
}

template <bool from_right>
Value partition(Interpreter& in, const Value& self, const Args& args) {
    const Params params("partition", args, {"sep"}, 1);
    const std::string& bytes = str(self).bytes;
    const std::string& sep = params.string(0, "");
    if (sep.empty()) raise("empty separator");
    in.budget().scan(bytes.size());
    const size_t at = from_right ? bytes.rfind(sep) : bytes.find(sep);
    const auto piece = [&](std::string_view s) { return same_kind(in, self, std::string(s)); };
    if (at == std::string::npos) {
        if (from_right) return in.make_tuple({piece(""), piece(""), self});
        return in.make_tuple({self, piece(""), piece("")});
    }
    const std::string_view all = bytes;
    return in.make_tuple({piece(all.substr(0, at)), piece(sep), piece(all.substr(at + sep.size()))});
}

/// The part of the text that the optional arguments `start` and `end` name, and where it begins.
struct Window {
    std::string_view text;
    Int first_char = 0;
    bool valid = true;
};

Window window(Interpreter& in, const Str& s, const Params& params, size_t start, size_t end) {
    in.budget().scan(s.bytes.size());
    const Int length = static_cast<Int>(s.ascii ? s.bytes.size() : count_chars(s.bytes));
    const auto bound = [&](size_t i, Int otherwise) {
        Int at = params.given(i) ? params.integer(i, 0) : otherwise;
        if (at < 0) at = std::max<Int>(at + length, 0);
        return at;
    };
    const Int from = bound(start, 0), to = std::min(bound(end, length), length);
    if (from > to) return {{}, from, false};
    const auto offset = [&](Int n) {
        return s.ascii ? static_cast<size_t>(n) : offset_of_char(s.bytes, static_cast<size_t>(n));
    };
    const size_t begin = offset(from);
    return {std::string_view(s.bytes).substr(begin, offset(to) - begin), from, true};
}

template <bool at_end>
Value starts_or_ends_with(Interpreter& in, const Value& self, const Args& args) {
    const Params params(at_end ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
    const Window part = window(in, str(self), params, 1, 2);
    const auto matches = [&](const Value& value) {
        const Str* s = value.if_str();
        if (!s)
            raise("{} first arg must be str or a tuple of str, not {}", at_end ? "endswith" : "startswith",
                  type_name(value));
        return part.valid && (at_end ? part.text.ends_with(s->bytes) : part.text.starts_with(s->bytes));
    };
    const Seq* options = params[0]->if_seq();
    if (!options || !options->tuple) return Value::boolean(matches(*params[0]));
    return Value::boolean(std::any_of(options->items.begin(), options->items.end(), matches));
}

/// Code point position of `part` in the window, or -1.
Int position(Interpreter& in, const Value& self, const Args& args, const char* name, bool from_right) {
    const Params params(name, args, {"sub", "start", "end"}, 1);
    const Window where = window(in, str(self), params, 1, 2);
    if (!where.valid) return -1;
    const std::string& part = params.string(0, "");
    const size_t at = from_right ? where.text.rfind(part) : where.text.find(part);
    if (at == std::string_view::npos) return -1;
    return where.first_char + static_cast<Int>(count_chars(where.text.substr(0, at)));
}

template <bool from_right>
Value find(Interpreter& in, const Value& self, const Args& args) {
    return Value::integer(position(in, self, args, "find", from_right));
}

template <bool from_right>
Value index(Interpreter& in, const Value& self, const Args& args) {
    const Int at = position(in, self, args, "index", from_right);
    if (at < 0) raise("substring not found");
    return Value::integer(at);
}

Value count(Interpreter& in, const Value& self, const Args& args) {
    const Params params("count", args, {"sub", "start", "end"}, 1);
    const Window where = window(in, str(self), params, 1, 2);
    const std::string& part = params.string(0, "");
    if (!where.valid) return Value::integer(0);
    if (part.empty()) return Value::integer(static_cast<Int>(count_chars(where.text)) + 1);
    Int n = 0;
    for (size_t at = where.text.find(part); at != std::string_view::npos;
         at = where.text.find(part, at + part.size()))
        ++n;
    return Value::integer(n);
}

Value replace(Interpreter& in, const Value& self, const Args& args) {
    const Params params("replace", args, {"old", "new", "count"}, 2);
    std::string fresh = params.string(1, "");
    if (str(self).markup && !params[1]->if_str()->markup) fresh = escape_html(fresh);
    return same_kind(
        in, self,
        replace_all(in.budget(), str(self).bytes, params.string(0, ""), fresh, params.integer(2, -1)));
}

Value join(Interpreter& in, const Value& self, const Args& args) {
    const Params params("join", args, {"iterable"}, 1);
    std::string out;
    Int n = 0;
    for (const Value& item : items_of(in.budget(), *params[0])) {
        const Str* s = item.if_str();
        if (!s) raise("sequence item {}: expected str instance, {} found", n, type_name(item));
        if (n++ > 0) out += str(self).bytes;
        out += str(self).markup && !s->markup ? escape_html(s->bytes) : s->bytes;
        in.budget().bytes(static_cast<int64_t>(s->bytes.size() + str(self).bytes.size()));
        if (out.size() > static_cast<size_t>(Budget::max_string_bytes))
            in.budget().string(static_cast<Int>(out.size()));
    }
    return same_kind(in, self, std::move(out));
}

template <char align>
Value justify(Interpreter& in, const Value& self, const Args& args) {
    const Params params("justify", args, {"width", "fillchar"}, 1);
    const std::string fill = params.string(1, " ");
    if (count_chars(fill) != 1) raise("The fill character must be exactly one character long");
    return same_kind(in, self, pad(in.budget(), str(self).bytes, params.integer(0, 0), fill, align));
}

Value zfill(Interpreter& in, const Value& self, const Args& args) {
    const Params params("zfill", args, {"width"}, 1);
    const std::string& s = str(self).bytes;
    const size_t sign = !s.empty() && (s[0] == '-' || s[0] == '+') ? 1 : 0;
    const std::string digits =
        pad(in.budget(), s.substr(sign), params.integer(0, 0) - static_cast<Int>(sign), "0", '>');
    return same_kind(in, self, s.substr(0, sign) + digits);
}

Value splitlines(Interpreter& in, const Value& self, const Args& args) {
    const Params params("splitlines", args, {"keepends"});
    in.budget().scan(str(self).bytes.size());
    std::vector<Value> items;
    for (const auto line : split_lines(str(self).bytes, params.flag(0, false)))
        items.push_back(same_kind(in, self, std::string(line)));
    return in.make_list(std::move(items));
}

template <bool suffix>
Value remove_affix(Interpreter& in, const Value& self, const Args& args) {
    const Params params(suffix ? "removesuffix" : "removeprefix", args, {"affix"}, 1);
    std::string_view s = str(self).bytes;
    const std::string& affix = params.string(0, "");
    if (suffix && s.ends_with(affix)) s.remove_suffix(affix.size());
    if (!suffix && s.starts_with(affix)) s.remove_prefix(affix.size());
    return same_kind(in, self, std::string(s));
}

Value expandtabs(Interpreter& in, const Value& self, const Args& args) {
    const Params params("expandtabs", args, {"tabsize"});
    const Int size = std::clamp<Int>(params.integer(0, 8), 0, 1000);
    std::string out;
    Int column = 0;
    for (const std::string_view c : split_chars(str(self).bytes)) {
        in.budget().steps(1);
        if (c == "\t") {
            const Int n = size == 0 ? 0 : size - column % size;
            out.append(static_cast<size_t>(n), ' ');
            column += n;
            in.budget().string(n);
            continue;
        }
        out += c;
        column = c == "\n" || c == "\r" ? 0 : column + 1;
    }
    return same_kind(in, self, std::move(out));
}

template <bool (*test)(std::string_view)>
Value classified(Interpreter& in, const Value& self, const Args& args) {
    const Params params("str method", args, {});
    in.budget().scan(str(self).bytes.size());
    return Value::boolean(test(str(self).bytes));
}

Value format(Interpreter& in, const Value& self, const Args& args) {
    return format_braces(in, str(self), args, nullptr);
}

Value format_map(Interpreter& in, const Value& self, const Args& args) {
    const Params params("format_map", args, {"mapping"}, 1);
    const Dict* names = params[0]->if_dict();
    if (!names) raise("format_map() needs a mapping, not {}", type_name(*params[0]));
    return format_braces(in, str(self), {}, names);
}

constexpr std::array methods = {
    MethodEntry{"capitalize", converted<to_capitalized>},
    MethodEntry{"casefold", converted<to_casefold>},
    MethodEntry{"center", justify<'^'>},
    MethodEntry{"count", count},
    MethodEntry{"endswith", starts_or_ends_with<true>},
    MethodEntry{"expandtabs", expandtabs},
    MethodEntry{"find", find<false>},
    MethodEntry{"format", format},
    MethodEntry{"format_map", format_map},
    MethodEntry{"index", index<false>},
    MethodEntry{"isalnum", classified<is_alnum_text>},
    MethodEntry{"isalpha", classified<is_alpha_text>},
    MethodEntry{"isascii", classified<is_ascii>},
    MethodEntry{"isdecimal", classified<is_decimal_text>},
    MethodEntry{"isdigit", classified<is_digit_text>},
    MethodEntry{"islower", classified<is_lower_text>},
    MethodEntry{"isnumeric", classified<is_numeric_text>},
    MethodEntry{"isprintable", classified<is_printable_text>},
    MethodEntry{"isspace", classified<is_space_text>},
    MethodEntry{"istitle", classified<is_title_text>},
    MethodEntry{"isupper", classified<is_upper_text>},
    MethodEntry{"join", join},
    MethodEntry{"ljust", justify<'<'>},
    MethodEntry{"lower", converted<to_lower>},
    MethodEntry{"lstrip", stripped<Side::left>},
    MethodEntry{"partition", partition<false>},
    MethodEntry{"removeprefix", remove_affix<false>},
    MethodEntry{"removesuffix", remove_affix<true>},
    MethodEntry{"replace", replace},
    MethodEntry{"rfind", find<true>},
    MethodEntry{"rindex", index<true>},
    MethodEntry{"rjust", justify<'>'>},
    MethodEntry{"rpartition", partition<true>},
    MethodEntry{"rsplit", split<true>},
    MethodEntry{"rstrip", stripped<Side::right>},
    MethodEntry{"split", split<false>},
    MethodEntry{"splitlines", splitlines},
    MethodEntry{"startswith", starts_or_ends_with<false>},
    MethodEntry{"strip", stripped<Side::both>},
    MethodEntry{"swapcase", converted<swap_case>},
    MethodEntry{"title", converted<to_title>},
    MethodEntry{"upper", converted<to_upper>},
    MethodEntry{"zfill", zfill},
};

}  // namespace

std::span<const MethodEntry> string_methods() {
    return methods;
}

}  // namespace mixserve::text::jinja
