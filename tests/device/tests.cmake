mixserve_test(device/test_stream)
mixserve_test(device/test_gpu_binding)
mixserve_test(device/test_gpu NAME device_test_on_gpu)
mixserve_test(device/test_gpu NAME device_test_on_emulator LIBRARIES mixserve_emulator)
