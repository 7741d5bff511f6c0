#include <algorithm>
#include <array>
#include <ctime>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_objects.h"
#include "text/jinja_params.h"

namespace mixserve::text::jinja {
namespace {

constexpr Int max_range = 100'000;  // of jinja2's sandbox

Value make_range(Interpreter&, const Args& args) {
    const Params params("range", args, {"start", "stop", "step"}, 1);
    const bool only_stop = args.positional.size() == 1;
    const Int start = only_stop ? 0 : params.integer(0, 0);
    const Int stop = only_stop ? params.integer(0, 0) : params.integer(1, 0);
    const Int step = params.integer(2, 1);
    if (step == 0) raise("range() arg 3 must not be zero");
    constexpr Int far = Int{1} << 100;
    if (start < -far || start > far || stop < -far || stop > far || step < -far || step > far)
        raise("range() argument too large");
    auto range = std::make_shared<Range>(start, stop, step);
    if (*range->length() > max_range)
        raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", max_range);
    return Value::object(std::move(range));
}

/// dict(mapping or pairs, name=value, ...)
Dict dict_of(Interpreter& in, const Args& args, const char* function) {
    Dict out;
    if (args.positional.size() > 1)
        raise("{} expected at most 1 argument, got {}", function, args.positional.size());
    if (!args.positional.empty()) {
        const Value& source = args.positional[0];
        if (const Dict* dict = source.if_dict()) {
            for (const auto& [key, value] : dict->items)
                out.set(in.budget(), key, value);
        } else {
            for (const Value& item : items_of(in.budget(), source)) {
                const std::vector<Value> pair = items_of(in.budget(), item);
                if (pair.size() != 2)
                    raise("dictionary update sequence element has length {}; 2 is required", pair.size());
                out.set(in.budget(), pair[0], pair[1]);
            }
        }
    }
    for (const auto& [name, value] : args.named)
        out.set(in.budget(), Value::string(name), value);
    return out;
}

Value make_dict(Interpreter& in, const Args& args) {
    return Value::dict(dict_of(in, args, "dict"));
}

Value make_namespace(Interpreter& in, const Args& args) {
    Dict attributes = dict_of(in, args, "namespace");
    for (const auto& [key, value] : attributes.items) {
        if (const Str* name = key.if_str()) Namespace::check_name(name->bytes);
    }
    in.budget().bytes(sizeof(Namespace));
    auto object = std::make_shared<Namespace>(std::move(attributes));
    in.adopt(object);
    return Value::object(std::move(object));
}

Value raise_exception(Interpreter& in, const Args& args) {
    const Params params("raise_exception", args, {"message"}, 1);
    raise("{}", in.text(*params[0]));
}

/// datetime.now().strftime(format): local time, without zone and microseconds.
Value strftime_now(Interpreter& in, const Args& args) {
    const Params params("strftime_now", args, {"format"}, 1);
    std::string format;
    const std::string& given = params.string(0, "");
    if (given.size() > 4096) raise("strftime_now() takes a format of at most 4096 bytes");
    for (size_t i = 0; i < given.size(); ++i) {
        const char next = given[i] == '%' && i + 1 < given.size() ? given[i + 1] : '\0';
        if (next == 'f')
            format += "000000";
        else if (next != 'z' && next != 'Z')
            format.append(given, i, next ? 2 : 1);
        if (next) ++i;
    }
    const std::time_t now = in.now();
    std::tm local{};
    localtime_r(&now, &local);
    // A leading character tells an empty result from one that does not fit.
    format.insert(format.begin(), '.');
    std::string out(format.size() * 64 + 64, '\0');
    out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
    if (out.empty()) raise("strftime_now() cannot format '{}'", given);
    return in.make_string(out.substr(1));
}

/// cycler(...): its items in turn.
class Cycler final : public Object {
  public:
    explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
        depth = nested_depth(depth_of(items_));
    }
    std::string type_name() const override { return "Cycler"; }
    std::optional<Value> attribute(Interpreter&, std::string_view name) override;
    Value step() {
        Value item = items_[at_];
        at_ = (at_ + 1) % items_.size();
        return item;
    }
    void reset() { at_ = 0; }

  private:
    std::vector<Value> items_;
    size_t at_ = 0;
};

class CyclerMethod final : public Object {
  public:
    CyclerMethod(std::shared_ptr<Cycler> cycler, bool resets) : cycler_(std::move(cycler)), resets_(resets) {
        depth = nested_depth(cycler_->depth);
    }
    std::string type_name() const override { return "method"; }
    bool callable() const override { return true; }
    Value call(Interpreter&, const Args&) override {
        if (!resets_) return cycler_->step();
        cycler_->reset();
        return {};
    }

  private:
    std::shared_ptr<Cycler> cycler_;
    bool resets_;
};

std::optional<Value> Cycler::attribute(Interpreter& in, std::string_view name) {
    if (name == "current") return items_[at_];
    if (name != "next" && name != "reset") return std::nullopt;
    in.budget().bytes(64);
    return Value::object(std::make_shared<CyclerMethod>(std::static_pointer_cast<Cycler>(shared_from_this()),
                                                        name == "reset"));
}

Value make_cycler(Interpreter& in, const Args& args) {
    if (args.positional.empty()) raise("at least one item has to be provided");
    in.budget().items(static_cast<Int>(args.positional.size()));
    return Value::object(std::make_shared<Cycler>(args.positional));
}

/// joiner(sep): nothing the first time, then the separator.
class Joiner final : public Object {
  public:
    explicit Joiner(Value separator) : separator_(std::move(separator)) {
        depth = nested_depth(separator_.depth());
    }
    std::string type_name() const override { return "Joiner"; }
    bool callable() const override { return true; }
    Value call(Interpreter&, const Args&) override {
        return std::exchange(used_, true) ? separator_ : Value::string("");
    }

  private:
    Value separator_;
    bool used_ = false;
};

Value make_joiner(Interpreter& in, const Args& args) {
    const Params params("joiner", args, {"sep"});
    in.budget().bytes(sizeof(Joiner));
    return Value::object(std::make_shared<Joiner>(params.get(0, Value::string(", "))));
}

constexpr std::array<std::pair<std::string_view, Function::Body>, 7> functions = {
    {{"range", make_range},
     {"dict", make_dict},
     {"namespace", make_namespace},
     {"raise_exception", raise_exception},
     {"strftime_now", strftime_now},
     {"cycler", make_cycler},
     {"joiner", make_joiner}}};

}  // namespace

Value find_global(std::string_view name) {
    const auto found =
        std::find_if(functions.begin(), functions.end(), [&](const auto& f) { return f.first == name; });
    if (found == functions.end()) return {};
    return Value::object(std::make_shared<Function>(std::string(name), found->second));
}

}  // namespace mixserve::text::jinja
