#include "engine/test_models.h"

#include "base/error.h"
#include "comm/communicator.h"
#include "io/convert.h"
#include "model/weight_source.h"

namespace mixserve::test {
namespace {

std::vector<std::byte> to_bytes(const std::string& text) {
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    return {first, first + text.size()};
}

/// Whether the model can be cut for this layout: a test goes through all node sizes, and some do not divide
/// it.
bool divides(const model::ModelConfig& config, const engine::ParallelOptions& options,
             const comm::Topology& topology) {
    try {
        model::make_layout(config, options.strategy, options.expert_split, topology);
        return true;
    } catch (const UsageError&) {
        return false;
    }
}

}  // namespace

ConvertedModel::ConvertedModel(const std::filesystem::path& hf_dir) {
    const comm::Communicator world = comm::Communicator::world();
    std::vector<std::byte> path;
    if (world.rank() == 0) {
        folder_ = std::make_unique<TemporaryFolder>();
        path_ = folder_->file("model.h5");
        io::convert(io::plan_conversion(hf_dir.string(), std::nullopt), path_, {});
        path = to_bytes(path_);
    }
    world.broadcast_resize(path, 0);
    path_.assign(reinterpret_cast<const char*>(path.data()), path.size());
}

ConvertedModel::~ConvertedModel() {
    comm::Communicator::world().barrier();
}

void for_each_layout(const ConvertedModel& converted, const LayoutChoice& choice,
                     const std::function<void(engine::RankModel&, const std::string& layout)>& use) {
    const io::ModelFile file = io::ModelFile::open(converted.path());
    model::ModelConfig config = model::parse_config(file.config(), "", converted.path());
    config.rope.frequency_dtype = choice.rope_frequency_dtype;
    const auto source = model::weights_from_file(file);
    const int world = comm::Communicator::world().size();
    std::vector<std::pair<comm::Strategy, comm::ExpertSplit>> kinds;
    for (const comm::Strategy strategy : choice.strategies) {
        const bool hybrid = strategy == comm::Strategy::tp_ep || strategy == comm::Strategy::fused;
        for (const comm::ExpertSplit split : choice.expert_splits) {
            if (hybrid || split == comm::ExpertSplit::tensor) kinds.emplace_back(strategy, split);
        }
    }
    for (int ranks_per_node = 1; ranks_per_node <= world; ranks_per_node *= 2) {
        if (world / ranks_per_node > 4) continue;
        const comm::Topology topology = comm::make_topology(ranks_per_node);
        for (const auto& [strategy, expert_split] : kinds) {
            engine::ParallelOptions options;
            options.strategy = strategy;
            options.expert_split = expert_split;
            options.backend = choice.backend;
            options.cuda_graphs = choice.cuda_graphs;
            options.gpu_transport = choice.gpu_transport;
            if (choice.gpu_transport == comm::GpuTransport::nccl) {
                options.gpu = comm::Communicator::world().rank();
            } else {
                options.ranks_on_gpu = world;
            }
            options.n_threads = choice.n_threads;
            options.max_model_len = choice.max_model_len;
            options.max_num_seqs = 16;
            options.kv_cache_bytes = int64_t{64} << 20;
            if (!divides(config, options, topology)) continue;
            engine::RankModel model(config, topology, options, *source);
            use(model, fmt::format("{}{}, {} nodes of {}", comm::name(strategy),
                                   expert_split == comm::ExpertSplit::expert ? " with whole experts" : "",
                                   topology.n_nodes, ranks_per_node));
        }
    }
}

bool world_serves_together(const engine::RankModel& model) {
    const comm::Strategy strategy = model.options().strategy;
    return strategy == comm::Strategy::tp || strategy == comm::Strategy::tp_pp;
}

bool served_here(const engine::RankModel& model, size_t i) {
    const comm::Topology& topology = model.topology();
    return world_serves_together(model) || static_cast<int>(i) % topology.n_nodes == topology.node_index;
}

}  // namespace mixserve::test
