foreach(kernel linear experts attention elementwise)
    mixserve_test(kernels/test_${kernel} LIBRARIES hwy::hwy)
endforeach()
