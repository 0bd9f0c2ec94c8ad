// SPDX-License-Identifier: Apache-2.0
#include <libvirt/virterror.h>

#include "libvirt/checked.hpp"
#include "support/catch.hpp"

using namespace vmgraft;
using namespace std::string_literals;

namespace {
Errc kind(int code, int domain = VIR_FROM_QEMU) {
  return errc_of({code, domain, VIR_ERR_ERROR, "text is never read: not found"});
}
}  // namespace

TEST_CASE("libvirt's numbers, not its words, say what kind of failure it was") {
  CHECK(kind(VIR_ERR_NO_DOMAIN) == Errc::not_found);
  CHECK(kind(VIR_ERR_NO_NETWORK) == Errc::not_found);
  CHECK(kind(VIR_ERR_OPERATION_INVALID) == Errc::conflict);
  CHECK(kind(VIR_ERR_DOM_EXIST) == Errc::conflict);
  CHECK(kind(VIR_ERR_AGENT_UNRESPONSIVE) == Errc::unreachable);
  CHECK(kind(VIR_ERR_AGENT_UNSYNCED) == Errc::unreachable);
  CHECK(kind(112) == Errc::unreachable);  // VIR_ERR_AGENT_COMMAND_TIMEOUT, taken for a refusal on Debian 13
  CHECK(kind(VIR_ERR_OPERATION_TIMEOUT) == Errc::unreachable);
  CHECK(kind(VIR_ERR_AUTH_UNAVAILABLE) == Errc::unreachable);
  CHECK(kind(VIR_ERR_RPC) == Errc::unreachable);
  CHECK(kind(VIR_ERR_CONFIG_UNSUPPORTED) == Errc::host_unfit);
  CHECK(kind(VIR_ERR_INTERNAL_ERROR) == Errc::other);
  CHECK(kind(VIR_ERR_SYSTEM_ERROR) == Errc::other);
}

TEST_CASE("a failure of the RPC layer itself is a lost connection") {
  CHECK(kind(VIR_ERR_SYSTEM_ERROR, VIR_FROM_RPC) == Errc::unreachable);
  CHECK(kind(VIR_ERR_INTERNAL_ERROR, VIR_FROM_RPC) == Errc::unreachable);
  CHECK(kind(VIR_ERR_INTERNAL_ERROR, VIR_FROM_REMOTE) == Errc::unreachable);
}

TEST_CASE("an error says what could not be done, why, and carries libvirt's numbers") {
  const Error error =
      to_error({VIR_ERR_OPERATION_INVALID, VIR_FROM_QEMU, VIR_ERR_ERROR, "domain is not running"}, "freeze VM 'a'");
  CHECK(std::string(error.what()) == "cannot freeze VM 'a': domain is not running");
  REQUIRE(error.libvirt());
  CHECK(error.libvirt()->code == VIR_ERR_OPERATION_INVALID);
  CHECK(error.libvirt()->domain == VIR_FROM_QEMU);
  CHECK(error.libvirt()->message == "domain is not running");
}

TEST_CASE("checked passes a good result through and throws at a bad one") {
  REQUIRE(virInitialize() == 0);
  CHECK(checked(0, "x") == 0);
  CHECK(checked(7, "x") == 7);
  CHECK(error_of([] { checked(-1, "list domains"); }).what() == "cannot list domains: no reason given"s);
  int value = 0;
  CHECK(checked(&value, "x") == &value);
  int* none = nullptr;
  CHECK(error_of([&] { static_cast<void>(checked(none, "x")); }).code() == Errc::other);
}
