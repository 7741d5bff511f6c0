#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "comm/stop_notice.h"
#include "engine/feed.h"
#include "engine/gpu_sampler.h"
#include "engine/rank_model.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/served_request.h"
#include "engine/step_recorder.h"

namespace mixserve::engine {

/// The step loop on every rank of the world. The ranks of a group that serves requests together (a node;
/// under tp and tp-pp the world) follow its leader: the leader takes requests from the common queue, plans
/// each step, draws the tokens and keeps the texts; the others get the batch and do their part of the model.
/// All groups step together, with or without tokens, until the queue is empty and nobody has work, or a
/// signal asks any rank to stop.
class Engine {
  public:
    /// All borrowed. `root` and `sink` are null but on world rank 0.
    Engine(RankModel& model, const SchedulerLimits& limits, const ServeContext& context, FeedRoot* root,
           StepSink* sink, bool tracing);

    /// Collective over the world. Returns 0 when all work is done; else, on all ranks, the signal that ended
    /// it after the step at hand: what was finished by then is in the output.
    int run();

  private:
    bool is_leader() const { return group_.rank() == 0; }
    /// The next batch, the same on all ranks of the group; false at the end of the job.
    bool next_batch(model::Batch& batch);
    bool plan_next(model::Batch& batch, int stop_signal);
    bool drain(model::Batch& batch);
    void take(std::vector<std::byte> packed);
    void use_logits(const model::LogitsTile& tile);
    void read_on_host(const model::LogitsTile& tile, std::span<const int64_t> rows);
    void read_on_gpu(const model::LogitsTile& tile);
    void end_step();
    void put_into_finished(ServedRequest& request);
    StepSample sample_of_step(double begin_s);

    RankModel& model_;
    const ServeContext& context_;
    comm::Communicator leaders_;  // this rank alone where it leads nobody else
    const comm::Communicator& group_;
    Feed feed_;
    comm::StopNotice stop_notice_;
    StepRecorder recorder_;

    // On leaders.
    SchedulerLimits limits_;
    BlockPool pool_;
    Scheduler scheduler_;
    std::unordered_map<ServedRequest*, std::unique_ptr<ServedRequest>> requests_;
    std::deque<StepPlan> in_flight_;    // as many as the pipeline is deep, the newest last
    std::vector<RowOutcome> outcomes_;  // of the step at hand, a logit row each
    std::vector<Sampler> samplers_;     // one a thread
    std::vector<std::vector<float>> logits_;
    std::optional<GpuSampler> gpu_sampler_;  // with a GPU
    std::vector<size_t> on_gpu_;             // whose outcomes it has, in its order
    FeedStatus status_;                      // of the next exchange
    int64_t n_steps_ = 0;
    int stop_signal_ = 0;  // once the root has said so
    int n_drained_ = 0;    // steps since then
};

}  // namespace mixserve::engine
