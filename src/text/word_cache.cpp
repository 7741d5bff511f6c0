#include "text/word_cache.h"

#include <xxhash.h>

namespace mixserve::text {

size_t WordCache::slot_of(std::string_view word) {
    return static_cast<size_t>(XXH3_64bits(word.data(), word.size())) & (n_entries - 1);
}

}  // namespace mixserve::text
