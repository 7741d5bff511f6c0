#include "io/result.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/bytes.h"
#include "io/prompt_line.h"

namespace mixserve::io {
namespace {

void put(ByteWriter& out, const TokenLogprob& token) {
    out.put(token.token);
    out.put_text(token.text);
    out.put(token.logprob);
}

TokenLogprob get_token(ByteReader& in) {
    TokenLogprob token;
    token.token = in.get<int32_t>();
    token.text = in.get_text();
    token.logprob = in.get<float>();
    return token;
}

void put(ByteWriter& out, const std::vector<PositionLogprobs>& positions) {
    out.put(static_cast<int64_t>(positions.size()));
    for (const PositionLogprobs& position : positions) {
        put(out, position.chosen);
        out.put(position.rank);
        out.put(position.text_offset);
        out.put(static_cast<int64_t>(position.top.size()));
        for (const TokenLogprob& token : position.top)
            put(out, token);
    }
}

std::vector<PositionLogprobs> get_positions(ByteReader& in) {
    std::vector<PositionLogprobs> positions(static_cast<size_t>(in.get<int64_t>()));
    for (PositionLogprobs& position : positions) {
        position.chosen = get_token(in);
        position.rank = in.get<int64_t>();
        position.text_offset = in.get<int64_t>();
        position.top.resize(static_cast<size_t>(in.get<int64_t>()));
        for (TokenLogprob& token : position.top)
            token = get_token(in);
    }
    return positions;
}

void put(ByteWriter& out, const std::optional<std::string>& text) {
    out.put(text.has_value());
    if (text) out.put_text(*text);
}

std::optional<std::string> get_optional_text(ByteReader& in) {
    if (!in.get<bool>()) return std::nullopt;
    return in.get_text();
}

}  // namespace

double RequestMetrics::itl_ms_mean() const {
    if (itl_ms.empty()) return 0;
    return std::accumulate(itl_ms.begin(), itl_ms.end(), 0.0) / static_cast<double>(itl_ms.size());
}

int64_t Result::n_completion_tokens() const {
    return std::accumulate(choices.begin(), choices.end(), int64_t{0}, [](int64_t n, const Choice& choice) {
        return n + static_cast<int64_t>(choice.token_ids.size());
    });
}

double ScoreResult::perplexity() const {
    if (logprobs.empty()) return std::numeric_limits<double>::quiet_NaN();
    return std::exp(-std::accumulate(logprobs.begin(), logprobs.end(), 0.0) /
                    static_cast<double>(logprobs.size()));
}

Result result_of(const Request& request) {
    Result result;
    result.line = request.line;
    result.id = request.id;
    result.id_is_number = request.id_is_number;
    result.form = request.form;
    result.wants_logprobs = request.sampling.logprobs.has_value();
    result.wants_prompt_logprobs = request.sampling.prompt_logprobs.has_value();
    result.error = request.error;
    return result;
}

Result error_result(const Request& request, const std::string& cause) {
    Result result = result_of(request);
    result.error = at_line(request.line, cause);
    return result;
}

ScoreResult score_result_of(const Request& request) {
    ScoreResult result;
    result.line = request.line;
    result.id = request.id;
    result.id_is_number = request.id_is_number;
    result.error = request.error;
    return result;
}

ScoreResult score_error_result(const Request& request, const std::string& cause) {
    ScoreResult result = score_result_of(request);
    result.error = at_line(request.line, cause);
    return result;
}

std::vector<std::byte> pack(const Result& result) {
    ByteWriter out;
    out.put(result.line);
    out.put_text(result.id);
    out.put(result.id_is_number);
    out.put(result.form);
    out.put(result.wants_logprobs);
    out.put(static_cast<int64_t>(result.choices.size()));
    for (const Choice& choice : result.choices) {
        out.put_text(choice.text);
        out.put_array(choice.token_ids);
        out.put(choice.finish_reason);
        put(out, choice.logprobs);
    }
    out.put(result.wants_prompt_logprobs);
    put(out, result.prompt_logprobs);
    out.put(result.n_prompt_tokens);
    out.put(result.metrics.ttft_ms);
    out.put(result.metrics.e2e_ms);
    out.put_array(result.metrics.itl_ms);
    put(out, result.error);
    return out.take();
}

Result unpack_result(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    Result result;
    result.line = in.get<int64_t>();
    result.id = in.get_text();
    result.id_is_number = in.get<bool>();
    result.form = in.get<RequestForm>();
    result.wants_logprobs = in.get<bool>();
    result.choices.resize(static_cast<size_t>(in.get<int64_t>()));
    for (Choice& choice : result.choices) {
        choice.text = in.get_text();
        choice.token_ids = in.get_array<int32_t>();
        choice.finish_reason = in.get<FinishReason>();
        choice.logprobs = get_positions(in);
    }
    result.wants_prompt_logprobs = in.get<bool>();
    result.prompt_logprobs = get_positions(in);
    result.n_prompt_tokens = in.get<int64_t>();
    result.metrics.ttft_ms = in.get<double>();
    result.metrics.e2e_ms = in.get<double>();
    result.metrics.itl_ms = in.get_array<float>();
    result.error = get_optional_text(in);
    return result;
}

std::vector<std::byte> pack(const ScoreResult& result) {
    ByteWriter out;
    out.put(result.line);
    out.put_text(result.id);
    out.put(result.id_is_number);
    out.put_array(result.token_ids);
    out.put_array(result.logprobs);
    put(out, result.error);
    return out.take();
}

ScoreResult unpack_score_result(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    ScoreResult result;
    result.line = in.get<int64_t>();
    result.id = in.get_text();
    result.id_is_number = in.get<bool>();
    result.token_ids = in.get_array<int32_t>();
    result.logprobs = in.get_array<float>();
    result.error = get_optional_text(in);
    return result;
}

}  // namespace mixserve::io
