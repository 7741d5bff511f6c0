mixserve_test(model/test_config)
mixserve_test(model/test_rope)
