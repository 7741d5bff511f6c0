foreach(kernel linear experts attention elementwise logits wire)
    mixserve_test(kernels/test_${kernel} LIBRARIES hwy::hwy)
endforeach()

# The GPU's kernels: on a GPU where there is one (else every test is skipped, with the reason), and on the emulator.
set(gpu_tests test_gpu_elementwise.cpp test_gpu_products.cpp test_gpu_attention.cpp test_gpu_packing.cpp test_gpu_sampling.cpp)
list(TRANSFORM gpu_tests PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
foreach(on gpu emulator)
    add_executable(kernels_test_on_${on} ${gpu_tests})
    target_link_libraries(kernels_test_on_${on} PRIVATE mixserve_test_support hwy::hwy mixserve_flags)
    add_test(NAME kernels_test_on_${on} COMMAND kernels_test_on_${on})
    set_tests_properties(kernels_test_on_${on} PROPERTIES TIMEOUT 600)
endforeach()
target_link_libraries(kernels_test_on_emulator PRIVATE mixserve_emulator)
