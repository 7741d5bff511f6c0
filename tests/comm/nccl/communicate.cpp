// Makes a communicator of all ranks and waits, as if for work in a queue: for test_nccl.sh.

#include <chrono>
#include <cstdio>
#include <thread>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/gpu_communicator.h"

int main() {
    using namespace mixserve;
    const comm::Runtime runtime;
    try {
        const comm::GpuCommunicator gpus(comm::Communicator::world(), "test");
        std::this_thread::sleep_for(std::chrono::seconds(2));
        std::printf("rank %d of %d is through\n", gpus.rank(), gpus.size());
    } catch (const Error& e) {
        std::fprintf(stderr, "error: %s\n", e.what());
        return 3;
    }
    return 0;
}
