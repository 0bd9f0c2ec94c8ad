set(testdriver_files
  testdriver/domain_define_test.cpp
  testdriver/libvirt_hypervisor_test.cpp
  testdriver/manager_store_test.cpp
)
