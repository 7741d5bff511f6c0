#include <array>
#include <cmath>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_number.h"
#include "text/jinja_ops.h"
#include "text/jinja_params.h"

namespace mixserve::text::jinja {
namespace {

void refuse_undefined(const Value& value) {
    if (const Undefined* u = value.if_undefined()) raise("{}", u->message());
}

Value absolute(Interpreter&, const Value& value, const Args& args) {
    const Params params("abs", args, {});
    refuse_undefined(value);
    if (const auto i = value.if_int()) return Value::integer(*i < 0 ? subtract(0, *i) : *i);
    if (const auto d = value.if_number()) return Value::number(std::abs(*d));
    raise("bad operand type for abs(): '{}'", type_name(value));
}

Value to_int(Interpreter&, const Value& value, const Args& args) {
    const Params params("int", args, {"default", "base"});
    refuse_undefined(value);
    Value otherwise = params.get(0, Value::integer(0));
    std::optional<double> d;
    if (const Str* s = value.if_str()) {
        const Int base = params.integer(1, 10);
        if (base < 0 || base > 36) return otherwise;
        if (const auto i = parse_int(s->bytes, static_cast<int>(base))) return Value::integer(*i);
        d = parse_float(s->bytes);
    } else if (const auto i = value.if_int()) {
        return Value::integer(*i);
    } else {
        d = value.if_number();
    }
    return d && std::isfinite(*d) ? Value::integer(int_of_float(*d)) : otherwise;
}

Value to_float(Interpreter&, const Value& value, const Args& args) {
    const Params params("float", args, {"default"});
    refuse_undefined(value);
    const Str* s = value.if_str();
    const auto d = s ? parse_float(s->bytes) : value.if_number();
    return d ? Value::number(*d) : params.get(0, Value::number(0));
}

Value round(Interpreter& in, const Value& value, const Args& args) {
    const Params params("round", args, {"precision", "method"});
    refuse_undefined(value);
    const Int precision = params.integer(0, 0);
    const std::string method = params.string(1, "common");
    if (method != "common" && method != "ceil" && method != "floor")
        raise("method must be common, ceil or floor");
    const auto d = value.if_number();
    if (!d) raise("type {} doesn't define __round__ method", type_name(value));
    if (method == "common") {
        if (const auto i = value.if_int()) return Value::integer(round_int(*i, precision));
        return Value::number(round_float(*d, precision));
    }
    const Value scale =
        binary(in.budget(), node::BinaryOp::pow, Value::integer(10), Value::integer(precision));
    const double scaled = *binary(in.budget(), node::BinaryOp::mul, value, scale).if_number();
    const Value whole =
        Value::integer(int_of_float(method == "ceil" ? std::ceil(scaled) : std::floor(scaled)));
    return binary(in.budget(), node::BinaryOp::div, whole, scale);
}

constexpr std::array filters = {
    FilterEntry{"abs", absolute},
    FilterEntry{"float", to_float},
    FilterEntry{"int", to_int},
    FilterEntry{"round", round},
};

}  // namespace

std::span<const FilterEntry> number_filters() {
    return filters;
}

}  // namespace mixserve::text::jinja
