#include "engine/engine.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/bytes.h"
#include "base/heartbeat.h"
#include "base/stop.h"
#include "engine/batch_message.h"

namespace mixserve::engine {
namespace {

bool world_serves_together(const RankModel& model) {
    const comm::Strategy strategy = model.options().strategy;
    return strategy == comm::Strategy::tp || strategy == comm::Strategy::tp_pp;
}

/// The leaders of all groups, in the order of their nodes; ranks that lead nobody are alone.
comm::Communicator leaders_of(const RankModel& model) {
    const comm::Topology& topology = model.topology();
    const bool leads_a_node = !world_serves_together(model) && topology.node_rank == 0;
    return topology.world.split(leads_a_node ? 0 : 1 + topology.world.rank(), topology.node_index);
}

SchedulerLimits with_depth(SchedulerLimits limits, const RankModel& model) {
    limits.pipeline_depth = model.pipeline_depth();
    return limits;
}

}  // namespace

Engine::Engine(RankModel& model, const SchedulerLimits& limits, const ServeContext& context, FeedRoot* root,
               StepSink* sink, bool tracing)
    : model_(model),
      context_(context),
      leaders_(leaders_of(model)),
      group_(world_serves_together(model) ? model.topology().world : model.topology().node),
      feed_(leaders_, root),
      stop_notice_(model.topology().world),
      recorder_(model.topology().world, sink, tracing, [&model] { return model.take_expert_counts(); }),
      limits_(with_depth(limits, model)),
      pool_(model.n_kv_blocks(), model.options().kv_block_size),
      scheduler_(limits_, pool_),
      samplers_(static_cast<size_t>(model.stream().n_threads())),
      logits_(samplers_.size(), std::vector<float>(static_cast<size_t>(model.config().vocab_size))) {
    if (model.stream().gpu() != nullptr) gpu_sampler_.emplace(model.config().vocab_size, model.stream());
    model.timer().set_tracing(tracing);
}

void Engine::take(std::vector<std::byte> packed) {
    auto request = std::make_unique<ServedRequest>(unpack_prepared(packed), context_, now_s());
    if (request->finished()) {
        put_into_finished(*request);
        return;
    }
    for (const auto& sequence : request->sequences())
        scheduler_.add(*sequence);
    requests_.emplace(request.get(), std::move(request));
}

void Engine::put_into_finished(ServedRequest& request) {
    ByteWriter out;
    out.put_array(request.take_result());
    const std::vector<std::byte> bytes = out.take();
    status_.finished.insert(status_.finished.end(), bytes.begin(), bytes.end());
}

bool Engine::plan_next(model::Batch& batch, int stop_signal) {
    status_.busy = !scheduler_.idle();
    status_.free_places = scheduler_.free_places();
    status_.free_rows = scheduler_.free_rows();
    Feed::Answer answer = feed_.exchange(std::exchange(status_, {}), stop_signal);
    if (answer.stop_signal != 0) {
        stop_signal_ = answer.stop_signal;
        return drain(batch);
    }
    if (!answer.go_on) return false;
    for (std::vector<std::byte>& request : answer.requests)
        take(std::move(request));
    in_flight_.push_back(scheduler_.plan());
    batch = std::move(in_flight_.back().batch);
    return true;
}

/// The later stages of a pipeline still have the last steps before them, and rows for them on the way.
bool Engine::drain(model::Batch& batch) {
    if (++n_drained_ == model_.pipeline_depth()) return false;
    in_flight_.emplace_back();
    batch = {};
    return true;
}

bool Engine::next_batch(model::Batch& batch) {
    const int stop_signal = stop_notice_.look();
    std::vector<std::byte> message;
    bool go_on = false;
    if (is_leader()) {
        go_on = plan_next(batch, stop_signal);
        if (group_.size() == 1) return go_on;
        if (go_on) message = pack(batch);
    }
    group_.broadcast_resize(message, 0);  // an empty message ends the job
    if (is_leader()) return go_on;
    if (!message.empty()) batch = unpack_batch(message);
    return !message.empty();
}

void Engine::use_logits(const model::LogitsTile& tile) {
    if (!is_leader()) return;
    const PhaseScope phase(model_.timer(), Phase::sampling);
    outcomes_.resize(in_flight_.front().uses.size());
    if (gpu_sampler_) return read_on_gpu(tile);
    std::vector<int64_t> all(static_cast<size_t>(tile.n_rows));
    std::iota(all.begin(), all.end(), 0);
    read_on_host(tile, all);
}

void Engine::read_on_host(const model::LogitsTile& tile, std::span<const int64_t> rows) {
    if (rows.empty()) return;
    tile.bring_to_host(rows);
    const auto n_rows = static_cast<int64_t>(rows.size());
    model_.stream().parallel_for(n_rows, [&](int64_t i, int thread) {
        const int64_t row = rows[static_cast<size_t>(i)];
        std::vector<float>& logits = logits_[static_cast<size_t>(thread)];
        tile.copy_row(row, logits.data());
        const LogitUse& use = in_flight_.front().uses[static_cast<size_t>(tile.first + row)];
        const ServedRequest& request = *static_cast<const ServedSequence*>(use.sequence)->owner;
        outcomes_[static_cast<size_t>(tile.first + row)] =
            request.read(use, logits, samplers_[static_cast<size_t>(thread)]);
    });
}

/// Rows that are sampled stay on the GPU, and their tokens come with the step's last tile; rows that score a
/// prompt come to the host.
void Engine::read_on_gpu(const model::LogitsTile& tile) {
    const std::vector<LogitUse>& uses = in_flight_.front().uses;
    std::vector<int64_t> on_host;
    for (int64_t row = 0; row < tile.n_rows; ++row) {
        const LogitUse& use = uses[static_cast<size_t>(tile.first + row)];
        const ServedRequest& request = *static_cast<const ServedSequence*>(use.sequence)->owner;
        if (use.samples && gpu_sampler_->add(request.sample_input(use), row)) {
            on_gpu_.push_back(static_cast<size_t>(tile.first + row));
        } else {
            on_host.push_back(row);
        }
    }
    gpu_sampler_->enqueue(tile.logits);
    read_on_host(tile, on_host);
    if (tile.first + tile.n_rows < static_cast<int64_t>(uses.size())) return;
    std::vector<Sampled> sampled = gpu_sampler_->finish();
    for (size_t i = 0; i < sampled.size(); ++i)
        outcomes_[on_gpu_[i]] = {std::move(sampled[i]), {}, 0};
    on_gpu_.clear();
}

void Engine::end_step() {
    if (!is_leader() || static_cast<int>(in_flight_.size()) < model_.pipeline_depth()) return;
    const PhaseScope phase(model_.timer(), Phase::output);
    const StepPlan plan = std::move(in_flight_.front());
    in_flight_.pop_front();
    Scheduler::commit(plan);
    const double now = now_s();
    for (size_t i = 0; i < plan.uses.size(); ++i) {
        auto& sequence = static_cast<ServedSequence&>(*plan.uses[i].sequence);
        ServedRequest& request = *sequence.owner;
        if (!request.apply(plan.uses[i], outcomes_[i], now)) continue;
        scheduler_.finish(sequence);
        if (!request.finished()) continue;
        put_into_finished(request);
        requests_.erase(&request);
    }
}

StepSample Engine::sample_of_step(double begin_s) {
    StepSample sample;
    sample.step = n_steps_++;
    sample.end_s = now_s();
    sample.duration_s = sample.end_s - begin_s;
    sample.phase_s = model_.timer().take();
    if (!is_leader()) return sample;
    sample.n_running = scheduler_.n_running();
    sample.n_waiting = scheduler_.n_waiting();
    sample.kv_blocks_used = pool_.n_used();
    sample.kv_blocks_total = pool_.n_blocks();
    return sample;
}

int Engine::run() {
    model_.topology().world.barrier();  // the clocks of a trace begin together
    model_.timer().take();
    model_.timer().take_spans();
    model_.take_expert_counts();  // what was counted before belongs to nobody
    while (true) {
        const double begin_s = now_s();
        heartbeat.at_step(n_steps_);
        model_.timer().enter(Phase::schedule);
        model::Batch batch;
        if (!next_batch(batch)) break;
        const int64_t n_prefill = in_flight_.empty() ? 0 : in_flight_.back().n_prefill;
        const int64_t n_decode = in_flight_.empty() ? 0 : in_flight_.back().n_decode;
        model_.step(std::move(batch), [this](const model::LogitsTile& tile) { use_logits(tile); });
        end_step();
        StepSample sample = sample_of_step(begin_s);
        sample.n_prefill = n_prefill;
        sample.n_decode = n_decode;
        recorder_.record(sample, model_.timer().take_spans());
    }
    recorder_.flush();
    stop_notice_.settle();
    int64_t signal[] = {stop_signal_};
    model_.topology().world.all_reduce(std::span<int64_t>(signal), comm::ReduceOp::max);
    return static_cast<int>(signal[0]);
}

}  // namespace mixserve::engine
