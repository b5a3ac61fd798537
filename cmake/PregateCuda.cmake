# CUDA is optional: without it the module with the kernels for GPUs (compute/cuda/module.h) is not
# built, and the program says so when a GPU is asked for. Sets PREGATE_CUDA_FOUND,
# PREGATE_NCCL_FOUND and PREGATE_NCCL_HEADERS.

option(PREGATE_CUDA "Build the modules for CUDA and NCCL when CUDA 12 or newer is found" ON)
set(PREGATE_CUDA_FOUND FALSE)

# Program and module exchange C++ types, so the same compiler makes both; and what a sanitizer adds
# does not go with a driver.
if(PREGATE_CUDA AND NOT PREGATE_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_program(PREGATE_NVCC nvcc PATHS /usr/local/cuda/bin)
  mark_as_advanced(PREGATE_NVCC)
  if(PREGATE_NVCC AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} ${PREGATE_NVCC})
  endif()
  if(NOT DEFINED ENV{CUDAHOSTCXX})
    set(ENV{CUDAHOSTCXX} ${CMAKE_CXX_COMPILER})
  endif()
  # compute/cuda/CMakeLists.txt says for which devices.
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  # A toolkit that was not there the last time may be there now.
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    # CMake 3.25.1 (Debian 12) takes for granted that there is this library; CUDA 13 has none, and
    # others may be without it.
    if(CMAKE_VERSION VERSION_LESS 3.26 AND NOT TARGET CUDA::nvToolsExt)
      add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
    endif()
    find_package(CUDAToolkit)
    # CMake 3.25 does not know that nvcc has it.
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.0 AND
      TARGET CUDA::cudart_static)
    set(PREGATE_CUDA_FOUND TRUE)
  elseif(CMAKE_CUDA_COMPILER)
    message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION} found; 12.0 or newer with its static "
      "runtime is needed, so no CUDA module")
  else()
    message(STATUS "CUDA: not found, so no CUDA module")
  endif()
endif()

# NCCL is optional too: without it there is no module for it (transport/nccl/module.h). Its headers
# are enough to test the module's code, with a stand-in for the libraries.
find_path(PREGATE_NCCL_INCLUDE nccl.h
  PATHS /usr/local/nccl/include ${CUDAToolkit_INCLUDE_DIRS} /usr/local/cuda/include)
find_path(PREGATE_CUDART_INCLUDE cuda_runtime_api.h
  PATHS ${CUDAToolkit_INCLUDE_DIRS} /usr/local/cuda/include)
find_library(PREGATE_NCCL_LIBRARY nccl
  PATHS /usr/local/nccl/lib ${CUDAToolkit_LIBRARY_DIR} /usr/local/cuda/lib64 /usr/local/cuda/lib)
mark_as_advanced(PREGATE_NCCL_INCLUDE PREGATE_CUDART_INCLUDE PREGATE_NCCL_LIBRARY)
set(PREGATE_NCCL_HEADERS FALSE)
set(PREGATE_NCCL_FOUND FALSE)
if(PREGATE_CUDA AND PREGATE_NCCL_INCLUDE AND PREGATE_CUDART_INCLUDE)
  set(PREGATE_NCCL_HEADERS TRUE)
endif()
if(PREGATE_CUDA_FOUND)
  if(PREGATE_NCCL_HEADERS AND PREGATE_NCCL_LIBRARY)
    set(PREGATE_NCCL_FOUND TRUE)
  else()
    message(STATUS "NCCL: not found, so no NCCL module (deploy/install-nccl.sh)")
  endif()
endif()
