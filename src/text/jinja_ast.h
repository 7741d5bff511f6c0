#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja_value.h"

/// The tree of a parsed template. Const, shared by all renderings.
namespace mixserve::text::jinja {

struct FilterEntry;
struct TestEntry;

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArgs {
    std::vector<ExprPtr> positional;
    std::vector<std::pair<std::string, ExprPtr>> named;
    ExprPtr star;       // *args
    ExprPtr star_star;  // **kwargs
};

struct Stmt;
using Body = std::vector<Stmt>;

/// What is assigned to: a variable, an attribute of a namespace, or several of these.
struct Target {
    int name = -1;
    std::string attribute;      // not empty: of the namespace `name`
    std::vector<Target> parts;  // not empty (or `unpack`): unpacked
    bool unpack = false;
};

namespace node {

struct Constant {
    Value value;
};
struct Name {
    int id;
};
struct ListLiteral {
    std::vector<ExprPtr> items;
    bool tuple;
};
struct DictLiteral {
    std::vector<std::pair<ExprPtr, ExprPtr>> items;
};
enum class UnaryOp { negate, plus, logical_not };
struct Unary {
    UnaryOp op;
    ExprPtr operand;
};
enum class BinaryOp { add, sub, mul, div, floordiv, mod, pow };
struct Binary {
    BinaryOp op;
    ExprPtr left, right;
};
struct Logic {
    bool is_and;
    ExprPtr left, right;
};
struct Concat {
    std::vector<ExprPtr> parts;
};
enum class CompareOp { eq, ne, lt, le, gt, ge, in, not_in };
struct Compare {
    ExprPtr first;
    std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct Conditional {
    ExprPtr condition, yes, no;  // `no` may be missing
};
struct Attribute {
    ExprPtr object;
    std::string name;
};
struct Item {
    ExprPtr object, key;
};
struct Slice {
    ExprPtr object, start, stop, step;  // the last three may be missing
};
struct Call {
    ExprPtr callee;
    CallArgs args;
};
struct Filter {
    ExprPtr input;  // missing: the text of a filter or set block
    std::string name;
    const FilterEntry* entry;  // nullptr: unknown, an error when it is reached
    CallArgs args;
};
struct Test {
    ExprPtr input;
    std::string name;
    const TestEntry* entry;  // as of Filter
    CallArgs args;
};

struct Text {
    std::string text;
};
struct Print {
    std::vector<ExprPtr> exprs;
};
struct If {
    std::vector<std::pair<ExprPtr, Body>> branches;
    Body otherwise;
};
struct For {
    Target target;
    ExprPtr items;
    ExprPtr filter;  // may be missing
    bool recursive;
    Body body;
    Body otherwise;
};
struct Set {
    Target target;
    ExprPtr value;
};
struct SetBlock {
    Target target;
    ExprPtr filter;  // may be missing
    Body body;
};
struct Macro {
    std::string name;
    int name_id;
    std::vector<int> parameters;
    std::vector<ExprPtr> defaults;  // of the last parameters
    bool uses_caller, uses_varargs, uses_kwargs;
    bool declares_caller;
    Body body;
};
struct CallBlock {
    Macro caller;
    ExprPtr call;  // a Call
};
struct FilterBlock {
    ExprPtr filter;
    Body body;
};
struct With {
    std::vector<std::pair<Target, ExprPtr>> variables;
    Body body;
};
/// A body with its own scope: {% generation %}, {% block %} (not `scoped`: sees only the template's own
/// variables).
struct Scoped {
    bool from_root;
    Body body;
};
struct Break {};
struct Continue {};

}  // namespace node

struct Expr {
    uint32_t offset = 0;  // in the source
    int depth = 1;
    std::variant<node::Constant, node::Name, node::ListLiteral, node::DictLiteral, node::Unary, node::Binary,
                 node::Logic, node::Concat, node::Compare, node::Conditional, node::Attribute, node::Item,
                 node::Slice, node::Call, node::Filter, node::Test>
        node;
};

struct Stmt {
    uint32_t offset = 0;
    std::variant<node::Text, node::Print, node::If, node::For, node::Set, node::SetBlock, node::Macro,
                 node::CallBlock, node::FilterBlock, node::With, node::Scoped, node::Break, node::Continue>
        node;
};

/// Names that the interpreter itself gives values to.
struct WellKnownNames {
    int loop, caller, varargs, kwargs;
};

struct Template {
    std::string source;              // with \n line ends
    std::vector<std::string> names;  // by id
    WellKnownNames known{};
    Body body;
};

}  // namespace mixserve::text::jinja
