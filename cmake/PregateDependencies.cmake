# Third-party libraries, all of them Debian 12 packages; deploy/dependencies.txt lists the packages.

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(tl-expected REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)

# MPI is optional: without it transport/mpi/no_mpi.cc answers "not built".
option(PREGATE_MPI "Build the MPI transport when MPI is found" ON)
if(PREGATE_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  set(MPI_DETERMINE_LIBRARY_VERSION ON)
  find_package(MPI COMPONENTS CXX)
endif()

# UCX too: without it transport/ucx/no_ucx.cc answers.
option(PREGATE_UCX "Build the UCX transport when UCX is found" ON)
if(PREGATE_UCX)
  find_package(ucx CONFIG)
endif()

if(PREGATE_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
if(PREGATE_BENCH)
  find_package(benchmark REQUIRED)
endif()
