#include "io/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "io/number_text.h"
#include "io/row_parts.h"

namespace mixserve::io {
namespace {

struct NamedDistribution {
    const char* key;    // of vLLM's benchmarks
    const char* title;  // for people
    const Distribution& values;
};

std::array<NamedDistribution, 4> distributions_of(const RunStatistics& s) {
    return {{{"ttft_ms", "Time to first token", s.ttft_ms()},
             {"itl_ms", "Between two tokens", s.itl_ms()},
             {"tpot_ms", "Per token after the first", s.tpot_ms()},
             {"e2el_ms", "Whole request", s.e2el_ms()}}};
}

double per_second(int64_t count, double duration_s) {
    return duration_s > 0 ? static_cast<double>(count) / duration_s : 0;
}

// Of all the time that was measured.
double share_of(const RunFacts& facts, size_t phase) {
    const double total = std::accumulate(facts.phase_seconds.begin(), facts.phase_seconds.end(), 0.0);
    return total > 0 ? facts.phase_seconds[phase] / total : 0;
}

double rounded_share(double share) {
    return std::round(share * 1e4) / 1e4;
}

template <class Value>
ordered_json of_phases(const Value& value_of) {
    ordered_json values = ordered_json::object();
    for (size_t phase = 0; phase < n_phases; ++phase)
        values[std::string(name(static_cast<Phase>(phase)))] = value_of(phase);
    return values;
}

std::string counted(int64_t n, const char* what) {
    return fmt::format("{} {}{}", grouped(n), what, n == 1 ? "" : "s");
}

void append_throughput(std::string& out, const RunStatistics& s, const RunFacts& facts) {
    const auto line = [&](const char* title, int64_t n, const char* unit) {
        fmt::format_to(std::back_inserter(out), "  {:<28}{:>14}   {} {}/s\n", title, grouped(n),
                       rate_text(per_second(n, facts.duration_s)), unit);
    };
    line("Rows finished", s.n_completed(), "rows");
    fmt::format_to(std::back_inserter(out), "  {:<28}{:>14}\n", "Rows with an error", grouped(s.n_failed()));
    if (facts.n_rows_before > 0) {
        fmt::format_to(std::back_inserter(out), "  {:<28}{:>14}   {}\n", "Rows from before",
                       grouped(facts.n_rows_before),
                       "counted above and in the rates; latencies are without them");
    }
    line("Input tokens", s.n_input_tokens(), "tokens");
    if (facts.scores) return;
    line("Output tokens", s.n_output_tokens(), "tokens");
    line("All tokens", s.n_input_tokens() + s.n_output_tokens(), "tokens");
}

void append_latencies(std::string& out, const RunStatistics& s) {
    fmt::format_to(std::back_inserter(out), "\n  {:<28}{:>14}{:>14}{:>14}\n", "Milliseconds", "mean",
                   "median", "99 of 100");
    for (const NamedDistribution& d : distributions_of(s)) {
        fmt::format_to(std::back_inserter(out), "  {:<28}{:>14.2f}{:>14.2f}{:>14.2f}\n", d.title,
                       d.values.mean(), d.values.percentile(0.5), d.values.percentile(0.99));
    }
}

void append_phases(std::string& out, const RunFacts& facts) {
    std::array<size_t, n_phases> order{};
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return facts.phase_seconds[a] > facts.phase_seconds[b]; });
    if (share_of(facts, order.front()) <= 0) return;
    out += "\n  Where the time went\n";
    for (const size_t phase : order) {
        const double share = share_of(facts, phase);
        if (share < 0.0005) continue;
        fmt::format_to(std::back_inserter(out), "    {:<26}{:>12.1f} %   {}\n",
                       name(static_cast<Phase>(phase)), share * 100,
                       std::string(static_cast<size_t>(std::lround(share * 40)), '#'));
    }
}

}  // namespace

void RunStatistics::add(const Result& result) {
    if (result.error) {
        ++n_failed_;
        return;
    }
    ++n_completed_;
    n_input_tokens_ += result.n_prompt_tokens;
    n_output_tokens_ += result.n_completion_tokens();
    ttft_ms_.add(result.metrics.ttft_ms);
    e2el_ms_.add(result.metrics.e2e_ms);
    for (const float itl_ms : result.metrics.itl_ms)
        itl_ms_.add(itl_ms);
    size_t longest = 0;
    for (const Choice& choice : result.choices)
        longest = std::max(longest, choice.token_ids.size());
    if (longest > 1)
        tpot_ms_.add((result.metrics.e2e_ms - result.metrics.ttft_ms) / static_cast<double>(longest - 1));
}

