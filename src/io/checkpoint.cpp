#include "io/checkpoint.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/raw_file.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* single_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";

std::string read_whole(const std::string& path) {
    const RawFile file = RawFile::open_for_reading(path);
    std::string text(static_cast<size_t>(file.n_bytes()), '\0');
    file.read(0, text.data(), static_cast<int64_t>(text.size()));
    return text;
}

/// Tensor name to file name.
std::map<std::string, std::string> read_index(const std::string& path) {
    std::map<std::string, std::string> file_of;
    try {
        const json index = json::parse(read_whole(path));
        for (const auto& [name, file] : index.at("weight_map").items())
            file_of.emplace(name, file.get<std::string>());
    } catch (const json::exception& e) {
        fail_usage("{} is damaged ({}); download it again", path, e.what());
    }
    for (const auto& [name, file] : file_of) {
        require_usage(!file.empty() && file.find('/') == std::string::npos,
                      "{}: tensor '{}' lies in '{}', which is no file of this folder", path, name, file);
    }
    require_usage(!file_of.empty(), "{} names no tensors", path);
    return file_of;
}

void add_file(Checkpoint& checkpoint, const std::string& path) {
    checkpoint.files.push_back(path);
    for (SafeTensor& tensor : read_safetensors_header(path))
        checkpoint.tensors.push_back({std::move(tensor), checkpoint.files.size() - 1});
}

void add_indexed(Checkpoint& checkpoint, const std::string& index_path) {
    const std::map<std::string, std::string> file_of = read_index(index_path);
    std::set<std::string> files;
    for (const auto& [name, file] : file_of)
        files.insert(file);
    for (const std::string& file : files) {
        const fs::path path = fs::path(checkpoint.folder) / file;
        require_usage(fs::exists(path), "{} is missing: {} says that it holds weights; download it",
                      path.string(), index_path);
        add_file(checkpoint, path.string());
    }
    // The index decides; copies that it does not name are left alone.
    std::erase_if(checkpoint.tensors, [&](const CheckpointTensor& t) {
        const auto it = file_of.find(t.tensor.name);
        return it == file_of.end() || it->second != fs::path(checkpoint.files[t.file]).filename();
    });
    if (checkpoint.tensors.size() == file_of.size()) return;
    std::set<std::string_view> found;
    for (const CheckpointTensor& t : checkpoint.tensors)
        found.insert(t.tensor.name);
    for (const auto& [name, file] : file_of) {
        require_usage(found.contains(name), "{}: tensor '{}' is not in {}, where {} says that it is",
                      checkpoint.folder, name, file, index_name);
    }
}

void add_all(Checkpoint& checkpoint) {
    std::vector<std::string> paths;
    std::error_code error;
    const fs::directory_iterator entries(checkpoint.folder, error);
    require_usage(!error, "cannot read the folder {}: {}", checkpoint.folder, error.message());
    for (const fs::directory_entry& entry : entries) {
        if (entry.path().extension() == ".safetensors") paths.push_back(entry.path().string());
    }
    require_usage(!paths.empty(),
                  "{} holds no *.safetensors; a checkpoint in another form (*.bin, *.pt) must be saved as "
                  "safetensors first",
                  checkpoint.folder);
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths)
        add_file(checkpoint, path);
    std::map<std::string_view, size_t> file_of;
    for (const CheckpointTensor& t : checkpoint.tensors) {
        const auto [it, fresh] = file_of.emplace(t.tensor.name, t.file);
        require_usage(fresh,
                      "tensor '{}' is in {} and in {}; remove the file that does not belong, or add {}",
                      t.tensor.name, checkpoint.files[it->second], checkpoint.files[t.file], index_name);
    }
}

}  // namespace

ModelTexts read_checkpoint_texts(const std::string& folder) {
    std::error_code error;
    require_usage(fs::is_directory(folder, error),
                  "{} is not a folder; --hf-dir wants the folder of a Hugging Face checkpoint", folder);
    ModelTexts texts;
    for (const TextSlot& slot : text_slots) {
        const fs::path path = fs::path(folder) / slot.file_name;
        if (!fs::exists(path, error)) continue;
        std::string text = read_whole(path.string());
        if (!text.empty()) texts.*slot.member = std::move(text);
    }
    return texts;
}

Checkpoint open_checkpoint(const std::string& folder) {
    Checkpoint checkpoint;
    checkpoint.folder = folder;
    checkpoint.texts = read_checkpoint_texts(folder);
    require_usage(checkpoint.texts.config.has_value(),
                  "{} has no config.json (or an empty one); is it a Hugging Face checkpoint?", folder);
    if (!checkpoint.texts.tokenizer)
        spdlog::warn("{} has no tokenizer.json: the model will take token ids only", folder);
    const fs::path single = fs::path(folder) / single_name;
    const fs::path index = fs::path(folder) / index_name;
    if (fs::exists(single)) {
        add_file(checkpoint, single.string());
    } else if (fs::exists(index)) {
        add_indexed(checkpoint, index.string());
    } else {
        add_all(checkpoint);
    }
    return checkpoint;
}

}  // namespace mixserve::io
