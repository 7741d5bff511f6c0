#include "engine/feed.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/clock.h"

namespace mixserve::engine {
namespace {

constexpr int tag_status = 71;
constexpr int tag_answer = 72;
constexpr double longest_wait_s = 1;

bool any_busy(const std::vector<FeedStatus>& nodes) {
    return std::any_of(nodes.begin(), nodes.end(), [](const FeedStatus& node) { return node.busy; });
}

std::vector<std::byte> pack(const FeedStatus& status) {
    ByteWriter out;
    out.put(status.busy);
    out.put(status.free_places);
    out.put(status.free_rows);
    out.put_array(status.finished);
    return out.take();
}

FeedStatus unpack_status(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    FeedStatus status;
    status.busy = in.get<bool>();
    status.free_places = in.get<int64_t>();
    status.free_rows = in.get<int64_t>();
    status.finished = in.get_array<std::byte>();
    return status;
}

std::vector<std::byte> pack(const Feed::Answer& answer) {
    ByteWriter out;
    out.put(answer.go_on);
    out.put(answer.stop_signal);
    out.put(static_cast<int64_t>(answer.requests.size()));
    for (const auto& request : answer.requests)
        out.put_array(request);
    return out.take();
}

Feed::Answer unpack_answer(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    Feed::Answer answer;
    answer.go_on = in.get<bool>();
    answer.stop_signal = in.get<int>();
    answer.requests.resize(static_cast<size_t>(in.get<int64_t>()));
    for (auto& request : answer.requests)
        request = in.get_array<std::byte>();
    return answer;
}

}  // namespace

Feed::Feed(const comm::Communicator& leaders, FeedRoot* root) : leaders_(leaders), root_(root) {}

std::vector<Feed::Answer> Feed::deal(std::vector<FeedStatus>& nodes) {
    std::vector<Answer> answers(nodes.size());
    bool go_on = any_busy(nodes);
    const double begin_s = now_s();
    while (true) {
        const auto most =
            std::max_element(nodes.begin(), nodes.end(), [](const FeedStatus& a, const FeedStatus& b) {
                return (a.free_places > 0 ? a.free_rows : 0) < (b.free_places > 0 ? b.free_rows : 0);
            });
        if (most->free_places <= 0 || most->free_rows <= 0) break;
        std::optional<FeedItem> item = root_->poll();
        if (!item) {
            if (go_on || root_->at_end()) break;
            root_->wait();
            go_on = now_s() - begin_s > longest_wait_s;
            continue;
        }
        most->free_places -= item->n_sequences;
        most->free_rows -= std::max<int64_t>(1, item->n_tokens);
        go_on = true;
        answers[static_cast<size_t>(most - nodes.begin())].requests.push_back(std::move(item->bytes));
    }
    for (Answer& answer : answers)
        answer.go_on = go_on;
    return answers;
}

std::vector<Feed::Answer> Feed::stop(const std::vector<FeedStatus>& nodes, int stop_signal) {
    const bool work_is_left = any_busy(nodes) || !root_->at_end();
    return std::vector<Answer>(nodes.size(), {false, work_is_left ? stop_signal : 0, {}});
}

Feed::Answer Feed::exchange(FeedStatus status, int stop_signal) {
    if (root_ == nullptr) {
        leaders_.send(pack(status), 0, tag_status);
        return unpack_answer(leaders_.receive(0, tag_answer));
    }
    std::vector<FeedStatus> nodes;
    nodes.push_back(std::move(status));
    for (int i = 1; i < leaders_.size(); ++i)
        nodes.push_back(unpack_status(leaders_.receive(i, tag_status)));
    for (FeedStatus& node : nodes) {
        if (!node.finished.empty()) root_->accept(std::move(node.finished));
    }
    std::vector<Answer> answers = stop_signal == 0 ? deal(nodes) : stop(nodes, stop_signal);
    for (int i = 1; i < leaders_.size(); ++i)
        leaders_.send(pack(answers[static_cast<size_t>(i)]), i, tag_answer);
    return std::move(answers[0]);
}

}  // namespace mixserve::engine
