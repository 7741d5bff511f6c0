#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "io/job_folder.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

std::string step(int number, double time_s, int decode, const std::string& rest = "") {
    return fmt::format(
               R"({{"step":{},"time_s":{},"duration_ms":10.0,"prefill_tokens":10,"decode_tokens":{},"running":1,"waiting":0,)"
               R"("kv_blocks_used":1,"kv_blocks_total":9,"phases":{{"experts":{{"min_ms":1.0,"mean_ms":6.0,"max_ms":8.0}},)"
               R"("idle":{{"min_ms":0.0,"mean_ms":2.0,"max_ms":4.0}}}},"busy":{{"min_ms":1.0,"mean_ms":6.0,"max_ms":8.0}},"slowest_rank":{}{}}})",
               number, time_s, decode, number == 0 ? 0 : 3, rest) +
           "\n";
}

std::string row(const std::string& id, double ttft_ms) {
    return fmt::format(
               R"({{"id":"{}","text":"x","token_ids":[1,2,3],"finish_reason":"stop","usage":{{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}},)"
               R"("metrics":{{"ttft_ms":{},"itl_ms_mean":2.0,"e2e_ms":50.0}}}})",
               id, ttft_ms) +
           "\n";
}

/// A folder as a job of ten prompts on four ranks leaves it after three rows and three steps.
class JobFolder : public testing::Test {
  protected:
    JobFolder() {
        std::filesystem::create_directory(job_);
        write(job_ + "/run.json", R"({"command":"run","options":{"model":"/m/small.h5","strategy":"fused"},)"
                                  R"("input":{"n_prompts":10,"n_in_shard":10},)"
                                  R"("topology":{"world_size":4,"nodes":2,"ranks_per_node":2}})");
        write(job_ + "/generations.jsonl", rows_);
        write(job_ + "/steps.jsonl", steps_);
    }
    void append(const std::string& file, const std::string& text) const {
        std::ofstream(job_ + "/" + file, std::ios::binary | std::ios::app) << text;
    }
    std::string error() const {
        try {
            read_job_folder(job_);
        } catch (const Error& e) {
            EXPECT_EQ(e.exit_code(), exit_failure);
            return e.what();
        }
        return "";
    }

    test::TemporaryFolder folder_;
    std::string job_ = folder_.file("job");
    std::string rows_ =
        row("a", 10) + row("b", 20) + R"({"id":"c","error":"line 4: temperature -1: must be 'good'"})" + "\n";
    std::string steps_ =
        step(0, 1, 0) + step(1, 2, 4) +
        step(
            2, 4, 6,
            R"(,"expert_load":{"experts_max_over_mean":2.5,"parts_max_over_mean":1.5,"worst_layer":1,"worst_expert":7,"worst_max_over_mean":3.0})");
};

TEST_F(JobFolder, OfARunningJob) {
    const JobReport r = read_job_folder(job_);
    EXPECT_EQ(name(r.state), "running");
    EXPECT_EQ(r.model, "small");
    EXPECT_EQ(r.strategy, "fused");
    EXPECT_EQ(r.n_ranks, 4);
    EXPECT_EQ(r.n_rows, 3);
    EXPECT_EQ(r.n_failed, 1);
    EXPECT_EQ(r.n_prompts, 10);
    EXPECT_EQ(r.n_output_tokens, 6);
    EXPECT_DOUBLE_EQ(r.elapsed_s, 4);
    ASSERT_TRUE(r.left_s());
    EXPECT_DOUBLE_EQ(*r.left_s(), 7 / (3.0 / 4));
    EXPECT_EQ(r.n_step_tokens, 40);
    EXPECT_DOUBLE_EQ(r.recent_tokens_per_s, 10) << "30 tokens in the 3 s after the first step";
    EXPECT_DOUBLE_EQ(r.ttft.value().median, 15);
    EXPECT_DOUBLE_EQ(r.phase_seconds[static_cast<size_t>(Phase::experts)], 0.018);
    EXPECT_EQ(r.slowest_rank, 3);
    EXPECT_DOUBLE_EQ(r.slowest_steps_share, 2.0 / 3);
    EXPECT_DOUBLE_EQ(r.slowest_excess_s, 0.004);
    EXPECT_DOUBLE_EQ(r.expert_load.value().parts_max_over_mean, 1.5);
    EXPECT_TRUE(r.notes.empty());
}

TEST_F(JobFolder, BeforeTheFirstRow) {
    std::filesystem::remove(job_ + "/generations.jsonl");
    std::filesystem::remove(job_ + "/steps.jsonl");
    const JobReport r = read_job_folder(job_);
    EXPECT_EQ(r.n_rows, 0);
    EXPECT_FALSE(r.left_s());
    EXPECT_FALSE(r.ttft);
    EXPECT_NO_THROW(to_json(r));
}

TEST_F(JobFolder, TornLinesAreLeftOut) {
    append("generations.jsonl", R"({"id":"d","te)");
    append("steps.jsonl", "{");
    const JobReport r = read_job_folder(job_);
    EXPECT_EQ(r.n_rows, 3);
    EXPECT_EQ(r.n_steps, 3);
    EXPECT_THAT(r.notes,
                ElementsAre("generations.jsonl ends within a row", "steps.jsonl ends within a line"));
}

