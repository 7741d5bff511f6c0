mixserve_test(app/test_byte_size LIBRARIES mixserve_app)
target_sources(app_test_byte_size PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_shard.cpp)
# Jobs that are killed, stopped and resumed; few rounds here, many with scripts/torture.
add_test(NAME app_resume COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_resume.sh $<TARGET_FILE:mixserve>)
add_test(NAME app_torture COMMAND ${CMAKE_SOURCE_DIR}/scripts/torture --program $<TARGET_FILE:mixserve> --kills 3 --terms 2 --faults 1 --prompts 30 --seed 5)
set_tests_properties(app_resume app_torture PROPERTIES TIMEOUT 900 PROCESSORS 2)

# How jobs end: signals to any rank or to mpirun, ranks that stand still or are gone.
foreach(test signals watchdog)
    add_test(NAME app_${test} COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_${test}.py)
    set_tests_properties(app_${test} PROPERTIES TIMEOUT 1200 PROCESSORS 2
                         ENVIRONMENT "MIXSERVE=$<TARGET_FILE:mixserve>;MPIRUN=${MPIEXEC_EXECUTABLE}")
endforeach()

# The program from outside, on the sample model. Python scripts; program.py runs it for them.
find_program(PYTHON3 python3 REQUIRED)
set(sample ${CMAKE_SOURCE_DIR}/inputs/models/shakespeare-moe)
set(sample_model ${CMAKE_CURRENT_BINARY_DIR}/shakespeare-moe.h5)
add_test(NAME app_convert_sample COMMAND mixserve convert --hf-dir ${sample} --output ${sample_model} --force)
set_tests_properties(app_convert_sample PROPERTIES FIXTURES_SETUP app_sample TIMEOUT 300)

# What the tests make faults with: models with a damaged tensor, files that do not answer, a clock that jumps.
add_executable(mixserve_damage_model ${CMAKE_CURRENT_LIST_DIR}/damage_model.cpp)
target_link_libraries(mixserve_damage_model PRIVATE mixserve_io hdf5 mixserve_flags)
add_library(mixserve_fault_shim MODULE ${CMAKE_CURRENT_LIST_DIR}/fault_shim.cpp)
target_link_libraries(mixserve_fault_shim PRIVATE mixserve_flags)

function(mixserve_app_test script)
    foreach(n ${ARGN})
        set(name app_${script}_np${n})
        add_test(NAME ${name} COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_SOURCE_DIR}/app/test_${script}.py)
        set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED app_sample PROCESSORS 2 TIMEOUT 1200
            ENVIRONMENT "MIXSERVE_PROGRAM=$<TARGET_FILE:mixserve>;MIXSERVE_MODEL=${sample_model};MIXSERVE_CHECKPOINT=${sample};MIXSERVE_MPIRUN=${MPIEXEC_EXECUTABLE};MIXSERVE_RANKS=${n};MIXSERVE_DAMAGE_MODEL=$<TARGET_FILE:mixserve_damage_model>;MIXSERVE_FAULT_SHIM=$<TARGET_FILE:mixserve_fault_shim>")
    endforeach()
endfunction()
mixserve_app_test(bad_options 1 4)
mixserve_app_test(bad_models 1 4)
mixserve_app_test(bad_lines 1 4)
mixserve_app_test(commands 1 4)
mixserve_app_test(early_failures 1 4)
mixserve_app_test(file_faults 2)
mixserve_app_test(wire 2)
mixserve_app_test(rank_death 4)

# The program with the emulator in the GPU's place: what --backend cuda does from end to end.
add_executable(mixserve_emulated ${CMAKE_SOURCE_DIR}/src/app/main.cpp)
target_link_libraries(mixserve_emulated PRIVATE mixserve_emulator mixserve_app mixserve_flags)
add_test(NAME app_backend COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_backend.sh $<TARGET_FILE:mixserve> $<TARGET_FILE:mixserve_emulated>)
set_tests_properties(app_backend PROPERTIES TIMEOUT 600 PROCESSORS 2)
