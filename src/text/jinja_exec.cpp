#include "text/jinja_interpreter.h"
#include "text/jinja_interpreter_parts.h"
#include "text/jinja_objects.h"

namespace mixserve::text::jinja {

/// One member for each kind of statement.
struct Executor {
    using Flow = Interpreter::Flow;
    Interpreter& in;
    uint32_t offset;

    std::shared_ptr<Scope> inner_scope() const { return in.new_scope(in.scope_); }

    Flow operator()(const node::Text& n) const {
        in.write(n.text);
        return Flow::normal;
    }

    Flow operator()(const node::Print& n) const {
        for (const ExprPtr& expr : n.exprs) {
            const Value value = in.eval(*expr);
            in.at(expr->offset);
            if (const Str* s = value.if_str())
                in.write(s->bytes);
            else
                in.write(in.text(value));
        }
        return Flow::normal;
    }

    Flow operator()(const node::If& n) const {
        for (const auto& [condition, body] : n.branches) {
            if (truthy(in.eval(*condition))) return in.run(body);
        }
        return in.run(n.otherwise);
    }

    Flow operator()(const node::For& n) const {
        const Value items = in.eval(*n.items);
        in.at(offset);
        return in.loop_over(n, items, 0);
    }

    Flow operator()(const node::Set& n) const {
        in.require_namespaces(n.target);
        const Value value = in.eval(*n.value);
        in.at(offset);
        in.assign(n.target, value);
        return Flow::normal;
    }

    std::string captured(const Body& body) const {
        Interpreter::Capture capture(in);
        in.run(body);
        return capture.take();
    }

    Flow operator()(const node::SetBlock& n) const {
        Value value;
        {
            const Interpreter::ScopeGuard guard(in, inner_scope());
            value = in.make_string(captured(n.body));
            if (n.filter)
                value = in.eval_filter(std::get<node::Filter>(n.filter->node), n.filter->offset, &value);
        }
        in.at(offset);
        in.require_namespaces(n.target);
        in.assign(n.target, value);
        return Flow::normal;
    }

    Flow operator()(const node::Macro& n) const {
        in.scope_->set(n.name_id, in.make_macro(n));
        return Flow::normal;
    }

    Flow operator()(const node::CallBlock& n) const {
        const Value caller = in.make_macro(n.caller);
        const Value value = in.eval_call(std::get<node::Call>(n.call->node), n.call->offset, &caller);
        in.write(in.text(value));
        return Flow::normal;
    }

    Flow operator()(const node::FilterBlock& n) const {
        const Interpreter::ScopeGuard guard(in, inner_scope());
        const Value text = in.make_string(captured(n.body));
        const Value value = in.eval_filter(std::get<node::Filter>(n.filter->node), n.filter->offset, &text);
        in.write(in.text(value));
        return Flow::normal;
    }

    Flow operator()(const node::With& n) const {
        const auto scope = inner_scope();
        for (const auto& [target, expr] : n.variables) {
            const Value value = in.eval(*expr);
            const Interpreter::ScopeGuard guard(in, scope);
            in.assign(target, value);
        }
        const Interpreter::ScopeGuard guard(in, scope);
        return in.run(n.body);
    }

    Flow operator()(const node::Scoped& n) const {
        const Interpreter::ScopeGuard guard(in, n.from_root ? in.new_scope(in.root_) : inner_scope());
        return in.run(n.body);
    }

    Flow operator()(const node::Break&) const { return Flow::break_loop; }
    Flow operator()(const node::Continue&) const { return Flow::continue_loop; }
};

Interpreter::Flow Interpreter::run(const Body& body) {
    const Descent descent(*this);
    for (const Stmt& stmt : body) {
        budget_.steps(1);
        position_ = stmt.offset;
        const Flow flow = std::visit(Executor{*this, stmt.offset}, stmt.node);
        if (flow != Flow::normal) return flow;
    }
    return Flow::normal;
}

std::shared_ptr<Scope> Interpreter::new_scope(std::shared_ptr<Scope> parent) {
    budget_.bytes(sizeof(Scope));
    return std::make_shared<Scope>(Scope{std::move(parent), {}});
}

Value Interpreter::make_macro(const node::Macro& macro) {
    budget_.bytes(sizeof(Macro));
    auto object = std::make_shared<Macro>(macro, scope_);
    adopt(object);
    return Value::object(std::move(object));
}

void Interpreter::require_namespaces(const Target& target) {
    for (const Target& part : target.parts)
        require_namespaces(part);
    if (target.attribute.empty()) return;
    const Value* owner = scope_->find(target.name);
    if (!owner) raise("'{}' is undefined", source_.names[static_cast<size_t>(target.name)]);
    if (!owner->if_object_of<Namespace>()) raise("cannot assign attribute on non-namespace object");
}

void Interpreter::assign(const Target& target, const Value& value) {
    if (target.unpack) {
        const size_t expected = target.parts.size();
        const auto items = iterate_to_unpack(value);
        for (size_t i = 0; i < expected; ++i) {
            const auto item = items->next();
            if (!item) raise("not enough values to unpack (expected {}, got {})", expected, i);
            assign(target.parts[i], *item);
        }
        if (items->next()) raise("too many values to unpack (expected {})", expected);
    } else if (!target.attribute.empty()) {
        const Value* owner = scope_->find(target.name);
        auto* space = owner ? owner->if_object_of<Namespace>() : nullptr;
        if (!space) raise("cannot assign attribute on non-namespace object");
        space->set(budget_, target.attribute, value);
    } else {
        scope_->set(target.name, value);
    }
}

std::shared_ptr<Iterator> Interpreter::iterate_to_unpack(const Value& value) {
    if (!iterable(value)) raise("cannot unpack non-iterable {} object", type_name(value));
    return iterate(value);
}

namespace {

/// The items for which the loop's `if` holds.
class FilteredItems final : public Iterator {
  public:
    FilteredItems(Interpreter& in, const node::For& loop, std::shared_ptr<Scope> scope,
                  std::shared_ptr<Iterator> items)
        : in_(in), loop_(loop), scope_(std::move(scope)), items_(std::move(items)) {}

