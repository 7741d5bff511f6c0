#include <gmock/gmock.h>

#include "engine/sequence_output.h"
#include "support/test_support.h"

namespace mixserve::engine {
namespace {

using testing::ElementsAre;

// A SentencePiece-style vocabulary, in which a newline is a byte token that the decoder holds back.
constexpr int32_t eos = 1, hi = 2, newline = 3, e_first = 4, e_second = 5, x = 6, en = 7, d = 8, special = 9;
constexpr int32_t without_text = 50;

text::Tokenizer small_tokenizer() {
    return text::Tokenizer::from_json(R"({
        "version": "1.0",
        "added_tokens": [
            {"id": 1, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false},
            {"id": 9, "content": "<|x|>", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": {"<unk>": 0, "</s>": 1, "▁Hi": 2, "<0x0A>": 3, "<0xC3>": 4, "<0xA9>": 5, "x": 6, "EN": 7, "D": 8,
                      "<|x|>": 9},
            "merges": []}})");
}

struct Ran {
    io::Choice choice;
    size_t n_pushed = 0;
    bool finished = false;
};

Ran run(const io::SamplingParams& params, const std::vector<int32_t>& tokens, int64_t n_room = 1000) {
    const text::Tokenizer tokenizer = small_tokenizer();
    const int32_t eos_ids[] = {eos};
    SequenceOutput output(tokenizer, params, eos_ids, n_room);
    Ran result;
    for (const int32_t token : tokens) {
        if (output.finished()) break;
        output.push({token, std::nullopt});
        ++result.n_pushed;
    }
    result.finished = output.finished();
    EXPECT_EQ(output.n_tokens(), static_cast<int64_t>(result.n_pushed));
    if (result.finished) result.choice = output.take_choice();
    return result;
}

TEST(SequenceOutput, EndsAtEndOfSequence) {
    io::SamplingParams params;
    const Ran r = run(params, {hi, x, eos, x});
    EXPECT_TRUE(r.finished);
    EXPECT_EQ(r.choice.text, " Hix");
    EXPECT_THAT(r.choice.token_ids, ElementsAre(hi, x, eos));
    EXPECT_EQ(r.choice.finish_reason, io::FinishReason::stop);

    params.ignore_eos = true;
    params.max_tokens = 4;
    const Ran on = run(params, {hi, eos, x, x, x});
    EXPECT_EQ(on.choice.text, " Hixx");
    EXPECT_EQ(on.choice.finish_reason, io::FinishReason::length);
}

TEST(SequenceOutput, GoesOnWithThePrompt) {
    io::SamplingParams params;
    params.max_tokens = 2;
    EXPECT_EQ(run(params, {hi, hi}).choice.text, " Hi Hi");  // the space after the prompt is the model's
    const text::Tokenizer tokenizer = small_tokenizer();
    const auto token_text = [&](int32_t token) {
        return with_texts(tokenizer, token, {-1.0F, 1, {{hi, -0.5F}}}).chosen.text;
    };
    EXPECT_EQ(token_text(hi), " Hi");
    EXPECT_EQ(token_text(newline), "\n");
    EXPECT_EQ(token_text(e_first), "\ufffd");
    EXPECT_EQ(token_text(special), "<|x|>");
    EXPECT_EQ(token_text(without_text), "");
}

TEST(SequenceOutput, EndsAtLength) {
    io::SamplingParams params;
    params.max_tokens = 3;
    EXPECT_EQ(run(params, {x, x, x, x}).n_pushed, 3U);
    params.max_tokens = io::no_token_limit;
    const Ran r = run(params, {x, x, x, x}, 2);
    EXPECT_EQ(r.n_pushed, 2U);
    EXPECT_EQ(r.choice.finish_reason, io::FinishReason::length);
    EXPECT_EQ(run(params, {x, eos}, 2).choice.finish_reason, io::FinishReason::stop);
}

TEST(SequenceOutput, StopTokens) {
    io::SamplingParams params;
    params.stop_token_ids = {d};
    Ran r = run(params, {hi, en, d, x});
    EXPECT_EQ(r.choice.text, " HiEN");
    EXPECT_THAT(r.choice.token_ids, ElementsAre(hi, en, d));
    params.include_stop_str_in_output = true;
    r = run(params, {hi, en, d, x});
    EXPECT_EQ(r.choice.text, " HiEND");
    EXPECT_EQ(r.choice.finish_reason, io::FinishReason::stop);
}

TEST(SequenceOutput, StopStringsAcrossTokens) {
    io::SamplingParams params;
    params.stop = {"END"};
    Ran r = run(params, {hi, en, x, en, d, x});
    EXPECT_EQ(r.choice.text, " HiENx");
    EXPECT_EQ(r.n_pushed, 5U);
    EXPECT_EQ(r.choice.finish_reason, io::FinishReason::stop);
    params.include_stop_str_in_output = true;
    EXPECT_EQ(run(params, {hi, en, d, x}).choice.text, " HiEND");
    params.max_tokens = 2;
    r = run(params, {hi, en});
    EXPECT_EQ(r.choice.text, " HiEN");  // what was held back comes out at the end
    EXPECT_EQ(r.choice.finish_reason, io::FinishReason::length);
}

TEST(SequenceOutput, StopStringsInTextThatTheDecoderHolds) {
    io::SamplingParams params;
    params.stop = {"\n"};
    Ran r = run(params, {hi, newline, x});
    EXPECT_EQ(r.n_pushed, 2U);
    EXPECT_EQ(r.choice.text, " Hi");
    params.stop = {"\n\n"};
    r = run(params, {hi, newline, newline, newline, x});
    EXPECT_EQ(r.n_pushed, 3U);
    EXPECT_EQ(r.choice.text, " Hi");
    params.stop = {"\n!"};
    params.max_tokens = 4;
    r = run(params, {hi, newline, x, newline});
    EXPECT_EQ(r.choice.text, " Hi\nx\n");
}

TEST(SequenceOutput, MinTokens) {
    io::SamplingParams params;
    params.min_tokens = 3;
    params.stop = {"x"};
    params.stop_token_ids = {d};
    const Ran r = run(params, {x, x, x, x});
    EXPECT_EQ(r.n_pushed, 3U);
    EXPECT_EQ(r.choice.text, "xx");

    const text::Tokenizer tokenizer = small_tokenizer();
    const int32_t eos_ids[] = {eos};
    SequenceOutput output(tokenizer, params, eos_ids, 100);
    EXPECT_THAT(output.banned(), ElementsAre(eos, d));
    output.push({hi, std::nullopt});
    output.push({hi, std::nullopt});
    EXPECT_FALSE(output.banned().empty());
    output.push({hi, std::nullopt});
    EXPECT_TRUE(output.banned().empty());
}

TEST(SequenceOutput, CharactersAreWhole) {
    io::SamplingParams params;
    params.max_tokens = 4;
    EXPECT_EQ(run(params, {x, e_first, e_second, x}).choice.text, "x\xC3\xA9x");
    EXPECT_EQ(run(params, {x, special, without_text, x}).choice.text, "xx");
    params.max_tokens = 2;
    EXPECT_EQ(run(params, {x, e_first}).choice.text, "x\xEF\xBF\xBD");
}

TEST(SequenceOutput, LogprobsHaveTextsAndOffsets) {
    const text::Tokenizer tokenizer = small_tokenizer();
    io::SamplingParams params;
    params.logprobs = 2;
    params.max_tokens = 2;
    SequenceOutput output(tokenizer, params, {}, 100);
    output.push({hi, Logprobs{-0.5F, 2, {{x, -0.25F}, {hi, -0.5F}}}});
    output.push({without_text, Logprobs{-1, 1, {}}});
    const io::Choice choice = output.take_choice();
    ASSERT_EQ(choice.logprobs.size(), 2U);
    EXPECT_EQ(choice.logprobs[0].chosen.token, hi);
    EXPECT_EQ(choice.logprobs[0].rank, 2);
    EXPECT_EQ(choice.logprobs[0].top[0].text, "x");
    EXPECT_EQ(choice.logprobs[0].text_offset, 0);
    EXPECT_EQ(choice.logprobs[1].chosen.text, "");
    EXPECT_EQ(choice.logprobs[1].text_offset, 3);  // " Hi"
}

// The sample model's tokenizer, whose tokens are bytes: every cut of a text into tokens gives the text back.
TEST(SequenceOutput, SampleTokenizer) {
    const std::string path = test::source_dir() / "inputs/models/shakespeare-moe/tokenizer.json";
    const text::Tokenizer tokenizer = text::Tokenizer::from_json(test::read_file(path));
    const std::string text = "To be, or not to be: caf\xC3\xA9 \xF0\x9F\x98\x80\n\nthat is";
    const std::vector<int32_t> ids = tokenizer.encode(text, false);
    io::SamplingParams params;
    params.max_tokens = static_cast<int64_t>(ids.size());
    for (const bool stops : {false, true}) {
        if (stops) params.stop = {"zzz", "\xC3\xA9 \xF0\x9F\x98\x80\n\nt"};
        SequenceOutput output(tokenizer, params, {}, 1000);
        for (const int32_t id : ids) {
            if (!output.finished()) output.push({id, std::nullopt});
        }
        ASSERT_TRUE(output.finished());
        EXPECT_EQ(output.take_choice().text, stops ? "To be, or not to be: caf" : text);
    }
}

}  // namespace
}  // namespace mixserve::engine
