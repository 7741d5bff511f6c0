#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>

// Runs GoogleTest on every rank. Under mpirun all ranks run the same tests; a failure on any rank fails the
// program, and only rank 0 reports successes.
int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const bool launched =
        std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
    if (!launched) return RUN_ALL_TESTS();

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
    int failed = RUN_ALL_TESTS();
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Finalize();
    return failed;
}
