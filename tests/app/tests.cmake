mixserve_test(app/test_byte_size LIBRARIES mixserve_app)

# The program with the emulator in the GPU's place: what --backend cuda does from end to end.
add_executable(mixserve_emulated ${CMAKE_SOURCE_DIR}/src/app/main.cpp)
target_link_libraries(mixserve_emulated PRIVATE mixserve_emulator mixserve_app mixserve_flags)
add_test(NAME app_backend COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_backend.sh $<TARGET_FILE:mixserve> $<TARGET_FILE:mixserve_emulated>)
set_tests_properties(app_backend PROPERTIES TIMEOUT 600 PROCESSORS 2)
