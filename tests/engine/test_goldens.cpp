#include <gtest/gtest.h>

#include "engine/golden_check.h"
#include "support/test_support.h"

namespace mixserve {
namespace {

TEST(Goldens, Qwen3Moe) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/qwen3-moe");
    test::check_checkpoint(folder, {});
}
TEST(Goldens, Qwen2Moe) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/qwen2-moe");
    test::check_checkpoint(folder, {});
}
TEST(Goldens, Mixtral) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/mixtral");
    test::check_checkpoint(folder, {});
}
TEST(Goldens, Olmoe) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/olmoe");
    test::check_checkpoint(folder, {});
}
TEST(Goldens, SampleModel) {
    test::LayoutChoice choice;
    choice.max_model_len = 2048;
    choice.rope_frequency_dtype = DType::f32;
    test::GoldenLimits limits;
    limits.n_greedy = 12;
    test::check_checkpoint(test::source_dir() / "inputs/models/shakespeare-moe", limits, choice);
}

}  // namespace
}  // namespace mixserve
