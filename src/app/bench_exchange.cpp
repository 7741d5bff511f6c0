#include "app/bench_exchange.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <sstream>

#include "app/options.h"
#include "base/error.h"
#include "base/json.h"
#include "comm/agree.h"
#include "io/routing_trace.h"
#include "io/row_writer.h"

namespace mixserve::app {
namespace {

constexpr std::array all_strategies{comm::Strategy::tp, comm::Strategy::tp_pp, comm::Strategy::dp_ep,
                                    comm::Strategy::tp_ep, comm::Strategy::fused};

comm::Strategy parse_strategy(const std::string& text) {
    std::vector<std::string_view> names;
    for (const comm::Strategy strategy : all_strategies) {
        names.push_back(comm::name(strategy));
        if (text == names.back()) return strategy;
    }
    fail_usage("--strategies: '{}' is none of tp, tp-pp, dp-ep, tp-ep, fused{}", text,
               did_you_mean(text, names));
}

std::vector<comm::Strategy> parse_strategies(const std::string& text) {
    std::vector<comm::Strategy> strategies;
    std::istringstream words(text);
    for (std::string word; std::getline(words, word, ',');)
        strategies.push_back(parse_strategy(word));
    require_usage(!strategies.empty(), "--strategies: give at least one, as in --strategies tp-ep,fused");
    return strategies;
}

/// Of a trace, enough for any shape.
constexpr int64_t max_traced_tokens = 1 << 20;

void read_routing(const std::string& text, std::optional<int64_t> layer, ExchangeShape& shape) {
    if (text == "uniform") return;
    if (text.starts_with("trace:")) {
        io::RoutingTrace trace = io::read_routing_trace(text.substr(6), layer, max_traced_tokens);
        require_usage(trace.num_experts_per_tok == shape.num_experts_per_tok,
                      "--routing {}: its tokens have {} experts; give --num-experts-per-tok {}", text,
                      trace.num_experts_per_tok, trace.num_experts_per_tok);
        const int32_t last = *std::max_element(trace.experts.begin(), trace.experts.end());
        require_usage(last < shape.num_experts, "--routing {}: it names expert {}, --num-experts is {}", text,
                      last, shape.num_experts);
        shape.routing_trace = std::move(trace.experts);
        return;
    }
    std::istringstream number(text.starts_with("zipf:") ? text.substr(5) : "");
    shape.zipf_exponent = -1;
    number >> shape.zipf_exponent;
    require_usage(!number.fail() && number.eof() && shape.zipf_exponent >= 0 && shape.zipf_exponent <= 20,
                  "--routing: '{}' is none of uniform, zipf:S with S from 0 to 20, trace:FILE", text);
}

struct Options {
    ExchangeShape shape;
    std::vector<comm::Strategy> strategies;
    std::string routing;
    int repetitions = 0;
    int threads = 1;
    std::optional<int> ranks_per_node;
    BackendOption backend = BackendOption::cpu;
    bool allow_gpu_sharing = false;
    TransportOption gpu_transport = TransportOption::automatic;
    std::string json_file;
};

bool read_options(Arguments arguments, Options& options) {
    std::string strategies;
    std::string wire_type;
    std::string split;
    std::string dtype;
    std::string backend;
    std::string transport;
    int ranks_per_node = 0;
    int64_t routing_layer = 0;
    ExchangeShape& shape = options.shape;
    po::options_description description("options of bench exchange");
    auto add = description.add_options();
    add("num-tokens", po::value(&shape.num_tokens)->default_value(512), "tokens a node");
    add("hidden-size", po::value(&shape.hidden_size)->default_value(1024), "width of a token");
    add("num-experts", po::value(&shape.num_experts)->default_value(64), "experts of the layer");
    add("num-experts-per-tok", po::value(&shape.num_experts_per_tok)->default_value(8), "experts a token");
    add("intermediate-size", po::value(&shape.intermediate_size)->default_value(512), "of an expert");
    add("routing", po::value(&options.routing)->default_value("uniform"),
        "uniform, zipf:S, or trace:FILE with a routing.jsonl of `run --trace-routing`");
    add("routing-layer", po::value(&routing_layer), "of the trace; by default its first");
    add("strategies", po::value(&strategies)->default_value("tp,tp-pp,dp-ep,tp-ep,fused"),
        "measured in turn");
    add("repetitions", po::value(&options.repetitions)->default_value(20), "after two for warming up");
    add("wire-type", po::value(&wire_type)->default_value("f32"), "f32, bf16 or int8 between nodes (fused)");
    add("expert-split", po::value(&split)->default_value("tp"),
        "tp or ep: how a node's ranks share its experts");
    add("chunk-bytes", po::value(&shape.chunk_bytes)->default_value(shape.chunk_bytes),
        "of a message (fused)");
    add("max-chunks", po::value(&shape.max_chunks_under_way)->default_value(shape.max_chunks_under_way),
        "under way to a node (fused)");
    add("dtype", po::value(&dtype)->default_value("bf16"), "of the weights: bf16 or f32");
    add("threads-per-rank", po::value(&options.threads)->default_value(1), "threads of the products");
    add("ranks-per-node", po::value(&ranks_per_node), "virtual nodes of so many ranks");
    add("backend", po::value(&backend)->default_value("cpu"), "cpu or cuda");
    add("allow-gpu-sharing", po::bool_switch(&options.allow_gpu_sharing), "several ranks may share a GPU");
    add("gpu-transport", po::value(&transport)->default_value("auto"), "with cuda: nccl, host or auto");
    add("json", po::value(&options.json_file), "file for the results");
    po::variables_map values;
    if (!parse_options("bench exchange", description, arguments, values)) return false;

    const auto at_least = [](const char* option, int64_t value, int64_t least) {
        require_usage(value >= least, "--{} is {}, but must be at least {}", option, value, least);
    };
    at_least("num-tokens", shape.num_tokens, 0);
    at_least("hidden-size", shape.hidden_size, 1);
    at_least("num-experts", shape.num_experts, 1);
    at_least("num-experts-per-tok", shape.num_experts_per_tok, 1);
    at_least("intermediate-size", shape.intermediate_size, 0);
    at_least("chunk-bytes", shape.chunk_bytes, 1);
    at_least("max-chunks", shape.max_chunks_under_way, 1);
    at_least("repetitions", options.repetitions, 1);
    at_least("threads-per-rank", options.threads, 1);
    require_usage(shape.num_experts_per_tok <= shape.num_experts,
                  "--num-experts-per-tok {} is more than the {} experts", shape.num_experts_per_tok,
                  shape.num_experts);
    require_usage(split == "tp" || split == "ep", "--expert-split: '{}' is neither tp nor ep", split);
    shape.expert_split = split == "tp" ? comm::ExpertSplit::tensor : comm::ExpertSplit::expert;
    const auto wire = comm::parse_wire_type(wire_type);
    require_usage(wire.has_value(), "--wire-type: '{}' is none of f32, bf16, int8", wire_type);
    shape.wire_type = *wire;
    const auto weights = parse_dtype(dtype);
    require_usage(weights == DType::bf16 || weights == DType::f32, "--dtype: '{}' is neither bf16 nor f32",
                  dtype);
    shape.dtype = *weights;
    read_routing(options.routing,
                 values.count("routing-layer") != 0 ? std::optional(routing_layer) : std::nullopt, shape);
    options.strategies = parse_strategies(strategies);
    options.backend = parse_backend(backend);
    options.gpu_transport = parse_transport(transport);
    if (values.count("ranks-per-node") != 0) options.ranks_per_node = ranks_per_node;
    return true;
}

/// Null where there is nothing to compare with.
json ratio(double time, double limit) {
    return limit > 0 ? json(time / limit) : json(nullptr);
}

json as_json(const Options& options, const comm::Topology& topology,
             const std::vector<ExchangeResult>& results) {
    const ExchangeShape& shape = options.shape;
    json document;
    document["shape"] = {{"num_tokens", shape.num_tokens},
                         {"hidden_size", shape.hidden_size},
                         {"num_experts", shape.num_experts},
                         {"num_experts_per_tok", shape.num_experts_per_tok},
                         {"intermediate_size", shape.intermediate_size},
                         {"routing", options.routing},
                         {"wire_type", comm::name(shape.wire_type)},
                         {"expert_split", shape.expert_split == comm::ExpertSplit::tensor ? "tp" : "ep"},
                         {"dtype", name(shape.dtype)},
                         {"n_nodes", topology.n_nodes},
                         {"ranks_per_node", topology.ranks_per_node},
                         {"backend", options.backend == BackendOption::cuda ? "cuda" : "cpu"},
                         {"repetitions", options.repetitions}};
    document["results"] = json::array();
    for (const ExchangeResult& result : results) {
        json phases_ms;
        for (int p = 0; p < n_phases; ++p) {
            phases_ms[name(static_cast<Phase>(p))] = result.phases_ms[static_cast<size_t>(p)];
        }
        document["results"].push_back(
            {{"strategy", result.strategy},
             {"exchange_ms", result.exchange_ms},
             {"layer_ms", result.layer_ms},
             {"internode_bytes", result.internode_bytes},
             {"internode_alone_ms", result.internode_alone_ms},
             {"ratio_to_alone", ratio(result.exchange_ms, result.internode_alone_ms)},
             {"two_messages_ms", result.two_messages_ms},
             {"ratio_to_two_messages", ratio(result.exchange_ms, result.two_messages_ms)},
             {"layer_phases_ms", phases_ms},
             {"difference", result.difference}});
    }
    return document;
}

std::string cell(double value, double limit) {
    return limit > 0 ? fmt::format("{:.2f}", value / limit) : "-";
}

void print(const Options& options, const comm::Topology& topology,
           const std::vector<ExchangeResult>& results) {
    const ExchangeShape& shape = options.shape;
    fmt::print(
        "MoE layer of {} tokens a node, hidden {}, {} experts of {}, {} a token, {} routing, on {} nodes x "
        "{} ranks\n"
        "medians of {} repetitions, slowest rank; alone: the same bytes between nodes and nothing else, at "
        "once "
        "or in two messages one after the other\n\n",
        shape.num_tokens, shape.hidden_size, shape.num_experts, shape.intermediate_size,
        shape.num_experts_per_tok, options.routing, topology.n_nodes, topology.ranks_per_node,
        options.repetitions);
    fmt::print("{:<9} {:>12} {:>10} {:>13} {:>10} {:>9} {:>9} {:>9} {:>11}\n", "strategy", "exchange ms",
               "layer ms", "internode MB", "alone ms", "ratio", "in two ms", "ratio", "difference");
    for (const ExchangeResult& result : results) {
        fmt::print("{:<9} {:>12.3f} {:>10.3f} {:>13.3f} {:>10.3f} {:>9} {:>9.3f} {:>9} {:>11.2e}\n",
                   result.strategy, result.exchange_ms, result.layer_ms,
                   static_cast<double>(result.internode_bytes) * 1e-6, result.internode_alone_ms,
                   cell(result.exchange_ms, result.internode_alone_ms), result.two_messages_ms,
                   cell(result.exchange_ms, result.two_messages_ms), result.difference);
    }
    fmt::print("\nwhere the layer's time goes, ms (means over ranks)\n{:<9}", "strategy");
    const std::array shown{Phase::dispatch, Phase::experts, Phase::combine, Phase::idle};
    for (const Phase phase : shown)
        fmt::print(" {:>10}", name(phase));
    for (const ExchangeResult& result : results) {
        fmt::print("\n{:<9}", result.strategy);
        for (const Phase phase : shown)
            fmt::print(" {:>10.3f}", result.phases_ms[static_cast<size_t>(phase)]);
    }
    fmt::print("\n");
    std::fflush(stdout);
}

}  // namespace

int run_bench_exchange(Arguments arguments) {
    Options options;
    bool wanted = false;
    comm::agree(comm::Communicator::world(), [&] { wanted = read_options(arguments, options); });
    if (!wanted) return exit_ok;
    const comm::Topology topology = comm::make_topology(options.ranks_per_node);
    const BackendChoice backend =
        choose_backend(options.backend, options.allow_gpu_sharing, options.gpu_transport, topology);
    const std::vector<ExchangeResult> results = measure_exchanges(
        options.shape, options.strategies, options.repetitions, options.threads, backend, topology);
    if (topology.world.rank() != 0) return exit_ok;
    print(options, topology, results);
    if (!options.json_file.empty()) {
        io::write_file_atomically(options.json_file, as_json(options, topology, results).dump(2) + "\n");
    }
    return exit_ok;
}

}  // namespace mixserve::app
