# Build helpers: one library per folder, one executable per test file group.

option(PREGATE_TESTS "Build the tests" ON)
option(PREGATE_BENCH "Build the benchmarks" ON)
option(PREGATE_FUZZ "Build the libFuzzer targets (needs clang)" OFF)
set(PREGATE_SANITIZE "" CACHE STRING "Value for -fsanitize=, for example address,undefined")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# -O3 pays in compute/ only, which asks for it; everywhere else it only compiles longer.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# -Wno-missing-field-initializers: g++ 12 warns of designated initializers that leave defaults.
# -ffp-contract=off: whether a*b+c is fused must be our choice, not the optimiser's, so that one row
# gives the same bits wherever it is computed.
add_library(pregate_options INTERFACE)
set(cxx_options
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror
  -Wno-missing-field-initializers -ffp-contract=off
  # g++ 12 sees overlaps in std::string that are none (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# The CUDA module links this too, and nvcc knows other flags.
target_compile_options(pregate_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${cxx_options}>")
target_include_directories(pregate_options INTERFACE ${PROJECT_SOURCE_DIR})
# All presets but debug compile several sources as one (CMAKE_UNITY_BUILD): that halves their time.
# Where two sources of a target then share a name, rename one, or give the target UNITY_BUILD OFF.
# The debug preset compiles each source alone: that shows a missing include.
if(PREGATE_SANITIZE)
  # g++ 12 loses track of what is initialized in the code the sanitizers add, and warns that the
  # thread sanitizer does not see Asio's fences.
  target_compile_options(pregate_options INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
    $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>
    -fsanitize=${PREGATE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(pregate_options INTERFACE -fsanitize=${PREGATE_SANITIZE})
endif()

# pregate_library(<folder> SOURCES a.cc b.cc DEPS pregate_base Boost::headers)
function(pregate_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(pregate_${folder} STATIC ${ARG_SOURCES})
  target_link_libraries(pregate_${folder} PUBLIC pregate_options ${ARG_DEPS})
endfunction()

# pregate_build_id(<name> SOURCE build_id.cc HEADERS a.h b.h): the library pregate_<name>_build_id
# of a source that defines what a program and a module of it (base/module.h) must agree on, as
# PREGATE_BUILD_ID: the compiler, and the headers whose types and limits both go by.
function(pregate_build_id name)
  cmake_parse_arguments(ARG "" "SOURCE" "HEADERS" ${ARGN})
  set(hashes "")
  foreach(header ${ARG_HEADERS})
    file(SHA256 ${PROJECT_SOURCE_DIR}/${header} hash)
    string(APPEND hashes ${hash})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${header})
  endforeach()
  string(SHA256 hash "${hashes}")
  string(SUBSTRING ${hash} 0 12 hash)
  pregate_library(${name}_build_id SOURCES ${ARG_SOURCE} DEPS fmt::fmt tl::expected)
  set(id "${PROJECT_VERSION} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${hash}")
  target_compile_definitions(pregate_${name}_build_id PRIVATE PREGATE_BUILD_ID="${id}")
endfunction()

# What the tests labelled `threads` are made of; see tests/run.sh.
add_custom_target(threaded_tests)

# pregate_test(<name> SOURCES x_test.cc DEPS pregate_base LABELS unit [THREADS] [SHARDS n]): one
# GoogleTest executable, registered with ctest as one test per TEST(). THREADS: threads meet in it,
# so that it says something under the thread sanitizer. SHARDS: as n tests of every n-th TEST(),
# where it has so many that a process for each would start for longer than it tests.
function(pregate_test name)
  cmake_parse_arguments(ARG "THREADS" "SHARDS" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE pregate_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE PREGATE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(ARG_THREADS)
    # One label: gtest_discover_tests() cannot pass on two.
    string(APPEND ARG_LABELS "-threads")
    add_dependencies(threaded_tests ${name})
  endif()
  if(NOT ARG_SHARDS)
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT 300 LABELS "${ARG_LABELS}")
    return()
  endif()
  foreach(shard RANGE 1 ${ARG_SHARDS})
    math(EXPR index "${shard} - 1")
    add_test(NAME ${name}.${shard} COMMAND ${name})
    set_tests_properties(${name}.${shard} PROPERTIES TIMEOUT 600 LABELS "${ARG_LABELS}"
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()

# pregate_mpi_test(<name> <target> <mode> <survivors>): three ranks of a program under mpirun, of
# which <survivors> must print "ok <mode> rank R". Skipped where there is no mpirun.
function(pregate_mpi_test name target mode survivors)
  set(tests ${PROJECT_SOURCE_DIR}/tests)
  add_test(NAME ${name} COMMAND
    ${tests}/conformance/transport/run_mpi.sh $<TARGET_FILE:${target}> ${mode} ${survivors})
  set(suppressions ${tests}/sanitizers/tsan.supp)
  add_dependencies(threaded_tests ${target})
  set_tests_properties(${name} PROPERTIES LABELS "mpi-threads"
    SKIP_RETURN_CODE 77 TIMEOUT 130
    ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;TSAN_OPTIONS=suppressions=${suppressions}")
endfunction()
