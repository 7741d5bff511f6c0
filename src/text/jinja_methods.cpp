#include <algorithm>
#include <array>
#include <unordered_map>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_objects.h"
#include "text/jinja_params.h"

namespace mixserve::text::jinja {
namespace {

Value dict_get(Interpreter& in, const Value& self, const Args& args) {
    const Params params("get", args, {"key", "default"}, 1);
    const Value* value = self.if_dict()->find(in.budget(), *params[0]);
    return value ? *value : params.get(1);
}

Value view(Interpreter& in, const char* kind, std::vector<Value> items) {
    return Value::object(std::make_shared<DictView>(kind, in.make_list(std::move(items))));
}

Value dict_items(Interpreter& in, const Value& self, const Args& args) {
    const Params params("items", args, {});
    std::vector<Value> items;
    for (const auto& [key, value] : self.if_dict()->items)
        items.push_back(in.make_tuple({key, value}));
    return view(in, "dict_items", std::move(items));
}

Value dict_keys(Interpreter& in, const Value& self, const Args& args) {
    const Params params("keys", args, {});
    std::vector<Value> items;
    for (const auto& [key, value] : self.if_dict()->items)
        items.push_back(key);
    return view(in, "dict_keys", std::move(items));
}

Value dict_values(Interpreter& in, const Value& self, const Args& args) {
    const Params params("values", args, {});
    std::vector<Value> items;
    for (const auto& [key, value] : self.if_dict()->items)
        items.push_back(value);
    return view(in, "dict_values", std::move(items));
}

/// Nothing changes lists and dicts, so the same one serves.
Value copy(Interpreter&, const Value& self, const Args& args) {
    const Params params("copy", args, {});
    return self;
}

Value seq_count(Interpreter& in, const Value& self, const Args& args) {
    const Params params("count", args, {"value"}, 1);
    Int n = 0;
    for (const Value& item : self.if_seq()->items)
        n += equals(in.budget(), item, *params[0]);
    return Value::integer(n);
}

Value seq_index(Interpreter& in, const Value& self, const Args& args) {
    const Params params("index", args, {"value", "start", "stop"}, 1);
    const auto& items = self.if_seq()->items;
    const Int length = static_cast<Int>(items.size());
    const auto bound = [&](size_t i, Int otherwise) {
        const Int at = params.integer(i, otherwise);
        return std::clamp<Int>(at < 0 ? at + length : at, 0, length);
    };
    const Int stop = bound(2, length);
    for (Int i = bound(1, 0); i < stop; ++i) {
        if (equals(in.budget(), items[static_cast<size_t>(i)], *params[0])) return Value::integer(i);
    }
    raise("the value is not in the {}", type_name(self));
}

constexpr std::array of_dict = {
    MethodEntry{"get", dict_get},       MethodEntry{"items", dict_items}, MethodEntry{"keys", dict_keys},
    MethodEntry{"values", dict_values}, MethodEntry{"copy", copy},        MethodEntry{"clear", nullptr},
    MethodEntry{"pop", nullptr},        MethodEntry{"popitem", nullptr},  MethodEntry{"setdefault", nullptr},
    MethodEntry{"update", nullptr},
};

constexpr std::array of_tuple = {MethodEntry{"count", seq_count}, MethodEntry{"index", seq_index}};

constexpr std::array of_list = {
    MethodEntry{"count", seq_count}, MethodEntry{"index", seq_index}, MethodEntry{"copy", copy},
    MethodEntry{"append", nullptr},  MethodEntry{"clear", nullptr},   MethodEntry{"extend", nullptr},
    MethodEntry{"insert", nullptr},  MethodEntry{"pop", nullptr},     MethodEntry{"remove", nullptr},
    MethodEntry{"reverse", nullptr}, MethodEntry{"sort", nullptr},
};

using MethodTable = std::unordered_map<std::string_view, const MethodEntry*>;

MethodTable table(std::span<const MethodEntry> entries) {
    MethodTable out;
    for (const MethodEntry& entry : entries)
        out.emplace(entry.name, &entry);
    return out;
}

}  // namespace

const MethodEntry* find_method(const Value& object, std::string_view name) {
    static const MethodTable strings = table(string_methods());
    static const MethodTable dicts = table(of_dict);
    static const MethodTable lists = table(of_list);
    static const MethodTable tuples = table(of_tuple);
    const MethodTable* methods = nullptr;
    if (object.is_str())
        methods = &strings;
    else if (object.if_dict())
        methods = &dicts;
    else if (const Seq* seq = object.if_seq())
        methods = seq->tuple ? &tuples : &lists;
    if (!methods) return nullptr;
    const auto found = methods->find(name);
    return found == methods->end() ? nullptr : found->second;
}

std::string unsafe_attribute(const Value& object, std::string_view name) {
    return fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object));
}

}  // namespace mixserve::text::jinja
