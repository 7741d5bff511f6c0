mixserve_test(app/test_byte_size LIBRARIES mixserve_app)
