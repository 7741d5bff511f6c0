#include <algorithm>
#include <array>
#include <unordered_set>

#include "text/jinja_attribute_path.h"
#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_objects.h"
#include "text/jinja_ops.h"
#include "text/jinja_params.h"
#include "text/jinja_string_ops.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

Value ignore_case(Interpreter& in, const Value& value, bool case_sensitive) {
    const Str* s = value.if_str();
    return !s || case_sensitive ? value : in.make_string(to_lower(s->bytes));
}

/// Sorts stably by keys, ascending or descending.
std::vector<Value> sorted_by(Interpreter& in, std::vector<Value> items, const std::vector<Value>& keys,
                             bool reverse) {
    std::vector<size_t> order(items.size());
    for (size_t i = 0; i < order.size(); ++i)
        order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return reverse ? less(in.budget(), keys[b], keys[a]) : less(in.budget(), keys[a], keys[b]);
    });
    std::vector<Value> out;
    out.reserve(items.size());
    for (const size_t i : order)
        out.push_back(items[i]);
    return out;
}

Value first(Interpreter&, const Value& value, const Args& args) {
    const Params params("first", args, {});
    const auto item = iterate(value)->next();
    return item ? *item : Value::undefined("No first item, sequence was empty.");
}

/// The items from the end; raises for what has no end to start from.
std::vector<Value> reversed_items(Interpreter& in, const Value& value) {
    Object* object = value.if_object();
    if (object && !object->length()) raise("'{}' object is not reversible", type_name(value));
    std::vector<Value> items = items_of(in.budget(), value);
    std::reverse(items.begin(), items.end());
    return items;
}

Value last(Interpreter& in, const Value& value, const Args& args) {
    const Params params("last", args, {});
    if (value.if_seq() || value.is_str()) {
        const auto item = element(value, -1);
        return item ? *item : Value::undefined("No last item, sequence was empty.");
    }
    const std::vector<Value> items = reversed_items(in, value);
    return items.empty() ? Value::undefined("No last item, sequence was empty.") : items[0];
}

Value length(Interpreter& in, const Value& value, const Args& args) {
    const Params params("length", args, {});
    if (const Str* s = value.if_str()) in.budget().scan(s->bytes.size());
    return Value::integer(length_of(value));
}

Value list(Interpreter& in, const Value& value, const Args& args) {
    const Params params("list", args, {});
    return in.make_list(items_of(in.budget(), value));
}

Value join(Interpreter& in, const Value& value, const Args& args) {
    const Params params("join", args, {"d", "attribute"});
    const std::string separator = params[0] ? in.text(*params[0]) : std::string();
    const AttributePath path(params.get(1));
    const auto items = iterate(value);
    std::string out;
    bool any = false;
    while (const auto item = items->next()) {
        in.budget().steps(1);
        if (any) out += separator;
        in.budget().bytes(static_cast<int64_t>(separator.size()));
        out += in.text(path.get(in, *item));
        any = true;
        if (out.size() > static_cast<size_t>(Budget::max_string_bytes))
            in.budget().string(static_cast<Int>(out.size()));
    }
    return in.make_string(std::move(out));
}

Value reverse(Interpreter& in, const Value& value, const Args& args) {
    const Params params("reverse", args, {});
    if (value.is_str()) return slice(in.budget(), value, Value(), Value(), Value::integer(-1));
    std::vector<Value> items = items_of(in.budget(), value);
    std::reverse(items.begin(), items.end());
    Object* object = value.if_object();
    if (object && !object->length()) return in.make_list(std::move(items));
    const int depth = depth_of(items);
    const auto source = iterate_items(std::move(items));
    return Value::object(std::make_shared<Generator>(
        "list_reverseiterator", [source] { return source->next(); }, depth));
}

Value sort(Interpreter& in, const Value& value, const Args& args) {
    const Params params("sort", args, {"reverse", "case_sensitive", "attribute"});
    std::vector<AttributePath> paths;
    if (const Str* several = params[2] ? params[2]->if_str() : nullptr) {
        for (const std::string_view path : split_left(several->bytes, ",", -1))
            paths.emplace_back(Value::string(std::string(path)));
    } else {
        paths.emplace_back(params.get(2));
    }
    std::vector<Value> items = items_of(in.budget(), value);
    std::vector<Value> keys;
    for (const Value& item : items) {
        std::vector<Value> key;
        for (const AttributePath& path : paths)
            key.push_back(ignore_case(in, path.get(in, item), params.flag(1, false)));
        keys.push_back(in.make_list(std::move(key)));
    }
    return in.make_list(sorted_by(in, std::move(items), keys, params.flag(0, false)));
}

