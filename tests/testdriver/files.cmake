set(testdriver_files
  testdriver/domain_define_test.cpp
  testdriver/libvirt_hypervisor_test.cpp
)
