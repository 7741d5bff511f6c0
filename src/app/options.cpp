#include "app/options.h"

#include <fstream>
#include <iostream>
#include <string_view>
#include <vector>

#include "app/run_record.h"
#include "base/error.h"
#include "base/json.h"

namespace mixserve::app {
namespace {

std::string suggestion(const po::options_description& options, std::string name) {
    while (!name.empty() && name.front() == '-')
        name.erase(name.begin());
    std::vector<std::string_view> names;
    for (const auto& option : options.options())
        names.push_back(option->long_name());
    const std::string near = nearest_name(name, names);
    return near.empty() ? "" : "; did you mean '--" + near + "'?";
}

/// What is given without a name stands in the usage line, not in the list.
void print_usage(const std::string& command, const po::options_description& all) {
    po::options_description named("options");
    std::string positional;
    for (const auto& option : all.options()) {
        if (option->long_name() == "positional") {
            positional = " " + option->description();
        } else {
            named.add(option);
        }
    }
    std::cout << "usage: mixserve " << command << positional << " [options]\n"
              << (positional.empty() ? all : named);
}

/// The options in a run.json.
po::parsed_options options_of_run(const std::string& command, const po::options_description& options,
                                  const std::string& path, const po::variables_map& values) {
    const ordered_json run = read_run_json(path);
    const std::string of = run.value("command", "");
    require_usage(of == command, "--config: {} is of 'mixserve {}', and this is 'mixserve {}'", path, of,
                  command);
    const bool continues = values.count("resume") != 0 && values["resume"].as<bool>();
    require_usage(
        continues || values.count("output-dir") != 0,
        "--config {}: give an --output-dir for the repeated job, or --resume to go on with that one", path);
    po::parsed_options parsed(&options);
    for (const auto& [name, value] : run["options"].items()) {
        if (name == "output-dir" && !continues) continue;
        po::option option;
        option.string_key = name;
        option.value = {value.is_string() ? value.get<std::string>() : value.dump()};
        if (options.find_nothrow(name, false) == nullptr) throw po::unknown_option(name);
        parsed.options.push_back(std::move(option));
    }
    return parsed;
}

/// What was given first without a name; "" where nothing was.
std::string first_word(const po::variables_map& values) {
    if (values.count("positional") == 0) return "";
    return values["positional"].as<std::vector<std::string>>().front();
}

}  // namespace

bool parse_options(const std::string& command, const po::options_description& options, Arguments arguments,
                   po::variables_map& values) {
    po::options_description general("general");
    general.add_options()(
        "config", po::value<std::string>()->value_name("FILE"),
        "options from a file, one `name = value` a line, or a job's run.json, which repeats it; the "
        "command line wins")("help", "this text");
    po::options_description all;
    all.add(options).add(general);
    const bool takes_words = options.find_nothrow("positional", false) != nullptr;
    po::options_description accepted;
    accepted.add(all);
    if (!takes_words) accepted.add_options()("positional", po::value<std::vector<std::string>>());
    const std::vector<std::string> words(arguments.begin(), arguments.end());
    std::string where = "the command line";
    try {
        po::positional_options_description positional;
        positional.add("positional", -1);
        using style = po::command_line_style::style_t;
        po::store(po::command_line_parser(words)
                      .options(accepted)
                      .positional(positional)
                      .style(style::allow_long | style::long_allow_next | style::long_allow_adjacent)
                      .run(),
                  values);
        if (values.count("help") != 0) {
            print_usage(command, all);
            return false;
        }
        require_usage(takes_words || values.count("positional") == 0,
                      "{}: '{}' stands without the name of an option (see mixserve {} --help)", command,
                      first_word(values), command);
        if (values.count("config") != 0) {
            where = values["config"].as<std::string>();
            std::ifstream file(where);
            require_usage(static_cast<bool>(file), "--config: cannot read {}", where);
            if ((file >> std::ws).peek() == '{') {
                po::store(options_of_run(command, options, where, values), values);
            } else {
                po::store(po::parse_config_file(file, options), values);
            }
        }
        po::notify(values);
    } catch (const po::unknown_option& e) {
        fail_usage("{}: unknown option '{}' in {}{} (mixserve {} --help lists them)", command,
                   e.get_option_name(), where, suggestion(all, e.get_option_name()), command);
    } catch (const po::error& e) {
        fail_usage("{}: {} in {} (see mixserve {} --help)", command, e.what(), where, command);
    }
    return true;
}

}  // namespace mixserve::app
