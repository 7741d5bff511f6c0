#include "text/jinja_ops.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_format.h"
#include "text/jinja_number.h"
#include "text/jinja_objects.h"
#include "text/jinja_print.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

constexpr std::string_view symbol(node::BinaryOp op) {
    switch (op) {
        case node::BinaryOp::add:
            return "+";
        case node::BinaryOp::sub:
            return "-";
        case node::BinaryOp::mul:
            return "*";
        case node::BinaryOp::div:
            return "/";
        case node::BinaryOp::floordiv:
            return "//";
        case node::BinaryOp::mod:
            return "%";
        case node::BinaryOp::pow:
            return "** or pow()";
    }
    return "?";
}

void raise_if_undefined(const Value& value) {
    if (const Undefined* u = value.if_undefined()) raise("{}", u->message());
}

Value integer_op(node::BinaryOp op, Int a, Int b) {
    switch (op) {
        case node::BinaryOp::add:
            return Value::integer(add(a, b));
        case node::BinaryOp::sub:
            return Value::integer(subtract(a, b));
        case node::BinaryOp::mul:
            return Value::integer(multiply(a, b));
        case node::BinaryOp::div:
            if (b == 0) raise("division by zero");
            return Value::number(static_cast<double>(a) / static_cast<double>(b));
        case node::BinaryOp::floordiv:
            return Value::integer(floor_divide(a, b));
        case node::BinaryOp::mod:
            return Value::integer(modulo(a, b));
        case node::BinaryOp::pow:
            if (b >= 0) return Value::integer(power(a, b));
            if (a == 0) raise("0.0 cannot be raised to a negative power");
            return Value::number(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    return {};
}

Value float_op(node::BinaryOp op, double a, double b) {
    switch (op) {
        case node::BinaryOp::add:
            return Value::number(a + b);
        case node::BinaryOp::sub:
            return Value::number(a - b);
        case node::BinaryOp::mul:
            return Value::number(a * b);
        case node::BinaryOp::div:
            if (b == 0) raise("float division by zero");
            return Value::number(a / b);
        case node::BinaryOp::floordiv:
            return Value::number(floor_divide(a, b));
        case node::BinaryOp::mod:
            return Value::number(modulo(a, b));
        case node::BinaryOp::pow: {
            if (a == 0 && b < 0) raise("0.0 cannot be raised to a negative power");
            const double result = std::pow(a, b);
            if (std::isnan(result) && !std::isnan(a) && !std::isnan(b))
                raise("a negative number to a fractional power is complex");
            if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
                raise("(34, 'Numerical result out of range')");
            return Value::number(result);
        }
    }
    return {};
}

/// Markup escapes what is joined to it.
Value concatenate(Budget& budget, const Str& a, const Str& b) {
    budget.string(static_cast<Int>(a.bytes.size()) + static_cast<Int>(b.bytes.size()));
    if (a.markup == b.markup) return Value::string(a.bytes + b.bytes, a.markup);
    return Value::string(a.markup ? a.bytes + escape_html(b.bytes) : escape_html(a.bytes) + b.bytes, true);
}

Value concatenate(Budget& budget, const Seq& a, const Seq& b) {
    budget.items(static_cast<Int>(a.items.size()) + static_cast<Int>(b.items.size()));
    std::vector<Value> items = a.items;
    items.insert(items.end(), b.items.begin(), b.items.end());
    return a.tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value repeat(Budget& budget, const Value& value, Int n) {
    n = std::max<Int>(n, 0);
    if (const Str* s = value.if_str()) {
        if (s->bytes.empty()) return value;
        n = std::min(n, Budget::max_string_bytes + Int{1});
        budget.string(static_cast<Int>(s->bytes.size()) * n);
        std::string out;
        out.reserve(s->bytes.size() * static_cast<size_t>(n));
        for (Int i = 0; i < n; ++i)
            out += s->bytes;
        return Value::string(std::move(out), s->markup);
    }
    const Seq& seq = *value.if_seq();
    std::vector<Value> items;
    if (!seq.items.empty()) {
        n = std::min(n, Budget::max_bytes + Int{1});
        budget.items(static_cast<Int>(seq.items.size()) * n);
        for (Int i = 0; i < n; ++i)
            items.insert(items.end(), seq.items.begin(), seq.items.end());
    }
    return seq.tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

}  // namespace

Value binary(Budget& budget, node::BinaryOp op, const Value& a, const Value& b) {
    if (const Str* pattern = a.if_str(); pattern && op == node::BinaryOp::mod) {
        return format_percent(budget, *pattern, b);
    }
    raise_if_undefined(a);
    raise_if_undefined(b);
    if (op == node::BinaryOp::add) {
        if (a.is_str() && b.is_str()) return concatenate(budget, *a.if_str(), *b.if_str());
        const Seq *x = a.if_seq(), *y = b.if_seq();
        if (x && y && x->tuple == y->tuple) return concatenate(budget, *x, *y);
        if (a.is_str() || x)
            raise("can only concatenate {0} (not \"{1}\") to {0}", type_name(a), type_name(b));
    }
    if (op == node::BinaryOp::mul) {
        if ((a.is_str() || a.if_seq()) && b.if_int()) return repeat(budget, a, *b.if_int());
        if ((b.is_str() || b.if_seq()) && a.if_int()) return repeat(budget, b, *a.if_int());
        if (a.is_str() || a.if_seq()) raise("can't multiply sequence by non-int of type '{}'", type_name(b));
    }
    const auto i = a.if_int(), j = b.if_int();
    if (i && j) return integer_op(op, *i, *j);
    const auto x = a.if_number(), y = b.if_number();
    if (x && y) return float_op(op, *x, *y);
    if (const Dict* d = a.if_dict(), *e = b.if_dict(); d && e && op == node::BinaryOp::add) {
        raise("unsupported operand type(s) for +: 'dict' and 'dict'");
    }
    raise("unsupported operand type(s) for {}: '{}' and '{}'", symbol(op), type_name(a), type_name(b));
}

Value negate(const Value& a) {
    raise_if_undefined(a);
    if (const auto i = a.if_int()) return Value::integer(subtract(0, *i));
    if (const auto d = a.if_number()) return Value::number(-*d);
    raise("bad operand type for unary -: '{}'", type_name(a));
}

Value plus(const Value& a) {
    raise_if_undefined(a);
    if (const auto i = a.if_int()) return Value::integer(*i);
    if (a.if_number()) return a;
    raise("bad operand type for unary +: '{}'", type_name(a));
}

bool contains(Budget& budget, const Value& container, const Value& item) {
    if (const Str* s = container.if_str()) {
        const Str* part = item.if_str();
        if (!part) raise("'in <string>' requires string as left operand, not {}", type_name(item));
        budget.scan(s->bytes.size());
        return s->bytes.find(part->bytes) != std::string::npos;
    }
    if (const Dict* dict = container.if_dict()) return dict->find(budget, item) != nullptr;
    if (const Seq* seq = container.if_seq()) {
        return std::any_of(seq->items.begin(), seq->items.end(),
                           [&](const Value& v) { return equals(budget, v, item); });
    }
    if (!iterable(container)) raise("argument of type '{}' is not iterable", type_name(container));
    const auto items = iterate(container);
    while (const auto v = items->next()) {
        if (equals(budget, *v, item)) return true;
    }
    return false;
}

bool compare_by(Budget& budget, node::CompareOp op, const Value& a, const Value& b) {
    static constexpr const char* symbols[] = {"==", "!=", "<", "<=", ">", ">="};
    switch (op) {
        case node::CompareOp::eq:
            return equals(budget, a, b);
        case node::CompareOp::ne:
            return !equals(budget, a, b);
        case node::CompareOp::in:
            return contains(budget, b, a);
        case node::CompareOp::not_in:
            return !contains(budget, b, a);
        default:
            break;
    }
    bool unordered = false;
    const int order = compare(budget, a, b, symbols[static_cast<size_t>(op)], &unordered);
    if (unordered) return false;
    switch (op) {
        case node::CompareOp::lt:
            return order < 0;
        case node::CompareOp::le:
            return order <= 0;
        case node::CompareOp::gt:
            return order > 0;
        default:
            return order >= 0;
    }
}

std::optional<Value> element(const Value& sequence, Int index) {
    if (index < 0) index += length_of(sequence);
    if (index < 0 || index >= length_of(sequence)) return std::nullopt;
    const auto i = static_cast<size_t>(index);
    if (const Seq* seq = sequence.if_seq()) return seq->items[i];
    const Str& s = *sequence.if_str();
    if (s.ascii) return Value::string(s.bytes.substr(i, 1), s.markup);
    const size_t begin = offset_of_char(s.bytes, i);
    size_t end = begin;
    read_char(s.bytes, end);
    return Value::string(s.bytes.substr(begin, end - begin), s.markup);
}

namespace {

std::optional<Int> slice_index(const Value& value) {
    if (value.is_none()) return std::nullopt;
    raise_if_undefined(value);
    const auto i = value.if_int();
    if (!i) raise("slice indices must be integers or None or have an __index__ method");
    // Far outside of any length, so that the arithmetic below cannot overflow.
    constexpr Int far = Int{1} << 62;
    return std::clamp<Int>(*i, -far, far);
}

}  // namespace

SliceRange resolve_slice(Int length, const Value& start, const Value& stop, const Value& step) {
    const Int by = slice_index(step).value_or(1);
    if (by == 0) raise("slice step cannot be zero");
    const Int lowest = by < 0 ? -1 : 0, highest = by < 0 ? length - 1 : length;
    const auto bound = [&](const Value& value, Int otherwise) {
        const auto i = slice_index(value);
        return i ? std::clamp<Int>(*i < 0 ? *i + length : *i, lowest, highest) : otherwise;
    };
    const Int first = bound(start, by < 0 ? highest : lowest);
    const Int last = bound(stop, by < 0 ? lowest : highest);
    const Int span = by < 0 ? first - last : last - first;
    const Int stride = by < 0 ? -by : by;
    return {first, last, by, span <= 0 ? 0 : (span + stride - 1) / stride};
}

Value slice(Budget& budget, const Value& object, const Value& start, const Value& stop, const Value& step) {
    raise_if_undefined(object);
    if (const Seq* seq = object.if_seq()) {
        const SliceRange range = resolve_slice(length_of(object), start, stop, step);
        budget.items(range.count);
        std::vector<Value> items;
        items.reserve(static_cast<size_t>(range.count));
        for (Int i = 0; i < range.count; ++i)
            items.push_back(seq->items[static_cast<size_t>(range.first + i * range.step)]);
        return seq->tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
    }
    if (const Str* s = object.if_str()) {
        budget.scan(s->bytes.size());
        const SliceRange range = resolve_slice(length_of(object), start, stop, step);
        const auto first = static_cast<size_t>(std::max<Int>(range.first, 0)),
                   count = static_cast<size_t>(range.count);
        budget.string(static_cast<Int>(s->bytes.size()));
        if (range.step == 1) {
            if (s->ascii)
                return Value::string(s->bytes.substr(std::min(first, s->bytes.size()), count), s->markup);
            const size_t begin = offset_of_char(s->bytes, first);
            const std::string_view rest = std::string_view(s->bytes).substr(begin);
            return Value::string(std::string(rest.substr(0, offset_of_char(rest, count))), s->markup);
        }
        budget.items(length_of(object));
        const auto chars = split_chars(s->bytes);
        std::string out;
        for (Int i = 0; i < range.count; ++i)
            out += chars[static_cast<size_t>(range.first + i * range.step)];
        return Value::string(std::move(out), s->markup);
    }
    if (const auto* range = object.if_object_of<Range>()) return range->slice(start, stop, step);
    if (object.if_dict()) raise("unhashable type: 'slice'");
    raise("'{}' object is not subscriptable", type_name(object));
}

}  // namespace mixserve::text::jinja
