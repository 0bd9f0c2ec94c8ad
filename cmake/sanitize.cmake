# SPDX-License-Identifier: Apache-2.0
# Builds that watch themselves, for everything below: the first finding ends the program.
if(VMGRAFT_SANITIZE STREQUAL "address")
  set(sanitizers address,undefined,float-cast-overflow)
elseif(VMGRAFT_SANITIZE STREQUAL "undefined")
  set(sanitizers undefined,float-cast-overflow)
elseif(VMGRAFT_SANITIZE STREQUAL "thread")
  set(sanitizers thread)
elseif(VMGRAFT_SANITIZE)
  message(FATAL_ERROR "VMGRAFT_SANITIZE is '${VMGRAFT_SANITIZE}' (want address, undefined or thread)")
endif()
if(VMGRAFT_BUILD_FUZZERS AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "VMGRAFT_BUILD_FUZZERS needs clang: its libFuzzer drives them (-DCMAKE_CXX_COMPILER=clang++)")
endif()

if(VMGRAFT_SANITIZE)
  # -O1 with line tables: little slower to build than -O0, and a stack trace names its lines. "undefined" alone is for
  # fuzzers that run for hours.
  add_compile_options(-fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer
    $<IF:$<STREQUAL:${VMGRAFT_SANITIZE},undefined>,-O2,-O1> -g1)
  add_link_options(-fsanitize=${sanitizers})
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
  set(VMGRAFT_STATIC_RUNTIME)  # the program must bring the libstdc++ that its module throws through: a sanitizer wraps it
else()
  set(VMGRAFT_STATIC_RUNTIME -static-libstdc++ -static-libgcc)
endif()
