// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <unistd.h>

#include "run/check_store.hpp"
#include "run/manager_impl.hpp"

namespace vmgraft {

std::vector<CheckRow> Manager::check(const CheckRequest& request) {
  Impl& impl = *impl_;
  const std::filesystem::path root = impl.store_root();
  if (!impl.host.stat(root / "version"))
    throw Error(Errc::not_found, fmt::format("there is no store at {}", root.string()),
                "it is made with the first image or VM; another one is named by --store DIR");
  impl.host.keep_beneath(root);
  std::string unrecovered;
  try {
    static_cast<void>(impl.store());  // finishes or undoes what dead processes left
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    unrecovered = error.what();  // this, too, is for the rows to tell
  }
  StoreAccess access;
  try {
    access = impl.store_access();
  } catch (const Error& error) {
    if (error.code() != Errc::unreachable) throw;  // told in a row
  }
  const Store store(impl.host, root, access);
  store.require_readable();
  return check_store({impl.host, store, impl.tpm_folder(), [&]() -> Hypervisor& { return impl.hypervisor(); }, request, impl.options.on_progress,
                      impl.options.interrupted, unrecovered});
}

}  // namespace vmgraft