    std::optional<Value> next() override {
        while (auto item = items_->next()) {
            if (truthy(in_.eval_with(loop_.target, *item, *loop_.filter, scope_))) return item;
        }
        return std::nullopt;
    }

  private:
    Interpreter& in_;
    const node::For& loop_;
    std::shared_ptr<Scope> scope_;
    std::shared_ptr<Iterator> items_;
};

}  // namespace

Value Interpreter::eval_with(const Target& target, const Value& item, const Expr& expr,
                             const std::shared_ptr<Scope>& scope) {
    const ScopeGuard guard(*this, new_scope(scope));
    assign(target, item);
    return eval(expr);
}

Interpreter::Flow Interpreter::loop_over(const node::For& n, const Value& source, int depth0) {
    std::shared_ptr<Iterator> items = iterate(source);
    std::optional<Int> length;
    if (n.filter)
        items = std::make_shared<FilteredItems>(*this, n, scope_, std::move(items));
    else if (!source.if_object() || source.if_object()->length())
        length = length_of(source);

    budget_.bytes(sizeof(Loop));
    const auto loop =
        std::make_shared<Loop>(n, n.recursive ? scope_ : nullptr, std::move(items), length, depth0);
    loop->depth = nested_depth(source.depth());
    std::shared_ptr<Scope> scope;
    bool any = false;
    while (loop->advance(budget_)) {
        any = true;
        // A scope that a macro of the body holds on to is left to it.
        if (scope && scope.use_count() == 1)
            scope->variables.clear();
        else
            scope = new_scope(scope_);
        const ScopeGuard guard(*this, scope);
        assign(n.target, loop->current());
        scope->set(source_.known.loop, Value::object(loop));
        if (run(n.body) == Flow::break_loop) break;
    }
    if (any) return Flow::normal;
    const ScopeGuard guard(*this, new_scope(scope_));
    return run(n.otherwise);
}

std::string Interpreter::run_loop(const node::For& loop, const std::shared_ptr<Scope>& scope,
                                  const Value& items, int depth) {
    const ScopeGuard guard(*this, scope);
    Capture capture(*this);
    loop_over(loop, items, depth);
    return capture.take();
}

Value Interpreter::run_macro(const node::Macro& macro, const std::shared_ptr<Scope>& closure,
                             const Args& args) {
    const size_t n_parameters = macro.parameters.size();
    const auto scope = new_scope(closure);
    std::vector<bool> used(args.named.size(), false);
    const auto take_named = [&](std::string_view name) -> const Value* {
        for (size_t i = 0; i < args.named.size(); ++i) {
            if (args.named[i].first != name || used[i]) continue;
            used[i] = true;
            return &args.named[i].second;
        }
        return nullptr;
    };
    std::vector<const Value*> given(n_parameters);
    for (size_t i = 0; i < n_parameters; ++i) {
        given[i] = i < args.positional.size()
                       ? &args.positional[i]
                       : take_named(source_.names[static_cast<size_t>(macro.parameters[i])]);
    }
    if (macro.uses_caller) {
        const Value* caller = take_named("caller");
        scope->set(source_.known.caller, caller ? *caller : Value::undefined("No caller defined"));
    }
    Dict rest;
    for (size_t i = 0; i < args.named.size(); ++i) {
        if (used[i]) continue;
        if (!macro.uses_kwargs)
            raise("macro '{}' takes no keyword argument '{}'", macro.name, args.named[i].first);
        rest.set(budget_, Value::string(args.named[i].first), args.named[i].second);
    }
    if (macro.uses_kwargs) scope->set(source_.known.kwargs, Value::dict(std::move(rest)));
    const size_t n_positional = args.positional.size();
    if (macro.uses_varargs) {
        const auto from = static_cast<std::ptrdiff_t>(std::min(n_parameters, n_positional));
        scope->set(source_.known.varargs,
                   make_tuple({args.positional.begin() + from, args.positional.end()}));
    } else if (n_positional > n_parameters) {
        raise("macro '{}' takes not more than {} argument(s)", macro.name, n_parameters);
    }

    const ScopeGuard guard(*this, scope);
    const size_t n_required = n_parameters - macro.defaults.size();
    for (size_t i = 0; i < n_parameters; ++i) {
        const int name = macro.parameters[i];
        if (given[i])
            scope->set(name, *given[i]);
        else if (i >= n_required)
            scope->set(name, eval(*macro.defaults[i - n_required]));
        else
            scope->set(name, Value::undefined(fmt::format("parameter '{}' was not provided",
                                                          source_.names[static_cast<size_t>(name)])));
    }
    Capture capture(*this);
    run(macro.body);
    return make_string(capture.take());
}

}  // namespace mixserve::text::jinja
