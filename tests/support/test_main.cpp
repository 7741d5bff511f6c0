#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>

namespace {

/// 0, or 1 when a test failed, or 77, which ctest counts as skipped, when all that ran were skipped.
int run_all_tests() {
    if (RUN_ALL_TESTS() != 0) return 1;
    const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
    return tests.successful_test_count() == 0 && tests.skipped_test_count() > 0 ? 77 : 0;
}

}  // namespace

// Runs GoogleTest on every rank. Under mpirun all ranks run the same tests; a failure on any rank fails the
// program, and only rank 0 reports successes.
int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const bool launched =
        std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
    if (!launched) return run_all_tests();

    int provided = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank != 0) {
        auto& listeners = testing::UnitTest::GetInstance()->listeners();
        delete listeners.Release(listeners.default_result_printer());
        class FailurePrinter : public testing::EmptyTestEventListener {
          public:
            explicit FailurePrinter(int r) : rank_(r) {}
            void OnTestPartResult(const testing::TestPartResult& result) override {
                if (result.failed()) {
                    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank_,
                                 result.file_name() ? result.file_name() : "?", result.line_number(),
                                 result.message());
                }
            }

          private:
            int rank_;
        };
        listeners.Append(new FailurePrinter(rank));
    }
    const int own = run_all_tests();
    int lowest = own == 1 ? 0 : own;  // a failure goes before all, and what one rank ran is not skipped
    int failed = own == 1 ? 1 : 0;
    MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Finalize();
    return failed != 0 ? 1 : lowest;
}
