#include "engine/job.h"

#include <algorithm>
#include <chrono>

#include "base/bytes.h"
#include "base/clock.h"
#include "io/output_folder.h"
#include "io/prompt_line.h"
#include "io/raw_file.h"

namespace mixserve::engine {
namespace {

constexpr size_t n_ready_at_most = 1024;  // prompts read ahead

}  // namespace

std::string name_of_start(const std::string& stem, const std::string& extension, int64_t number) {
    return number == 1 ? stem + "." + extension : fmt::format("{}-{}.{}", stem, number, extension);
}

Job::Job(JobSetup setup)
    : setup_(std::move(setup)),
      rows_(io::RowWriter::append(setup_.output_dir + "/" + io::rows_file_name(setup_.scores),
                                  setup_.before.rows.n_bytes)),
      step_log_(setup_.output_dir + "/steps.jsonl", setup_.before.steps.n_bytes) {
    if (setup_.tracing) {
        trace_.emplace(setup_.output_dir + "/" + name_of_start("trace", "json", setup_.before.n_starts + 1),
                       setup_.ranks);
    }
    io::sync_folder(setup_.output_dir);
    clock_offsets_.resize(setup_.ranks.size());
    statistics_.add(setup_.before.rows.totals);
    phase_seconds_ = setup_.before.steps.phase_seconds;
    progress_state_.n_total = setup_.input.n_in_shard;
    progress_state_.n_done = statistics_.n_completed() + statistics_.n_failed();
    progress_state_.n_failed = statistics_.n_failed();
    rank_phase_seconds_.resize(setup_.ranks.size());
    started_s_ = now_s();
    progress_.update(progress_state_, started_s_);  // rates are from here on
    reader_ = std::thread([this] { read_ahead(); });
    if (setup_.sync_interval_s > 0) syncer_ = std::thread([this] { keep_synced(); });
}

Job::~Job() {
    stop_threads();
}

void Job::stop_threads() {
    {
        const std::lock_guard lock(mutex_);
        abandoned_ = true;
    }
    changed_.notify_all();
    if (reader_.joinable()) reader_.join();
    if (syncer_.joinable()) syncer_.join();
}

// A thread of its own: on a busy file system a sync takes long, and the step loop of all nodes would wait.
void Job::keep_synced() {
    const std::chrono::duration<double> interval(setup_.sync_interval_s);
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, interval, [&] { return abandoned_; })) {
        lock.unlock();
        std::exception_ptr error;
        try {
            rows_.sync();
        } catch (...) {
            error = std::current_exception();
        }
        lock.lock();
        sync_error_ = error;
        if (error) return;
    }
}

void Job::rethrow_sync_error() {
    const std::lock_guard lock(mutex_);
    if (sync_error_) std::rethrow_exception(sync_error_);
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
        copy.error = io::at_line(copy.line, e.what());
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
        io::PromptReader reader(setup_.input_file, setup_.defaults, setup_.limits,
                                std::move(setup_.before.index));
        while (std::optional<io::Request> request = reader.next()) {
            if (setup_.shard.takes(request->line) && !reader.has_row()) push(prepare(std::move(*request)));
            const std::lock_guard lock(mutex_);
            if (abandoned_) return;
        }
        require(reader.digest() == setup_.input.digest,
                "'{}' was changed while the job read it; its rows may be of either text", setup_.input_file);
    } catch (...) {
        const std::lock_guard lock(mutex_);
        reader_error_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    end_of_input_ = true;
    changed_.notify_all();
}

std::optional<FeedItem> Job::poll() {
    rethrow_sync_error();
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
    changed_.wait_for(lock, std::chrono::seconds(1), [&] { return end_of_input_ || !ready_.empty(); });
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
    rethrow_sync_error();
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

io::StepRecord Job::record_of(std::span<const std::vector<StepSample>> of_rank, size_t step) {
    io::StepRecord record;
    const StepSample& first = of_rank.front()[step];
    record.step = setup_.before.steps.n_steps + first.step;
    record.time_s = setup_.before.steps.time_s + first.end_s - started_s_;
    std::vector<io::PhaseSeconds> phases;
    for (const std::vector<StepSample>& samples : of_rank) {
        const StepSample& rank = samples.at(step);
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
    progress_state_.n_tokens += record.n_prefill + record.n_decode;
    return record;
}

void Job::take_steps(std::span<const std::vector<StepSample>> of_rank,
                     std::span<const int64_t> expert_counts) {
    std::vector<io::StepRecord> records;
    for (size_t step = 0; step < of_rank.front().size(); ++step)
        records.push_back(record_of(of_rank, step));
    if (!records.empty()) {
        records.back().expert_load =
            io::expert_load_of(expert_counts, setup_.num_experts, setup_.expert_parts);
    }
    expert_counts_.resize(std::max(expert_counts_.size(), expert_counts.size()));
    for (size_t i = 0; i < expert_counts.size(); ++i)
        expert_counts_[i] += expert_counts[i];
    step_log_.write(records);
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
    stop_threads();
    rethrow_sync_error();
    rows_.sync();
    rows_.check_in_place();
    progress_.finish(progress_state_, now_s());
    if (trace_) trace_->finish();
}

}  // namespace mixserve::engine
