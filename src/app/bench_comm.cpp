#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <sstream>
#include <vector>

#include "app/backend.h"
#include "app/options.h"
#include "app/timing.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "comm/agree.h"
#include "comm/collectives.h"
#include "comm/gpu_communicator.h"
#include "comm/topology.h"
#include "io/row_writer.h"

namespace mixserve::app {
namespace {

/// A collective on n ranks and buffers of `count` values, a multiple of n. As in nccl-tests, algorithm
/// bandwidth is size over time, and bus bandwidth is that times the share of the size that must cross each
/// rank's link, so that it can be held against the link's.
struct Operation {
    const char* name;
    double (*bus_factor)(double n);
    void (*run)(std::vector<float>& in, std::vector<float>& out, const comm::Communicator& group);
    /// The same in device memory, enqueued.
    void (*run_on_gpus)(const float* in, float* out, int64_t count, comm::GpuCommunicator& group,
                        device::GpuQueue& queue);
    /// What out[i] must be on `rank`; the values are small integers, so that sums in any order are exact.
    float (*expected)(int64_t i, int64_t count, int rank, int n);
    /// Values of `out` that count.
    int64_t (*n_out)(int64_t count, int n);
};

/// In every buffer of rank r before the call.
float input(int rank, int64_t i) {
    return static_cast<float>((i * 7 + rank * 13) % 61);
}

float input_sum(int n, int64_t i) {
    float sum = 0;
    for (int r = 0; r < n; ++r)
        sum += input(r, i);
    return sum;
}

std::span<float> part_of(std::vector<float>& values, const comm::Communicator& group) {
    return std::span(values).first(values.size() / static_cast<size_t>(group.size()));
}

size_t bytes_of(int64_t n) {
    return static_cast<size_t>(n) * sizeof(float);
}

void all_to_all_on_gpus(const float* in, float* out, int64_t count, comm::GpuCommunicator& group,
                        device::GpuQueue& queue) {
    const int64_t part = count / group.size();
    std::vector<comm::GpuCommunicator::Outgoing> sends;
    std::vector<comm::GpuCommunicator::Incoming> receives;
    for (int r = 0; r < group.size(); ++r) {
        if (r == group.rank()) continue;
        sends.push_back({r, in + r * part, bytes_of(part)});
        receives.push_back({r, out + r * part, bytes_of(part)});
    }
    queue.copy_inside(out + group.rank() * part, in + group.rank() * part, bytes_of(part));
    group.exchange(sends, receives, queue);
}

void send_receive_on_gpus(const float* in, float* out, int64_t count, comm::GpuCommunicator& group,
                          device::GpuQueue& queue) {
    const int n = group.size();
    const comm::GpuCommunicator::Outgoing send{(group.rank() + 1) % n, in, bytes_of(count)};
    const comm::GpuCommunicator::Incoming receive{(group.rank() + n - 1) % n, out, bytes_of(count)};
    group.exchange(std::span(&send, 1), std::span(&receive, 1), queue);
}

const std::array operations{
    Operation{"all-reduce", [](double n) { return 2 * (n - 1) / n; },
              [](std::vector<float>& in, std::vector<float>& out, const comm::Communicator& group) {
                  std::copy(in.begin(), in.end(), out.begin());
                  comm::all_reduce_sum(out, group);
              },
              [](const float* in, float* out, int64_t count, comm::GpuCommunicator& group,
                 device::GpuQueue& queue) {
                  queue.copy_inside(out, in, bytes_of(count));
                  group.all_reduce_sum(out, count, queue);
              },
              [](int64_t i, int64_t, int, int n) { return input_sum(n, i); },
              [](int64_t count, int) { return count; }},
    Operation{"reduce-scatter", [](double n) { return (n - 1) / n; },
              [](std::vector<float>& in, std::vector<float>& out, const comm::Communicator& group) {
                  comm::reduce_scatter_sum(in, part_of(out, group), group);
              },
              [](const float* in, float* out, int64_t count, comm::GpuCommunicator& group,
                 device::GpuQueue& queue) { group.reduce_scatter_sum(in, count / group.size(), out, queue); },
              [](int64_t i, int64_t count, int rank, int n) { return input_sum(n, rank * (count / n) + i); },
              [](int64_t count, int n) { return count / n; }},
    Operation{
        "all-gather", [](double n) { return (n - 1) / n; },
        [](std::vector<float>& in, std::vector<float>& out, const comm::Communicator& group) {
            comm::all_gather(part_of(in, group), out, group);
        },
        [](const float* in, float* out, int64_t count, comm::GpuCommunicator& group,
           device::GpuQueue& queue) { group.all_gather(in, bytes_of(count / group.size()), out, queue); },
        [](int64_t i, int64_t count, int, int n) {
            return input(static_cast<int>(i / (count / n)), i % (count / n));
        },
        [](int64_t count, int) { return count; }},
    Operation{"all-to-all", [](double n) { return (n - 1) / n; },
              [](std::vector<float>& in, std::vector<float>& out, const comm::Communicator& group) {
                  comm::all_to_all(in, out, group);
              },
              all_to_all_on_gpus,
              [](int64_t i, int64_t count, int rank, int n) {
                  const int64_t part = count / n;
                  return input(static_cast<int>(i / part), rank * part + i % part);
              },
              [](int64_t count, int) { return count; }},
    Operation{"send-receive", [](double) { return 1.0; },
              [](std::vector<float>& in, std::vector<float>& out, const comm::Communicator& group) {
                  const int n = group.size();
                  comm::send_receive(in, (group.rank() + 1) % n, out, (group.rank() + n - 1) % n, group);
              },
              send_receive_on_gpus,
              [](int64_t i, int64_t, int rank, int n) { return input((rank + n - 1) % n, i); },
              [](int64_t count, int) { return count; }},
};

struct Result {
    std::string operation;
    std::string group;
    int n_ranks;
    int64_t n_bytes;
    double time_us;
    double algbw;  // GB/s
    double busbw;  // GB/s
    int64_t n_wrong;
};

/// This rank's GPU and its groups over NCCL, made as they are first used.
struct Gpu {
    device::GpuQueue queue;
    std::map<std::string, comm::GpuCommunicator> groups;

