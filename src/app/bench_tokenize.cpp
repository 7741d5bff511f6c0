#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "app/benches.h"
#include "app/options.h"
#include "app/prompt_texts.h"
#include "app/timing.h"
#include "base/error.h"
#include "base/json.h"
#include "comm/agree.h"
#include "io/prompts.h"
#include "io/row_writer.h"
#include "text/tokenizer.h"

namespace mixserve::app {
namespace {

/// The texts of a prompts file; no chats, and no lists of token ids.
std::vector<std::string> read_prompts(const std::string& path) {
    io::PromptReader reader(path, {}, {});
    std::vector<std::string> prompts;
    while (std::optional<io::Request> request = reader.next()) {
        require_usage(!request->error, "{}: {}", path, request->error.value_or(""));
        require_usage(!request->prompt.empty(), "{}: line {} has no text to encode", path, request->line);
        prompts.push_back(std::move(request->prompt));
    }
    require_usage(!prompts.empty(), "{}: there are no prompts", path);
    return prompts;
}

}  // namespace

int run_bench_tokenize(Arguments arguments) {
    po::options_description description;
    description.add_options()("hf-dir", po::value<std::string>()->default_value("")->value_name("DIR"),
                              "a folder with tokenizer.json")(
        "model", po::value<std::string>()->default_value("")->value_name("M.h5"), "or: an HDF5 model")(
        "input-file", po::value<std::string>()->required()->value_name("P.jsonl"),
        "prompts (.jsonl or .txt)")("repetitions", po::value<int>()->default_value(5),
                                    "timed passes over all prompts, after one for warming up")(
        "json", po::value<std::string>()->value_name("FILE"), "the figures as JSON");
    const comm::Communicator world = comm::Communicator::world();
    po::variables_map values;
    bool help = false;
    comm::agree(world, [&] {
        help = !parse_options("bench tokenize", description, arguments, values);
        require_usage(help || world.size() == 1,
                      "bench tokenize measures one thread, but was started as {} ranks", world.size());
    });
    if (help) return exit_ok;
    const int repetitions = values["repetitions"].as<int>();
    require_usage(repetitions >= 1, "--repetitions: must be at least 1");
    const engine::PromptTexts texts =
        read_prompt_texts(values["hf-dir"].as<std::string>(), values["model"].as<std::string>());
    require_usage(!texts.tokenizer.empty(), "bench tokenize: there is no tokenizer.json");
    const text::Tokenizer tokenizer = text::Tokenizer::from_json(texts.tokenizer);
    const std::vector<std::string> prompts = read_prompts(values["input-file"].as<std::string>());

    std::vector<double> seconds;
    size_t n_tokens = 0;
    size_t n_bytes = 0;
    for (int i = 0; i < 1 + repetitions; ++i) {
        n_tokens = 0;
        n_bytes = 0;
        const double begin_s = now_s();
        for (const std::string& prompt : prompts) {
            n_tokens += tokenizer.encode(prompt, false).size();
            n_bytes += prompt.size();
        }
        if (i > 0) seconds.push_back(now_s() - begin_s);
    }
    const double encode_s = median(seconds);
    std::printf("%zu prompts, %zu bytes, %zu tokens, one thread: %.3f s, %.2f MB/s, %.0f tokens/s\n",
                prompts.size(), n_bytes, n_tokens, encode_s, static_cast<double>(n_bytes) / encode_s / 1e6,
                static_cast<double>(n_tokens) / encode_s);
    if (values.count("json") != 0) {
        io::write_file_atomically(
            values["json"].as<std::string>(),
            ordered_json{
                {"prompts", prompts.size()}, {"bytes", n_bytes}, {"tokens", n_tokens}, {"seconds", seconds}}
                    .dump(2) +
                "\n");
    }
    return exit_ok;
}

}  // namespace mixserve::app
