// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "domain/xml_tree.hpp"

namespace vmgraft {

/// A place on a PCI bus of a guest. The bus is libvirt's, which is the index of the controller that makes it.
struct GuestAddress {
  unsigned bus = 0;
  unsigned slot = 0;
  unsigned function = 0;
};

/// What is taken on the PCI buses of a q35 guest, and what is still free on its root bus.
class GuestPci {
 public:
  /// \param devices  <devices> of a definition whose devices have their addresses.
  /// \throws Error other: an address or index is no number.
  explicit GuestPci(const xmlNode* devices);

  /// An index above all others: libvirt wants a controller to stand on a bus of a lower index than its own.
  [[nodiscard]] unsigned take_index() { return next_index_++; }
  /// A slot of the root bus on which nothing stands.
  /// \throws Error other: there is none.
  [[nodiscard]] unsigned take_slot();
  /// The next function of a slot that only our root ports share, eight in each, as libvirt does with its own.
  [[nodiscard]] GuestAddress take_port_place();
  /// Indices of the pcie-root-ports on which nothing stands.
  [[nodiscard]] std::vector<unsigned> free_ports() const;
  /// Each port that stands on a pxb-pcie -> the guest NUMA cell of that.
  [[nodiscard]] std::map<unsigned, unsigned> port_cells() const;

 private:
  std::set<std::pair<unsigned, unsigned>> taken_;   // bus and slot
  std::map<unsigned, unsigned> ports_;       // pcie-root-port -> its bus
  std::map<unsigned, unsigned> expanders_;   // pxb-pcie -> cell
  unsigned next_index_ = 1;
  GuestAddress port_place_;
};

/// <address type='pci'> as last child of \p device.
void add_guest_address(xmlNode* device, const GuestAddress& place, bool is_multifunction);

/// "0x1f" or "31"; nothing when it is neither.
[[nodiscard]] std::optional<unsigned> parse_pci_number(const std::string& text);

}  // namespace vmgraft
