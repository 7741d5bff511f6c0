#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

/// The values of a running template, with the semantics of Python's: what jinja2 computes with.
namespace mixserve::text::jinja {

/// Python's int, bounded: a result past 128 bits is an error.
using Int = __int128;

/// A failure while a template runs, without its place; ChatTemplate adds line and column.
class EvalError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
    throw EvalError(fmt::format(format, std::forward<Args>(args)...));
}

/// What one rendering may cost, so that a hostile template ends in an error.
class Budget {
  public:
    static constexpr int64_t max_steps = 50'000'000;
    static constexpr int64_t max_bytes = int64_t{1} << 30;          // of all strings and lists ever made
    static constexpr int64_t max_string_bytes = int64_t{64} << 20;  // of one string, and of the output

    void steps(int64_t n) {
        steps_left_ -= n;
        if (steps_left_ < 0) raise("the template takes more than {} steps", max_steps);
    }
    void bytes(int64_t n) {
        bytes_left_ -= n;
        if (bytes_left_ < 0) raise("the template makes more than {} MiB of values", max_bytes >> 20);
    }
    /// For a string of `n` bytes that is about to be made.
    void string(Int n);
    /// For a list of `n` items that is about to be made.
    void items(Int n);
    /// For reading through `n` bytes.
    void scan(size_t n) { steps(1 + static_cast<int64_t>(n / 16)); }

  private:
    int64_t steps_left_ = max_steps;
    int64_t bytes_left_ = max_bytes;
};

/// Lists, tuples and dicts nest at most this deep.
constexpr int max_value_depth = 200;

struct None {};

/// A value that is not there: prints as nothing, is false and empty; any other use raises `message`.
struct Undefined {
    std::string hint;    // the whole message, or:
    std::string name;    // what was asked for
    std::string object;  // of which object ("dict object"); empty: a variable
    bool is_element = false;
    std::string message() const;
};

struct Str {
    std::string bytes;  // UTF-8
    bool ascii = true;
    bool markup = false;  // markupsafe's Markup: came from `safe` or `escape`
};

struct Seq;
struct Dict;
class Object;

class Value {
  public:
    using Storage =
        std::variant<None, std::shared_ptr<const Undefined>, bool, Int, double, std::shared_ptr<const Str>,
                     std::shared_ptr<const Seq>, std::shared_ptr<const Dict>, std::shared_ptr<Object>>;

    Value() = default;  // None
    explicit Value(Storage storage) : data_(std::move(storage)) {}

    static Value boolean(bool b) { return Value(Storage(b)); }
    static Value integer(Int i) { return Value(Storage(i)); }
    static Value number(double d) { return Value(Storage(d)); }
    static Value string(std::string bytes, bool markup = false);
    /// `hint` is the message of any use.
    static Value undefined(std::string hint);
    static Value undefined_name(std::string_view name);
    static Value undefined_of(const Value& object, const Value& key);
    static Value list(std::vector<Value> items);
    static Value tuple(std::vector<Value> items);
    static Value dict(Dict dict);
    static Value object(std::shared_ptr<Object> object) { return Value(Storage(std::move(object))); }

    bool is_none() const { return std::holds_alternative<None>(data_); }
    bool is_bool() const { return std::holds_alternative<bool>(data_); }
    bool is_float() const { return std::holds_alternative<double>(data_); }
    bool is_undefined() const { return if_undefined() != nullptr; }
    bool is_str() const { return if_str() != nullptr; }

    const Undefined* if_undefined() const { return pointer<const Undefined>(); }
    const Str* if_str() const { return pointer<const Str>(); }
    const Seq* if_seq() const { return pointer<const Seq>(); }
    const Dict* if_dict() const { return pointer<const Dict>(); }
    Object* if_object() const { return pointer<Object>(); }
    template <class T>
    T* if_object_of() const {
        return dynamic_cast<T*>(if_object());
    }
    /// int or bool
    std::optional<Int> if_int() const;
    /// int, bool or float
    std::optional<double> if_number() const;

    const Storage& data() const { return data_; }
    /// How deep containers nest inside.
    int depth() const;

  private:
    template <class T>
    T* pointer() const {
        const auto* p = std::get_if<std::shared_ptr<T>>(&data_);
        return p ? p->get() : nullptr;
    }

    Storage data_;
};

/// A list or a tuple.
struct Seq {
    std::vector<Value> items;
    bool tuple = false;
    bool group = false;  // what groupby makes: a tuple with the names `grouper` and `list`
    int depth = 1;
    bool hashable = false;  // a tuple of what can be the key of a dict
};

/// Keeps the order of insertion.
struct Dict {
    std::vector<std::pair<Value, Value>> items;
    int depth = 1;

    /// The key's value or nullptr. A key that cannot be hashed raises.
    const Value* find(Budget& budget, const Value& key) const;
    const Value* find(std::string_view key) const;
    void set(Budget& budget, Value key, Value value);

  private:
    std::optional<size_t> position(Budget& budget, const Value& key) const;
    std::optional<size_t> position(std::string_view key) const;
    void index();

    std::unordered_map<std::string_view, size_t> index_;  // of string keys, once there are many
};

struct Args {
    std::vector<Value> positional;
    std::vector<std::pair<std::string, Value>> named;
};

/// Yields items one at a time.
class Iterator {
  public:
    virtual ~Iterator() = default;
    virtual std::optional<Value> next() = 0;
};

class Interpreter;

/// Whatever is not plain data: functions, macros, namespaces, ranges, views, generators, loops.
class Object : public std::enable_shared_from_this<Object> {
  public:
    virtual ~Object() = default;
    virtual std::string type_name() const = 0;
    virtual std::string repr(Budget&, int) const { return fmt::format("<{}>", type_name()); }
    virtual std::optional<Value> attribute(Interpreter&, std::string_view) { return std::nullopt; }
    virtual std::optional<Value> item(Interpreter&, const Value&) { return std::nullopt; }
    virtual bool callable() const { return false; }
    virtual Value call(Interpreter&, const Args&) { raise("'{}' object is not callable", type_name()); }
    /// nullptr: cannot be iterated.
    virtual std::shared_ptr<Iterator> iterate() { return nullptr; }
    virtual std::optional<Int> length() { return std::nullopt; }
    /// Has a length and items by position.
    virtual bool is_sequence() const { return false; }
    /// Python can use it as the key of a dict.
    virtual bool hashable() const { return true; }

    int depth = 0;
};

/// `Value::depth` of what holds values of this depth; raises past max_value_depth.
int nested_depth(int depth_inside);
int depth_of(const std::vector<Value>& items);

std::string type_name(const Value& value);
bool truthy(const Value& value);
bool equals(Budget& budget, const Value& a, const Value& b);
/// < 0, 0, > 0; raises for types without an order. `symbol`: the operator, for the message.
/// NaN compares as unordered: `unordered` is set.
int compare(Budget& budget, const Value& a, const Value& b, const char* symbol, bool* unordered);
bool less(Budget& budget, const Value& a, const Value& b);
/// Python can use it as the key of a dict.
bool is_hashable(const Value& value);

/// Raises for what has no length.
Int length_of(const Value& value);
/// Raises for what cannot be iterated.
std::shared_ptr<Iterator> iterate(const Value& value);
bool iterable(const Value& value);
/// All items; each costs a step.
std::vector<Value> items_of(Budget& budget, const Value& value);

/// Objects keep the order of their keys. Raises when nested too deep.
Value from_json(const ordered_json& source, int depth = 0);

}  // namespace mixserve::text::jinja
