// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/host.hpp"

namespace vmgraft {

/// Where a function came from when vmgraft took it.
struct GpuOrigin {
  std::string address;
  std::string driver;            ///< empty: none
  std::string driver_override;   ///< empty: unset
  friend bool operator==(const GpuOrigin&, const GpuOrigin&) = default;
};

/// How a function's power was managed before vmgraft kept it awake.
struct GpuPower {
  std::string address;
  std::string d3cold_allowed;    ///< "0", "1"; empty: it has no such setting
  std::string control;           ///< "auto", "on"; empty: it has no such setting
  friend bool operator==(const GpuPower&, const GpuPower&) = default;
};

/// What the host and libvirt do not know of a GPU that vmgraft has touched since boot.
struct GpuRecord {
  std::string address;
  std::string identity;          ///< "10de:2330 10de:16c1": another device at the address is another GPU
  std::vector<GpuOrigin> origins;///< of every function that was taken; empty: it stands where it was found
  std::vector<GpuPower> power;   ///< of every function that was kept awake
  bool lent = false;
  std::string vm_uuid;           ///< leased to this VM; empty: to none
  std::string vm;                ///< its name
  std::string store;             ///< root of the store it belongs to
  std::string release;           ///< "reset", "driver" or "keep": what is to become of it when the VM is gone
  std::string quarantine;        ///< why; empty: it is not
  std::string note;              ///< of the last release: "memory not cleared"
  unsigned made_vfs = 0;         ///< a physical function: VFs that vmgraft made, to be removed by it
  bool returns = false;          ///< asked for only for a moment: what the VM lets go too late is plugged in again
  friend bool operator==(const GpuRecord&, const GpuRecord&) = default;
};

[[nodiscard]] std::string to_json_text(const GpuRecord& record);
/// \throws Error other: \p where and what is wrong.
[[nodiscard]] GpuRecord gpu_record_from_json(const std::string& text, const std::string& where);

/// The records, one file a GPU. They are the host's, not a store's, and go at its boot, as driver bindings do: /run.
class GpuLedger {
 public:
  /// \param folder  kGpuLedgerFolder but in tests.
  GpuLedger(Host& host, std::filesystem::path folder) : host_(host), folder_(std::move(folder)) {}

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] std::filesystem::path file(const std::string& address) const;   ///< <folder>/0000:41:00.0.json
  [[nodiscard]] std::filesystem::path lock_file() const { return folder_ / "lock"; }
  [[nodiscard]] std::optional<GpuRecord> find(const std::string& address) const;
  [[nodiscard]] std::vector<GpuRecord> records() const;

 private:
  Host& host_;
  std::filesystem::path folder_;
};

inline constexpr const char* kGpuLedgerFolder = "/run/vmgraft/gpus";

}  // namespace vmgraft