void RunStatistics::add(const ScoreResult& result) {
    if (result.error) {
        ++n_failed_;
        return;
    }
    ++n_completed_;
    n_input_tokens_ += static_cast<int64_t>(result.token_ids.size());
    n_scored_tokens_ += static_cast<int64_t>(result.logprobs.size());
    for (const float logprob : result.logprobs)
        sum_logprobs_ += logprob;
}

void RunStatistics::add(const RowTotals& rows) {
    n_completed_ += rows.n_completed;
    n_failed_ += rows.n_failed;
    n_input_tokens_ += rows.n_input_tokens;
    n_output_tokens_ += rows.n_output_tokens;
    n_scored_tokens_ += rows.n_logprobs;
    sum_logprobs_ += rows.sum_logprobs;
}

std::optional<double> RunStatistics::perplexity() const {
    if (n_scored_tokens_ == 0) return std::nullopt;
    return std::exp(-sum_logprobs_ / static_cast<double>(n_scored_tokens_));
}

ordered_json summary_json(const RunStatistics& s, const RunFacts& facts) {
    const int64_t n_tokens = s.n_input_tokens() + s.n_output_tokens();
    ordered_json summary{{"status", facts.stopped ? "stopped" : "finished"},
                         {"duration", facts.duration_s},
                         {"load_duration", rounded_s(facts.load_s)},
                         {"completed", s.n_completed()},
                         {"failed", s.n_failed()},
                         {"total_input_tokens", s.n_input_tokens()},
                         {"total_output_tokens", s.n_output_tokens()},
                         {"request_throughput", per_second(s.n_completed(), facts.duration_s)},
                         {"output_throughput", per_second(s.n_output_tokens(), facts.duration_s)},
                         {"total_token_throughput", per_second(n_tokens, facts.duration_s)}};
    if (facts.scores) {
        const std::optional<double> perplexity = s.perplexity();
        summary["perplexity"] = perplexity ? ordered_json(*perplexity) : ordered_json(nullptr);
    } else {
        summary["latencies_of"] = {{"start", facts.n_starts}, {"rows", s.e2el_ms().count()}};
        for (const NamedDistribution& d : distributions_of(s)) {
            summary[fmt::format("mean_{}", d.key)] = rounded_ms(d.values.mean());
            summary[fmt::format("median_{}", d.key)] = rounded_ms(d.values.percentile(0.5));
            summary[fmt::format("p99_{}", d.key)] = rounded_ms(d.values.percentile(0.99));
        }
    }
    summary["model"] = facts.model;
    summary["strategy"] = facts.strategy;
    summary["starts"] = facts.n_starts;
    summary["rows_before"] = facts.n_rows_before;
    summary["world"] = {{"nodes", facts.n_nodes}, {"ranks", facts.n_ranks}};
    summary["phase_shares"] = of_phases([&](size_t phase) { return rounded_share(share_of(facts, phase)); });
    if (facts.expert_load) summary["expert_load"] = to_json(*facts.expert_load);
    ordered_json& ranks = summary["ranks"] = ordered_json::array();
    for (size_t rank = 0; rank < facts.ranks.size(); ++rank) {
        const RankTimes& times = facts.ranks[rank];
        ranks.push_back({{"rank", rank},
                         {"node", times.node},
                         {"host", times.host},
                         {"phase_seconds",
                          of_phases([&](size_t phase) { return rounded_s(times.phase_seconds[phase]); })}});
    }
    return summary;
}

std::string summary_table(const RunStatistics& s, const RunFacts& facts) {
    std::string out = fmt::format("\n  {}: strategy {}, {} on {}\n\n", facts.model, facts.strategy,
                                  counted(facts.n_ranks, "rank"), counted(facts.n_nodes, "node"));
    fmt::format_to(std::back_inserter(out), "  {:<28}{:>14}\n", "Time", duration_text(facts.duration_s));
    if (facts.load_s > 0)
        fmt::format_to(std::back_inserter(out), "  {:<28}{:>14}\n", "To load the model",
                       duration_text(facts.load_s));
    append_throughput(out, s, facts);
    if (!facts.scores) append_latencies(out, s);
    if (const auto perplexity = s.perplexity())
        fmt::format_to(std::back_inserter(out), "  {:<28}{:>14.4f}\n", "Perplexity of all tokens",
                       *perplexity);
    append_phases(out, facts);
    return out;
}

}  // namespace mixserve::io
