#include "comm/agree.h"

#include <vector>

#include "base/stop.h"
#include "comm/shared_progress.h"

namespace mixserve::comm {

void agree(const Communicator& world, const std::function<void()>& step) {
    std::string text;
    ExitCode code = exit_ok;
    SharedProgress progress(world);
    try {
        step();
        throw_if_stopped();
    } catch (const Error& e) {
        text = e.what();
        code = e.exit_code();
    } catch (const std::exception& e) {
        text = e.what();
        code = exit_failure;
    }
    progress.wait_for_all();
    const int64_t nobody = world.size();
    int64_t first_failed[] = {code == exit_ok ? nobody : world.rank()};
    world.all_reduce(std::span<int64_t>(first_failed), ReduceOp::min);
    if (first_failed[0] == nobody) return;

    const int speaker = static_cast<int>(first_failed[0]);
    std::vector<std::byte> message;
    if (world.rank() == speaker) {
        message.push_back(static_cast<std::byte>(code));
        for (const char c : text)
            message.push_back(static_cast<std::byte>(c));
    }
    world.broadcast_resize(message, speaker);
    text.clear();
    for (size_t i = 1; i < message.size(); ++i)
        text.push_back(static_cast<char>(message[i]));
    throw AgreedError(text, static_cast<ExitCode>(message[0]), world.rank() == speaker);
}

}  // namespace mixserve::comm
