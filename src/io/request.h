#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/sampling_params.h"

namespace mixserve::io {

/// The forms of an input line (DESIGN.md section 2); a row of output has the form of its line.
enum class RequestForm : uint8_t { completion, chat, batch_completion, batch_chat };
constexpr bool is_chat(RequestForm form) {
    return form == RequestForm::chat || form == RequestForm::batch_chat;
}
constexpr bool is_batch(RequestForm form) {
    return form >= RequestForm::batch_completion;
}

/// One line of input after parsing and before tokenizing. A line with `error` becomes an error row.
struct Request {
    int64_t line = 0;           // from 1
    std::string id;             // "id" or "custom_id"; by default the line number
    bool id_is_number = false;  // written to the row as a number
    RequestForm form = RequestForm::completion;
    std::string prompt;               // text of a completion
    std::vector<int32_t> prompt_ids;  // a completion given as token ids
    bool prompt_is_ids = false;
    ordered_json messages;  // of a chat
    ordered_json
        template_context;  // an object: what else a chat's template sees (tools, chat_template_kwargs)
    bool add_generation_prompt = true;
    SamplingParams sampling;
    std::optional<std::string> error;  // "line 7: ..."
};

/// Of an id, for DrawKey.
uint64_t request_hash(std::string_view id);

/// A request as rank 0 sends it to the node that serves it, and back.
std::vector<std::byte> pack(const Request& request);
Request unpack_request(std::span<const std::byte> bytes);

}  // namespace mixserve::io
