#include "app/engine_options.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <thread>

#include "app/byte_size.h"
#include "base/error.h"
#include "base/text_file.h"
#include "io/digest.h"

namespace mixserve::app {
namespace {

namespace po = boost::program_options;
namespace fs = std::filesystem;

/// The value of an option that is one of a few words.
template <class T, size_t N>
T one_of(const std::string& option, const std::string& text,
         const std::array<std::pair<std::string_view, T>, N>& words) {
    std::vector<std::string_view> names;
    for (const auto& [word, value] : words) {
        if (word == text) return value;
        names.push_back(word);
    }
    fail_usage("--{} {}: not one of {}{}", option, text, fmt::join(names, ", "), did_you_mean(text, names));
}

constexpr std::array<std::pair<std::string_view, comm::Strategy>, 5> strategies{{
    {"tp-ep", comm::Strategy::tp_ep},
    {"fused", comm::Strategy::fused},
    {"tp", comm::Strategy::tp},
    {"dp-ep", comm::Strategy::dp_ep},
    {"tp-pp", comm::Strategy::tp_pp},
}};

constexpr std::array<std::pair<std::string_view, comm::ExpertSplit>, 2> expert_splits{
    {{"tp", comm::ExpertSplit::tensor}, {"ep", comm::ExpertSplit::expert}}};

constexpr std::array<std::pair<std::string_view, DType>, 2> f32_or_bf16{
    {{"f32", DType::f32}, {"bf16", DType::bf16}}};

int64_t positive(const po::variables_map& values, const std::string& option) {
    const auto value = values[option].as<int64_t>();
    require_usage(value >= 1, "--{} {}: must be at least 1", option, value);
    return value;
}

std::optional<int64_t> optional_positive(const po::variables_map& values, const std::string& option) {
    return values.count(option) == 0 ? std::nullopt : std::optional(positive(values, option));
}

/// A config alone has no tokenizer: token i is the text "<i>", so that a dataset of token ids runs and rows
/// have a text.
std::string dummy_tokenizer(int64_t vocab_size) {
    json vocabulary = json::object();
    for (int64_t i = 0; i < vocab_size; ++i)
        vocabulary[fmt::format("<{}>", i)] = i;
    const json tokenizer = {
        {"model", {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", json::array()}}},
        {"added_tokens", json::array()}};
    return tokenizer.dump();
}

OpenModel open_dummy(const EngineOptions& options) {
    fs::path path = options.model_path;
    if (fs::is_directory(path)) path /= "config.json";
    require_usage(
        fs::exists(path),
        "--model {}: no such file; with --load-format dummy it is a config.json or a folder with one",
        path.string());
    const std::string generation = fs::exists(path.parent_path() / "generation_config.json")
                                       ? read_text_file(path.parent_path() / "generation_config.json")
                                       : "";
    OpenModel open;
    open.config_text = read_text_file(path);
    open.config = model::parse_config(open.config_text, generation, path.string(), options.num_layers);
    open.weights = model::dummy_weights(open.config, options.seed);
    open.generation_config = generation;
    for (const auto& [name, text] : {std::pair{"tokenizer_config.json", &open.texts.tokenizer_config},
                                     std::pair{"chat_template.jinja", &open.texts.chat_template}}) {
        if (fs::exists(path.parent_path() / name)) *text = read_text_file(path.parent_path() / name);
    }
    const fs::path tokenizer = path.parent_path() / "tokenizer.json";
    open.texts.tokenizer =
        fs::exists(tokenizer) ? read_text_file(tokenizer) : dummy_tokenizer(open.config.vocab_size);
    return open;
}

OpenModel open_file(const EngineOptions& options) {
    OpenModel open;
    open.file = std::make_unique<io::ModelFile>(io::ModelFile::open(options.model_path));
    open.generation_config = open.file->generation_config().value_or("");
    open.config_text = open.file->config();
    open.config =
        model::parse_config(open.config_text, open.generation_config, options.model_path, options.num_layers);
    model::check_tensors(open.config, open.file->tensors(), options.model_path);
    open.weights = model::weights_from_file(*open.file);
    open.texts = {open.file->tokenizer().value_or(""), open.file->tokenizer_config(),
                  open.file->chat_template()};
    return open;
}

}  // namespace

void add_engine_options(po::options_description& options) {
    options.add_options()("model", po::value<std::string>()->value_name("M.h5")->required(),
                          "the HDF5 model; with --load-format dummy a config.json or its folder")(
        "load-format", po::value<std::string>()->default_value("hdf5"),
        "hdf5, or dummy: weights made from --seed, no file")(
        "num-layers", po::value<int64_t>()->value_name("N"), "only the model's first N layers")(
        "verify", po::bool_switch(), "check the model's checksums before work starts")(
        "strategy", po::value<std::string>()->default_value("tp-ep"), "tp-ep, fused, tp, dp-ep or tp-pp")(
        "expert-split", po::value<std::string>()->default_value("tp"),
        "experts inside a node: tp (each split along its intermediate dimension) or ep (whole experts)")(
        "exchange-dtype", po::value<std::string>()->default_value("f32"),
        "what fused sends between nodes: f32, bf16, or int8 with a scale a token")(
        "ranks-per-node", po::value<int64_t>()->value_name("N"),
        "virtual nodes of N ranks; by default real nodes")(
        "tensor-parallel-size", po::value<int64_t>()->value_name("N"), "by default the ranks of a node")(
        "expert-parallel-size", po::value<int64_t>()->value_name("N"), "by default the number of nodes")(
        "threads-per-rank", po::value<int64_t>()->value_name("N"),
        "by default the machine's cores over its ranks")(
        "backend", po::value<std::string>()->default_value("auto"),
        device::built_with_cuda() ? "cpu, cuda or auto" : "cpu or auto (this build has no cuda)")(
        "allow-gpu-sharing", po::bool_switch(), "with cuda: several ranks may share a GPU")(
        "gpu-transport", po::value<std::string>()->default_value("auto"),
        "with cuda: what ranks exchange over: nccl, host (through the hosts' memory), or auto")(
        "cuda-graphs", po::value<std::string>()->default_value("on"),
        "with cuda: on or off; whether decode steps are recorded once and replayed")(
        "max-model-len", po::value<int64_t>()->value_name("N"),
        "most tokens of a prompt and its continuation; by default what the model allows")(
        "max-num-seqs", po::value<int64_t>()->value_name("N")->default_value(64),
        "most sequences running at once on a node")(
        "max-num-batched-tokens", po::value<int64_t>()->value_name("N")->default_value(2048),
        "most tokens of a step on a node; longer prompts go in pieces")(
        "kv-cache-memory", po::value<std::string>()->value_name("SIZE"),
        "bytes a rank for the KV cache (as 4GiB); by default a share of what is free")(
        "kv-cache-dtype", po::value<std::string>()->default_value("f32"),
        "f32 (exact) or bf16 (half the memory)")(
        "rope-frequency-dtype", po::value<std::string>()->default_value("f32"),
        "f32, or bf16 to compare with a reference that cast its rotary buffers with model.to(bfloat16)")(
        "block-size", po::value<int64_t>()->value_name("N")->default_value(16), "tokens of a KV cache block")(
        "seed", po::value<int64_t>()->value_name("N")->default_value(0), "of sampling and of dummy weights");
}

EngineOptions read_engine_options(const po::variables_map& values) {
    EngineOptions o;
    o.model_path = values["model"].as<std::string>();
    constexpr std::array<std::pair<std::string_view, bool>, 2> formats{{{"hdf5", false}, {"dummy", true}}};
    o.dummy = one_of("load-format", values["load-format"].as<std::string>(), formats);
    o.num_layers = optional_positive(values, "num-layers");
    o.tensor_parallel_size = optional_positive(values, "tensor-parallel-size");
    o.expert_parallel_size = optional_positive(values, "expert-parallel-size");
    o.max_model_len = optional_positive(values, "max-model-len");
    if (const auto n = optional_positive(values, "ranks-per-node")) o.ranks_per_node = static_cast<int>(*n);
    o.verify = values["verify"].as<bool>();
    require_usage(!(o.verify && o.dummy), "--verify goes with an HDF5 model, not with --load-format dummy");
    const auto seed = values["seed"].as<int64_t>();
    require_usage(seed >= 0, "--seed {}: must be at least 0", seed);
    o.seed = static_cast<uint64_t>(seed);

    o.backend = parse_backend(values["backend"].as<std::string>());
    constexpr std::array<std::pair<std::string_view, bool>, 2> on_or_off{{{"on", true}, {"off", false}}};
    o.parallel.cuda_graphs = one_of("cuda-graphs", values["cuda-graphs"].as<std::string>(), on_or_off);
    o.allow_gpu_sharing = values["allow-gpu-sharing"].as<bool>();
    o.gpu_transport = parse_transport(values["gpu-transport"].as<std::string>());
    o.parallel.strategy = one_of("strategy", values["strategy"].as<std::string>(), strategies);
    o.parallel.expert_split = one_of("expert-split", values["expert-split"].as<std::string>(), expert_splits);
    constexpr std::array<std::pair<std::string_view, comm::WireType>, 3> wire_types{
        {{"f32", comm::WireType::f32}, {"bf16", comm::WireType::bf16}, {"int8", comm::WireType::int8}}};
    o.parallel.exchange_dtype =
        one_of("exchange-dtype", values["exchange-dtype"].as<std::string>(), wire_types);
    require_usage(
        o.parallel.exchange_dtype == comm::WireType::f32 || o.parallel.strategy == comm::Strategy::fused,
        "--exchange-dtype {} goes with --strategy fused", values["exchange-dtype"].as<std::string>());
    o.parallel.n_threads = static_cast<int>(optional_positive(values, "threads-per-rank").value_or(0));
    o.parallel.kv_block_size = positive(values, "block-size");
    o.parallel.kv_cache_dtype =
        one_of("kv-cache-dtype", values["kv-cache-dtype"].as<std::string>(), f32_or_bf16);
    if (values.count("kv-cache-memory") != 0) {
        o.parallel.kv_cache_bytes =
            parse_byte_size("--kv-cache-memory", values["kv-cache-memory"].as<std::string>());
    }
    o.rope_frequency_dtype =
        one_of("rope-frequency-dtype", values["rope-frequency-dtype"].as<std::string>(), f32_or_bf16);
    o.limits.max_num_seqs = positive(values, "max-num-seqs");
    o.limits.max_num_batched_tokens = positive(values, "max-num-batched-tokens");
    o.parallel.max_num_seqs = o.limits.max_num_seqs;

    if (o.tensor_parallel_size && o.parallel.strategy != comm::Strategy::tp) {
        require_usage(!o.ranks_per_node || *o.ranks_per_node == *o.tensor_parallel_size,
                      "--tensor-parallel-size {} contradicts --ranks-per-node {}", *o.tensor_parallel_size,
                      o.ranks_per_node.value_or(0));
        o.ranks_per_node = static_cast<int>(*o.tensor_parallel_size);
    }
    return o;
}

void resolve_backend(EngineOptions& o, const comm::Topology& topology) {
    const BackendChoice choice = choose_backend(o.backend, o.allow_gpu_sharing, o.gpu_transport, topology);
    o.parallel.backend = choice.backend;
    o.parallel.gpu = choice.gpu;
    o.parallel.ranks_on_gpu = choice.ranks_on_gpu;
    o.parallel.gpu_transport = choice.transport;
}

OpenModel open_model(EngineOptions& o, const comm::Topology& topology) {
    const int world = topology.world.size();
    const bool over_world = o.parallel.strategy == comm::Strategy::tp;
    const int64_t tp = over_world ? world : topology.ranks_per_node;
    require_usage(!o.tensor_parallel_size || *o.tensor_parallel_size == tp,
                  "--tensor-parallel-size {}: the strategy {} has {} here",
                  o.tensor_parallel_size.value_or(0), comm::name(o.parallel.strategy), tp);
    const bool hybrid =
        o.parallel.strategy == comm::Strategy::tp_ep || o.parallel.strategy == comm::Strategy::fused;
    const int64_t ep = hybrid ? topology.n_nodes : o.parallel.strategy == comm::Strategy::dp_ep ? world : 1;
    require_usage(!o.expert_parallel_size || *o.expert_parallel_size == ep,
                  "--expert-parallel-size {}: {} ranks as {} nodes give the strategy {} a degree of {}",
                  o.expert_parallel_size.value_or(0), world, topology.n_nodes,
                  comm::name(o.parallel.strategy), ep);

    OpenModel open = o.dummy ? open_dummy(o) : open_file(o);
    require_usage(!o.max_model_len || *o.max_model_len <= open.config.max_position_embeddings ||
                      open.config.rope.type == model::RopeType::dynamic,
                  "--max-model-len {}: the model has {} positions (max_position_embeddings)",
                  o.max_model_len.value_or(0), open.config.max_position_embeddings);
    open.config.rope.frequency_dtype = o.rope_frequency_dtype;
    o.parallel.max_model_len = o.max_model_len.value_or(open.config.max_position_embeddings);
    o.max_model_len = o.parallel.max_model_len;
    if (o.parallel.n_threads == 0) {
        const std::string& host = topology.hosts[static_cast<size_t>(topology.world.rank())];
        const auto ranks_here = std::count(topology.hosts.begin(), topology.hosts.end(), host);
        o.parallel.n_threads = std::max(
            1, static_cast<int>(std::thread::hardware_concurrency() / static_cast<unsigned>(ranks_here)));
    }
    return open;
}

std::string OpenModel::digest() const {
    if (file != nullptr) return file->digest();
    std::string all;
    for (const std::string& text : {config_text, generation_config, texts.tokenizer,
                                    texts.tokenizer_config.value_or(""), texts.chat_template.value_or("")})
        all += io::text_digest(text);
    return io::text_digest(all);
}

ordered_json identity_of(const EngineOptions& o) {
    return {{"load-format", o.dummy ? "dummy" : "hdf5"},
            {"num-layers", o.num_layers ? ordered_json(*o.num_layers) : ordered_json()},
            {"max-model-len", o.parallel.max_model_len},
            {"exchange-dtype", comm::name(o.parallel.exchange_dtype)},
            {"kv-cache-dtype", mixserve::name(o.parallel.kv_cache_dtype)},
            {"rope-frequency-dtype", mixserve::name(o.rope_frequency_dtype)},
            {"seed", o.seed}};
}

ordered_json to_json(const EngineOptions& o) {
    ordered_json j;
    j["model"] = fs::absolute(o.model_path).lexically_normal().string();
    j["load-format"] = o.dummy ? "dummy" : "hdf5";
    if (o.num_layers) j["num-layers"] = *o.num_layers;
    j["verify"] = o.verify;
    j["strategy"] = comm::name(o.parallel.strategy);
    j["expert-split"] = o.parallel.expert_split == comm::ExpertSplit::tensor ? "tp" : "ep";
    j["exchange-dtype"] = comm::name(o.parallel.exchange_dtype);
    if (o.ranks_per_node) j["ranks-per-node"] = *o.ranks_per_node;
    if (o.tensor_parallel_size) j["tensor-parallel-size"] = *o.tensor_parallel_size;
    if (o.expert_parallel_size) j["expert-parallel-size"] = *o.expert_parallel_size;
    j["backend"] = o.parallel.backend == device::Backend::cuda ? "cuda" : "cpu";
    j["allow-gpu-sharing"] = o.allow_gpu_sharing;
    j["gpu-transport"] = o.parallel.backend == device::Backend::cpu             ? "auto"
                         : o.parallel.gpu_transport == comm::GpuTransport::nccl ? "nccl"
                                                                                : "host";
    j["cuda-graphs"] = o.parallel.cuda_graphs ? "on" : "off";
    j["threads-per-rank"] = o.parallel.n_threads;
    j["max-model-len"] = o.parallel.max_model_len;
    j["max-num-seqs"] = o.limits.max_num_seqs;
    j["max-num-batched-tokens"] = o.limits.max_num_batched_tokens;
    if (o.parallel.kv_cache_bytes) j["kv-cache-memory"] = *o.parallel.kv_cache_bytes;
    j["kv-cache-dtype"] = mixserve::name(o.parallel.kv_cache_dtype);
    j["rope-frequency-dtype"] = mixserve::name(o.rope_frequency_dtype);
    j["block-size"] = o.parallel.kv_block_size;
    j["seed"] = o.seed;
    return j;
}

}  // namespace mixserve::app
