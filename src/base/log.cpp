#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <string>

namespace mixserve {

void configure_logging(int rank, int world_size) {
    auto logger =
        std::make_shared<spdlog::logger>("mixserve", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    const std::string who = world_size > 1 ? " [rank " + std::to_string(rank) + "]" : "";
    logger->set_pattern("mixserve" + who + " %^%l%$: %v");
    spdlog::set_default_logger(std::move(logger));
}

}  // namespace mixserve
