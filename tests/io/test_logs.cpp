#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "io/distribution.h"
#include "io/expert_load.h"
#include "io/number_text.h"
#include "io/progress.h"
#include "io/routing_trace.h"
#include "io/step_log.h"
#include "io/summary.h"
#include "io/trace.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(StepLog, ALineAStep) {
    const test::TemporaryFolder folder;
    StepRecord record{.step = 4,
                      .time_s = 1.5,
                      .duration_s = 0.25,
                      .n_prefill = 3,
                      .n_decode = 2,
                      .n_running = 5,
                      .n_waiting = 1,
                      .kv_blocks_used = 7,
                      .kv_blocks_total = 9,
                      .phases = {}};
    std::vector<PhaseSeconds> ranks(2, PhaseSeconds{});
    ranks[0][static_cast<size_t>(Phase::experts)] = 0.1;
    ranks[1][static_cast<size_t>(Phase::experts)] = 0.3;
    ranks[0][static_cast<size_t>(Phase::idle)] = 0.4;
    put_phases(ranks, record);
    StepLog log(folder.file("steps.jsonl"));
    std::vector<StepRecord> records(2, record);
    records[1].expert_load = ExpertLoad{1.5, 1.25, 2, 3, 2.0};
    log.write(records);
    log.write({});
    const std::string line =
        R"({"step":4,"time_s":1.5,"duration_ms":250,"prefill_tokens":3,"decode_tokens":2,"running":5,"waiting":1,)"
        R"("kv_blocks_used":7,"kv_blocks_total":9,"phases":{"experts":{"min_ms":100,"mean_ms":200,"max_ms":300},"idle":{"min_ms":0,"mean_ms":200,"max_ms":400}},)"
        R"("busy":{"min_ms":100,"mean_ms":200,"max_ms":300},"slowest_rank":1)";
    const std::string load =
        R"(,"expert_load":{"experts_max_over_mean":1.5,"parts_max_over_mean":1.25,"worst_layer":2,"worst_expert":3,"worst_max_over_mean":2.0})";
    EXPECT_EQ(test::read_file(folder.file("steps.jsonl")), line + "}\n" + line + load + "}\n");
}

TEST(ExpertLoadOf, CountsByLayerAndPart) {
    // Layer 0 is dense; layer 1 even but for its parts; in layer 2 one expert has half of all.
    const std::vector<int64_t> counts{0, 0, 0, 0, 3, 1, 3, 1, 1, 4, 2, 1};
    const Range parts[] = {{0, 3}, {3, 4}};
    const auto load = expert_load_of(counts, 4, parts);
    ASSERT_TRUE(load);
    EXPECT_DOUBLE_EQ(load->experts_max_over_mean, (1.5 + 2) / 2);
    EXPECT_DOUBLE_EQ(load->parts_max_over_mean, (1.75 + 1.75) / 2);
    EXPECT_EQ(load->worst_layer, 2);
    EXPECT_EQ(load->worst_expert, 1);
    EXPECT_DOUBLE_EQ(load->worst_max_over_mean, 2);
    EXPECT_FALSE(expert_load_of({}, 4, parts));
    EXPECT_FALSE(expert_load_of(std::vector<int64_t>(8, 0), 4, parts));
}

TEST(Trace, IsWhatViewersRead) {
    const test::TemporaryFolder folder;
    const TraceRank ranks[] = {{0, 0, "h0"}, {1, 0, "h0"}, {2, 1, "h\"1"}};
    TraceWriter writer(folder.file("trace.json"), ranks);
    const TraceSpan spans[] = {{Phase::attention, 3, 100.5, 100.75},
                               {Phase::idle, -1, 100.75, 101},
                               {Phase::combine, 3, 101, 101, 4096}};
    writer.write(2, spans, 100);
    writer.write(0, {}, 100);
    writer.finish();
    const ordered_json trace = ordered_json::parse(test::read_file(folder.file("trace.json")));
    ASSERT_EQ(trace.size(), 8U);
    EXPECT_EQ(trace[0].dump(),
              R"json({"name":"process_name","ph":"M","pid":0,"tid":0,"args":{"name":"node 0 (h0)"}})json");
    EXPECT_EQ(trace[3]["args"]["name"], "node 1 (h\"1)");
    EXPECT_EQ(
        trace[5].dump(),
        R"({"name":"attention","ph":"X","pid":1,"tid":2,"ts":500000.0,"dur":250000.0,"args":{"layer":3}})");
    EXPECT_FALSE(trace[6].contains("args"));
    EXPECT_EQ(
        trace[7].dump(),
        R"({"name":"sums in","ph":"i","s":"t","pid":1,"tid":2,"ts":1000000.0,"args":{"layer":3,"bytes":4096}})");
    EXPECT_THROW(writer.write(3, spans, 0), Error);
}

