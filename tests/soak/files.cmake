set(soak_files
  soak/lock_wait_test.cpp
  soak/race_test.cpp
  soak/soak_lab.cpp
  soak/soak_test.cpp
  soak/soak_watch.cpp
  soak/soak_worker.cpp
)
