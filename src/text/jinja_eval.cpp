#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_interpreter_parts.h"
#include "text/jinja_objects.h"
#include "text/jinja_ops.h"

namespace mixserve::text::jinja {

/// One member for each kind of expression. `in.at(offset)` before what can fail, so that errors point there.
struct Evaluator {
    Interpreter& in;
    uint32_t offset;

    Value operator()(const node::Constant& n) const { return n.value; }

    Value operator()(const node::Name& n) const {
        if (const Value* value = in.scope_->find(n.id)) return *value;
        return Value::undefined_name(in.source_.names[static_cast<size_t>(n.id)]);
    }

    Value operator()(const node::ListLiteral& n) const {
        std::vector<Value> items;
        items.reserve(n.items.size());
        for (const ExprPtr& item : n.items)
            items.push_back(in.eval(*item));
        in.at(offset);
        return n.tuple ? in.make_tuple(std::move(items)) : in.make_list(std::move(items));
    }

    Value operator()(const node::DictLiteral& n) const {
        Dict dict;
        for (const auto& [key_expr, value_expr] : n.items) {
            Value key = in.eval(*key_expr);
            Value value = in.eval(*value_expr);
            in.at(key_expr->offset);
            dict.set(in.budget_, std::move(key), std::move(value));
        }
        return Value::dict(std::move(dict));
    }

    Value operator()(const node::Unary& n) const {
        const Value value = in.eval(*n.operand);
        in.at(offset);
        if (n.op == node::UnaryOp::logical_not) return Value::boolean(!truthy(value));
        return n.op == node::UnaryOp::negate ? negate(value) : plus(value);
    }

    Value operator()(const node::Binary& n) const {
        const Value left = in.eval(*n.left);
        const Value right = in.eval(*n.right);
        in.at(offset);
        return binary(in.budget_, n.op, left, right);
    }

    Value operator()(const node::Logic& n) const {
        Value left = in.eval(*n.left);
        return truthy(left) == n.is_and ? in.eval(*n.right) : left;
    }

    Value operator()(const node::Concat& n) const {
        std::string out;
        for (const ExprPtr& part : n.parts) {
            const Value value = in.eval(*part);
            in.at(offset);
            out += in.text(value);
            in.budget_.string(static_cast<Int>(out.size()));
        }
        return Value::string(std::move(out));
    }

    Value operator()(const node::Compare& n) const {
        Value left = in.eval(*n.first);
        for (const auto& [op, expr] : n.rest) {
            Value right = in.eval(*expr);
            in.at(offset);
            if (!compare_by(in.budget_, op, left, right)) return Value::boolean(false);
            left = std::move(right);
        }
        return Value::boolean(true);
    }

    Value operator()(const node::Conditional& n) const {
        if (truthy(in.eval(*n.condition))) return in.eval(*n.yes);
        if (n.no) return in.eval(*n.no);
        return Value::undefined(
            "the inline if-expression evaluated to false and no else section was defined.");
    }

    Value operator()(const node::Attribute& n) const {
        const Value object = in.eval(*n.object);
        in.at(offset);
        return in.get_attribute(object, n.name);
    }

    Value operator()(const node::Item& n) const {
        const Value object = in.eval(*n.object);
        const Value key = in.eval(*n.key);
        in.at(offset);
        return in.get_item(object, key);
    }

    Value operator()(const node::Slice& n) const {
        const Value object = in.eval(*n.object);
        const auto bound = [this](const ExprPtr& expr) { return expr ? in.eval(*expr) : Value(); };
        const Value start = bound(n.start), stop = bound(n.stop), step = bound(n.step);
        in.at(offset);
        return slice(in.budget_, object, start, stop, step);
    }

    Value operator()(const node::Call& n) const { return in.eval_call(n, offset, nullptr); }

    Value operator()(const node::Filter& n) const { return in.eval_filter(n, offset, nullptr); }

    Value operator()(const node::Test& n) const {
        const Value value = in.eval(*n.input);
        const Args args = in.eval_args(n.args);
        in.at(offset);
        if (!n.entry) raise("{}", unknown_test(n.name));
        return Value::boolean(n.entry->apply(in, value, args));
    }
};

Value Interpreter::eval(const Expr& expr) {
    const Descent descent(*this);
    budget_.steps(1);
    position_ = expr.offset;
    return std::visit(Evaluator{*this, expr.offset}, expr.node);
}

Value Interpreter::eval_call(const node::Call& n, uint32_t offset, const Value* caller) {
    const auto arguments = [&] {
        Args args = eval_args(n.args);
        if (caller) args.named.emplace_back("caller", *caller);
        return args;
    };
    if (const auto* attribute = std::get_if<node::Attribute>(&n.callee->node)) {
        const Value object = eval(*attribute->object);
        const MethodEntry* method = find_method(object, attribute->name);
        if (method && method->apply) {
            const Args args = arguments();
            at(offset);
            return method->apply(*this, object, args);
        }
        at(n.callee->offset);
        const Value callee = get_attribute(object, attribute->name);
        const Args args = arguments();
        at(offset);
        return call(callee, args);
    }
    const Value callee = eval(*n.callee);
    const Args args = arguments();
    at(offset);
    return call(callee, args);
}

Value Interpreter::eval_filter(const node::Filter& n, uint32_t offset, const Value* block_text) {
    const auto* inner = n.input ? std::get_if<node::Filter>(&n.input->node) : nullptr;
    const Value value = !n.input              ? *block_text
                        : block_text && inner ? eval_filter(*inner, n.input->offset, block_text)
                                              : eval(*n.input);
    const Args args = eval_args(n.args);
    at(offset);
    if (!n.entry) raise("{}", unknown_filter(n.name));
    return n.entry->apply(*this, value, args);
}

Args Interpreter::eval_args(const CallArgs& args) {
    Args out;
    out.positional.reserve(args.positional.size());
    for (const ExprPtr& expr : args.positional)
        out.positional.push_back(eval(*expr));
    for (const auto& [name, expr] : args.named)
        out.named.emplace_back(name, eval(*expr));
    if (args.star) {
        const Value more = eval(*args.star);
        for (Value& item : items_of(budget_, more))
            out.positional.push_back(std::move(item));
    }
    if (args.star_star) {
        const Value more = eval(*args.star_star);
        const Dict* dict = more.if_dict();
        if (!dict) raise("argument after ** must be a mapping, not {}", type_name(more));
        budget_.items(static_cast<Int>(dict->items.size()));
        for (const auto& [key, value] : dict->items) {
            if (!key.is_str()) raise("keywords must be strings");
            for (const auto& [name, given] : out.named) {
                if (name == key.if_str()->bytes) raise("got multiple values for keyword argument '{}'", name);
            }
            out.named.emplace_back(key.if_str()->bytes, value);
        }
    }
    return out;
}

}  // namespace mixserve::text::jinja