double reference_percentile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    const double place = share * static_cast<double>(values.size() - 1);
    const auto i = static_cast<size_t>(place);
    const double next = values[std::min(i + 1, values.size() - 1)];
    return values[i] + (next - values[i]) * (place - std::floor(place));
}

TEST(Distribution, SmallOnesAreExact) {
    Distribution d;
    EXPECT_EQ(d.mean(), 0);
    EXPECT_EQ(d.percentile(0.5), 0);
    std::vector<double> values;
    std::mt19937 random(1);
    for (int i = 0; i < 1001; ++i) {
        values.push_back(static_cast<double>(random() % 1000) / 7);
        d.add(values.back());
    }
    for (const double share : {0.0, 0.01, 0.5, 0.777, 0.99, 1.0})
        EXPECT_DOUBLE_EQ(d.percentile(share), reference_percentile(values, share)) << share;
    EXPECT_EQ(d.count(), 1001);
}

TEST(Distribution, LargeOnesAreNear) {
    Distribution d;
    std::vector<double> values;
    std::mt19937 random(2);
    std::lognormal_distribution<double> times(3, 2);
    double sum = 0;
    for (int i = 0; i < 300'000; ++i) {
        values.push_back(i % 1000 == 0 ? 0.0 : times(random));
        d.add(values.back());
        sum += values.back();
    }
    EXPECT_NEAR(d.mean(), sum / 300'000, 1e-9 * sum);
    EXPECT_EQ(d.min(), 0);
    EXPECT_EQ(d.max(), *std::max_element(values.begin(), values.end()));
    for (const double share : {0.01, 0.25, 0.5, 0.9, 0.99, 0.999}) {
        const double wanted = reference_percentile(values, share);
        EXPECT_NEAR(d.percentile(share), wanted, 0.0025 * wanted) << share;
    }
    EXPECT_EQ(d.percentile(0), d.min());
    EXPECT_EQ(d.percentile(1), d.max());
}

RunStatistics sample_statistics() {
    RunStatistics statistics;
    for (int i = 1; i <= 3; ++i) {
        Result result;
        result.n_prompt_tokens = 10 * i;
        result.choices.push_back({"", {1, 2, 3}, FinishReason::stop, {}});
        result.metrics = {10.0 * i, 10.0 * i + 8, {3.0F, 5.0F}};
        statistics.add(result);
    }
    Result failed;
    failed.error = "line 4: x";
    statistics.add(failed);
    return statistics;
}

TEST(Summary, HasTheNamesOfVllm) {
    RunFacts facts{
        .model = "m", .strategy = "tp-ep", .n_nodes = 2, .n_ranks = 4, .duration_s = 2, .load_s = 0.5};
    facts.phase_seconds[static_cast<size_t>(Phase::experts)] = 0.75;
    facts.phase_seconds[static_cast<size_t>(Phase::idle)] = 0.25;
    facts.ranks = {{0, "h0", {}}, {1, "h1", {}}};
    facts.ranks[0].phase_seconds[static_cast<size_t>(Phase::experts)] = 1.5;
    facts.ranks[1].phase_seconds[static_cast<size_t>(Phase::idle)] = 0.5;
    facts.expert_load = ExpertLoad{1.5, 1.25, 2, 3, 2.0};
    const RunStatistics statistics = sample_statistics();
    EXPECT_EQ(
        summary_json(statistics, facts).dump(),
        R"({"status":"finished","duration":2.0,"load_duration":0.5,"completed":3,"failed":1,"total_input_tokens":60,)"
        R"("total_output_tokens":9,)"
        R"("request_throughput":1.5,"output_throughput":4.5,"total_token_throughput":34.5,)"
        R"("latencies_of":{"start":1,"rows":3},)"
        R"("mean_ttft_ms":20.0,"median_ttft_ms":20.0,"p99_ttft_ms":29.8,)"
        R"("mean_itl_ms":4.0,"median_itl_ms":4.0,"p99_itl_ms":5.0,)"
        R"("mean_tpot_ms":4.0,"median_tpot_ms":4.0,"p99_tpot_ms":4.0,)"
        R"("mean_e2el_ms":28.0,"median_e2el_ms":28.0,"p99_e2el_ms":37.8,)"
        R"("model":"m","strategy":"tp-ep","starts":1,"rows_before":0,"world":{"nodes":2,"ranks":4},"phase_shares":{"schedule":0.0,)"
        R"("attention":0.0,"router":0.0,"dispatch":0.0,"experts":0.75,"combine":0.0,"logits":0.0,)"
        R"("sampling":0.0,"output":0.0,"idle":0.25},)"
        R"("expert_load":{"experts_max_over_mean":1.5,"parts_max_over_mean":1.25,"worst_layer":2,"worst_expert":3,"worst_max_over_mean":2.0},)"
        R"("ranks":[{"rank":0,"node":0,"host":"h0","phase_seconds":{"schedule":0.0,"attention":0.0,"router":0.0,)"
        R"("dispatch":0.0,"experts":1.5,"combine":0.0,"logits":0.0,"sampling":0.0,"output":0.0,"idle":0.0}},)"
        R"({"rank":1,"node":1,"host":"h1","phase_seconds":{"schedule":0.0,"attention":0.0,"router":0.0,)"
        R"("dispatch":0.0,"experts":0.0,"combine":0.0,"logits":0.0,"sampling":0.0,"output":0.0,"idle":0.5}}]})");
    const std::string table = summary_table(statistics, facts);
    EXPECT_THAT(table, HasSubstr("m: strategy tp-ep, 4 ranks on 2 nodes"));
    EXPECT_THAT(table, HasSubstr("Rows with an error                       1\n"));
    EXPECT_THAT(table,
                HasSubstr("experts                           75.0 %   ##############################\n"));
}

TEST(Summary, CountsRowsOfEarlierStarts) {
    RunStatistics statistics;
    statistics.add(RowTotals{.n_completed = 3, .n_failed = 1, .n_input_tokens = 10, .n_output_tokens = 20});
    RunFacts facts;
    facts.duration_s = 2;
    facts.n_rows_before = 4;
    facts.n_starts = 2;
    const ordered_json summary = summary_json(statistics, facts);
    EXPECT_EQ(summary["completed"], 3);
    EXPECT_EQ(summary["failed"], 1);
    EXPECT_EQ(summary["output_throughput"], 10);
    EXPECT_EQ(summary["rows_before"], 4);
    EXPECT_EQ(summary["starts"], 2);
    EXPECT_EQ(summary["latencies_of"], (ordered_json{{"start", 2}, {"rows", 0}}));
    EXPECT_THAT(summary_table(statistics, facts), testing::HasSubstr("Rows from before"));
}

TEST(Summary, OfScores) {
    RunStatistics statistics;
    EXPECT_FALSE(statistics.perplexity());
    statistics.add(ScoreResult{1, "a", false, {1, 2, 3}, {-1.0F, -2.0F}, {}});
    statistics.add(ScoreResult{2, "b", false, {1, 2}, {-3.0F}, {}});
    statistics.add(ScoreResult{3, "c", false, {}, {}, "line 3: x"});
    RunFacts facts{.model = "m", .strategy = "tp", .duration_s = 1, .scores = true};
    const ordered_json summary = summary_json(statistics, facts);
    EXPECT_NEAR(summary["perplexity"].get<double>(), std::exp(2.0), 1e-9);
    EXPECT_EQ(summary["failed"], 1);
    EXPECT_FALSE(summary.contains("mean_ttft_ms"));
    EXPECT_THAT(summary_table(statistics, facts), HasSubstr("Perplexity of all tokens            7.3891\n"));
}

TEST(Progress, PlainLinesAreRare) {
    std::string out;
    Progress progress(false, [&](std::string_view text) { out += text; });
    for (int second = 0; second <= 70; ++second)
        progress.update({second * 10, 1000, 0, second * 100}, 1000.0 + second);
    EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 3);
    EXPECT_THAT(
        out, testing::StartsWith("50 of 1,000 prompts (5 %), 10.0 rows/s, 100 tokens/s, 1 min 35 s left\n"));
    out.clear();
    progress.finish({1000, 1000, 2, 10'000}, 1100);
    EXPECT_EQ(out, "1,000 of 1,000 prompts (100 %), 2 failed, 10.0 rows/s, 100 tokens/s, in 1 min 40 s\n");
}

TEST(Progress, BarIsRedrawn) {
    std::string out;
    Progress progress(
        true, [&](std::string_view text) { out += text; }, 60);
    progress.update({0, 10, 0, 0}, 5);
    progress.update({5, 10, 0, 50}, 5.1);
    EXPECT_EQ(std::count(out.begin(), out.end(), '\r'), 1);
    progress.update({5, 10, 0, 50}, 6);
    EXPECT_THAT(out, HasSubstr("\r[##########..........] 5 of 10 prompts (50 %), 5.00 rows/s,\x1b[K"));
    progress.finish({10, 10, 0, 100}, 7);
    EXPECT_TRUE(out.ends_with("\n"));
    EXPECT_THAT(out, HasSubstr("[####################] 10 of 10"));
}

TEST(Progress, RatesAreOfTheLastMinute) {
    std::string out;
    Progress progress(false, [&](std::string_view text) { out = text; });
    for (int second = 0; second <= 300; ++second)
        progress.update({second < 200 ? 0 : (second - 200) * 5, 0, 0, 0}, second);
    EXPECT_THAT(out, HasSubstr(" prompts, 5.00 rows/s"));
    EXPECT_THAT(out, testing::Not(HasSubstr("left")));
}

TEST(NumberText, ReadsWell) {
    EXPECT_EQ(grouped(0), "0");
    EXPECT_EQ(grouped(999), "999");
    EXPECT_EQ(grouped(1234567), "1,234,567");
    EXPECT_EQ(grouped(-123456), "-123,456");
    EXPECT_EQ(rate_text(0.256), "0.26");
    EXPECT_EQ(rate_text(34.12), "34.1");
    EXPECT_EQ(rate_text(5119.6), "5,120");
    EXPECT_EQ(duration_text(0.417), "0.42 s");
    EXPECT_EQ(duration_text(59.6), "1 min 00 s");
    EXPECT_EQ(duration_text(257), "4 min 17 s");
    EXPECT_EQ(duration_text(7500), "2 h 05 min");
}

TEST(RoutingTrace, ComesBackByLayer) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("routing.jsonl");
    {
        RoutingTraceWriter writer(path, 2);
        writer.write(1, std::vector<int32_t>{4, 0, 1, 3});
        writer.write(2, std::vector<int32_t>{7, 6});
        writer.write(1, {});
        writer.write(1, std::vector<int32_t>{2, 5});
    }
    const RoutingTrace first = read_routing_trace(path, std::nullopt, 100);
    EXPECT_EQ(first.num_experts_per_tok, 2);
    EXPECT_THAT(first.experts, ElementsAre(4, 0, 1, 3, 2, 5));
    EXPECT_THAT(read_routing_trace(path, 2, 100).experts, ElementsAre(7, 6));
    EXPECT_THROW(read_routing_trace(path, 3, 100), UsageError);
    EXPECT_THROW(read_routing_trace(folder.file("absent"), 1, 100), UsageError);
    test::write_file(path, R"({"layer": 1, "experts": [[1, 2], [3]]})");
    EXPECT_THROW(read_routing_trace(path, 1, 100), UsageError);
}

}  // namespace
}  // namespace mixserve::io