TEST_F(JobFolder, SilentWhereNothingIsWritten) {
    for (const char* file : {"/run.json", "/generations.jsonl", "/steps.jsonl"}) {
        const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
        ASSERT_EQ(utimensat(AT_FDCWD, (job_ + file).c_str(), times, 0), 0);
    }
    EXPECT_EQ(name(read_job_folder(job_).state), "silent");
}

TEST_F(JobFolder, FinishedAndStopped) {
    const std::string figures =
        R"("duration":5.0,"completed":2,"failed":1,"total_input_tokens":10,"total_output_tokens":6,)"
        R"("mean_ttft_ms":1.0,"median_ttft_ms":2.0,"p99_ttft_ms":3.0,"mean_itl_ms":4.0,"median_itl_ms":5.0,"p99_itl_ms":6.0,)"
        R"("mean_e2el_ms":7.0,"median_e2el_ms":8.0,"p99_e2el_ms":9.0})";
    write(job_ + "/summary.json", "{" + figures);
    JobReport r = read_job_folder(job_);
    EXPECT_EQ(name(r.state), "finished");
    EXPECT_EQ(r.n_prompts, 3);
    EXPECT_DOUBLE_EQ(r.elapsed_s, 5);
    EXPECT_DOUBLE_EQ(r.itl.value().p99, 6);
    EXPECT_FALSE(r.left_s());

    write(job_ + "/summary.json", R"({"status":"stopped",)" + figures);
    r = read_job_folder(job_);
    EXPECT_EQ(name(r.state), "stopped");
    EXPECT_EQ(r.n_prompts, 10);
    EXPECT_TRUE(r.left_s());
}

TEST_F(JobFolder, OfAResumedJob) {
    write(job_ + "/run.json",
          R"({"command":"run","options":{"model":"m","strategy":"tp"},"topology":{"world_size":4,"nodes":2},)"
          R"("input":{"n_prompts":20,"n_in_shard":5},"starts":[{},{}]})");
    write(
        job_ + "/summary.json",
        R"({"duration":5.0,"completed":2,"failed":1,"mean_ttft_ms":1.0,"median_ttft_ms":2.0,"p99_ttft_ms":3.0,"status":"stopped"})");
    const JobReport r = read_job_folder(job_);
    EXPECT_EQ(r.n_starts, 2);
    EXPECT_EQ(r.n_prompts, 5);
    EXPECT_DOUBLE_EQ(r.ttft.value().median, 15) << "of all rows, not of the last start";
}

TEST_F(JobFolder, RowsOfOpenAiBatchesAndCauses) {
    append(
        "generations.jsonl",
        R"({"id":"r","custom_id":"q","response":{"status_code":200,"request_id":"r","body":{"choices":[{"text":"y"}],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}},"error":null})"
        "\n"
        R"({"id":"r","custom_id":"s","response":{"status_code":400,"request_id":"r","body":{}},"error":{"code":"x","message":"line 9: temperature -22: must be 'better'"}})"
        "\n"
        R"({"id":7,"error":"the prompt is empty"})"
        "\n");
    const JobReport r = read_job_folder(job_);
    EXPECT_EQ(r.n_rows, 6);
    EXPECT_EQ(r.n_input_tokens, 17);
    ASSERT_EQ(r.errors.size(), 2U);
    EXPECT_EQ(r.errors[0].text, "temperature -N: must be '...'");
    EXPECT_EQ(r.errors[0].count, 2);
    EXPECT_EQ(r.errors[0].example_id, "c");
    EXPECT_EQ(r.errors[1].text, "the prompt is empty");
    EXPECT_EQ(r.errors[1].example_id, "7");
}

TEST_F(JobFolder, OneClearMessageForABrokenOne) {
    append("steps.jsonl", "oops\n" + step(3, 5, 1));
    EXPECT_THAT(error(), HasSubstr("steps.jsonl': line 4 is not what a job writes"));
    write(job_ + "/steps.jsonl", R"({"step":0,"time_s":"soon"})"
                                 "\n");
    EXPECT_THAT(error(), HasSubstr("steps.jsonl': line 1 is not what a job writes"));
    write(job_ + "/steps.jsonl", "[]\n");
    EXPECT_THAT(error(), HasSubstr("steps.jsonl': line 1 is no JSON object"));
    write(job_ + "/steps.jsonl", "");
    write(job_ + "/summary.json", "{");
    EXPECT_THAT(error(), HasSubstr("summary.json' is no whole JSON file"));
    write(job_ + "/run.json", R"({"options":{}})");
    EXPECT_THAT(error(), HasSubstr("run.json' is not what a job writes"));
    std::filesystem::remove(job_ + "/run.json");
    EXPECT_THAT(error(), HasSubstr("has no run.json"));
    std::filesystem::remove_all(job_);
    EXPECT_THAT(error(), HasSubstr("is no folder"));
}

}  // namespace
}  // namespace mixserve::io
