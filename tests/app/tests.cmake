mixserve_test(app/test_byte_size LIBRARIES mixserve_app)

# How jobs end: signals to any rank or to mpirun, ranks that stand still or are gone.
foreach(test signals watchdog)
    add_test(NAME app_${test} COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_${test}.py)
    set_tests_properties(app_${test} PROPERTIES TIMEOUT 1200 PROCESSORS 2
                         ENVIRONMENT "MIXSERVE=$<TARGET_FILE:mixserve>;MPIRUN=${MPIEXEC_EXECUTABLE}")
endforeach()
