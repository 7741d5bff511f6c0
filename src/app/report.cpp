#include <fmt/format.h>

#include <vector>

#include "app/command.h"
#include "app/options.h"
#include "app/report_table.h"
#include "base/error.h"
#include "base/json.h"
#include "io/job_folder.h"
#include "io/row_writer.h"

namespace mixserve::app {

int run_report(Arguments arguments) {
    po::options_description options("options");
    options.add_options()("positional", po::value<std::vector<std::string>>(), "D...")(
        "json", po::value<std::string>()->value_name("FILE"), "write the figures as JSON too");
    po::variables_map values;
    if (!parse_options("report", options, arguments, values)) return exit_ok;
    require_usage(values.count("positional") != 0,
                  "mixserve report: name the output folders of jobs, as in `mixserve report out1 out2`");

    // A folder that cannot be read is told of, and the others are still shown.
    std::vector<io::JobReport> reports;
    ExitCode code = exit_ok;
    for (const std::string& folder : values["positional"].as<std::vector<std::string>>()) {
        try {
            reports.push_back(io::read_job_folder(folder));
        } catch (const Error& e) {
            fmt::print(stderr, "mixserve: {}\n", e.what());
            code = exit_failure;
        }
    }
    if (!reports.empty()) fmt::print("{}", report_table(reports));
    if (values.count("json") != 0) {
        ordered_json jobs = ordered_json::array();
        for (const io::JobReport& report : reports)
            jobs.push_back(to_json(report));
        io::write_file_atomically(values["json"].as<std::string>(),
                                  ordered_json{{"jobs", jobs}}.dump(2) + "\n");
    }
    return code;
}

}  // namespace mixserve::app
