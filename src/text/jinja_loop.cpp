#include "text/jinja_objects.h"
#include "text/jinja_params.h"

namespace mixserve::text::jinja {
namespace {

/// loop.cycle and loop.changed
class LoopMethod final : public Object {
  public:
    LoopMethod(std::shared_ptr<Loop> loop, bool cycles) : loop_(std::move(loop)), cycles_(cycles) {
        depth = nested_depth(loop_->depth);
    }
    std::string type_name() const override { return "method"; }
    bool callable() const override { return true; }
    Value call(Interpreter& in, const Args& args) override {
        if (!args.named.empty()) raise("loop.{}() takes no keyword arguments", cycles_ ? "cycle" : "changed");
        if (cycles_) return loop_->cycle(args);
        in.adopt(loop_);
        in.budget().bytes(64);
        return Value::boolean(loop_->changed(args, in.budget()));
    }

  private:
    std::shared_ptr<Loop> loop_;
    bool cycles_;
};

}  // namespace

Loop::Loop(const node::For& statement, std::shared_ptr<Scope> scope, std::shared_ptr<Iterator> items,
           std::optional<Int> length, int depth0)
    : statement_(statement),
      scope_(std::move(scope)),
      items_(std::move(items)),
      length_(length),
      depth0_(depth0) {}

std::string Loop::repr(Budget&, int) const {
    const std::string length = length_ ? fmt::format("{}", *length_) : "?";
    return fmt::format("<LoopContext {}/{}>", index0_ + 1, length);
}

bool Loop::advance(Budget& budget) {
    budget.steps(1);
    std::optional<Value> next = after_ ? std::exchange(after_, std::nullopt) : items_->next();
    if (!next) return false;
    ++index0_;
    before_ = std::exchange(current_, std::move(*next));
    return true;
}

const std::optional<Value>& Loop::peek() {
    if (!after_) after_ = items_->next();
    return after_;
}

/// The items that are left are read where their number is not known otherwise.
Int Loop::count() {
    if (length_) return *length_;
    std::vector<Value> rest;
    while (auto item = items_->next())
        rest.push_back(std::move(*item));
    length_ = static_cast<Int>(rest.size()) + index0_ + 1 + (after_ ? 1 : 0);
    items_ = iterate_items(std::move(rest));
    return *length_;
}

std::optional<Value> Loop::attribute(Interpreter& in, std::string_view name) {
    if (name == "index") return Value::integer(index0_ + 1);
    if (name == "index0") return Value::integer(index0_);
    if (name == "first") return Value::boolean(index0_ == 0);
    if (name == "last") return Value::boolean(!peek());
    if (name == "length") return Value::integer(count());
    if (name == "revindex") return Value::integer(count() - index0_);
    if (name == "revindex0") return Value::integer(count() - index0_ - 1);
    if (name == "depth") return Value::integer(depth0_ + 1);
    if (name == "depth0") return Value::integer(depth0_);
    if (name == "previtem") return index0_ == 0 ? Value::undefined("there is no previous item") : before_;
    if (name == "nextitem") return peek() ? *peek() : Value::undefined("there is no next item");
    if (name == "cycle" || name == "changed") {
        in.budget().bytes(64);
        return Value::object(std::make_shared<LoopMethod>(std::static_pointer_cast<Loop>(shared_from_this()),
                                                          name == "cycle"));
    }
    return std::nullopt;
}

Value Loop::cycle(const Args& args) const {
    if (args.positional.empty()) raise("no items for cycling given");
    return args.positional[static_cast<size_t>(index0_ % static_cast<Int>(args.positional.size()))];
}

bool Loop::changed(const Args& args, Budget& budget) {
    if (last_changed_ && last_changed_->size() == args.positional.size()) {
        bool same = true;
        for (size_t i = 0; same && i < args.positional.size(); ++i)
            same = equals(budget, (*last_changed_)[i], args.positional[i]);
        if (same) return false;
    }
    last_changed_ = args.positional;
    return true;
}

Value Loop::call(Interpreter& in, const Args& args) {
    const Params params("loop", args, {"iterable"}, 1);
    if (!statement_.recursive) raise("The loop must have the 'recursive' marker to be called recursively.");
    return in.make_string(in.run_loop(statement_, scope_, params.get(0), depth0_ + 1));
}

void Loop::dismantle() {
    scope_.reset();
    items_ = iterate_items({});
    current_ = before_ = Value();
    after_.reset();
    last_changed_.reset();
}

}  // namespace mixserve::text::jinja
