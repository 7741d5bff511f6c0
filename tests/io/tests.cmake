# Model files and checkpoints.
add_library(mixserve_test_checkpoints STATIC ${CMAKE_CURRENT_LIST_DIR}/checkpoint_builder.cpp)
target_link_libraries(mixserve_test_checkpoints PUBLIC mixserve_test_support PRIVATE mixserve_flags)
mixserve_test(io/test_model_file LIBRARIES mixserve_test_checkpoints hdf5)
target_sources(io_test_model_file PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_model_file_damage.cpp)
mixserve_test(io/test_convert LIBRARIES mixserve_test_checkpoints)
target_sources(io_test_convert PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_convert_damage.cpp ${CMAKE_CURRENT_LIST_DIR}/test_safetensors.cpp)
# Prompts in, rows and logs out.
mixserve_test(io/test_prompts)
target_sources(io_test_prompts PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_id_set.cpp)
mixserve_test(io/test_rows)
target_sources(io_test_rows PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_row_writer.cpp ${CMAKE_CURRENT_LIST_DIR}/test_logs.cpp
                                     ${CMAKE_CURRENT_SOURCE_DIR}/io/test_job_folder.cpp)
# What a job leaves and finds again: rows, logs, the folder's lock; shards merged.
mixserve_test(io/test_row_scan)
target_sources(io_test_row_scan PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_output_folder.cpp ${CMAKE_CURRENT_LIST_DIR}/test_merge.cpp)
