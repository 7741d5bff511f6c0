#pragma once

#include "app/command.h"

namespace mixserve::app {

// The parts of `mixserve bench`, one file each. All print achieved, limit and share; --json FILE writes the
// same.
int run_bench_layer(Arguments arguments);
int run_bench_engine(Arguments arguments);
int run_bench_load(Arguments arguments);
int run_bench_tokenize(Arguments arguments);
int run_bench_comm(Arguments arguments);
int run_bench_exchange(Arguments arguments);

}  // namespace mixserve::app
