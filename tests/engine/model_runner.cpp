#include "engine/model_runner.h"

#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <stdexcept>

#include "base/bytes.h"

namespace mixserve::test {
namespace {

double log_sum_exp(std::span<const float> logits) {
    const double top = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float v : logits)
        sum += std::exp(static_cast<double>(v) - top);
    return top + std::log(sum);
}

template <class T>
std::vector<T> read_dataset(hid_t file, const std::string& name, hid_t type) {
    if (H5Lexists(file, name.c_str(), H5P_DEFAULT) <= 0) return {};
    const hid_t dataset = H5Dopen2(file, name.c_str(), H5P_DEFAULT);
    const hid_t space = H5Dget_space(dataset);
    std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
    const herr_t status = H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Sclose(space);
    H5Dclose(dataset);
    if (status < 0) throw std::runtime_error("cannot read " + name);
    return values;
}

struct DrawnToken {
    int64_t sequence;
    int32_t token;
};
using Drawn = std::vector<DrawnToken>;

void use_logits(const model::LogitsTile& tile, const engine::StepPlan& plan, std::vector<RunOutput>& outputs,
                Drawn& drawn) {
    std::vector<float> logits(static_cast<size_t>(tile.logits.vocab_size));
    tile.bring_to_host();
    for (int64_t i = 0; i < tile.n_rows; ++i) {
        tile.copy_row(i, logits.data());
        const engine::LogitUse& use = plan.uses[static_cast<size_t>(tile.first + i)];
        const engine::ScheduledSequence& s = *use.sequence;
        RunOutput& out = outputs[static_cast<size_t>(s.id)];
        if (use.samples) {
            if (use.position + 1 == s.n_prompt) out.logits = logits;
            const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
            drawn.push_back({s.id, static_cast<int32_t>(best)});
            out.greedy_logits.push_back(logits[static_cast<size_t>(best)]);
        } else {
            const auto target = static_cast<size_t>(s.tokens[static_cast<size_t>(use.position + 1)]);
            out.logprobs.push_back(static_cast<float>(logits[target] - log_sum_exp(logits)));
        }
    }
}

/// Only the last pipeline stage (the first node) sees logits; every stage needs the tokens to plan the same
/// steps.
Drawn from_last_stage(const comm::Communicator& world, const Drawn& drawn) {
    std::vector<std::byte> bytes;
    if (world.rank() == 0) {
        ByteWriter out;
        out.put_array(drawn);
        bytes = out.take();
    }
    world.broadcast_resize(bytes, 0);
    return ByteReader(bytes).get_array<Drawn::value_type>();
}

}  // namespace

std::vector<RunOutput> run_prompts(engine::RankModel& model, std::span<const std::vector<int32_t>> prompts,
                                   int64_t n_greedy, const engine::SchedulerLimits& limits, bool observes) {
    engine::BlockPool pool(model.n_kv_blocks(), model.options().kv_block_size);
    engine::Scheduler scheduler(limits, pool);
    std::vector<RunOutput> outputs(prompts.size());
    std::vector<engine::ScheduledSequence> sequences(prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
        engine::ScheduledSequence& s = sequences[i];
        s.id = static_cast<int64_t>(i);
        s.tokens = prompts[i];
        s.n_prompt = s.n_tokens();
        s.scores_prompt = true;
        scheduler.add(s);
    }

    const engine::StepPlan* plan = nullptr;  // whose logits the step at hand brings
    const int64_t k = model.config().num_experts_per_tok;
    const model::RouterObserver observer = [&](int64_t layer, std::span<const int32_t> experts,
                                               int64_t first) {
        if (model.pipeline_depth() > 1) return;  // a stage works on an earlier batch than the one at hand
        for (const kernels::SequenceRows& rows : plan->batch.sequences) {
            for (int64_t i = 0; i < rows.n_tokens; ++i) {
                const int64_t owned = rows.first_row + i - first;
                if (owned < 0 || owned * k >= static_cast<int64_t>(experts.size())) continue;
                const auto choice = experts.subspan(static_cast<size_t>(owned * k), static_cast<size_t>(k));
                const auto index = static_cast<size_t>(&rows - plan->batch.sequences.data());
                const auto owner = std::find_if(sequences.begin(), sequences.end(), [&](const auto& s) {
                    return !s.blocks.empty() && s.blocks[0] == plan->batch.sequences[index].block_table[0];
                });
                outputs[static_cast<size_t>(owner->id)].router[{layer, rows.first_position + i}] = {
                    choice.begin(), choice.end()};
            }
        }
    };
    if (observes) model.observe_router(observer);

    const int depth = model.pipeline_depth();
    std::deque<engine::StepPlan> in_flight;
    while (true) {
        int64_t busy[] = {scheduler.idle() ? 0 : 1};
        model.topology().world.all_reduce(std::span<int64_t>(busy), comm::ReduceOp::max);
        if (busy[0] == 0) break;
        in_flight.push_back(scheduler.plan());
        plan = static_cast<int>(in_flight.size()) == depth ? &in_flight.front() : nullptr;
        Drawn drawn;
        model.step(in_flight.back().batch,
                   [&](const model::LogitsTile& tile) { use_logits(tile, *plan, outputs, drawn); });
        if (depth > 1) drawn = from_last_stage(model.topology().world, drawn);
        for (const auto& [id, token] : drawn) {
            sequences[static_cast<size_t>(id)].tokens.push_back(token);
            outputs[static_cast<size_t>(id)].greedy.push_back(token);
        }
        if (plan == nullptr) continue;
        engine::Scheduler::commit(*plan);
        for (const auto& [id, token] : drawn) {
            if (static_cast<int64_t>(outputs[static_cast<size_t>(id)].greedy.size()) >= n_greedy) {
                scheduler.finish(sequences[static_cast<size_t>(id)]);
            }
        }
        in_flight.pop_front();
    }
    model.observe_router({});
    return outputs;
}

std::vector<GoldenCase> read_golden(const std::string& path) {
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) throw std::runtime_error("cannot open " + path);
    std::vector<GoldenCase> cases;
    for (int i = 0; H5Lexists(file, ("cases/" + std::to_string(i)).c_str(), H5P_DEFAULT) > 0; ++i) {
        const std::string at = "cases/" + std::to_string(i) + "/";
        GoldenCase c;
        c.prompt = read_dataset<int32_t>(file, at + "prompt", H5T_NATIVE_INT32);
        c.logits = read_dataset<float>(file, at + "logits", H5T_NATIVE_FLOAT);
        c.logprobs = read_dataset<float>(file, at + "logprobs", H5T_NATIVE_FLOAT);
        c.greedy = read_dataset<int32_t>(file, at + "greedy", H5T_NATIVE_INT32);
        c.margin = read_dataset<float>(file, at + "margin", H5T_NATIVE_FLOAT);
        c.router = read_dataset<int32_t>(file, at + "router", H5T_NATIVE_INT32);
        cases.push_back(std::move(c));
    }
    H5Fclose(file);
    return cases;
}

}  // namespace mixserve::test
