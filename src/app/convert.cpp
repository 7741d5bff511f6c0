#include "io/convert.h"

#include <fmt/format.h>

#include <cstdio>

#include "app/byte_progress.h"
#include "app/byte_size.h"
#include "app/command.h"
#include "app/options.h"
#include "base/error.h"
#include "base/stop.h"
#include "model/config.h"
#include "model/weight_source.h"

namespace mixserve::app {
namespace {

std::optional<DType> parse_dtype_option(const std::string& text) {
    if (text == "auto") return std::nullopt;
    const std::optional<DType> dtype = parse_dtype(text);
    require_usage(dtype == DType::bf16 || dtype == DType::f32, "--dtype: '{}' is none of auto, bf16, f32",
                  text);
    return dtype;
}

}  // namespace

int run_convert(Arguments arguments) {
    po::options_description options("options");
    options.add_options()("hf-dir", po::value<std::string>()->required()->value_name("DIR"),
                          "a Hugging Face checkpoint: config.json, *.safetensors, tokenizer.json")(
        "output", po::value<std::string>()->required()->value_name("M.h5"), "the model to write")(
        "dtype", po::value<std::string>()->default_value("auto")->value_name("TYPE"),
        "type of the weights: auto (as in the checkpoint), bf16, f32")(
        "shard-size", po::value<std::string>()->default_value("8GiB")->value_name("SIZE"),
        "above it the weights go to numbered files of this size beside M.h5; 0: one file")(
        "force", po::bool_switch(), "replace M.h5 if it exists");
    po::variables_map values;
    if (!parse_options("convert", options, arguments, values)) return exit_ok;
    const std::string hf_dir = values["hf-dir"].as<std::string>();
    const std::string output = values["output"].as<std::string>();
    const io::WriteOptions write_options{
        values["force"].as<bool>(), parse_byte_size("--shard-size", values["shard-size"].as<std::string>())};
    const std::optional<DType> dtype = parse_dtype_option(values["dtype"].as<std::string>());

    const io::ConversionPlan plan = io::plan_conversion(hf_dir, dtype);
    const io::ModelTexts& texts = plan.checkpoint.texts;
    const model::ModelConfig config =
        model::parse_config(*texts.config, texts.generation_config.value_or(""), hf_dir + "/config.json");
    model::check_tensors(config, plan.stored(), hf_dir);

    ByteProgress progress("convert", plan.n_bytes());
    io::convert(plan, output, write_options, [&](int64_t done_bytes, int64_t /*total_bytes*/) {
        throw_if_stopped();
        progress.update(done_bytes);
    });
    progress.finish();
    fmt::print("{}: {}, {} tensors, {}\n", output, config.model_type, plan.tensors.size(),
               byte_size_text(plan.n_bytes()));
    return exit_ok;
}

}  // namespace mixserve::app
