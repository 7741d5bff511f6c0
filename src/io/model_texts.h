#pragma once

#include <array>
#include <optional>
#include <string>

namespace mixserve::io {

/// The files of a checkpoint that a model keeps byte for byte; nullopt where the checkpoint has none (or an
/// empty one).
struct ModelTexts {
    std::optional<std::string> config;
    std::optional<std::string> generation_config;
    std::optional<std::string> tokenizer;
    std::optional<std::string> tokenizer_config;
    std::optional<std::string> chat_template;
};

/// Where a text lies in the model and in the checkpoint.
struct TextSlot {
    const char* dataset;
    const char* file_name;
    std::optional<std::string> ModelTexts::*member;
};

inline constexpr std::array<TextSlot, 5> text_slots{{
    {"config", "config.json", &ModelTexts::config},
    {"generation_config", "generation_config.json", &ModelTexts::generation_config},
    {"tokenizer", "tokenizer.json", &ModelTexts::tokenizer},
    {"tokenizer_config", "tokenizer_config.json", &ModelTexts::tokenizer_config},
    {"chat_template", "chat_template.jinja", &ModelTexts::chat_template},
}};

}  // namespace mixserve::io
