mixserve_test(device/test_stream)
