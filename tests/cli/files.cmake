set(cli_files
  cli/check_test.cpp
  cli/gc_test.cpp
  cli/gpu_test.cpp
  cli/record_test.cpp
  cli/surface_test.cpp
  cli/usage_test.cpp
)
