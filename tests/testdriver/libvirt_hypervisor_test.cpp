// SPDX-License-Identifier: Apache-2.0
// LibvirtHypervisor against libvirt's test driver: a hypervisor in this process, private to each connection.
#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "domain/domain_xml.hpp"
#include "libvirt/libvirt_hypervisor.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace vmgraft;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr const char* kOff = "11111111-1111-4111-8111-111111111111";
constexpr const char* kOn = "22222222-2222-4222-8222-222222222222";
constexpr const char* kPaused = "33333333-3333-4333-8333-333333333333";
constexpr const char* kNone = "99999999-9999-4999-8999-999999999999";

std::string domain_xml(const std::string& name, const std::string& uuid, int run_state = 0) {
  const std::string state = run_state == 0 ? "" : "<test:runstate>" + std::to_string(run_state) + "</test:runstate>";
  return "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>" + name + "</name><uuid>" +
         uuid + "</uuid><memory>65536</memory><os><type>hvm</type></os>" + state + "</domain>";
}

/// A test hypervisor with one domain off, one running, one paused.
class TestDriver {
 public:
  TestDriver() {
    std::ofstream file(folder_ / "node.xml");
    file << "<node>" << domain_xml("off", kOff, 5) << domain_xml("on", kOn, 1) << domain_xml("paused", kPaused, 3)
         << "<network><name>net</name><bridge name='virbr77'/><ip address='192.168.77.1' "
            "netmask='255.255.255.0'/></network>"
         << "</node>";
    file.close();
    hypervisor_ = connect_libvirt("test://" + (folder_ / "node.xml").string());
  }
  Hypervisor* operator->() const { return hypervisor_.get(); }

 private:
  TempFolder folder_;
  std::unique_ptr<Hypervisor> hypervisor_;
};

}  // namespace

