set(golden_files
  golden/golden_test.cpp
)
