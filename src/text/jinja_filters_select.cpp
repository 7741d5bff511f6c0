#include <array>

#include "text/jinja_attribute_path.h"
#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_objects.h"
#include "text/jinja_params.h"

namespace mixserve::text::jinja {
namespace {

int depth_of_args(const Args& args) {
    int depth = depth_of(args.positional);
    for (const auto& [name, value] : args.named)
        depth = std::max(depth, value.depth());
    return depth;
}

Value generator(Interpreter& in, const Value& source, const Args& args,
                std::function<std::optional<Value>()> next) {
    in.budget().bytes(256);
    return Value::object(std::make_shared<Generator>("generator", std::move(next),
                                                     std::max(source.depth(), depth_of_args(args))));
}

/// An empty or false source gives nothing, whatever the arguments.
std::shared_ptr<Iterator> walk(const Value& source) {
    return truthy(source) ? iterate(source) : iterate_items({});
}

Args rest_of(const Args& args, size_t from) {
    Args rest{{args.positional.begin() + static_cast<std::ptrdiff_t>(std::min(from, args.positional.size())),
               args.positional.end()},
              args.named};
    return rest;
}

const std::string& name_of(const Value& value, const char* what) {
    const Str* s = value.if_str();
    if (!s) raise("the name of a {} must be str, not {}", what, type_name(value));
    return s->bytes;
}

Value map(Interpreter& in, const Value& value, const Args& args) {
    const auto items = walk(value);
    if (args.positional.empty() && !args.named.empty() && truthy(value)) {
        const Params params("map", args, {"attribute", "default"}, 1);
        const AttributePath path(*params[0], params.given(1) ? std::optional(*params[1]) : std::nullopt);
        return generator(in, value, args, [&in, items, path]() -> std::optional<Value> {
            const auto item = items->next();
            in.budget().steps(1);
            return item ? std::optional(path.get(in, *item)) : std::nullopt;
        });
    }
    if (args.positional.empty() && truthy(value)) raise("map requires a filter argument");
    const std::string filter =
        args.positional.empty() ? std::string() : name_of(args.positional[0], "filter");
    return generator(in, value, args,
                     [&in, items, filter, rest = rest_of(args, 1)]() -> std::optional<Value> {
                         const auto item = items->next();
                         in.budget().steps(1);
                         return item ? std::optional(in.apply_filter(filter, *item, rest)) : std::nullopt;
                     });
}

/// select, reject, selectattr, rejectattr
template <bool wanted, bool by_attribute>
Value select(Interpreter& in, const Value& value, const Args& args) {
    const auto items = walk(value);
    if (by_attribute && args.positional.empty() && truthy(value))
        raise("Missing parameter for attribute name");
    const size_t at = by_attribute ? 1 : 0;
    const AttributePath path(by_attribute && !args.positional.empty() ? args.positional[0] : Value());
    const bool has_test = args.positional.size() > at;
    const std::string test = has_test ? name_of(args.positional[at], "test") : std::string();
    return generator(
        in, value, args,
        [&in, items, path, has_test, test, rest = rest_of(args, at + 1)]() -> std::optional<Value> {
            while (auto item = items->next()) {
                in.budget().steps(1);
                const Value tested = path.get(in, *item);
                const bool holds = has_test ? in.apply_test(test, tested, rest) : truthy(tested);
                if (holds == wanted) return item;
            }
            return std::nullopt;
        });
}

constexpr std::array filters = {
    FilterEntry{"map", map},
    FilterEntry{"reject", select<false, false>},
    FilterEntry{"rejectattr", select<false, true>},
    FilterEntry{"select", select<true, false>},
    FilterEntry{"selectattr", select<true, true>},
};

}  // namespace

std::span<const FilterEntry> selection_filters() {
    return filters;
}

}  // namespace mixserve::text::jinja
