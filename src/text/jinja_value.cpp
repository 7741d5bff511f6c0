#include "text/jinja_value.h"

#include <algorithm>

#include "text/jinja_print.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {

void Budget::string(Int n) {
    if (n > max_string_bytes)
        raise("the template makes a string of more than {} MiB", max_string_bytes >> 20);
    bytes(static_cast<int64_t>(n) + 64);
}

void Budget::items(Int n) {
    if (n > max_bytes) raise("the template makes a list of more than {} items", max_bytes);
    bytes((static_cast<int64_t>(n) + 2) * static_cast<int64_t>(sizeof(Value)));
}

std::string Undefined::message() const {
    if (!hint.empty()) return hint;
    if (object.empty()) return fmt::format("'{}' is undefined", name);
    if (is_element) return fmt::format("{} has no element {}", object, name);
    return fmt::format("'{}' has no attribute '{}'", object, name);
}

Value Value::string(std::string bytes, bool markup) {
    const bool ascii = is_ascii(bytes);
    return Value(Storage(std::make_shared<const Str>(Str{std::move(bytes), ascii, markup})));
}

Value Value::undefined(std::string hint) {
    return Value(Storage(std::make_shared<const Undefined>(Undefined{std::move(hint), {}, {}, false})));
}

Value Value::undefined_name(std::string_view name) {
    return Value(Storage(std::make_shared<const Undefined>(Undefined{{}, std::string(name), {}, false})));
}

Value Value::undefined_of(const Value& object, const Value& key) {
    Undefined undefined;
    undefined.object = object.is_none() ? "None" : type_name(object) + " object";
    undefined.is_element = !key.is_str();
    constexpr size_t longest = 100;  // of what a message repeats
    if (const Str* s = key.if_str()) {
        undefined.name = s->bytes.size() <= longest
                             ? s->bytes
                             : s->bytes.substr(0, offset_of_char(s->bytes, longest)) + "...";
    } else if (key.depth() > 0) {
        undefined.name = fmt::format("<{}>", type_name(key));
    } else {
        Budget budget;
        undefined.name = repr(budget, key);
    }
    return Value(Storage(std::make_shared<const Undefined>(std::move(undefined))));
}

int nested_depth(int depth_inside) {
    if (depth_inside >= max_value_depth) raise("values nest deeper than {}", max_value_depth);
    return depth_inside + 1;
}

int depth_of(const std::vector<Value>& items) {
    int depth = 0;
    for (const Value& item : items)
        depth = std::max(depth, item.depth());
    return depth;
}

Value Value::list(std::vector<Value> items) {
    const int depth = nested_depth(depth_of(items));
    return Value(Storage(std::make_shared<const Seq>(Seq{std::move(items), false, false, depth, false})));
}

Value Value::tuple(std::vector<Value> items) {
    const int depth = nested_depth(depth_of(items));
    const bool hashable = std::all_of(items.begin(), items.end(), is_hashable);
    return Value(Storage(std::make_shared<const Seq>(Seq{std::move(items), true, false, depth, hashable})));
}

Value Value::dict(Dict dict) {
    int depth = 0;
    for (const auto& [key, value] : dict.items)
        depth = std::max({depth, key.depth(), value.depth()});
    dict.depth = nested_depth(depth);
    return Value(Storage(std::make_shared<const Dict>(std::move(dict))));
}

std::optional<Int> Value::if_int() const {
    if (const Int* i = std::get_if<Int>(&data_)) return *i;
    if (const bool* b = std::get_if<bool>(&data_)) return *b ? 1 : 0;
    return std::nullopt;
}

std::optional<double> Value::if_number() const {
    if (const double* d = std::get_if<double>(&data_)) return *d;
    if (const auto i = if_int()) return static_cast<double>(*i);
    return std::nullopt;
}

int Value::depth() const {
    if (const Seq* seq = if_seq()) return seq->depth;
    if (const Dict* dict = if_dict()) return dict->depth;
    if (const Object* object = if_object()) return object->depth;
    return 0;
}

namespace {

constexpr size_t index_from = 16;  // entries, from which a hash index pays

}  // namespace

void Dict::index() {
    if (items.size() < index_from) return;
    if (items.size() == index_from) {
        for (size_t i = 0; i + 1 < items.size(); ++i) {
            if (const Str* s = items[i].first.if_str()) index_.emplace(s->bytes, i);
        }
    }
    if (const Str* s = items.back().first.if_str()) index_.emplace(s->bytes, items.size() - 1);
}

