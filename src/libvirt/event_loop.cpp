// SPDX-License-Identifier: Apache-2.0
#include "libvirt/event_loop.hpp"

#include <csignal>
#include <mutex>
#include <system_error>

#include <dlfcn.h>
#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <pthread.h>

#include <vmgraft/error.hpp>

#include "libvirt/checked.hpp"
#include "libvirt/client_libraries.hpp"

namespace vmgraft {
namespace {

/// vmgraft's program is linked without libvirt (CMakeLists.txt): to load it and what it needs takes a quarter of the time of
/// a short command. Where it is linked, this finds it.
void load_libvirt() {
  for (const char* library : client_libraries)
    if (dlopen(library, RTLD_LAZY | RTLD_GLOBAL) == nullptr)
      throw Error(Errc::host_unfit, fmt::format("cannot load libvirt's client library: {}", dlerror()), "install libvirt0");
}

}  // namespace

std::shared_ptr<EventLoop> EventLoop::hold() {
  // Process-wide because libvirt's loop is: it can be registered once and never taken back. Start and stop are under
  // one lock: two threads in libvirt's loop at once would take each other's wake-ups.
  struct Shared {
    std::mutex mutex;
    std::unique_ptr<EventLoop> loop;
    std::size_t holders = 0;
  };
  static Shared shared;
  const std::lock_guard<std::mutex> lock(shared.mutex);
  if (!shared.loop) shared.loop.reset(new EventLoop);
  ++shared.holders;
  return {shared.loop.get(), [](EventLoop*) {
            const std::lock_guard<std::mutex> relock(shared.mutex);
            if (--shared.holders == 0) shared.loop.reset();
          }};
}

EventLoop::EventLoop() {
  static std::once_flag registered;
  std::call_once(registered, [] {
    load_libvirt();
    // The first call of all: until then virGetLastError reads a thread variable that is not libvirt's.
    if (virInitialize() < 0) throw Error(Errc::other, "cannot initialise libvirt");
    // Before anything else can fail: libvirt prints errors to stderr by itself until this is set.
    virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
    checked(virEventRegisterDefaultImpl(), "start libvirt's event loop");
  });
  // A timer that never fires by itself; making it due wakes the loop from any thread.
  wake_timer_ = checked(virEventAddTimeout(
                            -1, [](int timer, void*) { virEventUpdateTimeout(timer, -1); }, nullptr, nullptr),
                        "start libvirt's event loop");
  // Signals belong to the program's own threads: one that runs here could not interrupt what waits there.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] {
      while (!stop_.load()) {
        if (virEventRunDefaultImpl() < 0) break;
      }
    });
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    virEventRemoveTimeout(wake_timer_);
    throw Error(Errc::other, std::string("cannot start libvirt's event loop: ") + error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

EventLoop::~EventLoop() {
  stop_.store(true);
  virEventUpdateTimeout(wake_timer_, 0);
  thread_.join();
  virEventRemoveTimeout(wake_timer_);
}

}  // namespace vmgraft
