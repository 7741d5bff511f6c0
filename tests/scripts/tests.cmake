# The scripts of the set-up, each run on a case that it must refuse.
foreach(script check-includes install-dependencies show-generations)
    string(REPLACE "-" "_" name ${script})
    add_test(NAME scripts_${name}
             COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_${name}.sh ${CMAKE_SOURCE_DIR}/scripts/${script})
    set_tests_properties(scripts_${name} PROPERTIES TIMEOUT 60 SKIP_RETURN_CODE 77)
endforeach()
# Studies, with the program.
foreach(script scaling-study compare-strategies)
    string(REPLACE "-" "_" name ${script})
    add_test(NAME scripts_${name}
             COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_${name}.sh ${CMAKE_SOURCE_DIR}/scripts/${script} $<TARGET_FILE:mixserve>)
    set_tests_properties(scripts_${name} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 PROCESSORS 2)
endforeach()
