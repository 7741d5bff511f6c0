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

bool is_markup(const Value& value) {
    return value.is_str() && value.if_str()->markup;
}

/// Title case of the `title` filter: words begin behind spaces, hyphens and opening brackets.
std::string title_words(std::string_view s) {
    std::string out;
    const auto separates = [](char32_t c) {
        return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    };
    for (size_t pos = 0; pos < s.size();) {
        const size_t begin = pos;
        const bool separator = separates(read_char(s, pos));
        const size_t first_end = pos;
        while (pos < s.size()) {
            size_t next = pos;
            if (separates(read_char(s, next)) != separator) break;
            pos = next;
        }
        out += to_upper(s.substr(begin, first_end - begin)) + to_lower(s.substr(first_end, pos - first_end));
    }
    return out;
}

template <std::string (*convert)(std::string_view)>
Value converted(Interpreter& in, const Value& value, const Args& args) {
    const Params params("filter", args, {});
    const std::string text = in.text(value);
    in.budget().scan(text.size());
    return in.make_string(convert(text), is_markup(value));
}

Value string(Interpreter& in, const Value& value, const Args& args) {
    const Params params("string", args, {});
    return to_str(in.budget(), value);
}

Value trim(Interpreter& in, const Value& value, const Args& args) {
    const Params params("trim", args, {"chars"});
    const std::string text = in.text(value);
    in.budget().scan(text.size());
    const std::string_view inner =
        params.given(0) ? strip(text, params.string(0, ""), Side::both) : strip(text, Side::both);
    return in.make_string(std::string(inner), is_markup(value));
}

Value replace(Interpreter& in, const Value& value, const Args& args) {
    const Params params("replace", args, {"old", "new", "count"}, 2);
    const Int count = params.given(2) ? params.integer(2, -1) : -1;
    return in.make_string(
        replace_all(in.budget(), in.text(value), in.text(*params[0]), in.text(*params[1]), count));
}

Value indent(Interpreter& in, const Value& value, const Args& args) {
    const Params params("indent", args, {"width", "first", "blank"});
    const Str* s = value.if_str();
    if (!s) raise("indent() needs a string, not {}", type_name(value));
    const bool by_text = params[0] && params[0]->is_str();
    const std::string step =
        by_text ? params.string(0, "") : pad(in.budget(), "", params.integer(0, 4), " ", '<');
    const bool blank = params.flag(2, false);
    const std::string text = s->bytes + "\n";
    std::string out;
    bool first = true;
    for (const std::string_view line : split_lines(text, false)) {
        if (!first) out += "\n";
        if (first ? params.flag(1, false) : blank || !line.empty()) out += step;
        out += line;
        first = false;
        in.budget().bytes(static_cast<int64_t>(step.size() + line.size()));
        if (out.size() > static_cast<size_t>(Budget::max_string_bytes))
            in.budget().string(static_cast<Int>(out.size()));
    }
    return in.make_string(std::move(out), s->markup);
}

Value escape(Interpreter& in, const Value& value, const Args& args) {
    const Params params("escape", args, {});
    return is_markup(value) ? value : in.make_string(escape_html(in.text(value)), true);
}

Value force_escape(Interpreter& in, const Value& value, const Args& args) {
    const Params params("forceescape", args, {});
    return in.make_string(escape_html(in.text(value)), true);
}

Value safe(Interpreter& in, const Value& value, const Args& args) {
    const Params params("safe", args, {});
    return in.make_string(in.text(value), true);
}

Value format(Interpreter& in, const Value& value, const Args& args) {
    if (!args.positional.empty() && !args.named.empty()) {
        raise("can't handle positional and keyword arguments at the same time");
    }
    const Value pattern = to_str(in.budget(), value);
    if (args.named.empty())
        return format_percent(in.budget(), *pattern.if_str(), in.make_tuple(args.positional));
    Dict names;
    for (const auto& [name, given] : args.named)
        names.set(in.budget(), Value::string(name), given);
    return format_percent(in.budget(), *pattern.if_str(), Value::dict(std::move(names)));
}

Value center(Interpreter& in, const Value& value, const Args& args) {
    const Params params("center", args, {"width"});
    return in.make_string(pad(in.budget(), in.text(value), params.integer(0, 80), " ", '^'),
                          is_markup(value));
}

