// SPDX-License-Identifier: Apache-2.0
// The program itself: a few lines that load the command line as a module. Loading its libraries takes
// longer than answering `vmgraft version`, which scripts ask often; so that is answered before anything is loaded.
#include <climits>
#include <cstdio>
#include <cstring>

#include <dlfcn.h>
#include <unistd.h>

#include "libvirt/client_libraries.hpp"

namespace {

bool asks_for_version(int argc, char** argv) {
  return argc == 2 && (std::strcmp(argv[1], "version") == 0 || std::strcmp(argv[1], "--version") == 0);
}

/// The module stands at a fixed place relative to the program, in the build folder as in an install tree.
bool module_path(char (&path)[PATH_MAX]) {
  char program[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) return false;
  program[length] = '\0';
  *std::strrchr(program, '/') = '\0';
  const int written = std::snprintf(path, sizeof path, "%s/%s", program, VMGRAFT_MODULE);
  return written > 0 && static_cast<std::size_t>(written) < sizeof path;
}

}  // namespace

int main(int argc, char** argv) {
  if (asks_for_version(argc, argv)) return std::puts("vmgraft " VMGRAFT_VERSION) >= 0 && std::fflush(stdout) == 0 ? 0 : 1;
  char path[PATH_MAX];
  if (!module_path(path)) return 1;
  void* module = dlopen(path, RTLD_LAZY);
  if (module == nullptr) {
    // The module leaves libvirt's symbols open until a command connects. Where that cannot be (LD_BIND_NOW, a build linked
    // with -z now, a compiler that has a function's address looked up), libvirt comes first.
    for (const char* library : vmgraft::client_libraries) dlopen(library, RTLD_LAZY | RTLD_GLOBAL);
    module = dlopen(path, RTLD_LAZY);
  }
  void* entry = module == nullptr ? nullptr : dlsym(module, "vmgraft_main");
  if (entry == nullptr) {
    std::fprintf(stderr, "vmgraft: error: cannot load the command line: %s\n  hint: install vmgraft and its libraries again\n",
                 dlerror());
    return 1;
  }
  return reinterpret_cast<int (*)(int, char**)>(entry)(argc, argv);
}
