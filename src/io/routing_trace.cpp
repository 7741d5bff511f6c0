#include "io/routing_trace.h"

#include <fstream>

#include "base/error.h"
#include "base/json.h"

namespace mixserve::io {

void RoutingTraceWriter::write(int64_t layer, std::span<const int32_t> experts) {
    json tokens = json::array();
    for (size_t first = 0; first + static_cast<size_t>(k_) <= experts.size();
         first += static_cast<size_t>(k_))
        tokens.push_back(experts.subspan(first, static_cast<size_t>(k_)));
    if (!tokens.empty()) writer_.write(json{{"layer", layer}, {"experts", std::move(tokens)}}.dump());
}

RoutingTrace read_routing_trace(const std::string& path, std::optional<int64_t> layer, int64_t max_tokens) {
    std::ifstream file(path);
    require_usage(file.is_open(), "cannot read the routing trace {}", path);
    RoutingTrace trace;
    std::string text;
    for (int64_t n = 1; std::getline(file, text); ++n) {
        try {
            const json line = json::parse(text);
            const auto of_layer = line.at("layer").get<int64_t>();
            if (!layer) layer = of_layer;
            if (of_layer != *layer) continue;
            for (const auto& token : line.at("experts").get<std::vector<std::vector<int32_t>>>()) {
                const auto k = static_cast<int64_t>(token.size());
                if (trace.experts.empty()) trace.num_experts_per_tok = k;
                require(k > 0 && k == trace.num_experts_per_tok, "a token has {} experts, the first has {}",
                        k, trace.num_experts_per_tok);
                for (const int32_t expert : token)
                    require(expert >= 0, "{} is no expert", expert);
                trace.experts.insert(trace.experts.end(), token.begin(), token.end());
                if (static_cast<int64_t>(trace.experts.size()) >= max_tokens * k) return trace;
            }
        } catch (const std::exception& e) {
            fail_usage("routing trace {}: line {}: {}", path, n, e.what());
        }
    }
    require_usage(!trace.experts.empty(), "the routing trace {} has no tokens{}", path,
                  layer ? fmt::format(" of layer {}", *layer) : "");
    return trace;
}

}  // namespace mixserve::io
