set(cli_files
  cli/gpu_test.cpp
  cli/record_test.cpp
  cli/surface_test.cpp
  cli/usage_test.cpp
)
