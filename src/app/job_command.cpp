#include "app/job_command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "app/byte_progress.h"
#include "app/engine_options.h"
#include "app/options.h"
#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "engine/engine.h"
#include "engine/job.h"
#include "engine/prompt_encoder.h"
#include "io/prompts.h"
#include "io/routing_trace.h"
#include "io/row_writer.h"
#include "io/sampling_params.h"
#include "model/layout.h"

namespace mixserve::app {
namespace {

/// The options of a job beside those of the engine.
struct JobOptions {
    std::string input_file;
    std::string output_dir;
    std::string chat_template_file;  // "": the model's own
    bool strict = false;
    bool tracing = false;
    bool tracing_routing = false;
};

void add_job_options(po::options_description& options) {
    options.add_options()("input-file", po::value<std::string>()->value_name("P.jsonl")->required(),
                          "prompts: .jsonl (simple, chat and OpenAI-batch lines, mixed) or .txt")(
        "output-dir", po::value<std::string>()->value_name("D")->required(), "a folder that is new or empty")(
        "chat-template", po::value<std::string>()->value_name("FILE")->default_value(""),
        "a Jinja template instead of the model's own")(
        "strict", po::bool_switch(), "end at once (exit code 2) when any line is bad, before work starts")(
        "trace", po::bool_switch(), "write trace.json, a Chrome trace of all ranks")(
        "trace-routing", po::bool_switch(),
        "write routing.jsonl, the experts that world rank 0's tokens go to, for bench exchange");
}

void add_sampling_options(po::options_description& options) {
    const auto number = [] { return po::value<double>()->value_name("X"); };
    const auto count = [] { return po::value<int64_t>()->value_name("N"); };
    options.add_options()("max-tokens", count(),
                          "for lines that do not say; by default 16, for chats what fits")(
        "temperature", number(),
        "for lines that do not say; by default the model's (generation_config.json), else 1")(
        "top-p", number(), "likewise")("top-k", count(), "likewise; 0: all")("min-p", number(), "likewise")(
        "repetition-penalty", number(), "likewise");
}

template <class T>
void override_with(const po::variables_map& values, const std::string& option, T& target) {
    if (values.count(option) != 0) target = values[option].as<T>();
}

/// What a line that does not say is sampled with: the options, then the model's generation_config.json.
io::SamplingDefaults sampling_defaults(const po::variables_map& values,
                                       const std::string& generation_config) {
    io::SamplingDefaults defaults = io::read_generation_config(generation_config).defaults;
    override_with(values, "temperature", defaults.params.temperature);
    override_with(values, "top-p", defaults.params.top_p);
    override_with(values, "top-k", defaults.params.top_k);
    override_with(values, "min-p", defaults.params.min_p);
    override_with(values, "repetition-penalty", defaults.params.repetition_penalty);
    if (values.count("max-tokens") != 0) defaults.max_tokens = values["max-tokens"].as<int64_t>();
    io::SamplingParams all = defaults.params;
    all.max_tokens = defaults.max_tokens.value_or(all.max_tokens);
    if (const auto problem = io::problem_of(all)) fail_usage("sampling options: {}", *problem);
    return defaults;
}

ordered_json to_json(const io::SamplingDefaults& defaults) {
    ordered_json j;
    if (defaults.max_tokens) j["max-tokens"] = *defaults.max_tokens;
    j["temperature"] = defaults.params.temperature;
    j["top-p"] = defaults.params.top_p;
    j["top-k"] = defaults.params.top_k;
    j["min-p"] = defaults.params.min_p;
    j["repetition-penalty"] = defaults.params.repetition_penalty;
    return j;
}

std::string read_text(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    require_usage(static_cast<bool>(in), "cannot read {}", path);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

engine::PromptEncoder make_encoder(const OpenModel& model, const EngineOptions& options,
                                   const JobOptions& job) {
    engine::PromptTexts texts = model.texts;
    if (!job.chat_template_file.empty()) texts.chat_template = read_text(job.chat_template_file);
    return engine::PromptEncoder(texts, options.model_path);
}

/// Tokens of a line, checked against what the model can take. The longest prompt leaves room for one token.
engine::PreparedRequest prepare(const engine::PromptEncoder& encoder, io::Request request,
                                int64_t max_model_len, bool scores) {
    std::vector<int32_t> ids = encoder.encode(request).token_ids;
    require(!ids.empty(), "the prompt is empty");
    const auto n = static_cast<int64_t>(ids.size());
    const int64_t n_at_most = scores ? max_model_len : max_model_len - 1;
    require(n <= n_at_most, "the prompt has {} tokens, and there is room for {} (--max-model-len {})", n,
            n_at_most, max_model_len);
    return {std::move(request), std::move(ids)};
}

/// With --strict: every line, before anything is loaded.
void check_all_lines(const JobOptions& job, const io::SamplingDefaults& defaults,
                     const io::PromptLimits& limits, const engine::Prepare& prepare_line) {
    io::PromptReader reader(job.input_file, defaults, limits);
    while (std::optional<io::Request> request = reader.next()) {
        if (request->error) fail_usage("--strict: {}: {}", job.input_file, *request->error);
        const int64_t line = request->line;
        try {
            prepare_line(std::move(*request));
        } catch (const Error& e) {
            fail_usage("--strict: {}: line {}: {}", job.input_file, line, e.what());
        }
    }
}

ordered_json run_json(const std::string& command, const EngineOptions& options, const JobOptions& job,
                      const io::SamplingDefaults& defaults, const comm::Topology& topology,
                      const OpenModel& model) {
    ordered_json j;
    j["program"] = "mixserve";
    j["version"] = MIXSERVE_VERSION;
    j["command"] = command;
    j["started_unix_s"] = std::time(nullptr);
    ordered_json all = to_json(options);
    all["input-file"] = job.input_file;
    all["output-dir"] = job.output_dir;
    all["strict"] = job.strict;
    all["trace"] = job.tracing;
    all["trace-routing"] = job.tracing_routing;
    all["chat-template"] = job.chat_template_file;
    all.update(to_json(defaults));
    j["options"] = std::move(all);
    j["topology"] = {{"world_size", topology.world.size()},
                     {"nodes", topology.n_nodes},
                     {"ranks_per_node", topology.ranks_per_node},
                     {"hosts", topology.hosts}};
    j["model"] = {{"model_type", model.config.model_type},
                  {"parameters", model.config.total_parameters()},
                  {"active_parameters", model.config.active_parameters()}};
    return j;
}

/// A sequence can have no more tokens than the KV cache holds.
void bound_by_cache(EngineOptions& options, const engine::RankModel& model) {
    const int64_t n_positions = model.n_kv_blocks() * options.parallel.kv_block_size;
    if (n_positions >= options.parallel.max_model_len) return;
    if (model.topology().world.rank() == 0) {
        spdlog::warn(
            "the KV cache holds {} tokens, fewer than --max-model-len {}: longer prompts become error rows",
            n_positions, options.parallel.max_model_len);
    }
    options.parallel.max_model_len = n_positions;
}

io::RunFacts facts_of(const EngineOptions& options, const engine::Job& job, const comm::Topology& topology,
                      bool scores) {
    io::RunFacts facts;
    facts.model = options.model_path;
    facts.strategy = comm::name(options.parallel.strategy);
    facts.n_nodes = topology.n_nodes;
    facts.n_ranks = topology.world.size();
    facts.duration_s = job.duration_s();
    facts.phase_seconds = job.phase_seconds();
    facts.scores = scores;
    return facts;
}

std::vector<io::TraceRank> trace_ranks(const comm::Topology& topology) {
    std::vector<io::TraceRank> ranks;
    for (int r = 0; r < topology.world.size(); ++r) {
        ranks.push_back({r, r / topology.ranks_per_node, topology.hosts[static_cast<size_t>(r)]});
    }
    return ranks;
}

struct ParsedOptions {
    bool help = false;
    po::variables_map values;
    EngineOptions engine;
    JobOptions job;
};

ParsedOptions parse(Arguments arguments, bool scores) {
    po::options_description options;
    add_job_options(options);
    add_engine_options(options);
    if (!scores) add_sampling_options(options);
    ParsedOptions parsed;
    parsed.help = !parse_options(scores ? "score" : "run", options, arguments, parsed.values);
    if (parsed.help) return parsed;
    parsed.engine = read_engine_options(parsed.values);
    parsed.job = {parsed.values["input-file"].as<std::string>(),
                  parsed.values["output-dir"].as<std::string>(),
                  parsed.values["chat-template"].as<std::string>(),
                  parsed.values["strict"].as<bool>(),
                  parsed.values["trace"].as<bool>(),
                  parsed.values["trace-routing"].as<bool>()};
    return parsed;
}

}  // namespace

int run_job(Arguments arguments, bool scores) {
    const comm::Communicator world = comm::Communicator::world();
    const bool is_root = world.rank() == 0;
    ParsedOptions parsed;
    comm::agree(world, [&] { parsed = parse(arguments, scores); });
    if (parsed.help) return exit_ok;
    EngineOptions& options = parsed.engine;
    const JobOptions& job_options = parsed.job;

    const comm::Topology topology = comm::make_topology(options.ranks_per_node);
    resolve_backend(options, topology);
    OpenModel model;
    io::SamplingDefaults defaults;
    std::optional<engine::PromptEncoder> encoder;
    comm::agree(world, [&] {
        model = open_model(options, topology);
        model::make_layout(model.config, options.parallel.strategy, options.parallel.expert_split, topology);
        defaults = sampling_defaults(parsed.values, model.generation_config);
        encoder.emplace(make_encoder(model, options, job_options));
    });
    const io::PromptLimits limits{.vocab_size = model.config.vocab_size};
    const engine::Prepare prepare_line = [&](io::Request request) {
        return prepare(*encoder, std::move(request), options.parallel.max_model_len, scores);
    };
    comm::agree(world, [&] {
        if (!is_root) return;
        const io::PromptReader readable(job_options.input_file, defaults, limits);
        if (job_options.strict) check_all_lines(job_options, defaults, limits, prepare_line);
        if (options.verify) model.file->verify();
        io::prepare_output_dir(job_options.output_dir);
        io::write_file_atomically(
            job_options.output_dir + "/run.json",
            run_json(scores ? "score" : "run", options, job_options, defaults, topology, model).dump(2) +
                "\n");
    });

    engine::RankModel rank_model(model.config, topology, options.parallel, *model.weights);
    bound_by_cache(options, rank_model);
    const engine::ServeContext context{encoder->tokenizer(), model.config.eos_token_ids,
                                       options.parallel.max_model_len, options.seed, scores};
    std::unique_ptr<engine::Job> job;
    comm::agree(world, [&] {
        if (!is_root) return;
        const std::string model_name = std::filesystem::path(options.model_path).stem().string();
        job = std::make_unique<engine::Job>(engine::JobSetup{
            job_options.input_file, job_options.output_dir, defaults, limits, scores, job_options.tracing,
            io::RowContext{model_name, std::time(nullptr)}, prepare_line, trace_ranks(topology)});
    });
    std::optional<io::RoutingTraceWriter> routing;
    if (is_root && job_options.tracing_routing) {
        routing.emplace(job_options.output_dir + "/routing.jsonl", model.config.num_experts_per_tok);
        rank_model.observe_router([&](int64_t layer, std::span<const int32_t> experts, int64_t) {
            routing->write(layer, experts);
        });
    }
    engine::Engine(rank_model, options.limits, context, job.get(), job.get(), job_options.tracing).run();
    if (!is_root) return exit_ok;

    job->finish();
    const io::RunFacts facts = facts_of(options, *job, topology, scores);
    io::write_file_atomically(job_options.output_dir + "/summary.json",
                              io::summary_json(job->statistics(), facts).dump(2) + "\n");
    std::fputs(io::summary_table(job->statistics(), facts).c_str(), stdout);
    return exit_ok;
}

}  // namespace mixserve::app
