#pragma once

#include <string>
#include <vector>

#include "io/model_texts.h"
#include "io/safetensors.h"

namespace mixserve::io {

/// A tensor of a checkpoint, and the file that holds it.
struct CheckpointTensor {
    SafeTensor tensor;
    size_t file = 0;  // index into Checkpoint::files
};

/// A Hugging Face checkpoint folder; weights stay on disk.
struct Checkpoint {
    std::string folder;
    ModelTexts texts;
    std::vector<std::string> files;         // paths of the safetensors files
    std::vector<CheckpointTensor> tensors;  // in the order of the files and of their bytes
};

/// Reads the folder: its text files, and the headers of model.safetensors, else of the files that
/// model.safetensors.index.json names, else of every *.safetensors. UsageError when config.json or the
/// weights are missing, a file is damaged, or a tensor is there twice or not where the index says. Warns
/// where tokenizer.json is missing.
Checkpoint open_checkpoint(const std::string& folder);

/// Only the text files (for commands that need no weights). Where config.json is missing too, `config` is
/// nullopt.
ModelTexts read_checkpoint_texts(const std::string& folder);

}  // namespace mixserve::io