Value dict_sort(Interpreter& in, const Value& value, const Args& args) {
    const Params params("dictsort", args, {"case_sensitive", "by", "reverse"});
    const std::string by = params.string(1, "key");
    if (by != "key" && by != "value") raise("You can only sort by either \"key\" or \"value\"");
    const Dict* dict = value.if_dict();
    if (!dict) raise("'{}' object has no attribute 'items'", type_name(value));
    std::vector<Value> items, keys;
    for (const auto& [key, item] : dict->items) {
        items.push_back(in.make_tuple({key, item}));
        keys.push_back(ignore_case(in, by == "key" ? key : item, params.flag(0, false)));
    }
    return in.make_list(sorted_by(in, std::move(items), keys, params.flag(2, false)));
}

NextItem walk(std::vector<Value> items) {
    return [source = iterate_items(std::move(items))] { return source->next(); };
}

NextItem start_unique(Interpreter& in, const Value& value, const Args& args) {
    const Params params("unique", args, {"case_sensitive", "attribute"});
    const AttributePath path(params.get(1));
    std::vector<Value> kept, other_keys;
    std::unordered_set<std::string> seen;
    for (Value& item : items_of(in.budget(), value)) {
        const Value key = ignore_case(in, path.get(in, item), params.flag(0, false));
        if (!is_hashable(key)) raise("unhashable type: '{}'", type_name(key));
        if (const Str* s = key.if_str()) {
            if (!seen.insert(s->bytes).second) continue;
        } else {
            const bool known = std::any_of(other_keys.begin(), other_keys.end(),
                                           [&](const Value& k) { return equals(in.budget(), k, key); });
            if (known) continue;
            other_keys.push_back(key);
        }
        kept.push_back(std::move(item));
    }
    return walk(std::move(kept));
}

template <bool largest>
Value extreme(Interpreter& in, const Value& value, const Args& args) {
    const Params params(largest ? "max" : "min", args, {"case_sensitive", "attribute"});
    const AttributePath path(params.get(1));
    const std::vector<Value> items = items_of(in.budget(), value);
    if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
    size_t best = 0;
    Value best_key;
    for (size_t i = 0; i < items.size(); ++i) {
        const Value key = ignore_case(in, path.get(in, items[i]), params.flag(0, false));
        if (i > 0 && !(largest ? less(in.budget(), best_key, key) : less(in.budget(), key, best_key)))
            continue;
        best = i;
        best_key = key;
    }
    return items[best];
}

Value sum(Interpreter& in, const Value& value, const Args& args) {
    const Params params("sum", args, {"attribute", "start"});
    const AttributePath path(params.get(0));
    Value total = params.get(1, Value::integer(0));
    if (total.is_str()) raise("sum() can't sum strings [use ''.join(seq) instead]");
    const auto items = iterate(value);
    while (const auto item = items->next()) {
        in.budget().steps(1);
        total = binary(in.budget(), node::BinaryOp::add, total, path.get(in, *item));
    }
    return total;
}

NextItem start_batch(Interpreter& in, const Value& value, const Args& args) {
    const Params params("batch", args, {"linecount", "fill_with"}, 1);
    const Int size = params.integer(0, 1);
    std::vector<Value> batches, row;
    for (Value& item : items_of(in.budget(), value)) {
        if (static_cast<Int>(row.size()) == size) batches.push_back(in.make_list(std::exchange(row, {})));
        row.push_back(std::move(item));
    }
    if (!row.empty()) {
        if (params.given(1) && static_cast<Int>(row.size()) < size) {
            in.budget().items(size);
            row.resize(static_cast<size_t>(size), *params[1]);
        }
        batches.push_back(in.make_list(std::move(row)));
    }
    return walk(std::move(batches));
}

