#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/jinja_value.h"

namespace mixserve::text::jinja {

class Interpreter;

using FilterFunction = Value (*)(Interpreter&, const Value&, const Args&);
using TestFunction = bool (*)(Interpreter&, const Value&, const Args&);
using MethodFunction = Value (*)(Interpreter&, const Value& self, const Args&);

struct FilterEntry {
    std::string_view name;
    FilterFunction apply;
};

struct TestEntry {
    std::string_view name;
    TestFunction apply;
};

/// A method of str, dict, list or tuple. Without a function: one that the sandbox refuses, since it changes
/// its object.
struct MethodEntry {
    std::string_view name;
    MethodFunction apply;
};

/// nullptr: there is none of this name.
const FilterEntry* find_filter(std::string_view name);
const TestEntry* find_test(std::string_view name);
const MethodEntry* find_method(const Value& object, std::string_view name);
/// What the use of an attribute that the sandbox refuses says.
std::string unsafe_attribute(const Value& object, std::string_view name);
/// What to say of a name that is not there, with the nearest one.
std::string unknown_filter(std::string_view name);
std::string unknown_test(std::string_view name);

/// The functions that every template has: range, dict, namespace, ... nullptr: none of this name.
Value find_global(std::string_view name);

std::span<const FilterEntry> text_filters();
std::span<const FilterEntry> sequence_filters();
std::span<const FilterEntry> number_filters();
std::span<const FilterEntry> selection_filters();
std::span<const MethodEntry> string_methods();

}  // namespace mixserve::text::jinja
