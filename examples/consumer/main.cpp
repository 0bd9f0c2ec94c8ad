// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include <vmgraft/manager.hpp>
#include <vmgraft/version.hpp>

int main() {
  vmgraft::Manager manager{vmgraft::Options{}};
  std::cout << "vmgraft " << vmgraft::version() << " with " << manager.templates().size() << " templates\n";
  return manager.templates().empty() ? 1 : 0;
}