TEST_CASE("domains are listed with their states") {
  const TestDriver driver;
  auto domains = driver->domains();
  std::sort(domains.begin(), domains.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  REQUIRE(domains.size() == 3);
  CHECK(domains[0].name == "off");
  CHECK(domains[0].uuid == kOff);
  CHECK(domains[0].state == VmState::shut_off);
  CHECK(domains[1].name == "on");
  CHECK(domains[1].state == VmState::running);
  CHECK(domains[2].name == "paused");
  CHECK(domains[2].state == VmState::paused);
  CHECK(std::all_of(domains.begin(), domains.end(), [](const auto& one) { return one.persistent; }));
}

TEST_CASE("a domain is found by name and by UUID, and its absence is a value") {
  const TestDriver driver;
  REQUIRE(driver->find_by_name("on"));
  CHECK(driver->find_by_name("on")->uuid == kOn);
  REQUIRE(driver->find_by_uuid(kPaused));
  CHECK(driver->find_by_uuid(kPaused)->state == VmState::paused);
  CHECK_FALSE(driver->find_by_name("nobody"));
  CHECK_FALSE(driver->find_by_uuid(kNone));
}

TEST_CASE("a connection says where it leads") {
  const TestDriver driver;
  const HypervisorInfo info = driver->info();
  CHECK(info.uri.rfind("test:///", 0) == 0);
  CHECK_FALSE(info.is_session);
  CHECK(info.libvirt_version >= 8000000);
  CHECK(driver->capabilities_xml().find("<capabilities>") != std::string::npos);
}

TEST_CASE("a definition can be made, read, replaced and removed") {
  const TestDriver driver;
  driver->define(domain_xml("new", kNone), Schema::checked);
  REQUIRE(driver->find_by_name("new"));
  CHECK(driver->find_by_name("new")->state == VmState::shut_off);
  CHECK(driver->domain_xml(kNone, true).find("<name>new</name>") != std::string::npos);
  driver->define(domain_xml("new", kNone), Schema::checked);
  driver->undefine(kNone, false);
  CHECK_FALSE(driver->find_by_uuid(kNone));
  driver->undefine(kNone, false);  // absent is fine
  driver->define(domain_xml("new", kNone), Schema::checked);
  driver->undefine(kNone, true);
  CHECK_FALSE(driver->find_by_uuid(kNone));
}

// libvirt shows no password, and what was defined again of that had none: the console was open to everybody.
TEST_CASE("the passwords of consoles are taken over into a definition that was made of what libvirt shows") {
  const TestDriver driver;
  std::string xml = domain_xml("new", kNone);
  xml.insert(xml.find("</domain>"),
             "<devices><graphics type='spice' autoport='yes' passwd='one'/><graphics type='vnc' autoport='yes' "
             "passwd='a&amp;b'/>"
             "</devices>");
  driver->define(xml, Schema::checked);
  const std::string shown = driver->domain_xml(kNone, true);
  CHECK(shown.find("passwd=") == std::string::npos);
  driver->define(with_console_passwords(shown, driver->secure_definition(kNone)), Schema::checked);
  const std::string now = driver->secure_definition(kNone);
  CHECK(now.find("passwd='one'") != std::string::npos);
  CHECK(now.find("passwd='a&amp;b'") != std::string::npos);
  driver->undefine(kNone, false);
  CHECK(driver->secure_definition(kNone).empty());
}

TEST_CASE("a taken name is a conflict, and what libvirt's schema does not know is refused") {
  const TestDriver driver;
  CHECK(error_of([&] { driver->define(domain_xml("on", kNone), Schema::checked); }).code() == Errc::conflict);
  CHECK_FALSE(driver->find_by_uuid(kNone));
  std::string misspelt = domain_xml("new", kNone);
  misspelt.replace(misspelt.find("<os>"), 4, "<memorry>1</memorry><os>");
  CHECK(error_of([&] { driver->define(misspelt, Schema::checked); }).code() == Errc::other);
  CHECK_FALSE(driver->find_by_uuid(kNone));
}

TEST_CASE("start, shutdown and power off change the state; a second start is a conflict, a second power off is fine") {
  const TestDriver driver;
  driver->start(kOff);
  CHECK(driver->find_by_uuid(kOff)->state == VmState::running);
  const Error error = error_of([&] { driver->start(kOff); });
  CHECK(error.code() == Errc::conflict);
  CHECK(std::string(error.what()) == "VM 'off' is running already");
  driver->power_off(kOff);
  CHECK(driver->find_by_uuid(kOff)->state == VmState::shut_off);
  driver->power_off(kOff);
  driver->request_shutdown(kOn);
  CHECK(driver->find_by_uuid(kOn)->state == VmState::shut_off);
  driver->request_shutdown(kOn);
}

TEST_CASE("an act on a domain that is not there is not_found") {
  const TestDriver driver;
  CHECK(error_of([&] { driver->start(kNone); }).code() == Errc::not_found);
  CHECK(error_of([&] { driver->power_off(kNone); }).code() == Errc::not_found);
  CHECK(error_of([&] { static_cast<void>(driver->domain_xml(kNone, false)); }).code() == Errc::not_found);
  CHECK(error_of([&] { static_cast<void>(driver->wait_shut_off(kNone, seconds(1), nullptr)); }).code() ==
        Errc::not_found);
  CHECK(error_of([&] { driver->switch_to_overlays(kNone, {{"vda", "/x", false}}, {}); }).code() == Errc::not_found);
}

TEST_CASE("a VM is started by another definition for one run, and has its own again afterwards") {
  const TestDriver driver;
  std::string other = domain_xml("off", kOff);
  other.replace(other.find("65536"), 5, "32768");
  driver->start_as(other);
  CHECK(driver->find_by_uuid(kOff)->state == VmState::running);
  CHECK(driver->find_by_uuid(kOff)->persistent);
  CHECK(driver->domain_xml(kOff, false).find(">32768</memory>") != std::string::npos);
  CHECK(driver->domain_xml(kOff, true).find(">65536</memory>") != std::string::npos);
  CHECK(error_of([&] { driver->start_as(other); }).code() == Errc::conflict);
  driver->power_off(kOff);
  CHECK(driver->find_by_uuid(kOff)->state == VmState::shut_off);
  CHECK(driver->domain_xml(kOff, false).find(">65536</memory>") != std::string::npos);
}

TEST_CASE("a definition that libvirt's schema does not know starts nothing") {
  const TestDriver driver;
  std::string misspelt = domain_xml("off", kOff);
  misspelt.replace(misspelt.find("<os>"), 4, "<memorry>1</memorry><os>");
  CHECK(error_of([&] { driver->start_as(misspelt); }).code() == Errc::other);
  CHECK(driver->find_by_uuid(kOff)->state == VmState::shut_off);
}

TEST_CASE("a device that the VM has not is let go at once, and a VM that is off holds none") {
  const TestDriver driver;
  CHECK(driver->detach_device(kOn, "ua-x", seconds(60), nullptr) == DetachOutcome::removed);
  CHECK(driver->detach_device(kOff, "ua-x", seconds(60), nullptr) == DetachOutcome::vm_gone);
  CHECK(error_of([&] { static_cast<void>(driver->detach_device(kNone, "ua-x", seconds(60), nullptr)); }).code() ==
        Errc::not_found);
}

TEST_CASE("memory is saved to a new file only, and a failed save leaves none") {
  const TestDriver driver;
  const TempFolder folder;
  const std::string file = folder / "memory";
  std::ofstream(file) << "kept";
  const Error taken = error_of([&] { driver->save_memory(kOn, file, {}, {}); });
  CHECK(taken.code() == Errc::conflict);
  CHECK(std::string(taken.what()) == "cannot save the memory of VM 'on' to '" + file + "': the file exists already");
  CHECK(std::filesystem::file_size(file) == 4);
  std::filesystem::remove(file);
  CHECK(error_of([&] { driver->save_memory(kNone, file, {}, {}); }).code() == Errc::not_found);
  static_cast<void>(error_of([&] { driver->save_memory(kOn, file, {}, {}); }));  // the test driver saves no memory
  const Error off = error_of([&] { driver->save_memory(kOff, file, {}, {}); });
  CHECK(off.code() == Errc::conflict);
  CHECK(std::string(off.what()) == "cannot save the memory of VM 'off' to '" + file + "': the VM does not run");
  CHECK(off.hint() == "vmgraft start off");
  CHECK_FALSE(std::filesystem::exists(file));
}

TEST_CASE("what is not there is not saved memory") {
  const TestDriver driver;
  const TempFolder folder;
  const std::string file = folder / "none";
  CHECK(std::string(error_of([&] { static_cast<void>(driver->saved_memory_xml(file)); }).what())
            .starts_with("cannot read the definition in the saved memory '" + file + "': "));
  CHECK(std::string(error_of([&] { driver->restore_memory(file, domain_xml("off", kOff)); }).what())
            .starts_with("cannot start the VM from the saved memory '" + file + "': "));
  CHECK(driver->find_by_uuid(kOff)->state == VmState::shut_off);
}

TEST_CASE("waiting for the stop ends at once when the domain is off already") {
  const TestDriver driver;
  CHECK(driver->wait_shut_off(kOff, seconds(60), nullptr) == WaitOutcome::happened);
}

TEST_CASE("waiting for the stop is woken by its event") {
  const TestDriver driver;
  std::thread other([&] { driver->power_off(kOn); });
  const WaitOutcome outcome = driver->wait_shut_off(kOn, seconds(60), nullptr);
  other.join();
  CHECK(outcome == WaitOutcome::happened);
}

TEST_CASE("waiting for the stop ends with its time") {
  const TestDriver driver;
  CHECK(driver->wait_shut_off(kOn, milliseconds(1), nullptr) == WaitOutcome::timed_out);
  CHECK(driver->wait_shut_off(kOn, milliseconds(0), nullptr) == WaitOutcome::timed_out);
}

TEST_CASE("a wait is left when somebody interrupts") {
  const TestDriver driver;
  std::atomic<bool> interrupted{true};
  CHECK(driver->wait_shut_off(kOn, milliseconds::max(), &interrupted) == WaitOutcome::interrupted);
  interrupted = false;
  std::thread other([&] { interrupted = true; });
  CHECK(driver->wait_shut_off(kOn, milliseconds::max(), &interrupted) == WaitOutcome::interrupted);
  other.join();
}

TEST_CASE("waiting for the agent of a VM that is off says so") {
  const TestDriver driver;
  CHECK(driver->wait_agent(kOff, seconds(60), nullptr) == WaitOutcome::vm_gone);
}

TEST_CASE("a merge of layers in a running VM is refused where QEMU would crash") {
  const TestDriver driver;
  CHECK_FALSE(can_merge_live({"", 9000000, 7002022, false}));
  CHECK_FALSE(can_merge_live({"", 9000000, 8001005, false}));
  CHECK(can_merge_live({"", 9000000, 8002000, false}));
  const Error error = error_of([&] { driver->pull_into_active(kOn, "vda", "/base", nullptr); });
  CHECK(error.code() == Errc::host_unfit);
  CHECK(error.hint() == "stop the VM first: vmgraft stop on");
}

TEST_CASE(
    "a network is found, started, defined when it is absent, and missed when there is nothing to define it from") {
  const TestDriver driver;
  driver->ensure_network("net", "");
  driver->ensure_network("net", "");
  driver->ensure_network("made",
                         "<network><name>made</name><bridge name='virbr78'/><ip address='192.168.78.1' "
                         "netmask='255.255.255.0'/></network>");
  driver->ensure_network("made", "");
  const Error error = error_of([&] { driver->ensure_network("none", ""); });
  CHECK(error.code() == Errc::not_found);
  CHECK(std::string(error.what()) == "libvirt has no network 'none'");
}

TEST_CASE("addresses of a VM that is off are none") {
  const TestDriver driver;
  CHECK(driver->addresses(kOff).empty());
}

TEST_CASE("connections come and go, and the event loop with them") {
  for (int i = 0; i < 5; ++i) {
    const TestDriver first;
    const TestDriver second;
    std::thread other([&] { second->power_off(kOn); });
    CHECK(second->wait_shut_off(kOn, seconds(60), nullptr) == WaitOutcome::happened);
    other.join();
    CHECK(first->find_by_uuid(kOn)->state == VmState::running);
  }
}

TEST_CASE("connections of several threads come and go at once") {
  std::vector<std::thread> threads;
  std::atomic<int> woken{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k) {
        const TestDriver driver;
        driver->power_off(kOn);
        if (driver->wait_shut_off(kOn, seconds(60), nullptr) == WaitOutcome::happened) ++woken;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(woken == 80);
}
