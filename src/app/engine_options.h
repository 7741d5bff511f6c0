#pragma once

#include <boost/program_options.hpp>
#include <memory>
#include <optional>
#include <string>

#include "app/backend.h"
#include "base/json.h"
#include "comm/topology.h"
#include "engine/prompt_encoder.h"
#include "engine/rank_model.h"
#include "engine/scheduler.h"
#include "io/model_file.h"
#include "model/weight_source.h"

namespace mixserve::app {

/// The options that say which model runs and how it is spread: shared by run, score and bench engine.
/// Resolved: what was left open has been filled in from the model and the topology.
struct EngineOptions {
    std::string model_path;
    bool dummy = false;  // --load-format dummy: model_path is a config.json or a folder with one
    std::optional<int64_t> num_layers;
    std::optional<int> ranks_per_node;
    std::optional<int64_t> tensor_parallel_size;
    std::optional<int64_t> expert_parallel_size;
    std::optional<int64_t> max_model_len;
    bool verify = false;
    uint64_t seed = 0;
    BackendOption backend = BackendOption::automatic;
    bool allow_gpu_sharing = false;
    TransportOption gpu_transport = TransportOption::automatic;
    DType rope_frequency_dtype = DType::f32;
    engine::ParallelOptions parallel;
    engine::SchedulerLimits limits;
};

/// Adds them to a command's options.
void add_engine_options(boost::program_options::options_description& options);

/// Checks values and combinations; needs no files. UsageError names the option.
EngineOptions read_engine_options(const boost::program_options::variables_map& values);

/// Completes `options` with what this rank computes with. Collective over the world.
void resolve_backend(EngineOptions& options, const comm::Topology& topology);

/// A model opened for a run: its config and texts, and where weights come from.
struct OpenModel {
    std::unique_ptr<io::ModelFile> file;  // null for dummy weights
    model::ModelConfig config;
    std::unique_ptr<model::WeightSource> weights;
    std::string config_text;
    std::string generation_config;  // "" where there is none
    engine::PromptTexts texts;

    /// Of all that the model's answers depend on, the weights by their checksums; with dummy weights, of the
    /// texts.
    std::string digest() const;
};

/// Opens the file or the config, and completes `options` (max_model_len, threads, KV dtype). No collectives.
OpenModel open_model(EngineOptions& options, const comm::Topology& topology);

/// Those of the options that tokens depend on, beside the model itself: starts of one job agree in them.
ordered_json identity_of(const EngineOptions& options);

/// The resolved options by their names on the command line, for run.json and --config.
ordered_json to_json(const EngineOptions& options);

}  // namespace mixserve::app
