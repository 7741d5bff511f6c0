#include "text/post_processor.h"

#include "text/bpe.h"

namespace mixserve::text {
namespace {

/// The ids that `special_tokens` gives a template's {"SpecialToken": {"id": name}}.
std::vector<int32_t> ids_of(const JsonNode& processor, const std::string& name) {
    const JsonNode token = processor.at("special_tokens").at(name);
    std::vector<int32_t> ids;
    for (const JsonNode& node : token.at("ids").elements()) {
        const int64_t id = node.integer();
        if (id < 0 || id >= max_vocab_size)
            node.refuse("must be from 0 to {}, is {}", max_vocab_size - 1, id);
        ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
}

/// Puts a template's tokens around what earlier processors put there.
void add_template(const JsonNode& node, PostProcessor& processor) {
    node.allow_only({"type", "single", "pair", "special_tokens"});
    std::vector<int32_t> before;
    std::vector<int32_t> after;
    bool text_seen = false;
    const JsonNode single = node.at("single");
    for (const JsonNode& piece : single.elements()) {
        piece.allow_only({"SpecialToken", "Sequence"});
        if (const std::optional<JsonNode> token = piece.find("SpecialToken")) {
            const std::vector<int32_t> ids = ids_of(node, token->string("id"));
            std::vector<int32_t>& side = text_seen ? after : before;
            side.insert(side.end(), ids.begin(), ids.end());
        } else {
            const JsonNode sequence = piece.at("Sequence");
            if (text_seen || sequence.string("id") != "A")
                sequence.refuse("a single text has one sequence, A");
            text_seen = true;
        }
    }
    if (!text_seen) single.refuse("has no sequence A");
    processor.before.insert(processor.before.begin(), before.begin(), before.end());
    processor.after.insert(processor.after.end(), after.begin(), after.end());
}

void add(const JsonNode& node, int depth, PostProcessor& processor) {
    if (depth > max_sequence_depth) node.refuse("sequences nested too deep");
    const std::string& type = node.string("type");
    if (type == "Sequence") {
        node.allow_only({"type", "processors"});
        for (const JsonNode& step : node.at("processors").elements())
            add(step, depth + 1, processor);
    } else if (type == "TemplateProcessing") {
        add_template(node, processor);
    } else if (type == "ByteLevel") {  // concerns offsets only
        node.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    } else {
        node.refuse("type '{}' is not supported", type);
    }
}

}  // namespace

PostProcessor PostProcessor::from_json(const std::optional<JsonNode>& node) {
    PostProcessor processor;
    if (node) add(*node, 0, processor);
    return processor;
}

}  // namespace mixserve::text
