#include <array>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_number.h"
#include "text/jinja_ops.h"
#include "text/jinja_params.h"
#include "text/jinja_string_ops.h"

namespace mixserve::text::jinja {
namespace {

using node::CompareOp;

void no_arguments(const Args& args) {
    if (!args.positional.empty() || !args.named.empty()) raise("the test takes no arguments");
}

Value remainder(Interpreter& in, const Value& value, const Value& by) {
    return binary(in.budget(), node::BinaryOp::mod, value, by);
}

template <int rest>
bool has_parity(Interpreter& in, const Value& value, const Args& args) {
    no_arguments(args);
    return equals(in.budget(), remainder(in, value, Value::integer(2)), Value::integer(rest));
}

bool is_divisible(Interpreter& in, const Value& value, const Args& args) {
    const Params params("divisibleby", args, {"num"}, 1);
    return equals(in.budget(), remainder(in, value, *params[0]), Value::integer(0));
}

template <bool (*test)(const Value&)>
bool simple(Interpreter&, const Value& value, const Args& args) {
    no_arguments(args);
    return test(value);
}

template <bool (*test)(std::string_view)>
bool of_text(Interpreter& in, const Value& value, const Args& args) {
    no_arguments(args);
    return test(in.text(value));
}

template <CompareOp op>
bool compared(Interpreter& in, const Value& value, const Args& args) {
    const Params params("comparison", args, {"other"}, 1);
    return compare_by(in.budget(), op, value, *params[0]);
}

bool is_in(Interpreter& in, const Value& value, const Args& args) {
    const Params params("in", args, {"seq"}, 1);
    return contains(in.budget(), *params[0], value);
}

bool is_same(Interpreter& in, const Value& value, const Args& args) {
    const Params params("sameas", args, {"other"}, 1);
    const Value& other = *params[0];
    if (value.data().index() != other.data().index()) return false;
    if (value.if_seq()) return value.if_seq() == other.if_seq();
    if (value.if_dict()) return value.if_dict() == other.if_dict();
    if (value.if_undefined()) return value.if_undefined() == other.if_undefined();
    return equals(in.budget(), value, other);
}

bool is_filter_name(Interpreter& in, const Value& value, const Args& args) {
    no_arguments(args);
    return find_filter(in.text(value)) != nullptr;
}

bool is_test_name(Interpreter& in, const Value& value, const Args& args) {
    no_arguments(args);
    return find_test(in.text(value)) != nullptr;
}

bool is_defined(const Value& v) {
    return !v.is_undefined();
}
bool is_undefined(const Value& v) {
    return v.is_undefined();
}
bool is_none(const Value& v) {
    return v.is_none();
}
bool is_boolean(const Value& v) {
    return v.is_bool();
}
bool is_true(const Value& v) {
    return v.is_bool() && truthy(v);
}
bool is_false(const Value& v) {
    return v.is_bool() && !truthy(v);
}
bool is_integer(const Value& v) {
    return v.if_int() && !v.is_bool();
}
bool is_float(const Value& v) {
    return v.is_float();
}
bool is_number(const Value& v) {
    return v.if_number().has_value();
}
bool is_string(const Value& v) {
    return v.is_str();
}
bool is_mapping(const Value& v) {
    return v.if_dict() != nullptr;
}
bool is_iterable(const Value& v) {
    return iterable(v);
}
bool is_escaped(const Value& v) {
    return v.is_str() && v.if_str()->markup;
}

/// Undefined has all of Python's methods, so that it counts as callable and as a sequence.
bool is_callable(const Value& v) {
    return v.is_undefined() || (v.if_object() && v.if_object()->callable());
}

bool is_sequence(const Value& v) {
    return v.is_undefined() || v.is_str() || v.if_seq() || v.if_dict() ||
           (v.if_object() && v.if_object()->is_sequence());
}

constexpr std::array tests = {
    TestEntry{"odd", has_parity<1>},
    TestEntry{"even", has_parity<0>},
    TestEntry{"divisibleby", is_divisible},
    TestEntry{"defined", simple<is_defined>},
    TestEntry{"undefined", simple<is_undefined>},
    TestEntry{"filter", is_filter_name},
    TestEntry{"test", is_test_name},
    TestEntry{"none", simple<is_none>},
    TestEntry{"boolean", simple<is_boolean>},
    TestEntry{"false", simple<is_false>},
    TestEntry{"true", simple<is_true>},
    TestEntry{"integer", simple<is_integer>},
    TestEntry{"float", simple<is_float>},
    TestEntry{"lower", of_text<is_lower_text>},
    TestEntry{"upper", of_text<is_upper_text>},
    TestEntry{"string", simple<is_string>},
    TestEntry{"mapping", simple<is_mapping>},
    TestEntry{"number", simple<is_number>},
    TestEntry{"sequence", simple<is_sequence>},
    TestEntry{"iterable", simple<is_iterable>},
    TestEntry{"callable", simple<is_callable>},
    TestEntry{"sameas", is_same},
    TestEntry{"escaped", simple<is_escaped>},
    TestEntry{"in", is_in},
    TestEntry{"==", compared<CompareOp::eq>},
    TestEntry{"eq", compared<CompareOp::eq>},
    TestEntry{"equalto", compared<CompareOp::eq>},
    TestEntry{"!=", compared<CompareOp::ne>},
    TestEntry{"ne", compared<CompareOp::ne>},
    TestEntry{">", compared<CompareOp::gt>},
    TestEntry{"gt", compared<CompareOp::gt>},
    TestEntry{"greaterthan", compared<CompareOp::gt>},
    TestEntry{">=", compared<CompareOp::ge>},
    TestEntry{"ge", compared<CompareOp::ge>},
    TestEntry{"<", compared<CompareOp::lt>},
    TestEntry{"lt", compared<CompareOp::lt>},
    TestEntry{"lessthan", compared<CompareOp::lt>},
    TestEntry{"<=", compared<CompareOp::le>},
    TestEntry{"le", compared<CompareOp::le>},
};

}  // namespace

const TestEntry* find_test(std::string_view name) {
    for (const TestEntry& test : tests) {
        if (test.name == name) return &test;
    }
    return nullptr;
}

std::string unknown_test(std::string_view name) {
    std::vector<std::string_view> names;
    for (const TestEntry& test : tests)
        names.push_back(test.name);
    return fmt::format("No test named '{}'{}.", name, did_you_mean(name, names));
}

}  // namespace mixserve::text::jinja