NextItem start_slice(Interpreter& in, const Value& value, const Args& args) {
    const Params params("slice", args, {"slices", "fill_with"}, 1);
    const Int n = params.integer(0, 1);
    if (n == 0) raise("integer division or modulo by zero");
    const std::vector<Value> items = items_of(in.budget(), value);
    const Int size = static_cast<Int>(items.size());
    std::vector<Value> columns;
    Int at = 0;
    for (Int i = 0; i < n; ++i) {
        in.budget().steps(1);
        const Int count = size / n + (i < size % n ? 1 : 0);
        std::vector<Value> column(items.begin() + static_cast<std::ptrdiff_t>(at),
                                  items.begin() + static_cast<std::ptrdiff_t>(at + count));
        if (params.given(1) && i >= size % n) column.push_back(*params[1]);
        columns.push_back(in.make_list(std::move(column)));
        at += count;
    }
    return walk(std::move(columns));
}

Value group_by(Interpreter& in, const Value& value, const Args& args) {
    const Params params("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
    const AttributePath path(*params[0], params.given(1) ? std::optional(*params[1]) : std::nullopt);
    const bool case_sensitive = params.flag(2, false);
    const auto key_of = [&](const Value& item) {
        return ignore_case(in, path.get(in, item), case_sensitive);
    };
    std::vector<Value> items = items_of(in.budget(), value);
    std::vector<Value> keys;
    for (const Value& item : items)
        keys.push_back(key_of(item));
    items = sorted_by(in, std::move(items), keys, false);
    std::vector<Value> groups;
    for (size_t begin = 0; begin < items.size();) {
        const Value key = key_of(items[begin]);
        size_t end = begin + 1;
        while (end < items.size() && equals(in.budget(), key_of(items[end]), key))
            ++end;
        const Value members = in.make_list({items.begin() + static_cast<std::ptrdiff_t>(begin),
                                            items.begin() + static_cast<std::ptrdiff_t>(end)});
        Seq group{{path.get(in, items[begin]), members}, true, true, 1, false};
        group.depth = nested_depth(depth_of(group.items));
        groups.push_back(Value(Value::Storage(std::make_shared<const Seq>(std::move(group)))));
        begin = end;
    }
    return in.make_list(std::move(groups));
}

NextItem start_items(Interpreter& in, const Value& value, const Args& args) {
    const Params params("items", args, {});
    if (!value.if_dict() && !value.is_undefined()) raise("Can only get item pairs from a mapping.");
    return [&in, value, i = size_t{0}]() mutable -> std::optional<Value> {
        const Dict* dict = value.if_dict();
        if (!dict || i >= dict->items.size()) return std::nullopt;
        const auto& [key, item] = dict->items[i++];
        return in.make_tuple({key, item});
    };
}

template <StartGenerator start>
Value generated(Interpreter& in, const Value& value, const Args& args) {
    return make_generator(in, value, args, start);
}

Value default_value(Interpreter&, const Value& value, const Args& args) {
    const Params params("default", args, {"default_value", "boolean"});
    if (value.is_undefined() || (params.flag(1, false) && !truthy(value)))
        return params.get(0, Value::string(""));
    return value;
}

Value attr(Interpreter& in, const Value& value, const Args& args) {
    const Params params("attr", args, {"name"}, 1);
    const std::string& name = params.string(0, "");
    // Unlike `value.name`, an item of a dict is no attribute.
    if (value.if_dict() && !find_method(value, name)) return Value::undefined_of(value, *params[0]);
    return in.get_attribute(value, name);
}

constexpr std::array filters = {
    FilterEntry{"attr", attr},
    FilterEntry{"batch", generated<start_batch>},
    FilterEntry{"count", length},
    FilterEntry{"d", default_value},
    FilterEntry{"default", default_value},
    FilterEntry{"dictsort", dict_sort},
    FilterEntry{"first", first},
    FilterEntry{"groupby", group_by},
    FilterEntry{"items", generated<start_items>},
    FilterEntry{"join", join},
    FilterEntry{"last", last},
    FilterEntry{"length", length},
    FilterEntry{"list", list},
    FilterEntry{"max", extreme<true>},
    FilterEntry{"min", extreme<false>},
    FilterEntry{"reverse", reverse},
    FilterEntry{"slice", generated<start_slice>},
    FilterEntry{"sort", sort},
    FilterEntry{"sum", sum},
    FilterEntry{"unique", generated<start_unique>},
};

}  // namespace

std::span<const FilterEntry> sequence_filters() {
    return filters;
}

}  // namespace mixserve::text::jinja
