#include <cmath>
#include <numeric>

#include "io/job_folder.h"
#include "io/row_parts.h"

namespace mixserve::io {
namespace {

template <class T>
ordered_json or_null(const std::optional<T>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json to_json(const std::optional<LatencyFigures>& figures) {
    if (!figures) return nullptr;
    return {{"count", figures->count},
            {"mean_ms", rounded_ms(figures->mean)},
            {"median_ms", rounded_ms(figures->median)},
            {"p99_ms", rounded_ms(figures->p99)}};
}

ordered_json phase_shares(const JobReport& report) {
    const double total = std::accumulate(report.phase_seconds.begin(), report.phase_seconds.end(), 0.0);
    ordered_json shares = ordered_json::object();
    for (size_t phase = 0; phase < n_phases && total > 0; ++phase) {
        shares[std::string(mixserve::name(static_cast<Phase>(phase)))] =
            std::round(report.phase_seconds[phase] / total * 1e4) / 1e4;
    }
    return shares;
}

ordered_json slowest_rank(const JobReport& report) {
    if (!report.slowest_rank) return nullptr;
    return {{"rank", *report.slowest_rank},
            {"share_of_steps", rounded_s(report.slowest_steps_share)},
            {"busy_beyond_mean_s", rounded_s(report.slowest_excess_s)}};
}

}  // namespace

ordered_json to_json(const JobReport& r) {
    const auto per_second = [&](int64_t n) {
        return r.elapsed_s > 0 ? static_cast<double>(n) / r.elapsed_s : 0.0;
    };
    ordered_json errors = ordered_json::array();
    for (const ErrorCauses::Cause& e : r.errors) {
        errors.push_back(
            {{"cause", e.text}, {"count", e.count}, {"example", e.example}, {"example_id", e.example_id}});
    }
    return {{"folder", r.folder},
            {"command", r.command},
            {"model", r.model},
            {"strategy", r.strategy},
            {"nodes", r.n_nodes},
            {"ranks", r.n_ranks},
            {"state", name(r.state)},
            {"quiet_s", rounded_s(r.quiet_s)},
            {"notes", r.notes},
            {"rows", r.n_rows},
            {"failed", r.n_failed},
            {"prompts", or_null(r.n_prompts)},
            {"starts", r.n_starts},
            {"elapsed_s", rounded_s(r.elapsed_s)},
            {"left_s", or_null(r.left_s())},
            {"steps", r.n_steps},
            {"input_tokens", r.n_input_tokens},
            {"output_tokens", r.n_output_tokens},
            {"rows_per_s", rounded_s(r.rows_per_s())},
            {"output_tokens_per_s", rounded_s(per_second(r.n_output_tokens))},
            {"step_tokens_per_s", rounded_s(per_second(r.n_step_tokens))},
            {"recent_step_tokens_per_s", rounded_s(r.recent_tokens_per_s)},
            {"ttft", to_json(r.ttft)},
            {"itl", to_json(r.itl)},
            {"e2el", to_json(r.e2el)},
            {"perplexity", or_null(r.perplexity)},
            {"phase_shares", phase_shares(r)},
            {"busy_max_over_mean", r.busy_mean_s > 0 ? rounded_s(r.busy_max_s / r.busy_mean_s) : 1.0},
            {"slowest_rank", slowest_rank(r)},
            {"expert_load", r.expert_load ? to_json(*r.expert_load) : ordered_json(nullptr)},
            {"errors", std::move(errors)}};
}

}  // namespace mixserve::io
