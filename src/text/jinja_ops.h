#pragma once

#include <optional>

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

/// Python's operators.
namespace mixserve::text::jinja {

Value binary(Budget& budget, node::BinaryOp op, const Value& a, const Value& b);
Value negate(const Value& a);
Value plus(const Value& a);
bool compare_by(Budget& budget, node::CompareOp op, const Value& a, const Value& b);
/// item in container
bool contains(Budget& budget, const Value& container, const Value& item);

/// object[start:stop:step]; None for what is not given.
Value slice(Budget& budget, const Value& object, const Value& start, const Value& stop, const Value& step);
/// The item of a list, tuple or string at `index` (from the end when negative); nullopt out of range.
std::optional<Value> element(const Value& sequence, Int index);

/// A slice of something `length` long: `count` positions from `first` to before `last`, `step` apart.
struct SliceRange {
    Int first = 0, last = 0, step = 1, count = 0;
};
SliceRange resolve_slice(Int length, const Value& start, const Value& stop, const Value& step);

}  // namespace mixserve::text::jinja
