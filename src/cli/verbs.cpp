// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "cli/verb.hpp"

namespace vmgraft::cli {

namespace {

constexpr std::array kVerbs{
    VerbEntry{"create", "Make VMs from a template, and start them", "vmgraft create micro web --set memory=1GiB",
              DryRun::planned, make_create},
    VerbEntry{"start", "Start VMs", "vmgraft start web db", DryRun::refused, make_start},
    VerbEntry{"stop", "Shut VMs down", "vmgraft stop --timeout 30s web", DryRun::refused, make_stop},
    VerbEntry{"restart", "Shut VMs down and start them again", "vmgraft restart web", DryRun::refused, make_restart},
    VerbEntry{"delete", "Remove VMs with their snapshots", "vmgraft delete web", DryRun::planned, make_delete},
    VerbEntry{"list", "List VMs", "vmgraft list --all", DryRun::reads, make_list},
    VerbEntry{"show", "Tell everything about a VM or a snapshot", "vmgraft show web@clean", DryRun::reads, make_show},
    VerbEntry{"wait", "Wait until a VM is ready", "vmgraft wait web --for ssh --timeout 2m", DryRun::reads, make_wait},
    VerbEntry{"extend", "Let a VM expire later, or never", "vmgraft extend web 2h", DryRun::refused, make_extend},
    VerbEntry{"snapshot create", "Name the present state of a VM", "vmgraft snapshot create web clean", DryRun::planned,
              make_snapshot_create},
    VerbEntry{"snapshot list", "List the snapshots of a VM as a tree", "vmgraft snapshot list web", DryRun::reads,
              make_snapshot_list},
    VerbEntry{"snapshot delete", "Forget a snapshot", "vmgraft snapshot delete web@clean", DryRun::planned,
              make_snapshot_delete},
    VerbEntry{"revert", "Put a VM back to a snapshot", "vmgraft revert web@clean", DryRun::planned, make_revert},
    VerbEntry{"clone", "Make VMs from a VM or a snapshot", "vmgraft clone web@clean job --count 10 --start",
              DryRun::planned, make_clone},
    VerbEntry{"exec", "Run a command in a VM", "vmgraft exec web -- ls -l /etc", DryRun::refused, make_exec},
    VerbEntry{"copy", "Copy files into or out of a VM", "vmgraft copy ./site web:/srv", DryRun::refused, make_copy},
    VerbEntry{"ssh", "Log in to a VM by ssh", "vmgraft ssh web -- uptime", DryRun::refused, make_ssh},
    VerbEntry{"console", "Join the serial console of a VM", "vmgraft console web", DryRun::refused, make_console},
    VerbEntry{"gpu list", "List the GPUs of this host", "vmgraft gpu list --tree", DryRun::reads, make_gpu_list},
    VerbEntry{"gpu check", "Check whether GPUs can go to a VM", "vmgraft gpu check 41:00.0 --for gpu-train",
              DryRun::reads, make_gpu_check},
    VerbEntry{"gpu request", "Change which GPUs a VM asks for", "vmgraft gpu request web 41:00.0", DryRun::refused,
              make_gpu_request},
    VerbEntry{"gpu attach", "Plug GPUs into a running VM", "vmgraft gpu attach web model=H100 --explain",
              DryRun::refused, make_gpu_attach},
    VerbEntry{"gpu detach", "Take a GPU out of a running VM", "vmgraft gpu detach web 41:00.0", DryRun::refused,
              make_gpu_detach},
    VerbEntry{"gpu lend", "Take a GPU from the host's driver, for VMs", "vmgraft gpu lend 41:00.0", DryRun::refused,
              make_gpu_lend},
    VerbEntry{"gpu return", "Give a GPU back to the driver it came from", "vmgraft gpu return 41:00.0", DryRun::refused,
              make_gpu_return},
    VerbEntry{"image list", "List images", "vmgraft image list --available", DryRun::reads, make_image_list},
    VerbEntry{"image build", "Build an image from packages of this host's distribution", "vmgraft image build micro",
              DryRun::refused, make_image_build},
    VerbEntry{"image import", "Make an image from a disk file", "vmgraft image import ./disk.qcow2 base",
              DryRun::refused, make_image_import},
    VerbEntry{"image pull", "Download an image", "vmgraft image pull debian-12-cloud", DryRun::refused,
              make_image_pull},
    VerbEntry{"image delete", "Forget images", "vmgraft image delete base", DryRun::refused, make_image_delete},
    VerbEntry{"template list", "List templates", "vmgraft template list", DryRun::reads, make_template_list},
    VerbEntry{"template show", "Print a template as it resolves", "vmgraft template show dev --set memory=8GiB",
              DryRun::reads, make_template_show},
    VerbEntry{"template check", "Check templates", "vmgraft template check ./ci.json", DryRun::reads,
              make_template_check},
    VerbEntry{"gc", "Remove what nothing needs any more, and VMs beyond their time", "vmgraft gc --dry-run",
              DryRun::planned, make_gc},
    VerbEntry{"check", "Check whether the store is whole and agrees with libvirt", "vmgraft check web --quick", DryRun::reads,
              make_check},
    VerbEntry{"doctor", "Check what this host offers", "vmgraft doctor", DryRun::reads, make_doctor},
    VerbEntry{"version", "Print the version", "vmgraft version", DryRun::reads, make_version},
    VerbEntry{"__complete", "", "", DryRun::reads, make_complete},
};

}  // namespace

std::span<const VerbEntry> verbs() {
  return kVerbs;
}

}  // namespace vmgraft::cli
