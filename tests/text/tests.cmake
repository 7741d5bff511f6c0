mixserve_test(text/test_tokenizer)
target_sources(text_test_tokenizer PRIVATE ${CMAKE_CURRENT_LIST_DIR}/test_tokenizer_parts.cpp
                                           ${CMAKE_CURRENT_LIST_DIR}/test_tokenizer_golden.cpp)

# Prints the rate of encoding; not a test.
add_executable(bench_tokenizer ${CMAKE_CURRENT_LIST_DIR}/bench_tokenizer.cpp)
target_link_libraries(bench_tokenizer PRIVATE mixserve_text mixserve_flags)

mixserve_test(text/test_chat_template)
