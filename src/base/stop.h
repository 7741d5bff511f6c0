#pragma once

#include "base/error.h"

namespace mixserve {

/// The exit code of a program that Ctrl-C ended: 128 + SIGINT, as shells have it.
inline constexpr auto exit_interrupted = static_cast<ExitCode>(130);

/// From now on SIGTERM, SIGUSR1 and SIGINT ask the program to stop: the first is noted, and whoever works
/// looks at stop_signal() where stopping is sound. A second one, more than half a second later (the same
/// request often comes by several ways: to the process, to its group, through the launcher), ends the process
/// at once, with exit code 128 + its number.
void catch_stop_signals();

/// The signal that asked to stop; 0: none.
int stop_signal();

/// How long a noted signal may go unheeded: then the process ends by itself, with the signal's exit code. For
/// the time in which nothing is half-written but this rank may be waiting for others that got no signal.
/// 0 takes the limit away.
void limit_stop(unsigned int seconds);

/// exit_interrupted for SIGINT, else exit_stopped.
ExitCode stop_exit_code(int signal);

/// "SIGTERM", "SIGUSR1" or "SIGINT".
const char* stop_signal_name(int signal);

/// The end that a signal asked for.
class StopRequest : public Error {
  public:
    explicit StopRequest(int signal);
};

/// Throws StopRequest when a signal has asked to stop.
void throw_if_stopped();

}  // namespace mixserve
