#include "io/expert_load.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace mixserve::io {
namespace {

double rounded(double ratio) {
    return std::round(ratio * 1e4) / 1e4;
}

double max_over_mean(std::span<const int64_t> counts, int64_t total) {
    const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
    return most * static_cast<double>(counts.size()) / static_cast<double>(total);
}

}  // namespace

std::optional<ExpertLoad> expert_load_of(std::span<const int64_t> counts, int64_t num_experts,
                                         std::span<const Range> parts) {
    ExpertLoad load{.experts_max_over_mean = 0, .parts_max_over_mean = 0};
    const auto width = static_cast<size_t>(num_experts);
    int64_t n_layers = 0;
    for (size_t begin = 0; begin < counts.size(); begin += width) {
        const std::span<const int64_t> layer = counts.subspan(begin, width);
        const int64_t total = std::accumulate(layer.begin(), layer.end(), int64_t{0});
        if (total == 0) continue;
        ++n_layers;
        const double ratio = max_over_mean(layer, total);
        load.experts_max_over_mean += ratio;
        if (ratio > load.worst_max_over_mean || n_layers == 1) {
            load.worst_max_over_mean = ratio;
            load.worst_layer = static_cast<int64_t>(begin / width);
            load.worst_expert = std::max_element(layer.begin(), layer.end()) - layer.begin();
        }
        std::vector<int64_t> of_parts;
        for (const Range& part : parts) {
            const auto first = layer.begin() + part.begin;
            of_parts.push_back(std::accumulate(first, first + part.size(), int64_t{0}));
        }
        load.parts_max_over_mean += of_parts.empty() ? 1 : max_over_mean(of_parts, total);
    }
    if (n_layers == 0) return std::nullopt;
    load.experts_max_over_mean /= static_cast<double>(n_layers);
    load.parts_max_over_mean /= static_cast<double>(n_layers);
    return load;
}

ordered_json to_json(const ExpertLoad& load) {
    return {{"experts_max_over_mean", rounded(load.experts_max_over_mean)},
            {"parts_max_over_mean", rounded(load.parts_max_over_mean)},
            {"worst_layer", load.worst_layer},
            {"worst_expert", load.worst_expert},
            {"worst_max_over_mean", rounded(load.worst_max_over_mean)}};
}

}  // namespace mixserve::io
