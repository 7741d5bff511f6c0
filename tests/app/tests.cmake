mixserve_test(app/test_byte_size LIBRARIES mixserve_app)
target_sources(app_test_byte_size PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_shard.cpp)
# Jobs that are killed, stopped and resumed; few rounds here, many with scripts/torture.
add_test(NAME app_resume COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_resume.sh $<TARGET_FILE:mixserve>)
add_test(NAME app_torture COMMAND ${CMAKE_SOURCE_DIR}/scripts/torture --program $<TARGET_FILE:mixserve> --kills 3 --terms 0 --prompts 30 --seed 5)
set_tests_properties(app_resume app_torture PROPERTIES TIMEOUT 900 PROCESSORS 2)

# How jobs end: signals to any rank or to mpirun, ranks that stand still or are gone.
foreach(test signals watchdog)
    add_test(NAME app_${test} COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_${test}.py)
    set_tests_properties(app_${test} PROPERTIES TIMEOUT 1200 PROCESSORS 2
                         ENVIRONMENT "MIXSERVE=$<TARGET_FILE:mixserve>;MPIRUN=${MPIEXEC_EXECUTABLE}")
endforeach()
