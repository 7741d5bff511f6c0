#include <algorithm>
#include <cmath>

#include "text/jinja_print.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

struct Writer {
    Budget& budget;
    const JsonStyle& style;
    std::string out;

    void unit(uint32_t u) { out += fmt::format("\\u{:04x}", u); }

    void string(std::string_view s) {
        budget.string(static_cast<Int>(s.size()));
        out.push_back('"');
        for (size_t pos = 0; pos < s.size();) {
            const size_t start = pos;
            const char32_t c = read_char(s, pos);
            switch (c) {
                case '"':
                    out += "\\\"";
                    break;
                case '\\':
                    out += "\\\\";
                    break;
                case '\n':
                    out += "\\n";
                    break;
                case '\r':
                    out += "\\r";
                    break;
                case '\t':
                    out += "\\t";
                    break;
                case '\f':
                    out += "\\f";
                    break;
                case '\b':
                    out += "\\b";
                    break;
                default:
                    if (c < 0x20 || (style.ensure_ascii && c > 0x7E && c < 0x10000)) {
                        if (c == 0x7F)
                            out.push_back('\x7F');
                        else
                            unit(c);
                    } else if (style.ensure_ascii && c >= 0x10000) {
                        unit(0xD800 + ((c - 0x10000) >> 10));
                        unit(0xDC00 + ((c - 0x10000) & 0x3FF));
                    } else {
                        out += s.substr(start, pos - start);
                    }
            }
        }
        out.push_back('"');
    }

    void new_line(int level) {
        if (!style.indented) return;
        budget.string(static_cast<Int>(style.indent.size()) * level);
        out.push_back('\n');
        for (int i = 0; i < level; ++i)
            out += style.indent;
    }

    static std::string float_text(double d) {
        if (std::isnan(d)) return "NaN";
        if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
        return repr_float(d);
    }

    std::string key_text(const Value& key) const {
        if (const Str* s = key.if_str()) return s->bytes;
        if (key.is_none()) return "null";
        if (key.is_bool()) return truthy(key) ? "true" : "false";
        if (key.is_float()) return float_text(*key.if_number());
        if (const auto i = key.if_int()) return int_text(*i);
        raise("keys must be str, int, float, bool or None, not {}", type_name(key));
    }

    void dict(const Dict& dict, int level) {
        if (dict.items.empty()) {
            out += "{}";
            return;
        }
        std::vector<const std::pair<Value, Value>*> order;
        for (const auto& item : dict.items)
            order.push_back(&item);
        if (style.sort_keys) {
            std::stable_sort(order.begin(), order.end(), [this](const auto* a, const auto* b) {
                return less(budget, a->first, b->first);
            });
        }
        out.push_back('{');
        for (size_t i = 0; i < order.size(); ++i) {
            if (i) out += style.item_separator;
            new_line(level + 1);
            string(key_text(order[i]->first));
            out += style.key_separator;
            value(order[i]->second, level + 1);
        }
        new_line(level);
        out.push_back('}');
    }

    void seq(const Seq& seq, int level) {
        if (seq.items.empty()) {
            out += "[]";
            return;
        }
        out.push_back('[');
        for (size_t i = 0; i < seq.items.size(); ++i) {
            if (i) out += style.item_separator;
            new_line(level + 1);
            value(seq.items[i], level + 1);
        }
        new_line(level);
        out.push_back(']');
    }

    void value(const Value& v, int level) {
        budget.steps(1);
        if (out.size() > static_cast<size_t>(Budget::max_string_bytes))
            budget.string(static_cast<Int>(out.size()));
        if (v.is_none())
            out += "null";
        else if (v.is_bool())
            out += truthy(v) ? "true" : "false";
        else if (v.is_float())
            out += float_text(*v.if_number());
        else if (const auto i = v.if_int())
            out += int_text(*i);
        else if (const Str* s = v.if_str())
            string(s->bytes);
        else if (const Seq* list = v.if_seq())
            seq(*list, level);
        else if (const Dict* d = v.if_dict())
            dict(*d, level);
        else
            raise("Object of type {} is not JSON serializable", type_name(v));
    }
};

}  // namespace

std::string dump_json(Budget& budget, const Value& value, const JsonStyle& style) {
    Writer writer{budget, style, {}};
    writer.value(value, 0);
    return std::move(writer.out);
}

}  // namespace mixserve::text::jinja
