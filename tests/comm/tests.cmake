mixserve_test(comm/test_communicator RANKS 1 2 4 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_tensor_group RANKS 1 2 3 8 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_wire)
mixserve_test(comm/test_exchange RANKS 1 2 4 8 LIBRARIES MPI::MPI_CXX)
mixserve_test(comm/test_exchange_many RANKS 1 2 4 8 LIBRARIES MPI::MPI_CXX)
foreach(test comm_test_exchange comm_test_exchange_many)
    target_sources(${test} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/comm/moe_case.cpp)
endforeach()

add_test(NAME comm_minicluster COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/comm/test_minicluster.sh
         ${CMAKE_SOURCE_DIR}/scripts/minicluster $<TARGET_FILE:comm_test_exchange>)
set_tests_properties(comm_minicluster PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77 PROCESSORS 2)
