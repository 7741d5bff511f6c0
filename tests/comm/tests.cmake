mixserve_test(comm/test_communicator RANKS 1 2 4 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_tensor_group RANKS 1 2 3 8 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_exchange RANKS 1 2 4 8 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_exchange_many RANKS 1 2 4 8 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_exchange NAME comm_test_exchange_on_gpu RANKS 1 2 4 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_exchange NAME comm_test_exchange_on_emulator RANKS 1 2 4 GPUS 8 LIBRARIES mixserve_emulator MPI::MPI_CXX)
foreach(on gpu emulator)
    target_compile_definitions(comm_test_exchange_on_${on} PRIVATE MIXSERVE_ON_GPU)
endforeach()
foreach(test comm_test_exchange comm_test_exchange_many comm_test_exchange_on_gpu comm_test_exchange_on_emulator)
    target_sources(${test} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/comm/moe_case.cpp)
endforeach()

add_test(NAME comm_minicluster COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/comm/test_minicluster.sh
         ${CMAKE_SOURCE_DIR}/scripts/minicluster $<TARGET_FILE:comm_test_exchange>)
set_tests_properties(comm_minicluster PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77 PROCESSORS 2)

# With a GPU a rank, over NCCL: where there are as many (else skipped, with the reason), and on the emulator.
mixserve_test(comm/test_gpu_communicator NAME comm_test_gpu_communicator_on_gpu RANKS 1 2 4)
mixserve_test(comm/test_gpu_communicator NAME comm_test_gpu_communicator_on_emulator LIBRARIES mixserve_emulator RANKS 1 2 4 8 GPUS 8)

# NCCL's errors, with a library in its place.
if(MIXSERVE_HAS_NCCL)
    add_library(mixserve_fake_nccl SHARED ${CMAKE_CURRENT_LIST_DIR}/nccl/fake_nccl.cpp)
    target_include_directories(mixserve_fake_nccl SYSTEM PRIVATE ${MIXSERVE_NCCL_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
    set_target_properties(mixserve_fake_nccl PROPERTIES SUFFIX .so.2 OUTPUT_NAME nccl LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fake_nccl)
    add_executable(comm_nccl_communicate ${CMAKE_CURRENT_LIST_DIR}/nccl/communicate.cpp)
    target_link_libraries(comm_nccl_communicate PRIVATE mixserve_comm mixserve_flags)
    add_test(NAME comm_nccl_errors COMMAND ${CMAKE_CURRENT_LIST_DIR}/nccl/test_nccl.sh $<TARGET_FILE:comm_nccl_communicate>
             $<TARGET_FILE_DIR:mixserve_fake_nccl>)
    set_tests_properties(comm_nccl_errors PROPERTIES TIMEOUT 300 PROCESSORS 2)
endif()
