#include "engine/job.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/clock.h"

namespace mixserve::engine {
namespace {

constexpr size_t n_ready_at_most = 1024;  // prompts read ahead

}  // namespace

Job::Job(JobSetup setup)
    : setup_(std::move(setup)),
      rows_(io::RowWriter::create(setup_.output_dir +
                                  (setup_.scores ? "/scores.jsonl" : "/generations.jsonl"))),
      step_log_(setup_.output_dir + "/steps.jsonl") {
    if (setup_.tracing) trace_.emplace(setup_.output_dir + "/trace.json", setup_.ranks);
    clock_offsets_.resize(setup_.ranks.size());
    rank_phase_seconds_.resize(setup_.ranks.size());
    progress_state_.n_total = io::count_prompts(setup_.input_file);
    started_s_ = now_s();
    reader_ = std::thread([this] { read_ahead(); });
}

Job::~Job() {
    {
        const std::lock_guard lock(mutex_);
        abandoned_ = true;
    }
    changed_.notify_all();
    reader_.join();
}

Job::Ready Job::prepare(io::Request request) const {
    if (request.error) return {std::nullopt, std::move(request)};
    io::Request copy = request;
    try {
        const PreparedRequest prepared = setup_.prepare(std::move(request));
        const int64_t n_sequences = setup_.scores ? 1 : prepared.request.sampling.n;
        return {FeedItem{pack(prepared), n_sequences, static_cast<int64_t>(prepared.prompt_ids.size())},
                std::nullopt};
    } catch (const Error& e) {
        copy.error = fmt::format("line {}: {}", copy.line, e.what());
        return {std::nullopt, std::move(copy)};
    }
}

void Job::push(Ready ready) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return abandoned_ || ready_.size() < n_ready_at_most; });
    ready_.push_back(std::move(ready));
    changed_.notify_all();
}

void Job::read_ahead() {
    try {
        io::PromptReader reader(setup_.input_file, setup_.defaults, setup_.limits);
        while (std::optional<io::Request> request = reader.next()) {
            push(prepare(std::move(*request)));
            const std::lock_guard lock(mutex_);
            if (abandoned_) return;
        }
    } catch (...) {
        const std::lock_guard lock(mutex_);
        reader_error_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    end_of_input_ = true;
    changed_.notify_all();
}

std::optional<FeedItem> Job::poll() {
    while (true) {
        Ready next;
        {
            const std::lock_guard lock(mutex_);
            if (ready_.empty()) {
                if (reader_error_) std::rethrow_exception(reader_error_);
                return std::nullopt;
            }
            next = std::move(ready_.front());
            ready_.pop_front();
        }
        changed_.notify_all();
        if (next.item) return std::move(next.item);
        write_failed(*next.failed);
    }
}

bool Job::at_end() {
    const std::lock_guard lock(mutex_);
    return end_of_input_ && ready_.empty() && !reader_error_;
}

void Job::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return end_of_input_ || !ready_.empty(); });
}

void Job::write_failed(const io::Request& request) {
    if (setup_.scores) {
        io::ScoreResult result = io::score_result_of(request);
        rows_.write(io::row_of(result));
        statistics_.add(result);
    } else {
        io::Result result = io::result_of(request);
        rows_.write(io::row_of(result, setup_.rows));
        statistics_.add(result);
    }
    wrote_row();
}

void Job::accept(std::vector<std::byte> finished) {
    ByteReader in(finished);
    while (!in.at_end()) {
        const std::vector<std::byte> packed = in.get_array<std::byte>();
        if (setup_.scores) {
            const io::ScoreResult result = io::unpack_score_result(packed);
            rows_.write(io::row_of(result));
            statistics_.add(result);
        } else {
            const io::Result result = io::unpack_result(packed);
            rows_.write(io::row_of(result, setup_.rows));
            statistics_.add(result);
        }
        wrote_row();
    }
}

void Job::wrote_row() {
    ++progress_state_.n_done;
    progress_state_.n_failed = statistics_.n_failed();
    progress_.update(progress_state_, now_s());
}

void Job::take_step(std::span<const StepSample> ranks, std::span<const int64_t> expert_counts) {
    io::StepRecord record;
    const StepSample& first = ranks.front();
    record.step = first.step;
    record.time_s = first.end_s - started_s_;
    std::vector<io::PhaseSeconds> phases;
    for (const StepSample& rank : ranks) {
        record.duration_s = std::max(record.duration_s, rank.duration_s);
        record.n_prefill += rank.n_prefill;
        record.n_decode += rank.n_decode;
        record.n_running += rank.n_running;
        record.n_waiting += rank.n_waiting;
        record.kv_blocks_used += rank.kv_blocks_used;
        record.kv_blocks_total += rank.kv_blocks_total;
        phases.push_back(rank.phase_s);
    }
    io::put_phases(phases, record);
    for (size_t p = 0; p < n_phases; ++p) {
        phase_seconds_[p] += record.phases[p].mean;
        for (size_t rank = 0; rank < phases.size(); ++rank)
            rank_phase_seconds_[rank][p] += phases[rank][p];
    }
    record.expert_load = io::expert_load_of(expert_counts, setup_.num_experts, setup_.expert_parts);
    expert_counts_.resize(std::max(expert_counts_.size(), expert_counts.size()));
    for (size_t i = 0; i < expert_counts.size(); ++i)
        expert_counts_[i] += expert_counts[i];
    progress_state_.n_tokens += record.n_prefill + record.n_decode;
    step_log_.write(record);
    progress_.update(progress_state_, now_s());
}

std::optional<io::ExpertLoad> Job::expert_load() const {
    return io::expert_load_of(expert_counts_, setup_.num_experts, setup_.expert_parts);
}

void Job::take_spans(int rank, std::span<const TraceSpan> spans) {
    if (!trace_ || spans.empty()) return;
    std::optional<double>& offset = clock_offsets_[static_cast<size_t>(rank)];
    if (!offset) offset = spans.front().begin_s;
    trace_->write(rank, spans, *offset);
}

void Job::finish() {
    duration_s_ = now_s() - started_s_;
    progress_.finish(progress_state_, now_s());
    if (trace_) trace_->finish();
}

}  // namespace mixserve::engine
