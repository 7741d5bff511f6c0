#include <cstdio>

#include "app/backend.h"
#include "app/benches.h"
#include "app/layer_bench.h"
#include "app/machine_limits.h"
#include "app/options.h"
#include "app/size_list.h"
#include "base/error.h"
#include "base/json.h"
#include "comm/agree.h"
#include "io/row_writer.h"

namespace mixserve::app {
namespace {

struct Options {
    LayerShape shape;
    std::vector<LayerStep> steps;
    BackendOption backend = BackendOption::cpu;
    int n_threads = 1;
    int repetitions = 15;
    std::string json_file;
};

DType parse_dtype_option(const char* option, const std::string& text) {
    const auto dtype = parse_dtype(text);
    require_usage(dtype.has_value(), "--{}: '{}' is none of bf16, f16, f32", option, text);
    return *dtype;
}

void check(const Options& o) {
    const auto at_least_one = [](const char* option, int64_t value) {
        require_usage(value >= 1, "--{} is {}, but must be at least 1", option, value);
    };
    const LayerShape& s = o.shape;
    at_least_one("hidden-size", s.hidden_size);
    at_least_one("num-experts", s.num_experts);
    at_least_one("num-experts-per-tok", s.num_experts_per_tok);
    at_least_one("intermediate-size", s.intermediate_size);
    at_least_one("num-attention-heads", s.num_attention_heads);
    at_least_one("num-key-value-heads", s.num_key_value_heads);
    at_least_one("head-dim", s.head_dim);
    at_least_one("threads-per-rank", o.n_threads);
    at_least_one("repetitions", o.repetitions);
    require_usage(s.num_experts_per_tok <= s.num_experts,
                  "--num-experts-per-tok {} is more than the {} experts", s.num_experts_per_tok,
                  s.num_experts);
    require_usage(s.num_attention_heads % s.num_key_value_heads == 0,
                  "--num-attention-heads {} is not a multiple of --num-key-value-heads {}",
                  s.num_attention_heads, s.num_key_value_heads);
    require_usage(s.head_dim % 2 == 0, "--head-dim {} is odd: RoPE turns pairs", s.head_dim);
}

bool read_options(Arguments arguments, Options& o) {
    LayerShape& s = o.shape;
    std::string dtype;
    std::string kv_dtype;
    std::string backend;
    std::string batch_sizes;
    std::string prefill_sizes;
    int64_t context = 0;
    po::options_description description("options of bench layer (the defaults are a layer of OLMoE-1B-7B)");
    const auto shape_option = [&](const char* option, int64_t& value, const char* text) {
        description.add_options()(option, po::value(&value)->default_value(value), text);
    };
    shape_option("hidden-size", s.hidden_size, "width of a token");
    shape_option("num-experts", s.num_experts, "experts of the layer");
    shape_option("num-experts-per-tok", s.num_experts_per_tok, "experts a token, drawn uniformly");
    shape_option("intermediate-size", s.intermediate_size, "of an expert; with TP a rank's share");
    shape_option("num-attention-heads", s.num_attention_heads, "query heads; with TP a rank's share");
    shape_option("num-key-value-heads", s.num_key_value_heads, "key and value heads");
    shape_option("head-dim", s.head_dim, "of a head");
    description.add_options()("dtype", po::value(&dtype)->default_value("bf16"), "of the weights")(
        "kv-cache-dtype", po::value(&kv_dtype)->default_value("f32"), "of keys and values")(
        "batch-sizes", po::value(&batch_sizes)->default_value("1,16"), "decode: sequences, one token each")(
        "context", po::value(&context)->default_value(1024), "decode: positions before the token")(
        "prefill-sizes", po::value(&prefill_sizes)->default_value("512,2048"), "tokens of one prompt")(
        "backend", po::value(&backend)->default_value("cpu"), "cpu or cuda: the first GPU")(
        "threads-per-rank", po::value(&o.n_threads)->default_value(1), "threads of the kernels")(
        "repetitions", po::value(&o.repetitions)->default_value(15),
        "of a decode step, after two for warming up; a fifth as many of a prefill")(
        "json", po::value(&o.json_file)->value_name("FILE"), "file for the results");
    po::variables_map values;
    if (!parse_options("bench layer", description, arguments, values)) return false;
    o.backend = parse_backend(backend);
    if (o.backend == BackendOption::cuda) {
        const device::GpuSurvey survey = device::survey_gpus();
        require_usage(!survey.gpus.empty(), "--backend cuda: {}", survey.why_none);
    }
    s.dtype = parse_dtype_option("dtype", dtype);
    s.kv_dtype = parse_dtype_option("kv-cache-dtype", kv_dtype);
    require_usage(context >= 0, "--context is {}, but must be at least 0", context);
    for (const int64_t n : parse_size_list("batch-sizes", batch_sizes))
        o.steps.push_back({true, n, context});
    for (const int64_t n : parse_size_list("prefill-sizes", prefill_sizes))
        o.steps.push_back({false, n, 0});
    check(o);
    return true;
}

/// A rate, its limit and the share of the limit, or "-" for what has none.
std::string rate_text(double amount, double seconds, std::optional<double> limit) {
    if (amount == 0) return fmt::format("{:>8} {:>8} {:>5}", "-", "-", "-");
    const double rate = amount / seconds;
    if (!limit) return fmt::format("{:8.1f} {:>8} {:>5}", rate * 1e-9, "-", "-");
    return fmt::format("{:8.1f} {:8.1f} {:4.0f}%", rate * 1e-9, *limit * 1e-9, 100 * rate / *limit);
}

void print(const LayerStep& step, const std::vector<KernelTime>& times, const MachineLimits& limits) {
    if (step.decode) {
        fmt::print("\ndecode, batch {}, {} positions before\n", step.n_rows, step.context);
    } else {
        fmt::print("\nprefill of {} tokens\n", step.n_rows);
    }
    fmt::print("{:12} {:>10} {:>8} {:>8} {:>5} {:>10} {:>8} {:>5}\n", "kernel", "ms", "GB/s", "limit",
               "share", "GFLOP/s", "limit", "share");
    for (const KernelTime& t : times) {
        fmt::print("{:12} {:10.3f} {}   {}\n", t.name, t.seconds * 1e3,
                   rate_text(t.n_bytes, t.seconds, limits.read_bytes_per_s),
                   rate_text(t.n_flops, t.seconds, limits.matmul_flops));
    }
}

ordered_json to_json(const LayerStep& step, const std::vector<KernelTime>& times,
                     const MachineLimits& limits) {
    ordered_json kernels = ordered_json::array();
    for (const KernelTime& t : times) {
        ordered_json entry = {{"name", t.name}, {"ms", t.seconds * 1e3}};
        if (t.n_bytes > 0) {
            entry["bytes"] = t.n_bytes;
            entry["bandwidth_share"] = t.n_bytes / t.seconds / limits.read_bytes_per_s;
        }
        if (t.n_flops > 0) {
            entry["flops"] = t.n_flops;
            if (limits.matmul_flops) entry["arithmetic_share"] = t.n_flops / t.seconds / *limits.matmul_flops;
        }
        kernels.push_back(entry);
    }
    return {{"mode", step.decode ? "decode" : "prefill"},
            {"rows", step.n_rows},
            {"context", step.context},
            {"kernels", kernels}};
}

ordered_json to_json(const LayerShape& s) {
    return {{"hidden_size", s.hidden_size},
            {"num_experts", s.num_experts},
            {"num_experts_per_tok", s.num_experts_per_tok},
            {"intermediate_size", s.intermediate_size},
            {"num_attention_heads", s.num_attention_heads},
            {"num_key_value_heads", s.num_key_value_heads},
            {"head_dim", s.head_dim},
            {"dtype", name(s.dtype)},
            {"kv_cache_dtype", name(s.kv_dtype)}};
}

device::Stream make_stream(const Options& o) {
    if (o.backend != BackendOption::cuda) return device::Stream(o.n_threads);
    device::use_gpu(0);
    return {o.n_threads, device::GpuQueue()};
}

}  // namespace

int run_bench_layer(Arguments arguments) {
    Options o;
    bool wanted = false;
    const comm::Communicator world = comm::Communicator::world();
    comm::agree(world, [&] { wanted = read_options(arguments, o); });
    if (!wanted) return exit_ok;
    device::Stream stream = make_stream(o);
    const MachineLimits limits = measure_limits(stream, world);
    const std::string on = fmt::format(
        "{} ranks x {}", world.size(),
        stream.gpu() != nullptr ? device::gpu_in_use().name : fmt::format("{} threads", o.n_threads));
    fmt::print("{}; memory {:.1f} GB/s; {}\n", on, limits.read_bytes_per_s * 1e-9, products_text(limits));
    ordered_json results = ordered_json::array();
    for (const LayerStep& step : o.steps) {
        const int repetitions = step.decode ? o.repetitions : std::max(1, o.repetitions / 5);
        const std::vector<KernelTime> times = measure_layer(o.shape, step, repetitions, stream, world);
        print(step, times, limits);
        std::fflush(stdout);
        results.push_back(to_json(step, times, limits));
    }
    if (o.json_file.empty() || world.rank() != 0) return exit_ok;
    ordered_json out = {
        {"shape", to_json(o.shape)},
        {"ranks", world.size()},
        {"threads", o.n_threads},
        {"read_bytes_per_s", limits.read_bytes_per_s},
        {"matmul_flops", limits.matmul_flops ? ordered_json(*limits.matmul_flops) : ordered_json()},
        {"results", results}};
    io::write_file_atomically(o.json_file, out.dump(2) + "\n");
    return exit_ok;
}

}  // namespace mixserve::app
