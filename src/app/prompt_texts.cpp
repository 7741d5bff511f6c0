#include "app/prompt_texts.h"

#include <filesystem>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/model_file.h"

namespace mixserve::app {

engine::PromptTexts read_prompt_texts(const std::string& hf_dir, const std::string& model) {
    require_usage(hf_dir.empty() != model.empty(),
                  "give the tokenizer as one of --hf-dir DIR and --model M.h5");
    if (hf_dir.empty()) {
        const io::ModelFile file = io::ModelFile::open(model);
        return {file.tokenizer().value_or(""), file.tokenizer_config(), file.chat_template()};
    }
    require_usage(std::filesystem::is_directory(hf_dir), "--hf-dir {}: there is no such folder", hf_dir);
    io::ModelTexts found = io::read_checkpoint_texts(hf_dir);
    return {found.tokenizer.value_or(""), found.tokenizer_config, found.chat_template};
}

}  // namespace mixserve::app
