#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "engine/rank_model.h"
#include "io/model_file.h"
#include "support/test_support.h"

namespace mixserve::test {

/// A checkpoint folder as an HDF5 model in a temporary file that world rank 0 makes and removes. Collective.
class ConvertedModel {
  public:
    explicit ConvertedModel(const std::filesystem::path& hf_dir);
    ~ConvertedModel();
    const std::string& path() const { return path_; }

  private:
    std::unique_ptr<TemporaryFolder> folder_;  // on rank 0
    std::string path_;
};

/// Which layouts a test goes through, beside the node sizes.
struct LayoutChoice {
    std::vector<comm::Strategy> strategies = {comm::Strategy::tp_ep, comm::Strategy::fused,
                                              comm::Strategy::dp_ep, comm::Strategy::tp,
                                              comm::Strategy::tp_pp};
    std::vector<comm::ExpertSplit> expert_splits = {comm::ExpertSplit::tensor};  // of tp-ep and fused
    device::Backend backend = device::Backend::cpu;
    bool cuda_graphs = true;
    /// With NCCL each rank takes a GPU of its own; else all share the first.
    comm::GpuTransport gpu_transport = comm::GpuTransport::host;
    int n_threads = 1;
    int64_t max_model_len = 256;
    /// make_goldens.py casts whole modules to bf16 and back, rotary buffers included; the sample model's
    /// golden does not.
    DType rope_frequency_dtype = DType::bf16;
};

/// Loads the model in every layout of the world's ranks - each node size that divides them, each strategy,
/// each split of experts - that its heads and experts divide by, and calls `use` with it and the layout in
/// words.
void for_each_layout(const ConvertedModel& converted, const LayoutChoice& choice,
                     const std::function<void(engine::RankModel&, const std::string& layout)>& use);

/// Whether all ranks of the world serve the same requests together; otherwise each node serves its own.
bool world_serves_together(const engine::RankModel& model);

/// Whether the group of ranks that this one belongs to serves request `i` when they are dealt out.
bool served_here(const engine::RankModel& model, size_t i);

}  // namespace mixserve::test
