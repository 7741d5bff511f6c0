#include "io/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "io/openai_rows.h"
#include "io/row_parts.h"

namespace mixserve::io {
namespace {

ordered_json token_entry(const TokenLogprob& token) {
    return {{"token_id", token.token}, {"token", token.text}, {"logprob", shortest(token.logprob)}};
}

ordered_json position_entry(const PositionLogprobs& position) {
    ordered_json entry = token_entry(position.chosen);
    entry["rank"] = position.rank;
    ordered_json& top = entry["top"] = ordered_json::array();
    for (const TokenLogprob& token : position.top)
        top.push_back(token_entry(token));
    return entry;
}

ordered_json position_entries(const std::vector<PositionLogprobs>& positions) {
    ordered_json entries = ordered_json::array();
    for (const PositionLogprobs& position : positions)
        entries.push_back(position_entry(position));
    return entries;
}

void put_choice(ordered_json& row, const Result& result, const Choice& choice) {
    row["text"] = choice.text;
    row["token_ids"] = choice.token_ids;
    row["finish_reason"] = text_of(choice.finish_reason);
    if (result.wants_logprobs) row["logprobs"] = position_entries(choice.logprobs);
}

ordered_json simple_row(const Result& result) {
    ordered_json row;
    row["id"] = id_entry(result.id, result.id_is_number);
    if (result.error) {
        row["error"] = *result.error;
        return row;
    }
    if (result.choices.size() == 1) {
        put_choice(row, result, result.choices.front());
    } else {
        ordered_json& choices = row["choices"] = ordered_json::array();
        for (const Choice& choice : result.choices) {
            ordered_json entry{{"index", choices.size()}};
            put_choice(entry, result, choice);
            choices.push_back(std::move(entry));
        }
    }
    if (result.wants_prompt_logprobs) {
        ordered_json entries = position_entries(result.prompt_logprobs);
        entries.insert(entries.begin(), nullptr);
        row["prompt_logprobs"] = std::move(entries);
    }
    row["usage"] = usage_entry(result);
    row["metrics"] = {{"ttft_ms", rounded_ms(result.metrics.ttft_ms)},
                      {"itl_ms_mean", rounded_ms(result.metrics.itl_ms_mean())},
                      {"e2e_ms", rounded_ms(result.metrics.e2e_ms)}};
    return row;
}

}  // namespace

std::string row_of(const Result& result, const RowContext& context) {
    return line_of(is_batch(result.form) ? openai_row(result, context) : simple_row(result));
}

std::string row_of(const ScoreResult& result) {
    ordered_json row;
    row["id"] = id_entry(result.id, result.id_is_number);
    if (result.error) {
        row["error"] = *result.error;
        return line_of(row);
    }
    row["token_ids"] = result.token_ids;
    ordered_json& logprobs = row["logprobs"] = ordered_json::array();
    if (!result.token_ids.empty()) logprobs.push_back(nullptr);
    for (const float logprob : result.logprobs)
        logprobs.push_back(shortest(logprob));
    row["perplexity"] = result.logprobs.empty() ? ordered_json(nullptr) : ordered_json(result.perplexity());
    return line_of(row);
}

}  // namespace mixserve::io
