#include "app/job_command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>

#include "app/byte_progress.h"
#include "app/byte_size.h"
#include "app/engine_options.h"
#include "app/job_place.h"
#include "app/options.h"
#include "app/provenance.h"
#include "app/run_record.h"
#include "app/shard.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/heartbeat.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/text_file.h"
#include "base/watchdog.h"
#include "comm/agree.h"
#include "comm/exchange.h"
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

void add_job_options(po::options_description& options) {
    options.add_options()("input-file", po::value<std::string>()->value_name("P.jsonl")->required(),
                          "prompts: .jsonl (simple, chat and OpenAI-batch lines, mixed) or .txt")(
        "output-dir", po::value<std::string>()->value_name("D")->required(),
        "a folder that is new or empty, that of a start that made no row, or with --resume that of any")(
        "resume", po::bool_switch(),
        "go on where an earlier start in --output-dir ended; starts afresh where there was none")(
        "resume-anyway", po::bool_switch(),
        "--resume, also where the model, the input or an option that tokens depend on has changed")(
        "shard", po::value<std::string>()->value_name("I/N")->default_value("0/1"),
        "only the prompts of shard I (from 0) of N, or auto: I and N from the Slurm array")(
        "sync-interval", po::value<double>()->value_name("S")->default_value(10),
        "seconds between two times that rows are brought to the disk (fsync); 0: when the system does")(
        "chat-template", po::value<std::string>()->value_name("FILE")->default_value(""),
        "a Jinja template instead of the model's own")(
        "strict", po::bool_switch(), "end at once (exit code 2) when any line is bad, before work starts")(
        "trace", po::bool_switch(), "write trace.json, a Chrome trace of all ranks")(
        "trace-routing", po::bool_switch(),
        "write routing.jsonl, the experts that world rank 0's tokens go to, for bench exchange")(
        "watchdog-timeout", po::value<double>()->value_name("SECONDS")->default_value(300),
        "end the job when a rank has not got on for so long, and say where each was; 0: never");
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

engine::PromptEncoder make_encoder(const OpenModel& model, const EngineOptions& options,
                                   const JobOptions& job) {
    engine::PromptTexts texts = model.texts;
    if (!job.chat_template_file.empty()) texts.chat_template = read_text_file(job.chat_template_file);
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
        heartbeat.beat();
        if (request->error) fail_usage("--strict: {}: {}", job.input_file, *request->error);
        const int64_t line = request->line;
        try {
            prepare_line(std::move(*request));
        } catch (const Error& e) {
            fail_usage("--strict: {}: line {}: {}", job.input_file, line, e.what());
        }
    }
}

