# Every dependency comes from the distribution (scripts/install-dependencies names the packages).
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(Boost REQUIRED COMPONENTS program_options)
find_package(ICU REQUIRED COMPONENTS uc i18n)
find_package(PkgConfig REQUIRED)
find_package(HDF5 REQUIRED COMPONENTS C)

target_compile_definitions(MPI::MPI_CXX INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)

add_library(hdf5 INTERFACE)
target_include_directories(hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(hdf5 INTERFACE ${HDF5_LIBRARIES})

foreach(module xxhash pcre2-8)
    pkg_check_modules(${module} REQUIRED IMPORTED_TARGET lib${module})
    add_library(${module} INTERFACE)
    target_link_libraries(${module} INTERFACE PkgConfig::${module})
endforeach()
find_package(hwy REQUIRED)

# Only benchmarks use it, as the limit of arithmetic.
find_package(dnnl QUIET)
if(TARGET DNNL::dnnl)
    set(DNNL_FOUND TRUE)
endif()
