# The job scripts under a real Slurm on two emulated nodes; skipped where Slurm or namespaces are not to be had.
add_test(NAME slurm_jobscripts COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_slurm.py)
set_tests_properties(slurm_jobscripts PROPERTIES TIMEOUT 3600 RUN_SERIAL ON SKIP_RETURN_CODE 77
                     ENVIRONMENT "MIXSERVE=$<TARGET_FILE:mixserve>")