/// A line every 30 s.
model::LoadProgress load_progress() {
    constexpr double interval_s = 30;
    const double begin_s = now_s();
    return [begin_s, told_s = begin_s](int64_t n_bytes) mutable {
        const double now = now_s();
        if (now - told_s < interval_s) return;
        told_s = now;
        spdlog::info("loading the model: {} on rank 0 after {:.0f} s", byte_size_text(n_bytes),
                     now - begin_s);
    };
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

io::RunFacts facts_of(const EngineOptions& options, const JobPlace& place, const comm::Topology& topology,
                      bool scores) {
    io::RunFacts facts;
    facts.model = options.model_path;
    facts.strategy = comm::name(options.parallel.strategy);
    facts.n_nodes = topology.n_nodes;
    facts.n_ranks = topology.world.size();
    facts.scores = scores;
    facts.duration_s = place.history.steps.time_s;
    facts.phase_seconds = place.history.steps.phase_seconds;
    facts.n_rows_before = place.history.rows.totals.n_rows();
    facts.n_starts = place.history.n_starts + 1;
    return facts;
}

void write_summary(const io::OutputFolder& folder, const io::RunStatistics& statistics,
                   const io::RunFacts& facts) {
    io::write_file_atomically(folder.file("summary.json"),
                              io::summary_json(statistics, facts).dump(2) + "\n");
    std::fputs(io::summary_table(statistics, facts).c_str(), stdout);
}

std::vector<io::TraceRank> trace_ranks(const comm::Topology& topology) {
    std::vector<io::TraceRank> ranks;
    for (int r = 0; r < topology.world.size(); ++r) {
        ranks.push_back({r, r / topology.ranks_per_node, topology.hosts[static_cast<size_t>(r)]});
    }
    return ranks;
}

bool any(const comm::Communicator& world, bool here) {
    int64_t value[] = {here ? 1 : 0};
    world.all_reduce(std::span<int64_t>(value), comm::ReduceOp::max);
    return value[0] != 0;
}

bool has_finished_summary(const io::OutputFolder& folder) {
    const std::string path = folder.file("summary.json");
    if (!std::filesystem::exists(path)) return false;
    const json summary = json::parse(read_text_file(path), nullptr, false);
    return summary.is_object() && summary.value("status", "") == "finished";
}

/// The end of a start that finds nothing left to do. The summary of the start that finished tells more than
/// the rows do; one of a start that was stopped as it wrote the last row is not left to say so.
void tell_complete(const JobPlace& place, const io::RunFacts& facts) {
    spdlog::info("nothing is left to do: all {} prompts have their row in {}", place.input.n_in_shard,
                 place.folder.path());
    if (has_finished_summary(place.folder)) return;
    io::RunStatistics statistics;
    statistics.add(place.history.rows.totals);
    write_summary(place.folder, statistics, facts);
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
    const auto is_on = [&](const char* option) { return parsed.values[option].as<bool>(); };
    JobOptions& job = parsed.job;
    job.input_file = parsed.values["input-file"].as<std::string>();
    job.output_dir = parsed.values["output-dir"].as<std::string>();
    job.chat_template_file = parsed.values["chat-template"].as<std::string>();
    job.strict = is_on("strict");
    job.tracing = is_on("trace");
    job.tracing_routing = is_on("trace-routing");
    job.resume_anyway = is_on("resume-anyway");
    job.resume = is_on("resume") || job.resume_anyway;
    job.shard = parse_shard(parsed.values["shard"].as<std::string>());
    job.sync_interval_s = parsed.values["sync-interval"].as<double>();
    require_usage(job.sync_interval_s >= 0 && job.sync_interval_s <= 86'400,
                  "--sync-interval {}: must be between 0 and 86400 seconds", job.sync_interval_s);
    job.watchdog_timeout_s = parsed.values["watchdog-timeout"].as<double>();
    require_usage(job.watchdog_timeout_s >= 0, "--watchdog-timeout {}: a negative time",
                  job.watchdog_timeout_s);
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
    // From here on files are read, and their server may not answer.
    const Watchdog watchdog(job_options.watchdog_timeout_s, topology.world.rank(), topology.world.size(),
                            topology.hosts[static_cast<size_t>(topology.world.rank())]);
    comm::agree(world, [&] {
        model = open_model(options, topology);
        model::make_layout(model.config, options.parallel.strategy, options.parallel.expert_split, topology);
        defaults = sampling_defaults(parsed.values, model.generation_config);
        encoder.emplace(make_encoder(model, options, job_options));
    });
    RunRecord record;
    record.command = scores ? "score" : "run";
    record.model = {{"model_type", model.config.model_type},
                    {"parameters", model.config.total_parameters()},
                    {"active_parameters", model.config.active_parameters()},
                    {"vocab_size", model.config.vocab_size}};
    record.topology = {{"world_size", topology.world.size()},
                       {"nodes", topology.n_nodes},
                       {"ranks_per_node", topology.ranks_per_node},
                       {"hosts", topology.hosts}};
    record.build = build_json();
    record.slurm = slurm_json();
    record.cpus = cpus_json(topology);
    const io::PromptLimits limits{.vocab_size = model.config.vocab_size};
    const engine::Prepare prepare_line = [&](io::Request request) {
        return prepare(*encoder, std::move(request), options.parallel.max_model_len, scores);
    };
    std::optional<JobPlace> place;  // on world rank 0
    comm::agree(world, [&] {
        if (!is_root) return;
        io::check_is_rereadable(job_options.input_file);
        const io::PromptReader readable(job_options.input_file, defaults, limits);
        if (job_options.strict) check_all_lines(job_options, defaults, limits, prepare_line);
        if (options.verify) model.file->verify();
        place.emplace(open_job_place(options, job_options, defaults, model, record));
        if (place->first_started_unix_s) encoder->set_now(*place->first_started_unix_s);
    });
    if (any(world, is_root && place->complete)) {
        comm::agree(world, [&] {
            if (is_root) tell_complete(*place, facts_of(options, *place, topology, scores));
        });
        return exit_ok;
    }

    const double load_begin_s = now_s();
    engine::RankModel rank_model(model.config, topology, options.parallel, *model.weights,
                                 is_root ? load_progress() : model::LoadProgress{});
    const double load_s = now_s() - load_begin_s;
    if (is_root) spdlog::info("the model is loaded, after {:.1f} s", load_s);
    bound_by_cache(options, rank_model);
    const engine::ServeContext context{encoder->tokenizer(), model.config.eos_token_ids,
                                       options.parallel.max_model_len, options.seed, scores};
    std::unique_ptr<engine::Job> job;
    io::RunFacts facts;
    comm::agree(world, [&] {
        if (!is_root) return;
        facts = facts_of(options, *place, topology, scores);
        const std::string model_name = std::filesystem::path(options.model_path).stem().string();
        job = std::make_unique<engine::Job>(engine::JobSetup{
            .input_file = job_options.input_file,
            .input = place->input,
            .shard = job_options.shard,
            .output_dir = place->folder.path(),
            .before = std::move(place->history),
            .sync_interval_s = job_options.sync_interval_s,
            .defaults = defaults,
            .limits = limits,
            .scores = scores,
            .tracing = job_options.tracing,
            .rows = io::RowContext{model_name, std::time(nullptr)},
            .prepare = prepare_line,
            .ranks = trace_ranks(topology),
            .num_experts = model.config.num_experts,
            .expert_parts =
                comm::expert_parts(options.parallel.strategy, options.parallel.expert_split, topology.n_nodes,
                                   topology.ranks_per_node, model.config.num_experts)});
    });
    std::optional<io::RoutingTraceWriter> routing;
    if (is_root && job_options.tracing_routing) {
        routing.emplace(place->folder.file(engine::name_of_start("routing", "jsonl", facts.n_starts)),
                        model.config.num_experts_per_tok);
        rank_model.observe_router([&](int64_t layer, std::span<const int32_t> experts, int64_t) {
            routing->write(layer, experts);
        });
    }
    limit_stop(0);
    const int stop_signal =
        engine::Engine(rank_model, options.limits, context, job.get(), job.get(), job_options.tracing).run();
    const int exit_code = stop_signal == 0 ? exit_ok : stop_exit_code(stop_signal);
    if (!is_root) return exit_code;

    job->finish();
    facts.load_s = load_s;
    facts.duration_s = job->duration_s();
    facts.phase_seconds = job->phase_seconds();
    for (size_t rank = 0; rank < topology.hosts.size(); ++rank) {
        facts.ranks.push_back({static_cast<int64_t>(rank) / topology.ranks_per_node, topology.hosts[rank],
                               job->rank_phase_seconds()[rank]});
    }
    facts.expert_load = job->expert_load();
    facts.stopped = stop_signal != 0;
    write_summary(place->folder, job->statistics(), facts);
    if (facts.stopped) {
        spdlog::warn("stopped by {} with work left; every finished row is in {}",
                     stop_signal_name(stop_signal), job_options.output_dir);
    }
    return exit_code;
}

}  // namespace mixserve::app
