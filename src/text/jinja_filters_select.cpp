#include <array>

#include "text/jinja_attribute_path.h"
#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_objects.h"
#include "text/jinja_params.h"

namespace mixserve::text::jinja {
namespace {

/// An empty or false source gives nothing, whatever the arguments.
NextItem nothing() {
    return [] { return std::nullopt; };
}

Args rest_of(const Args& args, size_t from) {
    return {{args.positional.begin() + static_cast<std::ptrdiff_t>(std::min(from, args.positional.size())),
             args.positional.end()},
            args.named};
}

const std::string& name_of(const Value& value, const char* what) {
    const Str* s = value.if_str();
    if (!s) raise("the name of a {} must be str, not {}", what, type_name(value));
    return s->bytes;
}

NextItem start_map(Interpreter& in, const Value& source, const Args& args) {
    if (!truthy(source)) return nothing();
    const auto items = iterate(source);
    if (args.positional.empty() && !args.named.empty()) {
        const Params params("map", args, {"attribute", "default"}, 1);
        const AttributePath path(*params[0], params.given(1) ? std::optional(*params[1]) : std::nullopt);
        return [&in, items, path]() -> std::optional<Value> {
            const auto item = items->next();
            return item ? std::optional(path.get(in, *item)) : std::nullopt;
        };
    }
    if (args.positional.empty()) raise("map requires a filter argument");
    const std::string filter = name_of(args.positional[0], "filter");
    return [&in, items, filter, rest = rest_of(args, 1)]() -> std::optional<Value> {
        const auto item = items->next();
        return item ? std::optional(in.apply_filter(filter, *item, rest)) : std::nullopt;
    };
}

template <bool wanted, bool by_attribute>
NextItem start_select(Interpreter& in, const Value& source, const Args& args) {
    if (!truthy(source)) return nothing();
    if (by_attribute && args.positional.empty()) raise("Missing parameter for attribute name");
    const auto items = iterate(source);
    const size_t at = by_attribute ? 1 : 0;
    const AttributePath path(by_attribute ? args.positional[0] : Value());
    const bool has_test = args.positional.size() > at;
    const std::string test = has_test ? name_of(args.positional[at], "test") : std::string();
    return [&in, items, path, has_test, test, rest = rest_of(args, at + 1)]() -> std::optional<Value> {
        while (auto item = items->next()) {
            in.budget().steps(1);
            const Value tested = path.get(in, *item);
            const bool holds = has_test ? in.apply_test(test, tested, rest) : truthy(tested);
            if (holds == wanted) return item;
        }
        return std::nullopt;
    };
}

template <StartGenerator start>
Value generated(Interpreter& in, const Value& value, const Args& args) {
    return make_generator(in, value, args, start);
}

constexpr std::array filters = {
    FilterEntry{"map", generated<start_map>},
    FilterEntry{"reject", generated<start_select<false, false>>},
    FilterEntry{"rejectattr", generated<start_select<false, true>>},
    FilterEntry{"select", generated<start_select<true, false>>},
    FilterEntry{"selectattr", generated<start_select<true, true>>},
};

}  // namespace

std::span<const FilterEntry> selection_filters() {
    return filters;
}

}  // namespace mixserve::text::jinja
