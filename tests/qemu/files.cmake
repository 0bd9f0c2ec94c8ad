set(qemu_files
  qemu/examples_test.cpp
  qemu/guest_test.cpp
  qemu/lab.cpp
  qemu/main_job_test.cpp
  qemu/snapshot_test.cpp
  qemu/unhappy_test.cpp
)
