#include "text/jinja_attribute_path.h"

#include "text/jinja_number.h"
#include "text/jinja_string_ops.h"

namespace mixserve::text::jinja {

AttributePath::AttributePath(const Value& attribute, std::optional<Value> otherwise)
    : otherwise_(std::move(otherwise)) {
    if (attribute.is_none()) return;
    const Str* path = attribute.if_str();
    if (!path) {
        parts_.push_back(attribute);
        return;
    }
    for (const std::string_view part : split_left(path->bytes, ".", -1)) {
        const auto i = is_digit_text(part) ? parse_int(part, 10) : std::nullopt;
        parts_.push_back(i ? Value::integer(*i) : Value::string(std::string(part)));
    }
}

Value AttributePath::get(Interpreter& in, Value item) const {
    for (const Value& part : parts_) {
        item = in.get_item(item, part);
        if (otherwise_ && item.is_undefined()) item = *otherwise_;
    }
    return item;
}

}  // namespace mixserve::text::jinja
