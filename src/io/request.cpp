#include "io/request.h"

#include <xxhash.h>

#include "base/bytes.h"

namespace mixserve::io {
namespace {

template <class T>
void put_optional(ByteWriter& out, const std::optional<T>& value) {
    out.put(value.has_value());
    if (value) out.put(*value);
}

template <class T>
std::optional<T> get_optional(ByteReader& in) {
    if (!in.get<bool>()) return std::nullopt;
    return in.get<T>();
}

void put(ByteWriter& out, const SamplingParams& p) {
    for (const int64_t count : {p.max_tokens, p.min_tokens, p.top_k, p.n})
        out.put(count);
    for (const double number :
         {p.temperature, p.top_p, p.min_p, p.presence_penalty, p.frequency_penalty, p.repetition_penalty})
        out.put(number);
    put_optional(out, p.seed);
    out.put(static_cast<int64_t>(p.stop.size()));
    for (const std::string& stop : p.stop)
        out.put_text(stop);
    out.put_array(p.stop_token_ids);
    out.put(p.include_stop_str_in_output);
    out.put(p.ignore_eos);
    put_optional(out, p.logprobs);
    put_optional(out, p.prompt_logprobs);
}

SamplingParams get_sampling(ByteReader& in) {
    SamplingParams p;
    for (int64_t* count : {&p.max_tokens, &p.min_tokens, &p.top_k, &p.n})
        *count = in.get<int64_t>();
    for (double* number : {&p.temperature, &p.top_p, &p.min_p, &p.presence_penalty, &p.frequency_penalty,
                           &p.repetition_penalty})
        *number = in.get<double>();
    p.seed = get_optional<uint64_t>(in);
    for (auto n = in.get<int64_t>(); n > 0; --n)
        p.stop.push_back(in.get_text());
    p.stop_token_ids = in.get_array<int32_t>();
    p.include_stop_str_in_output = in.get<bool>();
    p.ignore_eos = in.get<bool>();
    p.logprobs = get_optional<int64_t>(in);
    p.prompt_logprobs = get_optional<int64_t>(in);
    return p;
}

}  // namespace

uint64_t request_hash(std::string_view id) {
    return XXH3_64bits(id.data(), id.size());
}

std::vector<std::byte> pack(const Request& request) {
    ByteWriter out;
    out.put(request.line);
    out.put_text(request.id);
    out.put(request.id_is_number);
    out.put(request.form);
    out.put_text(request.prompt);
    out.put_array(request.prompt_ids);
    out.put(request.prompt_is_ids);
    out.put_text(request.messages.dump());
    out.put_text(request.template_context.dump());
    out.put(request.add_generation_prompt);
    put(out, request.sampling);
    out.put(request.error.has_value());
    if (request.error) out.put_text(*request.error);
    return out.take();
}

Request unpack_request(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    Request request;
    request.line = in.get<int64_t>();
    request.id = in.get_text();
    request.id_is_number = in.get<bool>();
    request.form = in.get<RequestForm>();
    request.prompt = in.get_text();
    request.prompt_ids = in.get_array<int32_t>();
    request.prompt_is_ids = in.get<bool>();
    request.messages = ordered_json::parse(in.get_text());
    request.template_context = ordered_json::parse(in.get_text());
    request.add_generation_prompt = in.get<bool>();
    request.sampling = get_sampling(in);
    if (in.get<bool>()) request.error = in.get_text();
    return request;
}

}  // namespace mixserve::io
