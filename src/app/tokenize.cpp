#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>

#include "app/command.h"
#include "app/options.h"
#include "app/prompt_texts.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "engine/prompt_encoder.h"
#include "io/json_values.h"
#include "io/line_reader.h"
#include "io/prompt_line.h"
#include "io/prompts.h"
#include "io/row_parts.h"
#include "io/row_writer.h"

namespace mixserve::app {
namespace {

struct TokenizeOptions {
    std::string hf_dir;  // or
    std::string model;
    std::string input_file;
    std::string output;
    std::string chat_template_file;
    bool decode = false;
    bool no_special = false;
};

struct RowCounts {
    int64_t n_rows = 0;
    int64_t n_errors = 0;
};

std::optional<TokenizeOptions> parse(Arguments arguments) {
    const auto text = [](const char* value_name) {
        return po::value<std::string>()->default_value("")->value_name(value_name);
    };
    po::options_description options("options");
    options.add_options()("hf-dir", text("DIR"),
                          "a folder with tokenizer.json, and for chats a template; no weights needed")(
        "model", text("M.h5"), "or: an HDF5 model")(
        "input-file", po::value<std::string>()->required()->value_name("P.jsonl"),
        "prompts (.jsonl or .txt); with --decode lines with token_ids")(
        "output", po::value<std::string>()->required()->value_name("F.jsonl"),
        "a new file for the rows {\"id\",\"text\",\"token_ids\"}")(
        "chat-template", text("FILE"), "a Jinja template for chats in place of the model's")(
        "decode", po::bool_switch(), "make text of token_ids")(
        "no-special", po::bool_switch(),
        "add none of the tokenizer's special tokens; with --decode leave them out of the text");
    po::variables_map values;
    if (!parse_options("tokenize", options, arguments, values)) return std::nullopt;
    const auto string = [&](const char* name) { return values[name].as<std::string>(); };
    TokenizeOptions parsed{string("hf-dir"),
                           string("model"),
                           string("input-file"),
                           string("output"),
                           string("chat-template"),
                           values["decode"].as<bool>(),
                           values["no-special"].as<bool>()};
    require_usage(!std::filesystem::exists(parsed.output),
                  "--output {}: there is such a file; give a new name", parsed.output);
    return parsed;
}

engine::PromptTexts read_texts(const TokenizeOptions& options) {
    engine::PromptTexts texts = read_prompt_texts(options.hf_dir, options.model);
    if (!options.chat_template_file.empty()) texts.chat_template = read_text_file(options.chat_template_file);
    return texts;
}

std::string encoded_row(const engine::PromptEncoder& encoder, const io::Request& request, bool special) {
    engine::EncodedPrompt prompt = encoder.encode(request, special);
    if (request.prompt_is_ids) prompt.text = encoder.tokenizer().decode(prompt.token_ids, false);
    return io::line_of({{"id", io::id_entry(request.id, request.id_is_number)},
                        {"text", prompt.text},
                        {"token_ids", prompt.token_ids}});
}

/// A file of rows under a name of its own until it is whole, so that nobody takes a part of it for all.
class NewFile {
  public:
    explicit NewFile(const std::string& path) : path_(path), part_(path + ".part") {
        std::error_code ignored;
        std::filesystem::remove(part_, ignored);  // of a start that was killed
        rows_ = io::RowWriter::create(part_);
    }
    ~NewFile() {
        std::error_code ignored;
        std::filesystem::remove(part_, ignored);
    }
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    io::RowWriter& rows() { return rows_; }
    void finish() {
        rows_.sync();
        std::filesystem::rename(part_, path_);
    }

  private:
    std::string path_;
    std::string part_;
    io::RowWriter rows_;
};

RowCounts encode_file(const TokenizeOptions& options, const engine::PromptEncoder& encoder) {
    io::PromptLimits limits;
    limits.vocab_size = encoder.tokenizer().vocab_size();
    io::PromptReader reader(options.input_file, {}, limits);
    NewFile output(options.output);
    RowCounts counts;
    while (std::optional<io::Request> request = reader.next()) {
        std::string row;
        try {
            if (!request->error) row = encoded_row(encoder, *request, !options.no_special);
        } catch (const Error& e) {
            request->error = io::at_line(request->line, e.what());
        }
        if (request->error) {
            row = io::line_of(
                {{"id", io::id_entry(request->id, request->id_is_number)}, {"error", *request->error}});
        }
        output.rows().write(row);
        ++counts.n_rows;
        counts.n_errors += request->error ? 1 : 0;
    }
    output.finish();
    return counts;
}

/// The row of a line with "token_ids", whose "id" defaults to its number; other keys are passed over, so that
/// rows of a job can be read.
ordered_json decoded_row(const text::Tokenizer& tokenizer, const io::LineReader::Line& line,
                         bool skip_special) {
    ordered_json id = line.number;
    try {
        if (line.too_long) throw io::ValueError("the line is too long");
        const ordered_json object = ordered_json::parse(line.text, nullptr, false);
        if (!object.is_object()) throw io::ValueError("not a JSON object");
        if (object.contains("id") && (object["id"].is_string() || object["id"].is_number_integer()))
            id = object["id"];
        if (!object.contains("token_ids")) throw io::ValueError("'token_ids' is missing");
        const std::vector<int32_t> ids = io::token_ids_of(object["token_ids"], "token_ids");
        return {{"id", id}, {"text", tokenizer.decode(ids, skip_special)}, {"token_ids", ids}};
    } catch (const Error& e) {
        return {{"id", id}, {"error", io::at_line(line.number, e.what())}};
    } catch (const io::ValueError& e) {
        return {{"id", id}, {"error", io::at_line(line.number, e.what())}};
    }
}

RowCounts decode_file(const TokenizeOptions& options, const engine::PromptEncoder& encoder) {
    io::LineReader lines(options.input_file, io::PromptLimits{}.max_line_bytes);
    NewFile output(options.output);
    RowCounts counts;
    while (const std::optional<io::LineReader::Line> line = lines.next()) {
        if (line->is_blank() && !line->too_long) continue;
        const ordered_json row = decoded_row(encoder.tokenizer(), *line, options.no_special);
        output.rows().write(io::line_of(row));
        ++counts.n_rows;
        counts.n_errors += row.contains("error") ? 1 : 0;
    }
    output.finish();
    return counts;
}

}  // namespace

int run_tokenize(Arguments arguments) {
    const std::optional<TokenizeOptions> options = parse(arguments);
    if (!options) return exit_ok;
    const std::string& where = options->hf_dir.empty() ? options->model : options->hf_dir;
    const engine::PromptEncoder encoder(read_texts(*options), where);
    const RowCounts counts =
        options->decode ? decode_file(*options, encoder) : encode_file(*options, encoder);
    fmt::print("{} rows in {}{}\n", counts.n_rows, options->output,
               counts.n_errors > 0 ? fmt::format(", {} of them errors", counts.n_errors) : "");
    return exit_ok;
}

}  // namespace mixserve::app
