#include "text/jinja_params.h"

#include <algorithm>

namespace mixserve::text::jinja {

Params::Params(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
               size_t n_required)
    : function_(function), names_(names), values_(names.size()) {
    if (args.positional.size() > names_.size()) {
        raise("{}() takes at most {} arguments ({} given)", function, names_.size(), args.positional.size());
    }
    for (size_t i = 0; i < args.positional.size(); ++i)
        values_[i] = &args.positional[i];
    for (const auto& [name, value] : args.named) {
        const auto at = std::find(names_.begin(), names_.end(), name);
        if (at == names_.end()) {
            raise("{}() got an unexpected keyword argument '{}'{}", function, name,
                  did_you_mean(name, names_));
        }
        const auto i = static_cast<size_t>(at - names_.begin());
        if (values_[i]) raise("{}() got multiple values for argument '{}'", function, name);
        values_[i] = &value;
    }
    for (size_t i = 0; i < n_required; ++i) {
        if (!values_[i]) raise("{}() is missing its argument '{}'", function, names_[i]);
    }
}

Int Params::integer(size_t i, Int otherwise) const {
    if (!values_[i]) return otherwise;
    if (const Undefined* u = values_[i]->if_undefined()) raise("{}", u->message());
    const auto n = values_[i]->if_int();
    if (!n) raise("{}(): '{}' must be an integer, not {}", function_, names_[i], type_name(*values_[i]));
    return *n;
}

const std::string& Params::string(size_t i, const std::string& otherwise) const {
    if (!values_[i]) return otherwise;
    const Str* s = values_[i]->if_str();
    if (!s) raise("{}(): '{}' must be str, not {}", function_, names_[i], type_name(*values_[i]));
    return s->bytes;
}

}  // namespace mixserve::text::jinja
