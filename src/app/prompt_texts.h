#pragma once

#include <string>

#include "engine/prompt_encoder.h"

namespace mixserve::app {

/// The tokenizer and what goes with it, from a checkpoint's folder or from an HDF5 model; the other is "".
/// UsageError where not just one is given, or it is not there.
engine::PromptTexts read_prompt_texts(const std::string& hf_dir, const std::string& model);

}  // namespace mixserve::app
