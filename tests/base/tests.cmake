mixserve_test(base/test_dtype)
mixserve_test(base/test_base)
mixserve_test(base/test_stop)
mixserve_test(base/test_watchdog)