    comm::GpuCommunicator& group(const std::string& name, const comm::Communicator& ranks) {
        const auto found = groups.find(name);
        return found != groups.end() ? found->second
                                     : groups.emplace(name, comm::GpuCommunicator(ranks, name)).first->second;
    }
};

/// All groups of a kind work at once, as in a layer; the slowest rank of all counts. `gpu` null: MPI's, in
/// the host's memory.
Result measure(const Operation& operation, const char* group_name, const comm::Communicator& group,
               const comm::Communicator& world, int64_t n_bytes, int repetitions, Gpu* gpu) {
    const int n = group.size();
    const int64_t count = std::max<int64_t>(n_bytes / (static_cast<int64_t>(sizeof(float)) * n), 1) * n;
    std::vector<float> in(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
        in[static_cast<size_t>(i)] = input(group.rank(), i);
    std::vector<float> out(in.size(), -1.0F);
    device::Buffer gpu_in;
    device::Buffer gpu_out;
    comm::GpuCommunicator* gpus = nullptr;
    if (gpu != nullptr) {
        gpus = &gpu->group(group_name, group);
        gpu_in = device::Buffer(bytes_of(count), device::Memory::device);
        gpu_out = device::Buffer(bytes_of(count), device::Memory::device);
        gpu->queue.copy_in(gpu_in.data(), in.data(), bytes_of(count));
        gpu->queue.synchronize();
    }

    constexpr int n_warm_ups = 2;
    std::vector<double> seconds;
    for (int i = 0; i < n_warm_ups + repetitions; ++i) {
        world.barrier();
        const double begin = now_s();
        if (gpu == nullptr) {
            operation.run(in, out, group);
        } else {
            operation.run_on_gpus(gpu_in.as<float>().data(), gpu_out.as<float>().data(), count, *gpus,
                                  gpu->queue);
            gpu->queue.synchronize();
        }
        if (i >= n_warm_ups) seconds.push_back(now_s() - begin);
    }
    world.all_reduce(seconds, comm::ReduceOp::max);
    const double median_s = median(seconds);

    if (gpu != nullptr) {
        gpu->queue.copy_out(out.data(), gpu_out.data(), bytes_of(count));
        gpu->queue.synchronize();
    }
    std::vector<int64_t> n_wrong{0};
    for (int64_t i = 0; i < operation.n_out(count, n); ++i) {
        if (!(out[static_cast<size_t>(i)] == operation.expected(i, count, group.rank(), n))) ++n_wrong[0];
    }
    world.all_reduce(n_wrong, comm::ReduceOp::sum);
    const int64_t size = count * static_cast<int64_t>(sizeof(float));
    const double algbw = static_cast<double>(size) / median_s * 1e-9;
    return {operation.name, group_name, n, size, median_s * 1e6, algbw, algbw * operation.bus_factor(n),
            n_wrong[0]};
}

std::vector<std::string> split_list(const std::string& text, const char* option,
                                    std::span<const std::string_view> allowed) {
    std::vector<std::string> words;
    std::istringstream in(text);
    for (std::string word; std::getline(in, word, ',');) {
        require_usage(std::find(allowed.begin(), allowed.end(), word) != allowed.end(),
                      "--{}: '{}' is none of {}{}", option, word, fmt::join(allowed, ", "),
                      did_you_mean(word, allowed));
        words.push_back(word);
    }
    require_usage(!words.empty(), "--{}: give at least one of {}", option, fmt::join(allowed, ", "));
    return words;
}

struct Options {
    std::vector<std::string> operations;
    std::vector<std::string> groups;
    int64_t min_bytes = 0;
    int64_t max_bytes = 0;
    int64_t step_factor = 0;
    int repetitions = 0;
    std::optional<int> ranks_per_node;
    BackendOption backend = BackendOption::cpu;
    std::string json_file;
};

bool read_options(Arguments arguments, Options& options) {
    std::string operation_list;
    std::string group_list;
    std::string backend;
    int ranks_per_node = 0;
    po::options_description description("options of bench comm");
    auto add = description.add_options();
    add("operations",
        po::value(&operation_list)
            ->default_value("all-reduce,reduce-scatter,all-gather,all-to-all,send-receive"),
        "measured in turn");
    add("groups", po::value(&group_list)->default_value("node,lane,world"), "groups of ranks");
    add("min-bytes", po::value(&options.min_bytes)->default_value(1024), "smallest size");
    add("max-bytes", po::value(&options.max_bytes)->default_value(4 << 20), "largest size");
    add("step-factor", po::value(&options.step_factor)->default_value(4), "from one size to the next");
    add("repetitions", po::value(&options.repetitions)->default_value(20), "after two for warming up");
    add("ranks-per-node", po::value(&ranks_per_node), "virtual nodes of so many ranks");
    add("backend", po::value(&backend)->default_value("cpu"),
        "cpu: MPI, in the hosts' memory; cuda: NCCL, from GPU to GPU");
    add("json", po::value(&options.json_file), "file for the results");
    po::variables_map values;
    if (!parse_options("bench comm", description, arguments, values)) return false;
    std::vector<std::string_view> names;
    for (const Operation& operation : operations)
        names.emplace_back(operation.name);
    options.backend = parse_backend(backend);
    options.operations = split_list(operation_list, "operations", names);
    constexpr std::array<std::string_view, 3> groups{"node", "lane", "world"};
    options.groups = split_list(group_list, "groups", groups);
    require_usage(options.min_bytes >= 1 && options.max_bytes >= options.min_bytes,
                  "--min-bytes {} and --max-bytes {}: sizes rise from at least 1", options.min_bytes,
                  options.max_bytes);
    require_usage(options.step_factor >= 2, "--step-factor is {}, but must be at least 2",
                  options.step_factor);
    require_usage(options.repetitions >= 1, "--repetitions is {}, but must be at least 1",
                  options.repetitions);
    if (values.count("ranks-per-node") != 0) options.ranks_per_node = ranks_per_node;
    return true;
}

void write_json(const std::string& path, const std::vector<Result>& results) {
    json document;
    document["results"] = json::array();
    for (const Result& result : results) {
        document["results"].push_back({{"operation", result.operation},
                                       {"group", result.group},
                                       {"ranks", result.n_ranks},
                                       {"bytes", result.n_bytes},
                                       {"time_us", result.time_us},
                                       {"algbw_gb_s", result.algbw},
                                       {"busbw_gb_s", result.busbw},
                                       {"wrong", result.n_wrong}});
    }
    io::write_file_atomically(path, document.dump(2) + "\n");
}

}  // namespace

int run_bench_comm(Arguments arguments) {
    Options options;
    bool wanted = false;
    comm::agree(comm::Communicator::world(), [&] { wanted = read_options(arguments, options); });
    if (!wanted) return exit_ok;
    const comm::Topology topology = comm::make_topology(options.ranks_per_node);
    const BackendChoice backend = choose_backend(options.backend, false, TransportOption::nccl, topology);
    std::optional<Gpu> gpu;
    if (backend.backend == device::Backend::cuda) gpu.emplace();
    const bool prints = topology.world.rank() == 0;
    if (prints) {
        fmt::print(
            "{} nodes x {} ranks, f32, sums, {}; medians of {} repetitions, slowest rank\n\n{:<15} {:<6} "
            "{:>5} "
            "{:>12} "
            "{:>12} {:>12} {:>12} {:>7}\n",
            topology.n_nodes, topology.ranks_per_node,
            gpu ? fmt::format("NCCL between {}s", device::gpu_in_use().name) : "MPI", options.repetitions,
            "operation", "group", "ranks", "size (B)", "time (us)", "algbw (GB/s)", "busbw (GB/s)", "#wrong");
    }
    std::vector<Result> results;
    int64_t n_wrong = 0;
    for (const Operation& operation : operations) {
        const auto& chosen = options.operations;
        if (std::find(chosen.begin(), chosen.end(), operation.name) == chosen.end()) continue;
        for (const std::string& name : options.groups) {
            const comm::Communicator& group =
                name == "node" ? topology.node : (name == "lane" ? topology.lane : topology.world);
            if (group.size() == 1) continue;
            for (int64_t n_bytes = options.min_bytes; n_bytes <= options.max_bytes;
                 n_bytes *= options.step_factor) {
                const Result result = measure(operation, name.c_str(), group, topology.world, n_bytes,
                                              options.repetitions, gpu ? &*gpu : nullptr);
                results.push_back(result);
                n_wrong += result.n_wrong;
                if (!prints) continue;
                fmt::print("{:<15} {:<6} {:>5} {:>12} {:>12.1f} {:>12.3f} {:>12.3f} {:>7}\n",
                           result.operation, result.group, result.n_ranks, result.n_bytes, result.time_us,
                           result.algbw, result.busbw, result.n_wrong);
                std::fflush(stdout);
            }
        }
    }
    if (prints && !options.json_file.empty()) write_json(options.json_file, results);
    require(n_wrong == 0, "{} values came out wrong: the network or the {} library is broken", n_wrong,
            gpu ? "NCCL" : "MPI");
    return exit_ok;
}

}  // namespace mixserve::app
