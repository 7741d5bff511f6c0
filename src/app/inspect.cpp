#include <fmt/format.h>

#include <map>

#include "app/byte_progress.h"
#include "app/byte_size.h"
#include "app/command.h"
#include "app/options.h"
#include "base/error.h"
#include "base/json.h"
#include "io/model_file.h"
#include "model/config.h"

namespace mixserve::app {
namespace {

int64_t weight_bytes(const io::ModelFile& file) {
    int64_t n = 0;
    for (const io::TensorInfo& info : file.tensors())
        n += info.n_bytes();
    return n;
}

std::vector<std::string> texts_of(const io::ModelFile& file) {
    std::vector<std::string> names{"config"};
    if (file.generation_config()) names.emplace_back("generation_config");
    if (file.tokenizer()) names.emplace_back("tokenizer");
    if (file.tokenizer_config()) names.emplace_back("tokenizer_config");
    if (file.chat_template()) names.emplace_back("chat_template");
    return names;
}

ordered_json describe(const io::ModelFile& file, const model::ModelConfig& config) {
    ordered_json out;
    out["path"] = file.path();
    out["family"] = config.model_type;
    out["parameters"] = {{"total", config.total_parameters()}, {"active", config.active_parameters()}};
    out["layers"] = config.num_hidden_layers;
    out["hidden_size"] = config.hidden_size;
    out["experts"] = {{"total", config.num_experts}, {"per_token", config.num_experts_per_tok}};
    out["vocabulary"] = config.vocab_size;
    out["weight_bytes"] = weight_bytes(file);
    out["texts"] = texts_of(file);
    for (const io::ModelFile::FileInfo& part : file.files())
        out["files"].push_back({{"path", part.path}, {"bytes", part.n_bytes}});
    for (const io::TensorInfo& info : file.tensors()) {
        out["tensors"].push_back({{"name", info.name},
                                  {"dtype", name(info.dtype)},
                                  {"shape", info.shape},
                                  {"transposed", info.transposed},
                                  {"bytes", info.n_bytes()},
                                  {"xxh3_64", fmt::format("{:016x}", info.checksum)}});
    }
    return out;
}

/// "model.layers.7.x" as "model.layers.*.x".
std::string without_layer(const std::string& name) {
    constexpr std::string_view part = ".layers.";
    const size_t at = name.find(part);
    if (at == std::string::npos) return name;
    const size_t begin = at + part.size();
    const size_t end = name.find_first_not_of("0123456789", begin);
    return end == begin || end == std::string::npos ? name : name.substr(0, begin) + "*" + name.substr(end);
}

/// Tensors that differ in nothing but their layer.
struct TensorGroup {
    std::string name;
    std::string shape;
    std::string dtype;
    int64_t n_tensors = 0;
    int64_t n_bytes = 0;
};

std::vector<TensorGroup> group_tensors(const io::ModelFile& file) {
    std::vector<TensorGroup> groups;
    std::map<std::string, size_t> index;
    for (const io::TensorInfo& info : file.tensors()) {
        const std::string shape =
            fmt::format("[{}]{}", fmt::join(info.shape, ", "), info.transposed ? " transposed" : "");
        const std::string name = without_layer(info.name);
        const auto [it, fresh] =
            index.emplace(fmt::format("{} {} {}", name, shape, mixserve::name(info.dtype)), groups.size());
        if (fresh) groups.push_back({name, shape, std::string(mixserve::name(info.dtype))});
        groups[it->second].n_tensors += 1;
        groups[it->second].n_bytes += info.n_bytes();
    }
    return groups;
}

std::string millions(int64_t n) {
    return n < 1'000'000'000 ? fmt::format("{:.1f} M", static_cast<double>(n) * 1e-6)
                             : fmt::format("{:.2f} B", static_cast<double>(n) * 1e-9);
}

void print(const io::ModelFile& file, const model::ModelConfig& config) {
    fmt::print("model        {}\n", file.path());
    fmt::print("family       {}\n", config.model_type);
    fmt::print("parameters   {} total, {} active for a token\n", millions(config.total_parameters()),
               millions(config.active_parameters()));
    fmt::print("layers       {} ({} with routed experts)\n", config.num_hidden_layers,
               config.num_sparse_layers());
    fmt::print("experts      {}, {} for a token\n", config.num_experts, config.num_experts_per_tok);
    fmt::print("hidden size  {}\n", config.hidden_size);
    fmt::print("vocabulary   {}\n", config.vocab_size);
    fmt::print("weights      {}\n", byte_size_text(weight_bytes(file)));
    fmt::print("texts        {}\n", fmt::join(texts_of(file), ", "));
    for (const io::ModelFile::FileInfo& part : file.files())
        fmt::print("file         {}  {}\n", part.path, byte_size_text(part.n_bytes));
    const std::vector<TensorGroup> groups = group_tensors(file);
    size_t name_width = 0;
    size_t shape_width = 0;
    for (const TensorGroup& group : groups) {
        name_width = std::max(name_width, group.name.size());
        shape_width = std::max(shape_width, group.shape.size());
    }
    fmt::print("\n{:>6}  {:{}}  type  {:{}}  {:>10}\n", "count", "tensor", name_width, "stored shape",
               shape_width, "bytes");
    for (const TensorGroup& group : groups) {
        fmt::print("{:6}  {:{}}  {:4}  {:{}}  {:>10}\n", group.n_tensors, group.name, name_width, group.dtype,
                   group.shape, shape_width, byte_size_text(group.n_bytes));
    }
}

}  // namespace

int run_inspect(Arguments arguments) {
    po::options_description options("options");
    options.add_options()("positional", po::value<std::vector<std::string>>(), "M.h5")(
        "verify", po::bool_switch(), "read all weights and compare their checksums")(
        "json", po::bool_switch(), "print JSON, with every tensor by itself");
    po::variables_map values;
    if (!parse_options("inspect", options, arguments, values)) return exit_ok;
    require_usage(
        values.count("positional") != 0 && values["positional"].as<std::vector<std::string>>().size() == 1,
        "mixserve inspect: name one model, as in `mixserve inspect M.h5`");
    const io::ModelFile file =
        io::ModelFile::open(values["positional"].as<std::vector<std::string>>().front());
    const model::ModelConfig config =
        model::parse_config(file.config(), file.generation_config().value_or(""), file.path() + ": /config");

    if (values["json"].as<bool>()) {
        fmt::print("{}\n", describe(file, config).dump(2));
    } else {
        print(file, config);
    }
    if (values["verify"].as<bool>()) {
        ByteProgress progress("verify", weight_bytes(file));
        int64_t done_bytes = 0;
        file.verify([&](int64_t n_bytes) { progress.update(done_bytes += n_bytes); });
        progress.finish();
        fmt::print(stderr, "every checksum is right\n");
    }
    return exit_ok;
}

}  // namespace mixserve::app
