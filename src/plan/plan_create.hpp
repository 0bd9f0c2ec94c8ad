// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "domain/domain_config.hpp"
#include "plan/facts.hpp"
#include "plan/steps.hpp"
#include "template/template.hpp"

namespace vmgraft {

/// What a disk of a new VM stands on.
struct ImageFacts {
  ImageRecord image;
  LayerRecord layer;
};

/// What was drawn for one new VM.
struct NewVm {
  std::string name;
  std::string uuid;
  std::vector<std::string> macs;      ///< one per NIC
  std::vector<std::string> layers;    ///< ids, one per disk
  std::string seed;                   ///< a finished NoCloud seed to adopt; empty: none
  std::string host_key;               ///< with a seed: its private SSH host key, the public one beside it in ".pub"
};

struct CreateFacts {
  const Store& store;
  ResolvedTemplate resolved;
  std::map<std::string, ImageFacts> images;   ///< by name, each that a disk asks for
  std::string virt_type;                      ///< "kvm" or "qemu"
  std::string emulator;                       ///< empty: libvirt's default
  bool is_session = false;
  std::string owner;
  std::string now;
  std::string expires;                        ///< empty: never
  std::vector<std::string> ssh_keys;
  std::vector<NamedGpu> named_gpus = {};      ///< cards at the addresses that the template asks for
};

/// The VM's domain, from template, images and host.
/// \throws Error invalid_template: the image cannot boot as the template asks; no size for an empty disk; smaller than its image.
[[nodiscard]] DomainConfig domain_config(const CreateFacts& facts, const NewVm& vm);

/// Make the VMs, all or none. None is started.
[[nodiscard]] Plan plan_create(const CreateFacts& facts, const std::vector<NewVm>& vms);

}  // namespace vmgraft
