#include <algorithm>
#include <cstdio>
#include <random>
#include <utility>

#include "app/benches.h"
#include "app/engine_options.h"
#include "app/machine_limits.h"
#include "app/options.h"
#include "app/size_list.h"
#include "app/timing.h"
#include "base/error.h"
#include "comm/agree.h"
#include "engine/rank_model.h"
#include "io/row_writer.h"

namespace mixserve::app {
namespace {

/// One kind of step: decode (a row of each of `n_rows` sequences with `context` positions before it), or
/// prefill (one sequence of `n_rows` from its beginning). On every group of ranks that serves requests.
struct BenchStep {
    bool decode = true;
    int64_t n_rows = 1;
    int64_t context = 0;
};

struct StepFigures {
    BenchStep step;
    double seconds = 0;  // median over repetitions of the maximum over ranks
    double n_bytes = 0;  // of all ranks: weights touched and KV cache
    double n_flops = 0;
};

model::Batch make_batch(const BenchStep& step, const engine::RankModel& model, uint32_t seed) {
    std::mt19937 random(seed);
    const int64_t block_size = model.options().kv_block_size;
    const int64_t n_sequences = step.decode ? step.n_rows : 1;
    const int64_t rows_each = step.decode ? 1 : step.n_rows;
    const int64_t first_position = step.decode ? step.context : 0;
    const int64_t blocks_each = (first_position + rows_each + block_size - 1) / block_size;
    require_usage(n_sequences * blocks_each <= model.n_kv_blocks(),
                  "the KV cache of {} blocks is too small for {} sequences of {}; raise --kv-cache-memory or "
                  "--max-num-seqs",
                  model.n_kv_blocks(), n_sequences, first_position + rows_each);
    model::Batch batch;
    for (int64_t s = 0; s < n_sequences; ++s) {
        batch.sequences.push_back({batch.n_tokens(), rows_each, first_position, nullptr});
        for (int64_t b = 0; b < blocks_each; ++b) {
            batch.block_tables.push_back(static_cast<int32_t>(s * blocks_each + b));
        }
        for (int64_t i = 0; i < rows_each; ++i) {
            batch.tokens.push_back(
                static_cast<int32_t>(random() % static_cast<uint32_t>(model.config().vocab_size)));
            batch.positions.push_back(static_cast<int32_t>(first_position + i));
        }
        batch.logit_rows.push_back(static_cast<int32_t>(batch.n_tokens() - 1));
    }
    for (int64_t s = 0; s < n_sequences; ++s) {
        batch.sequences[static_cast<size_t>(s)].block_table = batch.block_tables.data() + s * blocks_each;
    }
    return batch;
}

/// Experts of each layer that a step uses, over all ranks: [layers, num_experts], 0 or more.
std::vector<int64_t> experts_used(engine::RankModel& model, const BenchStep& step, uint32_t seed) {
    model.take_expert_counts();
    model.step(make_batch(step, model, seed), [](const model::LogitsTile&) {});
    std::vector<int64_t> used = model.take_expert_counts();
    model.topology().world.all_reduce(std::span<int64_t>(used), comm::ReduceOp::sum);
    return used;
}

/// Bytes that this rank must read at least once in a step.
double bytes_of_step(const engine::RankModel& model, const BenchStep& step,
                     const std::vector<int64_t>& used) {
    const model::ModelConfig& c = model.config();
    const model::RankLayout& layout = model.layout();
    const auto weight_size = static_cast<double>(size_of(c.dtype));
    const auto hidden = static_cast<double>(c.hidden_size);
    const Range part = partition(c.moe_intermediate_size, layout.experts.intermediate_parts,
                                 layout.experts.intermediate_part);
    double n = static_cast<double>(layout.vocabulary.size()) * hidden * weight_size;  // the head
    for (int64_t l = layout.layers.begin; l < layout.layers.end; ++l) {
        const double heads =
            static_cast<double>(2 * (layout.q_heads.size() + layout.kv_heads.size()) * c.head_dim);
        n += heads * hidden * weight_size;
        const int64_t positions = step.decode ? step.n_rows * (step.context + 1) : step.n_rows;
        n += static_cast<double>(2 * positions * layout.kv_heads.size() * c.head_dim *
                                 size_of(model.options().kv_cache_dtype));
        if (!c.sparse[static_cast<size_t>(l)]) {
            const int64_t width = c.dense_intermediate_size / layout.tp_size;
            n += static_cast<double>(3 * width) * hidden * weight_size;
            continue;
        }
        n += static_cast<double>(c.num_experts) * hidden * weight_size;
        const int64_t shared_width = c.shared_expert_intermediate_size / layout.tp_size;
        n += static_cast<double>(3 * shared_width) * hidden * weight_size;
        int64_t n_experts = 0;
        for (int64_t e = layout.experts.experts.begin; e < layout.experts.experts.end; ++e) {
            n_experts += used[static_cast<size_t>(l * c.num_experts + e)] > 0 ? 1 : 0;
        }
        n += static_cast<double>(n_experts * 3 * part.size()) * hidden * weight_size;
    }
    return n;
}

/// Operations of all groups together: two a weight that a row passes through, and attention.
double flops_of_step(const engine::RankModel& model, const BenchStep& step) {
    const model::ModelConfig& c = model.config();
    const bool one_group =
        model.options().strategy == comm::Strategy::tp || model.options().strategy == comm::Strategy::tp_pp;
    const auto rows = static_cast<double>(step.n_rows);
    const auto vocabulary = static_cast<double>(c.vocab_size * c.hidden_size);
    const double tables = vocabulary * (c.tie_word_embeddings ? 1 : 2);
    const double n_logits = step.decode ? rows : 1;
    const double positions = step.decode ? static_cast<double>(step.context + 1) : (rows + 1) / 2;
    const double layers =
        2 * (static_cast<double>(c.active_parameters()) - tables) * rows + 2 * vocabulary * n_logits;
    const double attention = 4 * rows * positions * static_cast<double>(c.q_size() * c.num_hidden_layers);
    return (layers + attention) * (one_group ? 1 : model.topology().n_nodes);
}

double sum_over_ranks(const comm::Communicator& world, double value) {
    double values[] = {value};
    world.all_reduce(std::span<double>(values), comm::ReduceOp::sum);
    return values[0];
}

StepFigures measure(engine::RankModel& model, const BenchStep& step, int repetitions) {
    const comm::Communicator& world = model.topology().world;
    StepFigures figures{step, 0, 0, flops_of_step(model, step)};
    constexpr int n_warm_up = 2;
    std::vector<double> seconds;
    std::vector<double> bytes;
    for (int i = 0; i < n_warm_up + repetitions; ++i) {
        const auto seed = static_cast<uint32_t>(1 + i);
        const std::vector<int64_t> used =
            i == 0 || step.decode ? experts_used(model, step, seed) : std::vector<int64_t>{};
        if (!used.empty()) bytes.push_back(sum_over_ranks(world, bytes_of_step(model, step, used)));
        model::Batch batch = make_batch(step, model, seed);
        const double step_s = slowest_s(world, [&] {
            for (int call = 0; call < model.pipeline_depth();
                 ++call) {  // until this batch has passed all stages
                model.step(std::exchange(batch, {}), [](const model::LogitsTile&) {});
            }
            if (model.stream().gpu() != nullptr) model.stream().gpu()->synchronize();
        });
        if (i >= n_warm_up) seconds.push_back(step_s);
    }
    figures.seconds = median(seconds);
    figures.n_bytes = median(bytes);
    return figures;
}

ordered_json print_figures(const StepFigures& f, const MachineLimits& limits) {
    const double memory_s = f.n_bytes / limits.read_bytes_per_s;
    const double compute_s = limits.matmul_flops ? f.n_flops / *limits.matmul_flops : 0;
    const bool by_memory = memory_s >= compute_s;
    const double limit_s = std::max(memory_s, compute_s);
    const std::string name = f.step.decode
                                 ? fmt::format("decode {} x context {}", f.step.n_rows, f.step.context)
                                 : fmt::format("prefill {}", f.step.n_rows);
    const double achieved = by_memory ? f.n_bytes / f.seconds / 1e9 : f.n_flops / f.seconds / 1e9;
    const double limit = by_memory ? limits.read_bytes_per_s / 1e9 : *limits.matmul_flops / 1e9;
    const char* unit = by_memory ? "GB/s" : "GFLOP/s";
    std::printf("%-26s %9.2f ms %10.1f tokens/s   achieved %8.1f %s, limit %8.1f, share %5.1f %%\n",
                name.c_str(), f.seconds * 1e3, static_cast<double>(f.step.n_rows) / f.seconds, achieved, unit,
                limit, 100 * limit_s / f.seconds);
    return {{"step", name},
            {"ms", f.seconds * 1e3},
            {"bytes", f.n_bytes},
            {"flops", f.n_flops},
            {"bound_by", by_memory ? "memory" : "arithmetic"},
            {"achieved", achieved},
            {"limit", limit},
            {"unit", unit},
            {"share", limit_s / f.seconds}};
}

}  // namespace

int run_bench_engine(Arguments arguments) {
    const comm::Communicator world = comm::Communicator::world();
    po::variables_map values;
    EngineOptions options;
    std::vector<BenchStep> steps;
    bool help = false;
    comm::agree(world, [&] {
        po::options_description description;
        add_engine_options(description);
        description.add_options()("batch-sizes", po::value<std::string>()->default_value("1,16"),
                                  "sequences of the decode steps, on each node")(
            "prefill-sizes", po::value<std::string>()->default_value("512,2048"),
            "tokens of the prefill steps, likewise")("context", po::value<int64_t>()->default_value(128),
                                                     "positions before each decoded token")(
            "repetitions", po::value<int>()->default_value(10),
            "timed steps of each kind, after two for warming up")(
            "json", po::value<std::string>()->value_name("FILE"), "the figures as JSON");
        help = !parse_options("bench engine", description, arguments, values);
        if (help) return;
        options = read_engine_options(values);
        const auto context = values["context"].as<int64_t>();
        require_usage(context >= 0, "--context {}: must not be negative", context);
        require_usage(values["repetitions"].as<int>() >= 1, "--repetitions: must be at least 1");
        for (const int64_t n : parse_size_list("batch-sizes", values["batch-sizes"].as<std::string>())) {
            steps.push_back({true, n, context});
        }
        for (const int64_t n : parse_size_list("prefill-sizes", values["prefill-sizes"].as<std::string>())) {
            steps.push_back({false, n, 0});
        }
    });
    if (help) return exit_ok;
    const comm::Topology topology = comm::make_topology(options.ranks_per_node);
    resolve_backend(options, topology);
    OpenModel model;
    comm::agree(world, [&] {
        model = open_model(options, topology);
        model::make_layout(model.config, options.parallel.strategy, options.parallel.expert_split, topology);
    });
    engine::RankModel rank_model(model.config, topology, options.parallel, *model.weights);
    const MachineLimits limits = measure_limits(rank_model.stream(), world);
    std::printf("%s, %s, %d nodes x %d ranks x %d threads; memory read %.1f GB/s%s\n",
                options.model_path.c_str(), comm::name(options.parallel.strategy).data(), topology.n_nodes,
                topology.ranks_per_node, options.parallel.n_threads, limits.read_bytes_per_s / 1e9,
                fmt::format(", {}", products_text(limits)).c_str());
    ordered_json results = ordered_json::array();
    for (const BenchStep& step : steps) {
        results.push_back(print_figures(measure(rank_model, step, values["repetitions"].as<int>()), limits));
        std::fflush(stdout);
    }
    if (values.count("json") != 0 && world.rank() == 0) {
        io::write_file_atomically(
            values["json"].as<std::string>(),
            ordered_json{{"options", to_json(options)}, {"results", results}}.dump(2) + "\n");
    }
    return exit_ok;
}

}  // namespace mixserve::app
