#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/json_node.h"

namespace mixserve::text {

/// The `post_processor` of tokenizer.json: the special tokens around a text.
struct PostProcessor {
    std::vector<int32_t> before;
    std::vector<int32_t> after;

    /// Without a node: none. UsageError names what is not supported.
    static PostProcessor from_json(const std::optional<JsonNode>& node);
};

}  // namespace mixserve::text