std::optional<size_t> Dict::position(std::string_view key) const {
    if (items.size() >= index_from) {
        const auto found = index_.find(key);
        return found == index_.end() ? std::nullopt : std::optional(found->second);
    }
    for (size_t i = 0; i < items.size(); ++i) {
        const Str* s = items[i].first.if_str();
        if (s && s->bytes == key) return i;
    }
    return std::nullopt;
}

std::optional<size_t> Dict::position(Budget& budget, const Value& key) const {
    if (!is_hashable(key)) raise("unhashable type: '{}'", type_name(key));
    if (const Str* s = key.if_str()) return position(s->bytes);
    for (size_t i = 0; i < items.size(); ++i) {
        if (equals(budget, items[i].first, key)) return i;
    }
    return std::nullopt;
}

const Value* Dict::find(Budget& budget, const Value& key) const {
    const auto at = position(budget, key);
    return at ? &items[*at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
    const auto at = position(key);
    return at ? &items[*at].second : nullptr;
}

void Dict::set(Budget& budget, Value key, Value value) {
    budget.items(2);
    if (const auto at = position(budget, key)) {
        items[*at].second = std::move(value);
        return;
    }
    items.emplace_back(std::move(key), std::move(value));
    index();
}

std::string type_name(const Value& value) {
    struct Visitor {
        std::string operator()(None) const { return "NoneType"; }
        std::string operator()(const std::shared_ptr<const Undefined>&) const { return "Undefined"; }
        std::string operator()(bool) const { return "bool"; }
        std::string operator()(Int) const { return "int"; }
        std::string operator()(double) const { return "float"; }
        std::string operator()(const std::shared_ptr<const Str>& s) const {
            return s->markup ? "Markup" : "str";
        }
        std::string operator()(const std::shared_ptr<const Seq>& s) const {
            return s->tuple ? "tuple" : "list";
        }
        std::string operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
        std::string operator()(const std::shared_ptr<Object>& o) const { return o->type_name(); }
    };
    return std::visit(Visitor{}, value.data());
}

bool truthy(const Value& value) {
    if (value.is_undefined() || value.is_none()) return false;
    if (const Str* s = value.if_str()) return !s->bytes.empty();
    if (const Seq* s = value.if_seq()) return !s->items.empty();
    if (const Dict* d = value.if_dict()) return !d->items.empty();
    if (Object* o = value.if_object()) return o->length().value_or(1) != 0;
    return *value.if_number() != 0;
}

bool is_hashable(const Value& value) {
    if (value.if_dict()) return false;
    if (const Object* object = value.if_object()) return object->hashable();
    const Seq* seq = value.if_seq();
    return !seq || seq->hashable;
}

Int length_of(const Value& value) {
    if (value.is_undefined()) return 0;
    if (const Str* s = value.if_str())
        return static_cast<Int>(s->ascii ? s->bytes.size() : count_chars(s->bytes));
    if (const Seq* s = value.if_seq()) return static_cast<Int>(s->items.size());
    if (const Dict* d = value.if_dict()) return static_cast<Int>(d->items.size());
    if (Object* o = value.if_object()) {
        if (const auto n = o->length()) return *n;
    }
    raise("object of type '{}' has no len()", type_name(value));
}

Value from_json(const ordered_json& source, int depth) {
    if (depth >= max_value_depth) raise("the context nests deeper than {}", max_value_depth);
    switch (source.type()) {
        case ordered_json::value_t::null:
            return Value();
        case ordered_json::value_t::boolean:
            return Value::boolean(source.get<bool>());
        case ordered_json::value_t::number_integer:
            return Value::integer(source.get<int64_t>());
        case ordered_json::value_t::number_unsigned:
            return Value::integer(source.get<uint64_t>());
        case ordered_json::value_t::number_float:
            return Value::number(source.get<double>());
        case ordered_json::value_t::string:
            return Value::string(source.get_ref<const std::string&>());
        case ordered_json::value_t::array: {
            std::vector<Value> items;
            items.reserve(source.size());
            for (const auto& item : source)
                items.push_back(from_json(item, depth + 1));
            return Value::list(std::move(items));
        }
        case ordered_json::value_t::object: {
            Dict dict;
            Budget budget;
            for (const auto& [key, item] : source.items()) {
                dict.set(budget, Value::string(key), from_json(item, depth + 1));
            }
            return Value::dict(std::move(dict));
        }
        default:
            raise("the context holds a value that is not JSON");
    }
}

}  // namespace mixserve::text::jinja
