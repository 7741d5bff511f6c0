mixserve_test(base/test_dtype)
mixserve_test(base/test_base)
