#pragma once

#include <boost/program_options.hpp>
#include <string>

#include "app/command.h"

namespace mixserve::app {

namespace po = boost::program_options;

/// Reads a command line against `options`, with `--help` and `--config FILE` added: one `name = value` a
/// line, or the run.json of a job of the same command, whose options these are (but for its output folder,
/// which only --resume takes from there). The command line wins. UsageError on an unknown, repeated,
/// malformed or missing option, naming it and the nearest valid one. With `--help`, prints usage and returns
/// false. An option named "positional" (a vector of strings) takes what is given without a name; its
/// description is what the usage line calls that.
bool parse_options(const std::string& command, const po::options_description& options, Arguments arguments,
                   po::variables_map& values);

}  // namespace mixserve::app
