set(cli_files
  cli/record_test.cpp
  cli/surface_test.cpp
  cli/usage_test.cpp
)
