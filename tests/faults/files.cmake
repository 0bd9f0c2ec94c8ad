set(faults_files
  faults/kill_test.cpp
  faults/power_test.cpp
  faults/scenarios.cpp
  faults/sweep.cpp
  faults/tracer.cpp
  faults/world.cpp
)
