mixserve_test(engine/test_scheduler)

# Models run with the real scheduler on ranks; shared by the tests that compare what they compute.
add_library(mixserve_test_models STATIC ${CMAKE_CURRENT_LIST_DIR}/model_runner.cpp ${CMAKE_CURRENT_LIST_DIR}/test_models.cpp ${CMAKE_CURRENT_LIST_DIR}/golden_check.cpp)
target_link_libraries(mixserve_test_models PUBLIC mixserve_test_support PRIVATE hdf5 mixserve_flags)
mixserve_test(engine/test_goldens LIBRARIES mixserve_test_models RANKS 1 2 4 8 TIMEOUT 600)
# With --backend cuda: on a GPU where there is one (else skipped, with the reason), and on the emulator.
mixserve_test(engine/test_goldens_gpu LIBRARIES mixserve_test_models RANKS 1 2 4 TIMEOUT 600)
mixserve_test(engine/test_goldens_gpu NAME engine_test_goldens_emulator LIBRARIES mixserve_emulator mixserve_test_models RANKS 1 4 TIMEOUT 900)
# The same over NCCL's border: every strategy on two ranks, the hybrid ones on four.
set(goldens_np2 GpuGoldens.Qwen3Moe)
set(goldens_np4 GpuGoldens.Qwen2Moe:GpuGoldens.Olmoe)
foreach(n 2 4)
    add_test(NAME engine_test_goldens_emulator_nccl_np${n} COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --allow-run-as-root --mca mpi_yield_when_idle 1
             -n ${n} $<TARGET_FILE:engine_test_goldens_emulator> --gtest_filter=${goldens_np${n}})
    set_tests_properties(engine_test_goldens_emulator_nccl_np${n} PROPERTIES TIMEOUT 900 PROCESSORS 2 ENVIRONMENT MIXSERVE_EMULATED_GPUS=${n})
endforeach()
mixserve_test(engine/test_batch_invariance LIBRARIES mixserve_test_models RANKS 1 2 4 TIMEOUT 600)
mixserve_test(engine/test_sampler)
target_sources(engine_test_sampler PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_stop_matcher.cpp ${CMAKE_CURRENT_LIST_DIR}/test_sequence_output.cpp
                                          ${CMAKE_CURRENT_LIST_DIR}/test_prompt_encoder.cpp)
mixserve_test(engine/test_feed RANKS 1 3)
