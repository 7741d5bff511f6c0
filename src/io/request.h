#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/sampling_params.h"

namespace mixserve::io {

/// The forms of an input line (DESIGN.md section 2); a row of output has the form of its line.
enum class RequestForm : uint8_t { completion, chat, batch_completion, batch_chat };

/// One line of input after parsing and before tokenizing. A line with `error` becomes an error row.
struct Request {
    int64_t line = 0;  // from 1
    std::string id;    // "id" or "custom_id"; by default the line number
    RequestForm form = RequestForm::completion;
    std::string prompt;                    // text of a completion
    std::vector<int32_t> prompt_ids;       // a completion given as token ids
    bool prompt_is_ids = false;
    ordered_json messages;                 // of a chat
    ordered_json template_context;         // what else a chat's template sees: tools, chat_template_kwargs
    bool add_generation_prompt = true;
    SamplingParams sampling;
    std::optional<std::string> error;
};

}  // namespace mixserve::io
