#pragma once

#include <functional>
#include <memory>
#include <string>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_value.h"

namespace mixserve::text::jinja {

/// A function of C++.
class Function final : public Object {
  public:
    using Body = Value (*)(Interpreter&, const Args&);
    Function(std::string name, Body body) : name_(std::move(name)), body_(body) {}
    std::string type_name() const override { return "function"; }
    std::string repr(Budget&, int) const override { return fmt::format("<function {}>", name_); }
    bool callable() const override { return true; }
    Value call(Interpreter& in, const Args& args) override { return body_(in, args); }

  private:
    std::string name_;
    Body body_;
};

/// `object.method`, taken without calling it.
class BoundMethod final : public Object {
  public:
    BoundMethod(Value self, const MethodEntry* entry);
    std::string type_name() const override { return "builtin_function_or_method"; }
    std::string repr(Budget&, int) const override;
    bool callable() const override { return true; }
    Value call(Interpreter& in, const Args& args) override { return entry_->apply(in, self_, args); }

  private:
    Value self_;
    const MethodEntry* entry_;
};

class Range final : public Object {
  public:
    Range(Int start, Int stop, Int step);
    std::string type_name() const override { return "range"; }
    std::string repr(Budget&, int) const override;
    std::optional<Value> item(Interpreter&, const Value& key) override;
    std::shared_ptr<Iterator> iterate() override;
    std::optional<Int> length() override { return count_; }
    bool is_sequence() const override { return true; }
    Value slice(const Value& start, const Value& stop, const Value& step) const;

  private:
    Int start_, stop_, step_, count_;
};

/// dict.keys(), values() and items(): has a length and can be walked many times.
class DictView final : public Object {
  public:
    DictView(std::string kind, Value items);
    std::string type_name() const override { return kind_; }
    std::string repr(Budget&, int level) const override;
    std::shared_ptr<Iterator> iterate() override;
    std::optional<Int> length() override;
    bool hashable() const override { return kind_ == "dict_values"; }

  private:
    std::string kind_;
    Value items_;  // a list
};

using NextItem = std::function<std::optional<Value>()>;

/// What map, select, items and the like return: can be walked once, and works only as far as it is walked.
class Generator final : public Object {
  public:
    /// `next` gives the items, `depth_inside` is that of what it reads.
    Generator(std::string kind, NextItem next, int depth_inside);
    std::string type_name() const override { return kind_; }
    std::string repr(Budget&, int) const override { return fmt::format("<{} object>", kind_); }
    std::shared_ptr<Iterator> iterate() override { return iterator_; }

  private:
    std::string kind_;
    std::shared_ptr<Iterator> iterator_;
};
/// A generator over `source` with `args`: `start` runs when the first item is asked for, as the body of a
/// Python generator does, so that its errors come then.
using StartGenerator = NextItem (*)(Interpreter&, const Value& source, const Args& args);
Value make_generator(Interpreter& in, const Value& source, const Args& args, StartGenerator start);

/// namespace(...): what {% set ns.x = ... %} changes.
class Namespace final : public Object, public Interpreter::Cyclic {
  public:
    explicit Namespace(Dict attributes) : attributes_(std::move(attributes)) {}
    std::string type_name() const override { return "Namespace"; }
    std::string repr(Budget& budget, int level) const override;
    std::optional<Value> attribute(Interpreter&, std::string_view name) override;
    void set(Budget& budget, const std::string& name, Value value);
    void dismantle() override { attributes_ = {}; }
    /// Attributes that start with _ are refused.
    static void check_name(std::string_view name);

  private:
    Dict attributes_;
};

/// A macro, or the body of a call block, with the variables around its definition.
class Macro final : public Object, public Interpreter::Cyclic {
  public:
    Macro(const node::Macro& macro, std::shared_ptr<Scope> closure)
        : macro_(macro), closure_(std::move(closure)) {}
    std::string type_name() const override { return "Macro"; }
    std::string repr(Budget&, int) const override { return fmt::format("<Macro '{}'>", macro_.name); }
    std::optional<Value> attribute(Interpreter&, std::string_view name) override;
    bool callable() const override { return true; }
    Value call(Interpreter& in, const Args& args) override { return in.run_macro(macro_, closure_, args); }
    void dismantle() override { closure_.reset(); }

  private:
    const node::Macro& macro_;
    std::shared_ptr<Scope> closure_;
};

/// The `loop` of a for loop: walks its items, and looks ahead only as far as it is asked to.
class Loop final : public Object, public Interpreter::Cyclic {
  public:
    Loop(const node::For& statement, std::shared_ptr<Scope> scope, std::shared_ptr<Iterator> items,
         std::optional<Int> length, int depth0);
    std::string type_name() const override { return "LoopContext"; }
    std::string repr(Budget&, int) const override;
    std::optional<Value> attribute(Interpreter& in, std::string_view name) override;
    bool callable() const override { return true; }
    Value call(Interpreter& in, const Args& args) override;
    std::optional<Int> length() override { return count(); }
    /// Moves on; false at the end.
    bool advance(Budget& budget);
    const Value& current() const { return current_; }
    void dismantle() override;

    Value cycle(const Args& args) const;
    bool changed(const Args& args, Budget& budget);

  private:
    Int count();
    const std::optional<Value>& peek();

    const node::For& statement_;
    std::shared_ptr<Scope> scope_;
    std::shared_ptr<Iterator> items_;
    std::optional<Int> length_;
    int depth0_;
    Int index0_ = -1;
    Value current_, before_;
    std::optional<Value> after_;
    std::optional<std::vector<Value>> last_changed_;
};

/// A list of values as an iterator.
std::shared_ptr<Iterator> iterate_items(std::vector<Value> items);

}  // namespace mixserve::text::jinja
