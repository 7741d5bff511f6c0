#pragma once

#include <span>
#include <string>

#include "io/job_folder.h"

namespace mixserve::app {

/// Jobs side by side as tables for the terminal, a column a job and a few jobs a table, then their errors by
/// cause.
std::string report_table(std::span<const io::JobReport> reports);

}  // namespace mixserve::app
