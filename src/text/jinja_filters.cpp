#include <algorithm>
#include <unordered_map>

#include "text/jinja_builtins.h"

namespace mixserve::text::jinja {
namespace {

using FilterTable = std::unordered_map<std::string_view, const FilterEntry*>;

const FilterTable& filters() {
    static const FilterTable table = [] {
        FilterTable out;
        for (const auto group : {text_filters(), sequence_filters(), number_filters(), selection_filters()}) {
            for (const FilterEntry& entry : group)
                out.emplace(entry.name, &entry);
        }
        return out;
    }();
    return table;
}

}  // namespace

const FilterEntry* find_filter(std::string_view name) {
    const auto found = filters().find(name);
    return found == filters().end() ? nullptr : found->second;
}

std::string unknown_filter(std::string_view name) {
    std::vector<std::string_view> names;
    for (const auto& [known, entry] : filters())
        names.push_back(known);
    std::sort(names.begin(), names.end());
    return fmt::format("No filter named '{}'{}.", name, did_you_mean(name, names));
}

}  // namespace mixserve::text::jinja
