#include "app/report_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <numeric>
#include <vector>

#include "io/number_text.h"

namespace mixserve::app {
namespace {

using io::JobReport;

constexpr size_t n_jobs_a_table = 5;
constexpr size_t max_errors_shown = 10;

struct Line {
    std::string title;
    std::function<std::string(const JobReport&)> text;  // "" where a job does not tell
};

std::string progress_of(const JobReport& r) {
    if (!r.n_prompts) return io::grouped(r.n_rows);
    const double share =
        *r.n_prompts == 0 ? 1 : static_cast<double>(r.n_rows) / static_cast<double>(*r.n_prompts);
    return fmt::format("{} of {} ({:.0f} %)", io::grouped(r.n_rows), io::grouped(*r.n_prompts), 100 * share);
}

std::string state_of(const JobReport& r) {
    const std::string state(name(r.state));
    return r.state == io::JobState::silent ? state + " for " + io::duration_text(r.quiet_s) : state;
}

std::string rate_of(const JobReport& r, int64_t n) {
    return r.elapsed_s > 0 && n > 0 ? io::rate_text(static_cast<double>(n) / r.elapsed_s) : "";
}

std::string ms_of(const std::optional<io::LatencyFigures>& figures, double io::LatencyFigures::*figure) {
    return figures ? fmt::format("{:.2f}", (*figures).*figure) : "";
}

std::string slowest_of(const JobReport& r) {
    if (!r.slowest_rank || r.n_ranks < 2) return "";
    return fmt::format("{} ({:.0f} % of steps)", *r.slowest_rank, 100 * r.slowest_steps_share);
}

std::string share_of(const JobReport& r, size_t phase) {
    const double total = std::accumulate(r.phase_seconds.begin(), r.phase_seconds.end(), 0.0);
    if (total <= 0 || r.phase_seconds[phase] <= 0) return "";
    return fmt::format("{:.1f} %", 100 * r.phase_seconds[phase] / total);
}

std::vector<Line> lines_of_table() {
    using Figures = io::LatencyFigures;
    std::vector<Line> lines{
        {"State", state_of},
        {"Command", [](const JobReport& r) { return r.command; }},
        {"Model", [](const JobReport& r) { return r.model; }},
        {"Strategy", [](const JobReport& r) { return r.strategy; }},
        {"Ranks", [](const JobReport& r) { return fmt::format("{} on {} nodes", r.n_ranks, r.n_nodes); }},
        {"Starts", [](const JobReport& r) { return r.n_starts > 1 ? io::grouped(r.n_starts) : ""; }},
        {"Rows done", progress_of},
        {"Rows with an error", [](const JobReport& r) { return io::grouped(r.n_failed); }},
        {"Time", [](const JobReport& r) { return r.elapsed_s > 0 ? io::duration_text(r.elapsed_s) : ""; }},
        {"Time left",
         [](const JobReport& r) { return r.left_s() ? io::duration_text(*r.left_s()) : std::string(); }},
        {"Rows/s", [](const JobReport& r) { return rate_of(r, r.n_rows); }},
        {"Input tokens/s", [](const JobReport& r) { return rate_of(r, r.n_input_tokens); }},
        {"Output tokens/s", [](const JobReport& r) { return rate_of(r, r.n_output_tokens); }},
        {"Tokens/s in the last minute",
         [](const JobReport& r) {
             const bool ended = r.state == io::JobState::finished || r.state == io::JobState::stopped;
             return ended || r.recent_tokens_per_s <= 0 ? "" : io::rate_text(r.recent_tokens_per_s);
         }},
        {"Perplexity",
         [](const JobReport& r) { return r.perplexity ? fmt::format("{:.4f}", *r.perplexity) : ""; }},
        {"TTFT ms, median", [](const JobReport& r) { return ms_of(r.ttft, &Figures::median); }},
        {"TTFT ms, 99 of 100", [](const JobReport& r) { return ms_of(r.ttft, &Figures::p99); }},
        {"ITL ms, median", [](const JobReport& r) { return ms_of(r.itl, &Figures::median); }},
        {"ITL ms, 99 of 100", [](const JobReport& r) { return ms_of(r.itl, &Figures::p99); }},
        {"Request ms, median", [](const JobReport& r) { return ms_of(r.e2el, &Figures::median); }}};
    for (size_t phase = 0; phase < n_phases; ++phase) {
        lines.push_back({fmt::format("  {}", mixserve::name(static_cast<Phase>(phase))),
                         [phase](const JobReport& r) { return share_of(r, phase); }});
    }
    lines.push_back({"Slowest rank", slowest_of});
    lines.push_back({"Busy time, max/mean of ranks", [](const JobReport& r) {
                         return r.busy_mean_s > 0 ? fmt::format("{:.2f}", r.busy_max_s / r.busy_mean_s) : "";
                     }});
    lines.push_back({"Tokens of an expert, max/mean", [](const JobReport& r) {
                         return r.expert_load ? fmt::format("{:.2f}", r.expert_load->experts_max_over_mean)
                                              : "";
                     }});
    lines.push_back({"  of a node or rank", [](const JobReport& r) {
                         return r.expert_load ? fmt::format("{:.2f}", r.expert_load->parts_max_over_mean)
                                              : "";
                     }});
    lines.push_back({"  worst", [](const JobReport& r) {
                         return r.expert_load
                                    ? fmt::format("{:.2f} (layer {}, expert {})",
                                                  r.expert_load->worst_max_over_mean,
                                                  r.expert_load->worst_layer, r.expert_load->worst_expert)
                                    : "";
                     }});
    return lines;
}

std::string folder_name(const JobReport& r) {
    const std::filesystem::path path = std::filesystem::path(r.folder).lexically_normal();
    const std::filesystem::path last = path.has_filename() ? path.filename() : path.parent_path().filename();
    return last.empty() || last == "." ? std::filesystem::absolute(path).parent_path().filename().string()
                                       : last.string();
}

void append_table(std::string& out, std::span<const JobReport> reports) {
    std::vector<size_t> widths;
    std::vector<std::pair<std::string, std::vector<std::string>>> rows;
    std::vector<std::string> names;
    for (const JobReport& r : reports) {
        names.push_back(folder_name(r));
        widths.push_back(std::max<size_t>(14, names.back().size()));
    }
    rows.emplace_back("", names);
    size_t title_width = 0;
    for (const Line& line : lines_of_table()) {
        std::vector<std::string> texts;
        for (const JobReport& r : reports)
            texts.push_back(line.text(r));
        if (std::all_of(texts.begin(), texts.end(), [](const std::string& t) { return t.empty(); })) continue;
        for (size_t job = 0; job < texts.size(); ++job)
            widths[job] = std::max(widths[job], texts[job].size());
        title_width = std::max(title_width, line.title.size());
        rows.emplace_back(line.title, std::move(texts));
    }
    out += '\n';
    for (const auto& [title, texts] : rows) {
        fmt::format_to(std::back_inserter(out), "  {:<{}}", title, title_width);
        for (size_t job = 0; job < texts.size(); ++job)
            fmt::format_to(std::back_inserter(out), "  {:>{}}", texts[job], widths[job]);
        out += '\n';
    }
}

void append_errors(std::string& out, const JobReport& report) {
    for (const std::string& note : report.notes)
        fmt::format_to(std::back_inserter(out), "\n  {}: {}\n", folder_name(report), note);
    if (report.errors.empty()) return;
    fmt::format_to(std::back_inserter(out), "\n  {}: errors by cause\n", folder_name(report));
    const size_t n_shown = std::min(report.errors.size(), max_errors_shown);
    for (size_t i = 0; i < n_shown; ++i) {
        const io::ErrorCauses::Cause& e = report.errors[i];
        fmt::format_to(std::back_inserter(out), "  {:>10}  {}   (as {}: {})\n", io::grouped(e.count), e.text,
                       e.example_id, e.example);
    }
    if (n_shown < report.errors.size())
        fmt::format_to(std::back_inserter(out), "  and {} other causes, in --json\n",
                       report.errors.size() - n_shown);
}

}  // namespace

std::string report_table(std::span<const JobReport> reports) {
    std::string out;
    for (size_t first = 0; first < reports.size(); first += n_jobs_a_table)
        append_table(out, reports.subspan(first, std::min(n_jobs_a_table, reports.size() - first)));
    for (const JobReport& report : reports)
        append_errors(out, report);
    return out;
}

}  // namespace mixserve::app
