#include "text/jinja_interpreter.h"

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter_parts.h"
#include "text/jinja_objects.h"
#include "text/jinja_ops.h"
#include "text/jinja_params.h"
#include "text/jinja_print.h"

namespace mixserve::text::jinja {

const Value* Scope::find(int name) const {
    for (const Scope* scope = this; scope; scope = scope->parent.get()) {
        for (const auto& [id, value] : scope->variables) {
            if (id == name) return &value;
        }
    }
    return nullptr;
}

void Scope::set(int name, Value value) {
    for (auto& [id, old] : variables) {
        if (id == name) {
            old = std::move(value);
            return;
        }
    }
    variables.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Template& source, const ordered_json& context, std::time_t now)
    : source_(source), now_(now), root_(std::make_shared<Scope>()), scope_(root_) {
    if (!context.is_object()) raise("the context of a chat template must be an object");
    for (size_t id = 0; id < source.names.size(); ++id) {
        const std::string& name = source.names[id];
        if (const auto given = context.find(name); given != context.end()) {
            root_->set(static_cast<int>(id), from_json(*given));
        } else if (Value global = find_global(name); !global.is_none()) {
            root_->set(static_cast<int>(id), std::move(global));
        }
    }
}

Interpreter::~Interpreter() {
    for (const auto& object : cyclic_)
        object->dismantle();
}

std::string Interpreter::render() {
    run(source_.body);
    return std::move(output_);
}

Value Interpreter::make_string(std::string bytes, bool markup) {
    budget_.string(static_cast<Int>(bytes.size()));
    return Value::string(std::move(bytes), markup);
}

Value Interpreter::make_list(std::vector<Value> items) {
    budget_.items(static_cast<Int>(items.size()));
    return Value::list(std::move(items));
}

Value Interpreter::make_tuple(std::vector<Value> items) {
    budget_.items(static_cast<Int>(items.size()));
    return Value::tuple(std::move(items));
}

std::string Interpreter::text(const Value& value) {
    return to_text(budget_, value);
}

void Interpreter::write(std::string_view text) {
    if (output_.size() + text.size() > static_cast<size_t>(Budget::max_string_bytes)) {
        raise("the output is larger than {} MiB", Budget::max_string_bytes >> 20);
    }
    budget_.bytes(static_cast<int64_t>(text.size()));
    output_ += text;
}

Value Interpreter::get_attribute(const Value& object, std::string_view name) {
    if (const Undefined* u = object.if_undefined()) raise("{}", u->message());
    budget_.bytes(64);
    if (const MethodEntry* method = find_method(object, name)) {
        if (method->apply) return Value::object(std::make_shared<BoundMethod>(object, method));
        return Value::undefined(unsafe_attribute(object, name));
    }
    if (name.starts_with("__") && name.ends_with("__"))
        return Value::undefined(unsafe_attribute(object, name));
    if (const Dict* dict = object.if_dict()) {
        if (const Value* value = dict->find(name)) return *value;
    } else if (const Seq* seq = object.if_seq(); seq && seq->group) {
        if (name == "grouper") return seq->items[0];
        if (name == "list") return seq->items[1];
    } else if (Object* o = object.if_object()) {
        if (auto value = o->attribute(*this, name)) return std::move(*value);
    }
    return Value::undefined_of(object, Value::string(std::string(name)));
}

Value Interpreter::get_item(const Value& object, const Value& key) {
    if (const Undefined* u = object.if_undefined()) raise("{}", u->message());
    if (const Str* s = key.if_str()) budget_.scan(s->bytes.size());
    if (const Dict* dict = object.if_dict()) {
        if (key.is_str() || is_hashable(key)) {
            if (const Value* value = dict->find(budget_, key)) return *value;
        }
    } else if (object.if_seq() || object.is_str()) {
        if (const auto i = key.if_int()) {
            if (object.is_str()) budget_.scan(object.if_str()->bytes.size());
            if (auto value = element(object, *i)) return std::move(*value);
        }
    } else if (Object* o = object.if_object()) {
        if (auto value = o->item(*this, key)) return std::move(*value);
    }
    if (const Str* s = key.if_str()) return get_attribute(object, s->bytes);
    budget_.bytes(64);
    return Value::undefined_of(object, key);
}

Value Interpreter::call(const Value& callee, const Args& args) {
    if (const Undefined* u = callee.if_undefined()) raise("{}", u->message());
    Object* object = callee.if_object();
    if (!object || !object->callable()) raise("'{}' object is not callable", type_name(callee));
    const Descent descent(*this);
    return object->call(*this, args);
}

Value Interpreter::apply_filter(std::string_view name, const Value& value, const Args& args) {
    const FilterEntry* filter = find_filter(name);
    if (!filter) raise("{}", unknown_filter(name));
    const Descent descent(*this);
    return filter->apply(*this, value, args);
}

bool Interpreter::apply_test(std::string_view name, const Value& value, const Args& args) {
    const TestEntry* test = find_test(name);
    if (!test) raise("{}", unknown_test(name));
    const Descent descent(*this);
    return test->apply(*this, value, args);
}

}  // namespace mixserve::text::jinja
