#include "text/jinja_objects.h"

#include <algorithm>

#include "text/jinja_ops.h"
#include "text/jinja_print.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

template <class Next>
class FunctionIterator final : public Iterator {
  public:
    explicit FunctionIterator(Next next) : next_(std::move(next)) {}
    std::optional<Value> next() override { return next_(); }

  private:
    Next next_;
};

template <class Next>
std::shared_ptr<Iterator> make_iterator(Next next) {
    return std::make_shared<FunctionIterator<Next>>(std::move(next));
}

/// Keeps `owner` alive, whose items are walked.
std::shared_ptr<Iterator> iterate_seq(const Value& owner) {
    return make_iterator([owner, i = size_t{0}]() mutable -> std::optional<Value> {
        const auto& items = owner.if_seq()->items;
        return i < items.size() ? std::optional(items[i++]) : std::nullopt;
    });
}

}  // namespace

std::shared_ptr<Iterator> iterate_items(std::vector<Value> items) {
    return make_iterator([items = std::move(items), i = size_t{0}]() mutable -> std::optional<Value> {
        return i < items.size() ? std::optional(items[i++]) : std::nullopt;
    });
}

bool iterable(const Value& value) {
    if (Object* o = value.if_object()) return o->iterate() != nullptr;
    return value.is_undefined() || value.is_str() || value.if_seq() || value.if_dict();
}

std::shared_ptr<Iterator> iterate(const Value& value) {
    if (value.is_undefined()) return iterate_items({});
    if (value.if_seq()) return iterate_seq(value);
    if (value.if_dict()) {
        return make_iterator([value, i = size_t{0}]() mutable -> std::optional<Value> {
            const auto& items = value.if_dict()->items;
            return i < items.size() ? std::optional(items[i++].first) : std::nullopt;
        });
    }
    if (value.is_str()) {
        return make_iterator([value, pos = size_t{0}]() mutable -> std::optional<Value> {
            const Str& s = *value.if_str();
            if (pos >= s.bytes.size()) return std::nullopt;
            const size_t begin = pos;
            read_char(s.bytes, pos);
            return Value::string(s.bytes.substr(begin, pos - begin), s.markup);
        });
    }
    if (Object* o = value.if_object()) {
        if (auto items = o->iterate()) return items;
    }
    raise("'{}' object is not iterable", type_name(value));
}

std::vector<Value> items_of(Budget& budget, const Value& value) {
    std::vector<Value> items;
    const auto source = iterate(value);
    while (auto item = source->next()) {
        budget.steps(1);
        budget.items(1);
        items.push_back(std::move(*item));
    }
    return items;
}

BoundMethod::BoundMethod(Value self, const MethodEntry* entry) : self_(std::move(self)), entry_(entry) {
    depth = nested_depth(self_.depth());
}

std::string BoundMethod::repr(Budget&, int) const {
    return fmt::format("<built-in method {} of {} object>", entry_->name, jinja::type_name(self_));
}

Range::Range(Int start, Int stop, Int step) : start_(start), stop_(stop), step_(step) {
    const Int span = step > 0 ? stop - start : start - stop, stride = step > 0 ? step : -step;
    count_ = span <= 0 ? 0 : (span + stride - 1) / stride;
}

std::string Range::repr(Budget&, int) const {
    return step_ == 1 ? fmt::format("range({}, {})", start_, stop_)
                      : fmt::format("range({}, {}, {})", start_, stop_, step_);
}

std::optional<Value> Range::item(Interpreter&, const Value& key) {
    auto i = key.if_int();
    if (i && *i < 0) *i += count_;
    if (!i || *i < 0 || *i >= count_) return std::nullopt;
    return Value::integer(start_ + *i * step_);
}

std::shared_ptr<Iterator> Range::iterate() {
    return make_iterator(
        [start = start_, step = step_, count = count_, i = Int{0}]() mutable -> std::optional<Value> {
            return i < count ? std::optional(Value::integer(start + step * i++)) : std::nullopt;
        });
}

Value Range::slice(const Value& start, const Value& stop, const Value& step) const {
    const SliceRange part = resolve_slice(count_, start, stop, step);
    return Value::object(
        std::make_shared<Range>(start_ + part.first * step_, start_ + part.last * step_, step_ * part.step));
}

DictView::DictView(std::string kind, Value items) : kind_(std::move(kind)), items_(std::move(items)) {
    depth = nested_depth(items_.depth());
}

std::string DictView::repr(Budget& budget, int level) const {
    std::string out = kind_ + "(";
    append_repr(budget, items_, out, level + 1);
    return out + ")";
}

std::shared_ptr<Iterator> DictView::iterate() {
    return iterate_seq(items_);
}

std::optional<Int> DictView::length() {
    return static_cast<Int>(items_.if_seq()->items.size());
}

Generator::Generator(std::string kind, NextItem next, int depth_inside)
    : kind_(std::move(kind)), iterator_(make_iterator(std::move(next))) {
    depth = nested_depth(depth_inside);
}

Value make_generator(Interpreter& in, const Value& source, const Args& args, StartGenerator start) {
    int depth = std::max(source.depth(), depth_of(args.positional));
    for (const auto& [name, value] : args.named)
        depth = std::max(depth, value.depth());
    in.budget().bytes(256);
    NextItem next = [&in, source, args, start, body = NextItem()]() mutable {
        in.budget().steps(1);
        if (!body) body = start(in, source, args);
        return body();
    };
    return Value::object(std::make_shared<Generator>("generator", std::move(next), depth));
}

std::string Namespace::repr(Budget& budget, int level) const {
    std::string out = "<Namespace {";
    for (size_t i = 0; i < attributes_.items.size(); ++i) {
        if (i) out += ", ";
        append_repr(budget, attributes_.items[i].first, out, level + 1);
        out += ": ";
        append_repr(budget, attributes_.items[i].second, out, level + 1);
    }
    return out + "}>";
}

std::optional<Value> Namespace::attribute(Interpreter&, std::string_view name) {
    const Value* value = attributes_.find(name);
    return value ? std::optional(*value) : std::nullopt;
}

void Namespace::check_name(std::string_view name) {
    if (!name.empty() && name[0] == '_') {
        raise(
            "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'. Please "
            "rename the attribute.",
            name);
    }
}

void Namespace::set(Budget& budget, const std::string& name, Value value) {
    check_name(name);
    attributes_.set(budget, Value::string(name), std::move(value));
}

std::optional<Value> Macro::attribute(Interpreter&, std::string_view name) {
    if (name == "name") return Value::string(macro_.name);
    return std::nullopt;
}

}  // namespace mixserve::text::jinja
