#include <algorithm>

#include "text/jinja_builtins.h"
#include "text/jinja_parser.h"

namespace mixserve::text::jinja {
namespace {

int depth_of(const ExprPtr& expr) {
    return expr ? expr->depth : 0;
}

int depth_of(const std::vector<ExprPtr>& exprs) {
    int depth = 0;
    for (const ExprPtr& expr : exprs)
        depth = std::max(depth, depth_of(expr));
    return depth;
}

int depth_of(const CallArgs& args) {
    int depth = std::max({depth_of(args.positional), depth_of(args.star), depth_of(args.star_star)});
    for (const auto& [name, expr] : args.named)
        depth = std::max(depth, depth_of(expr));
    return depth;
}

struct ChildDepth {
    int operator()(const node::Constant&) const { return 0; }
    int operator()(const node::Name&) const { return 0; }
    int operator()(const node::ListLiteral& n) const { return depth_of(n.items); }
    int operator()(const node::DictLiteral& n) const {
        int depth = 0;
        for (const auto& [key, value] : n.items)
            depth = std::max({depth, depth_of(key), depth_of(value)});
        return depth;
    }
    int operator()(const node::Unary& n) const { return depth_of(n.operand); }
    int operator()(const node::Binary& n) const { return std::max(depth_of(n.left), depth_of(n.right)); }
    int operator()(const node::Logic& n) const { return std::max(depth_of(n.left), depth_of(n.right)); }
    int operator()(const node::Concat& n) const { return depth_of(n.parts); }
    int operator()(const node::Compare& n) const {
        int depth = depth_of(n.first);
        for (const auto& [op, expr] : n.rest)
            depth = std::max(depth, depth_of(expr));
        return depth;
    }
    int operator()(const node::Conditional& n) const {
        return std::max({depth_of(n.condition), depth_of(n.yes), depth_of(n.no)});
    }
    int operator()(const node::Attribute& n) const { return depth_of(n.object); }
    int operator()(const node::Item& n) const { return std::max(depth_of(n.object), depth_of(n.key)); }
    int operator()(const node::Slice& n) const {
        return std::max({depth_of(n.object), depth_of(n.start), depth_of(n.stop), depth_of(n.step)});
    }
    int operator()(const node::Call& n) const { return std::max(depth_of(n.callee), depth_of(n.args)); }
    int operator()(const node::Filter& n) const { return std::max(depth_of(n.input), depth_of(n.args)); }
    int operator()(const node::Test& n) const { return std::max(depth_of(n.input), depth_of(n.args)); }
};

}  // namespace

template <class Node>
ExprPtr Parser::make(uint32_t offset, Node node) {
    const int depth = ChildDepth{}(node) + 1;
    if (depth > max_tree_depth) fail_at(offset, "the expression is too long");
    auto expr = std::make_unique<Expr>();
    expr->offset = offset;
    expr->depth = depth;
    expr->node = std::move(node);
    return expr;
}

ExprPtr Parser::expression(bool with_condition) {
    const Nesting nesting(*this);
    return with_condition ? conditional() : logical_or();
}

ExprPtr Parser::conditional() {
    const Nesting nesting(*this);
    ExprPtr expr = logical_or();
    while (current().is_name("if")) {
        const uint32_t offset = take().offset;
        ++soft_;
        ExprPtr condition = logical_or();
        ExprPtr no = skip_name("else") ? conditional() : nullptr;
        --soft_;
        expr = make(offset, node::Conditional{std::move(condition), std::move(expr), std::move(no)});
    }
    return expr;
}

ExprPtr Parser::logical_or() {
    ExprPtr left = logical_and();
    while (current().is_name("or")) {
        const uint32_t offset = take().offset;
        left = make(offset, node::Logic{false, std::move(left), logical_and()});
    }
    return left;
}

ExprPtr Parser::logical_and() {
    ExprPtr left = logical_not();
    while (current().is_name("and")) {
        const uint32_t offset = take().offset;
        left = make(offset, node::Logic{true, std::move(left), logical_not()});
    }
    return left;
}

ExprPtr Parser::logical_not() {
    if (!current().is_name("not")) return comparison();
    const Nesting nesting(*this);
    const uint32_t offset = take().offset;
    return make(offset, node::Unary{node::UnaryOp::logical_not, logical_not()});
}

ExprPtr Parser::comparison() {
    static constexpr std::pair<std::string_view, node::CompareOp> ops[] = {
        {"==", node::CompareOp::eq}, {"!=", node::CompareOp::ne}, {"<", node::CompareOp::lt},
        {"<=", node::CompareOp::le}, {">", node::CompareOp::gt},  {">=", node::CompareOp::ge}};
    ExprPtr first = sum();
    std::vector<std::pair<node::CompareOp, ExprPtr>> rest;
    const uint32_t offset = current().offset;
    while (true) {
        const auto op = std::find_if(std::begin(ops), std::end(ops),
                                     [this](const auto& o) { return current().is_op(o.first); });
        if (op != std::end(ops)) {
            take();
            rest.emplace_back(op->second, sum());
        } else if (skip_name("in")) {
            rest.emplace_back(node::CompareOp::in, sum());
        } else if (current().is_name("not") && ahead().is_name("in")) {
            take();
            take();
            rest.emplace_back(node::CompareOp::not_in, sum());
        } else {
            break;
        }
    }
    if (rest.empty()) return first;
    return make(offset, node::Compare{std::move(first), std::move(rest)});
}

ExprPtr Parser::sum() {
    ExprPtr left = concat();
    while (current().is_op("+") || current().is_op("-")) {
        const Token op = take();
        left = make(op.offset, node::Binary{op.text == "+" ? node::BinaryOp::add : node::BinaryOp::sub,
                                            std::move(left), concat()});
    }
    return left;
}

ExprPtr Parser::concat() {
    ExprPtr first = product();
    if (!current().is_op("~")) return first;
    const uint32_t offset = current().offset;
    std::vector<ExprPtr> parts;
    parts.push_back(std::move(first));
    while (skip_op("~"))
        parts.push_back(product());
    return make(offset, node::Concat{std::move(parts)});
}

ExprPtr Parser::product() {
    static constexpr std::pair<std::string_view, node::BinaryOp> ops[] = {{"*", node::BinaryOp::mul},
                                                                          {"/", node::BinaryOp::div},
                                                                          {"//", node::BinaryOp::floordiv},
                                                                          {"%", node::BinaryOp::mod}};
    ExprPtr left = power();
    while (true) {
        const auto op = std::find_if(std::begin(ops), std::end(ops),
                                     [this](const auto& o) { return current().is_op(o.first); });
        if (op == std::end(ops)) return left;
        const uint32_t offset = take().offset;
        left = make(offset, node::Binary{op->second, std::move(left), power()});
    }
}

ExprPtr Parser::power() {
    ExprPtr left = unary();
    while (current().is_op("**")) {
        const uint32_t offset = take().offset;
        left = make(offset, node::Binary{node::BinaryOp::pow, std::move(left), unary()});
    }
    return left;
}

ExprPtr Parser::unary(bool with_filter) {
    const Nesting nesting(*this);
    ExprPtr expr;
    if (current().is_op("-") || current().is_op("+")) {
        const Token op = take();
        expr = make(op.offset,
                    node::Unary{op.text == "-" ? node::UnaryOp::negate : node::UnaryOp::plus, unary(false)});
    } else {
        expr = primary();
    }
    expr = postfix(std::move(expr));
    return with_filter ? filters_and_tests(std::move(expr)) : std::move(expr);
}

ExprPtr Parser::primary() {
    const Token token = current();
    if (token.kind == TokenKind::name) {
        take();
        if (token.text == "true" || token.text == "True")
            return make(token.offset, node::Constant{Value::boolean(true)});
        if (token.text == "false" || token.text == "False")
            return make(token.offset, node::Constant{Value::boolean(false)});
        if (token.text == "none" || token.text == "None") return make(token.offset, node::Constant{Value()});
        return make(token.offset, node::Name{use_name(token.text)});
    }
    if (token.kind == TokenKind::string) {
        std::string text;
        while (current().kind == TokenKind::string)
            text += take().text;
        return make(token.offset, node::Constant{Value::string(std::move(text))});
    }
    if (token.kind == TokenKind::integer || token.kind == TokenKind::floating) {
        take();
        return make(token.offset, node::Constant{token.number});
    }
    if (token.is_op("(")) {
        take();
        ExprPtr expr = tuple(true, true);
        expect_op(")");
        return expr;
    }
    if (token.is_op("[")) return list();
    if (token.is_op("{")) return dict();
    if (token.kind == TokenKind::end)
        fail("unexpected end of template: the tag that starts here is not closed");
    fail(fmt::format("unexpected '{}'", token.describe()));
}

/// Several expressions with commas are a tuple; a single one is itself.
ExprPtr Parser::tuple(bool with_condition, bool parenthesised, std::string_view end_word) {
    const uint32_t offset = current().offset;
    const auto at_end = [&] {
        return current().kind == TokenKind::variable_end || current().kind == TokenKind::block_end ||
               current().is_op(")") || (!end_word.empty() && current().is_name(end_word));
    };
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    while (!at_end()) {
        items.push_back(expression(with_condition));
        if (!skip_op(",")) break;
        is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items[0]);
    if (items.empty() && !parenthesised)
        fail(fmt::format("Expected an expression, got '{}'", current().describe()));
    return make(offset, node::ListLiteral{std::move(items), true});
}

ExprPtr Parser::list() {
    const uint32_t offset = expect_op("[").offset;
    std::vector<ExprPtr> items;
    while (!current().is_op("]")) {
        if (!items.empty()) {
            expect_op(",");
            if (current().is_op("]")) break;
        }
        items.push_back(expression());
    }
    expect_op("]");
    return make(offset, node::ListLiteral{std::move(items), false});
}

ExprPtr Parser::dict() {
    const uint32_t offset = expect_op("{").offset;
    std::vector<std::pair<ExprPtr, ExprPtr>> items;
    while (!current().is_op("}")) {
        if (!items.empty()) {
            expect_op(",");
            if (current().is_op("}")) break;
        }
        ExprPtr key = expression();
        expect_op(":");
        items.emplace_back(std::move(key), expression());
    }
    expect_op("}");
    return make(offset, node::DictLiteral{std::move(items)});
}

ExprPtr Parser::postfix(ExprPtr expr) {
    while (true) {
        if (current().is_op(".") || current().is_op("["))
            expr = subscript(std::move(expr));
        else if (current().is_op("("))
            expr = call(std::move(expr));
        else
            return expr;
    }
}

ExprPtr Parser::filters_and_tests(ExprPtr expr) {
    while (true) {
        if (current().is_op("|"))
            expr = filter(std::move(expr));
        else if (current().is_name("is"))
            expr = test(std::move(expr));
        else if (current().is_op("("))
            expr = call(std::move(expr));
        else
            return expr;
    }
}

ExprPtr Parser::subscript(ExprPtr object) {
    const Token open = take();
    if (open.is_op(".")) {
        const Token name = take();
        if (name.kind == TokenKind::name)
            return make(open.offset, node::Attribute{std::move(object), name.text});
        if (name.kind != TokenKind::integer) fail_at(name.offset, "expected name or number");
        ExprPtr key = make(name.offset, node::Constant{name.number});
        return make(open.offset, node::Item{std::move(object), std::move(key)});
    }
    const auto at_end = [this] { return current().is_op("]") || current().is_op(","); };
    std::vector<ExprPtr> keys;
    while (!current().is_op("]")) {
        if (!keys.empty()) expect_op(",");
        ExprPtr start = current().is_op(":") ? nullptr : expression();
        if (start && !current().is_op(":")) {
            keys.push_back(std::move(start));
            continue;
        }
        expect_op(":");
        ExprPtr stop = at_end() || current().is_op(":") ? nullptr : expression();
        ExprPtr step = skip_op(":") && !at_end() ? expression() : nullptr;
        if (!keys.empty() || current().is_op(",")) fail("a slice among several subscripts");
        expect_op("]");
        return make(open.offset,
                    node::Slice{std::move(object), std::move(start), std::move(stop), std::move(step)});
    }
    expect_op("]");
    ExprPtr key =
        keys.size() == 1 ? std::move(keys[0]) : make(open.offset, node::ListLiteral{std::move(keys), true});
    return make(open.offset, node::Item{std::move(object), std::move(key)});
}

CallArgs Parser::call_args() {
    const uint32_t offset = expect_op("(").offset;
    const auto ensure = [&](bool ok) {
        if (!ok) fail_at(offset, "invalid syntax for function call expression");
    };
    CallArgs args;
    bool first = true;
    while (!current().is_op(")")) {
        if (!first) {
            expect_op(",");
            if (current().is_op(")")) break;
        }
        first = false;
        if (skip_op("*")) {
            ensure(!args.star && !args.star_star);
            args.star = expression();
        } else if (skip_op("**")) {
            ensure(!args.star_star);
            args.star_star = expression();
        } else if (current().kind == TokenKind::name && ahead().is_op("=")) {
            ensure(!args.star_star);
            const Token name = take();
            take();
            for (const auto& [other, value] : args.named) {
                if (other == name.text)
                    fail_at(name.offset, fmt::format("keyword argument repeated: {}", name.text));
            }
            args.named.emplace_back(name.text, expression());
        } else {
            ensure(!args.star && !args.star_star && args.named.empty());
            args.positional.push_back(expression());
        }
    }
    expect_op(")");
    return args;
}

ExprPtr Parser::call(ExprPtr callee) {
    const uint32_t offset = current().offset;
    CallArgs args = call_args();
    return make(offset, node::Call{std::move(callee), std::move(args)});
}

/// One filter; the `|` before it, or where a filter block starts, its name.
ExprPtr Parser::filter(ExprPtr input) {
    skip_op("|");
    const Token token = expect_name();
    std::string name = token.text;
    while (skip_op("."))
        name.append(".").append(expect_name().text);
    const FilterEntry* entry = find_filter(name);
    if (!entry && soft_ == 0) fail_at(token.offset, unknown_filter(name));
    CallArgs args;
    if (current().is_op("(")) args = call_args();
    return make(token.offset, node::Filter{std::move(input), std::move(name), entry, std::move(args)});
}

ExprPtr Parser::filter_chain(ExprPtr input) {
    while (current().is_op("|"))
        input = filter(std::move(input));
    return input;
}

ExprPtr Parser::test(ExprPtr input) {
    const uint32_t offset = take().offset;
    const bool negated = skip_name("not");
    const Token token = expect_name();
    std::string name = token.text;
    while (skip_op("."))
        name.append(".").append(expect_name().text);
    const TestEntry* entry = find_test(name);
    if (!entry && soft_ == 0) fail_at(token.offset, unknown_test(name));
    CallArgs args;
    const TokenKind kind = current().kind;
    const bool takes_value = kind == TokenKind::string || kind == TokenKind::integer ||
                             kind == TokenKind::floating || current().is_op("[") || current().is_op("{") ||
                             (kind == TokenKind::name && !current().is_name("else") &&
                              !current().is_name("or") && !current().is_name("and"));
    if (current().is_op("(")) {
        args = call_args();
    } else if (takes_value) {
        if (current().is_name("is")) fail("You cannot chain multiple tests with is");
        args.positional.push_back(postfix(primary()));
    }
    ExprPtr expr = make(token.offset, node::Test{std::move(input), std::move(name), entry, std::move(args)});
    return negated ? make(offset, node::Unary{node::UnaryOp::logical_not, std::move(expr)}) : std::move(expr);
}

}  // namespace mixserve::text::jinja
