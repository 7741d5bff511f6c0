#pragma once

#include "app/command.h"

namespace mixserve::app {

/// `run` (generates) or `score` (log-probabilities of what is given): the same job over the same files and
/// ranks.
int run_job(Arguments arguments, bool scores);

}  // namespace mixserve::app