Value truncate(Interpreter& in, const Value& value, const Args& args) {
    const Params params("truncate", args, {"length", "killwords", "end", "leeway"});
    const Int length = params.integer(0, 255);
    const std::string end = params.string(2, "...");
    const Int leeway = params.given(3) ? params.integer(3, 5) : 5;
    const Int end_length = static_cast<Int>(count_chars(end));
    if (length < end_length) raise("expected length >= {}, got {}", end_length, length);
    if (leeway < 0) raise("expected leeway >= 0, got {}", leeway);
    if (length_of(value) <= length + leeway) return value;
    if (!value.is_str()) raise("truncate() needs a string, not {}", type_name(value));
    const std::string& s = value.if_str()->bytes;
    std::string_view kept =
        std::string_view(s).substr(0, offset_of_char(s, static_cast<size_t>(length - end_length)));
    if (!params.flag(1, false)) kept = kept.substr(0, kept.rfind(' '));
    return in.make_string(std::string(kept) + end);
}

Value word_count(Interpreter& in, const Value& value, const Args& args) {
    const Params params("wordcount", args, {});
    const std::string text = in.text(value);
    Int words = 0;
    bool inside = false;
    for (size_t pos = 0; pos < text.size();) {
        const bool word = is_word(read_char(text, pos));
        words += word && !inside;
        inside = word;
    }
    in.budget().scan(text.size());
    return Value::integer(words);
}

std::string quote_url(std::string_view s, bool for_query) {
    std::string out;
    for (const char c : s) {
        const auto u = static_cast<unsigned char>(c);
        const bool plain =
            (u < 0x80 && (std::isalnum(u) || std::string_view("_.-~").find(c) != std::string_view::npos)) ||
            (c == '/' && !for_query);
        if (plain)
            out.push_back(c);
        else if (c == ' ' && for_query)
            out.push_back('+');
        else
            out += fmt::format("%{:02X}", u);
    }
    return out;
}

Value url_encode(Interpreter& in, const Value& value, const Args& args) {
    const Params params("urlencode", args, {});
    if (value.is_str() || !iterable(value)) return in.make_string(quote_url(in.text(value), false));
    std::string out;
    const auto put = [&](const Value& key, const Value& item) {
        out += out.empty() ? "" : "&";
        out += fmt::format("{}={}", quote_url(in.text(key), true), quote_url(in.text(item), true));
    };
    if (const Dict* dict = value.if_dict()) {
        for (const auto& [key, item] : dict->items)
            put(key, item);
    } else {
        for (const Value& pair : items_of(in.budget(), value)) {
            const std::vector<Value> parts = items_of(in.budget(), pair);
            if (parts.size() != 2) raise("urlencode() needs pairs");
            put(parts[0], parts[1]);
        }
    }
    return in.make_string(std::move(out));
}

/// As transformers sets it: json.dumps, without the escapes for HTML of jinja2's own.
Value to_json(Interpreter& in, const Value& value, const Args& args) {
    const Params params("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
    JsonStyle style;
    style.ensure_ascii = params.flag(0, false);
    style.sort_keys = params.flag(3, false);
    style.indented = params.given(1);
    if (style.indented) {
        style.item_separator.assign(1, ',');
        style.indent =
            params[1]->is_str()
                ? params.string(1, "")
                : std::string(static_cast<size_t>(std::clamp<Int>(params.integer(1, 0), 0, 1000)), ' ');
    }
    if (params.given(2)) {
        const std::vector<Value> separators = items_of(in.budget(), *params[2]);
        if (separators.size() != 2 || !separators[0].is_str() || !separators[1].is_str()) {
            raise("tojson(): 'separators' must be two strings");
        }
        style.item_separator = separators[0].if_str()->bytes;
        style.key_separator = separators[1].if_str()->bytes;
    }
    return in.make_string(dump_json(in.budget(), value, style));
}

constexpr std::array filters = {
    FilterEntry{"capitalize", converted<to_capitalized>},
    FilterEntry{"center", center},
    FilterEntry{"e", escape},
    FilterEntry{"escape", escape},
    FilterEntry{"forceescape", force_escape},
    FilterEntry{"format", format},
    FilterEntry{"indent", indent},
    FilterEntry{"lower", converted<to_lower>},
    FilterEntry{"replace", replace},
    FilterEntry{"safe", safe},
    FilterEntry{"string", string},
    FilterEntry{"title", converted<title_words>},
    FilterEntry{"tojson", to_json},
    FilterEntry{"trim", trim},
    FilterEntry{"truncate", truncate},
    FilterEntry{"upper", converted<to_upper>},
    FilterEntry{"urlencode", url_encode},
    FilterEntry{"wordcount", word_count},
};

}  // namespace

std::span<const FilterEntry> text_filters() {
    return filters;
}

}  // namespace mixserve::text::jinja
