#include "app/size_list.h"

#include <charconv>
#include <sstream>

#include "base/error.h"

namespace mixserve::app {

std::vector<int64_t> parse_size_list(const std::string& option, const std::string& text) {
    std::vector<int64_t> sizes;
    std::istringstream in(text);
    for (std::string word; std::getline(in, word, ',');) {
        int64_t size = 0;
        const char* end = word.data() + word.size();
        const auto result = std::from_chars(word.data(), end, size);
        require_usage(result.ec == std::errc() && result.ptr == end && size >= 1,
                      "--{}: '{}' is not a list of sizes, as in 1,16", option, text);
        sizes.push_back(size);
    }
    return sizes;
}

}  // namespace mixserve::app
