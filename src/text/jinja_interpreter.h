#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace mixserve::text::jinja {

/// Variables by the id of their name; lookups go on to the parent.
struct Scope {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<int, Value>> variables;

    const Value* find(int name) const;
    void set(int name, Value value);
};

/// One rendering of a template: walks its tree. Values that it made must not outlive it.
class Interpreter {
  public:
    Interpreter(const Template& source, const ordered_json& context, std::time_t now);
    ~Interpreter();
    Interpreter(const Interpreter&) = delete;
    Interpreter& operator=(const Interpreter&) = delete;

    std::string render();
    /// Where in the source the last step was, for errors.
    uint32_t position() const { return position_; }

    Budget& budget() { return budget_; }
    std::time_t now() const { return now_; }

    // What filters, tests and methods need.
    Value make_string(std::string bytes, bool markup = false);
    Value make_list(std::vector<Value> items);
    Value make_tuple(std::vector<Value> items);
    /// str(value)
    std::string text(const Value& value);
    Value get_attribute(const Value& object, std::string_view name);
    Value get_item(const Value& object, const Value& key);
    Value call(const Value& callee, const Args& args);
    Value apply_filter(std::string_view name, const Value& value, const Args& args);
    bool apply_test(std::string_view name, const Value& value, const Args& args);

    /// An object whose references to others may form a cycle is dismantled when the rendering ends.
    class Cyclic {
      public:
        virtual ~Cyclic() = default;
        virtual void dismantle() = 0;
    };
    void adopt(std::shared_ptr<Cyclic> object) { cyclic_.push_back(std::move(object)); }

    // What loops and macros call back.
    Value run_macro(const node::Macro& macro, const std::shared_ptr<Scope>& closure, const Args& args);
    /// The text of one run of a loop.
    std::string run_loop(const node::For& loop, const std::shared_ptr<Scope>& scope, const Value& items,
                         int depth0);
    /// The value of `expr` where `target` is `item`.
    Value eval_with(const Target& target, const Value& item, const Expr& expr,
                    const std::shared_ptr<Scope>& scope);

  private:
    friend struct Evaluator;
    friend struct Executor;
    enum class Flow { normal, break_loop, continue_loop };
    class Descent;
    class ScopeGuard;
    class Capture;

    void at(uint32_t offset) { position_ = offset; }
    void write(std::string_view text);

    Value eval(const Expr& expr);
    Args eval_args(const CallArgs& args);
    /// `caller`: nullptr or the body of a call block.
    Value eval_call(const node::Call& call, uint32_t offset, const Value* caller);
    /// `block_text`: what the innermost filter of a chain works on where a block gives it, else nullptr.
    Value eval_filter(const node::Filter& filter, uint32_t offset, const Value* block_text);

    Flow run(const Body& body);
    Flow loop_over(const node::For& loop, const Value& source, int depth0);
    Value make_macro(const node::Macro& macro);
    std::shared_ptr<Scope> new_scope(std::shared_ptr<Scope> parent);
    void require_namespaces(const Target& target);
    void assign(const Target& target, const Value& value);
    std::shared_ptr<Iterator> iterate_to_unpack(const Value& value);

    const Template& source_;
    Budget budget_;
    std::time_t now_;
    uint32_t position_ = 0;
    int descent_ = 0;
    std::shared_ptr<Scope> root_;
    std::shared_ptr<Scope> scope_;
    std::string output_;
    std::vector<std::shared_ptr<Cyclic>> cyclic_;
};

}  // namespace mixserve::text::jinja
