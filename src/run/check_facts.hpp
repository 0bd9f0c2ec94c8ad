// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <vmgraft/error.hpp>

#include "plan/facts.hpp"
#include "run/check_store.hpp"

namespace vmgraft {

/// What a record of the store says, or why it cannot be read.
template <typename Record>
struct Reading {
  std::optional<Record> record;
  std::string error;
  std::string remedy;
};

/// A store and the domains, read record by record: one that is broken hides none of the others.
struct CheckFacts {
  std::map<std::string, Reading<Manifest>> vms;          ///< by folder name, those without vm.json too
  std::map<std::string, Reading<ImageRecord>> images;
  std::map<std::string, Reading<LayerRecord>> layers;
  LayerMap records;                                      ///< the layers that can be read
  std::map<std::string, std::string> busy;               ///< VM or "@image-NAME" to what a living vmgraft does to it
  bool is_busy = false;                                  ///< a living vmgraft is at work on anything
  bool is_all = true;                                    ///< no folder of the store is a link, behind which more may be
  Hypervisor* hypervisor = nullptr;                      ///< null: libvirt does not answer
  std::string refusal, refusal_remedy;
  std::vector<DomainState> domains;
};

[[nodiscard]] CheckFacts read_check_facts(const CheckInput& input);

/// Collects rows, all of one place at a time.
class StoreFindings {
 public:
  void add(CheckRow row);
  void fail(const std::string& id, const std::string& place, std::string seen, std::string remedy);
  void warn(const std::string& id, const std::string& place, std::string seen, std::string remedy);
  void ok(const std::string& id, const std::string& place, std::string seen);
  /// Whether anything but ok was said of the place.
  [[nodiscard]] bool has_findings(const std::string& place) const { return troubled_.contains(place); }
  [[nodiscard]] std::vector<CheckRow> take() { return std::move(rows_); }

 private:
  std::vector<CheckRow> rows_;
  std::set<std::string> troubled_;
};

[[nodiscard]] std::string layer_place(const std::string& id);

/// Names of a store's folders.
inline constexpr std::array<const char*, 6> kStoreFolders{"layers", "vms", "images", "journal", "locks", "tmp"};

/// "PATH is a symbolic link to TARGET", for a row.
[[nodiscard]] std::string link_text(Host& host, const std::filesystem::path& link);
[[nodiscard]] bool is_link(Host& host, const std::filesystem::path& path);
inline constexpr const char* kLinkRemedy = "vmgraft follows none in a store: look who put it there, and remove it";

/// Look at one thing. What cannot be looked at is told, and hides nothing else.
template <typename Look>
void look_at(const std::string& place, StoreFindings& rows, const Look& look) {
  try {
    look();
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    rows.fail("unreadable", place, error.what(), error.hint().empty() ? "see the message" : error.hint());
  }
}

// The parts, each adding its rows.
void check_journal(const CheckInput& input, StoreFindings& rows);
void check_folders(const CheckInput& input, const CheckFacts& facts, StoreFindings& rows);
/// Folders of the store that are links: they hide what is behind them from every other part.
void check_linked_folders(const CheckInput& input, StoreFindings& rows);
void check_vm(const CheckInput& input, const CheckFacts& facts, const std::string& name, StoreFindings& rows);
void check_image(const CheckInput& input, const CheckFacts& facts, const std::string& name, StoreFindings& rows);
void check_strange_domains(const CheckInput& input, const CheckFacts& facts, StoreFindings& rows);
/// \param ids  the layers to look at. \param whole_store  whether those that nothing names are told too.
void check_layers(const CheckInput& input, const CheckFacts& facts, const std::set<std::string>& ids, bool whole_store,
                  StoreFindings& rows);

}  // namespace vmgraft
