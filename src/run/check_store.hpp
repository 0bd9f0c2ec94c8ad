// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include <vmgraft/check.hpp>
#include <vmgraft/progress.hpp>

#include "host/host.hpp"
#include "libvirt/hypervisor.hpp"
#include "store/store.hpp"

namespace vmgraft {

struct CheckInput {
  Host& host;
  const Store& store;
  std::filesystem::path tpm_folder;                  ///< where libvirt keeps TPM states
  std::function<Hypervisor&()> connect;              ///< throws when libvirt cannot be reached
  CheckRequest request;
  std::function<void(const Progress&)> on_progress;  ///< may be empty
  const std::atomic<bool>* interrupted = nullptr;
  std::string unrecovered = {};                      ///< why what dead processes left was not finished or undone; empty: nothing kept us
};

/// Look whether the store is whole and agrees with libvirt. Takes no lock and changes nothing, so what another vmgraft is
/// at work on is told as such and not judged. What is wrong is a row. \c host keeps beneath the store: a link is told,
/// and what it stands for is not looked at.
/// \throws Error not_found: a name of nothing. interrupted.
[[nodiscard]] std::vector<CheckRow> check_store(const CheckInput& input);

}  // namespace vmgraft
