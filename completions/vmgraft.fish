# SPDX-License-Identifier: Apache-2.0
# Completion of vmgraft for fish. Names come from the store; libvirt is not asked.

# The verb on the command line, "create" or "snapshot create"; empty before there is one.
function __vmgraft_verb
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    while set -q words[1]
        switch $words[1]
            case --connect --store --templates
                set -e words[1]
            case '-*'
            case '*'
                set -a verb $words[1]
                contains -- $verb[1] snapshot gpu image template; and test (count $verb) -eq 1; or break
        end
        set -e words[1]
    end
    echo "$verb"
end

function __vmgraft_is
    test (__vmgraft_verb) = "$argv[1]"
end

function __vmgraft_names
    set -l store
    set -l words (commandline -opc)
    for i in (seq (count $words))
        contains -- $words[$i] --store --connect; and set -a store $words[$i] $words[(math $i + 1)]
    end
    vmgraft $store __complete $argv[1] (commandline -ct) 2>/dev/null
end

complete -c vmgraft -f
complete -c vmgraft -l connect -x -a 'qemu:///system qemu:///session' -d 'libvirt to talk to'
complete -c vmgraft -l store -x -a '(__fish_complete_directories)' -d 'Where layers and VMs are kept'
complete -c vmgraft -l templates -x -a '(__fish_complete_directories)' -d 'Look for templates here first'
complete -c vmgraft -l json -d 'One JSON record on stdout'
complete -c vmgraft -l quiet -d 'No progress and no notices'
complete -c vmgraft -l verbose -d 'Keep the lines of progress'
complete -c vmgraft -l dry-run -d 'Print the plan and change nothing'
complete -c vmgraft -l yes -d 'Power off a running VM without asking'
complete -c vmgraft -l help -d 'Say how it is used'
complete -c vmgraft -n '__vmgraft_is ""' -l version -d 'Print the version'

complete -c vmgraft -n '__vmgraft_is ""' -a create -d 'Make VMs from a template, and start them'
complete -c vmgraft -n '__vmgraft_is "create"' -F -a '(__vmgraft_names templates)'
complete -c vmgraft -n '__vmgraft_is "create"' -l set -x -d 'A parameter of the template'
complete -c vmgraft -n '__vmgraft_is "create"' -l gpus -x -a '(__vmgraft_names gpus)' -d 'GPUs in place of the template\'s'
complete -c vmgraft -n '__vmgraft_is "create"' -l explain -d 'Say why these GPUs were chosen'
complete -c vmgraft -n '__vmgraft_is "create"' -l count -x -d 'Make N VMs'
complete -c vmgraft -n '__vmgraft_is "create"' -l no-start -d 'Define only'
complete -c vmgraft -n '__vmgraft_is "create"' -l wait -x -a 'ready agent ssh none' -d 'Until when to wait'
complete -c vmgraft -n '__vmgraft_is "create"' -l timeout -x -d 'Give up waiting after this'
complete -c vmgraft -n '__vmgraft_is "create"' -l ttl -x -a '1h 8h 1d never' -d 'Life time'
complete -c vmgraft -n '__vmgraft_is "create"' -l on-expire -x -a 'delete stop' -d 'What gc does then'
complete -c vmgraft -n '__vmgraft_is "create"' -l keep -d 'Keep a VM whose provisioning failed'
complete -c vmgraft -n '__vmgraft_is "create"' -l print-xml -d 'Print the domain XML'

complete -c vmgraft -n '__vmgraft_is ""' -a start -d 'Start VMs'
complete -c vmgraft -n '__vmgraft_is "start"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "start"' -l wait -x -a 'ready agent ssh none' -d 'Until when to wait'
complete -c vmgraft -n '__vmgraft_is "start"' -l timeout -x -d 'Give up waiting after this'
complete -c vmgraft -n '__vmgraft_is "start"' -l explain -d 'Say why these GPUs were chosen'

complete -c vmgraft -n '__vmgraft_is ""' -a stop -d 'Shut VMs down'
complete -c vmgraft -n '__vmgraft_is "stop"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "stop"' -l timeout -x -d 'Power off after this'
complete -c vmgraft -n '__vmgraft_is "stop"' -l force -d 'Power off at once'

complete -c vmgraft -n '__vmgraft_is ""' -a restart -d 'Shut VMs down and start them again'
complete -c vmgraft -n '__vmgraft_is "restart"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "restart"' -l stop-timeout -x -d 'Power off after this'
complete -c vmgraft -n '__vmgraft_is "restart"' -l force -d 'Power off at once'
complete -c vmgraft -n '__vmgraft_is "restart"' -l wait -x -a 'ready agent ssh none' -d 'Until when to wait'
complete -c vmgraft -n '__vmgraft_is "restart"' -l timeout -x -d 'Give up waiting after this'

complete -c vmgraft -n '__vmgraft_is ""' -a delete -d 'Remove VMs with their snapshots'
complete -c vmgraft -n '__vmgraft_is "delete"' -a '(__vmgraft_names vms)'

complete -c vmgraft -n '__vmgraft_is ""' -a list -d 'List VMs'
complete -c vmgraft -n '__vmgraft_is "list"' -l all -d 'VMs that are shut off too'

complete -c vmgraft -n '__vmgraft_is ""' -a show -d 'Tell everything about a VM or a snapshot'
complete -c vmgraft -n '__vmgraft_is "show"' -a '(__vmgraft_names refs)'

complete -c vmgraft -n '__vmgraft_is ""' -a wait -d 'Wait until a VM is ready'
complete -c vmgraft -n '__vmgraft_is "wait"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "wait"' -l for -x -a 'ready agent ssh' -d 'What to wait for'
complete -c vmgraft -n '__vmgraft_is "wait"' -l timeout -x -d 'Give up after this'

complete -c vmgraft -n '__vmgraft_is ""' -a revert -d 'Put a VM back to a snapshot'
complete -c vmgraft -n '__vmgraft_is "revert"' -a '(__vmgraft_names snapshots)'
complete -c vmgraft -n '__vmgraft_is "revert"' -l start -d 'Start the VM afterwards'
complete -c vmgraft -n '__vmgraft_is "revert"' -l no-start -d 'Leave the VM shut off'
complete -c vmgraft -n '__vmgraft_is "revert"' -l wait -x -a 'ready agent ssh none' -d 'Until when to wait'
complete -c vmgraft -n '__vmgraft_is "revert"' -l timeout -x -d 'Give up waiting after this'

complete -c vmgraft -n '__vmgraft_is ""' -a clone -d 'Make VMs from a VM or a snapshot'
complete -c vmgraft -n '__vmgraft_is "clone"' -a '(__vmgraft_names refs)'
complete -c vmgraft -n '__vmgraft_is "clone"' -l count -x -d 'Make N VMs'
complete -c vmgraft -n '__vmgraft_is "clone"' -l full -d 'Copy the data'
complete -c vmgraft -n '__vmgraft_is "clone"' -l keep-tpm -d 'Take the TPM state along'
complete -c vmgraft -n '__vmgraft_is "clone"' -l start -d 'Start the clones'
complete -c vmgraft -n '__vmgraft_is "clone"' -l wait -x -a 'ready agent ssh none' -d 'Until when to wait'
complete -c vmgraft -n '__vmgraft_is "clone"' -l timeout -x -d 'Give up waiting after this'
complete -c vmgraft -n '__vmgraft_is "clone"' -l ttl -x -a '1h 8h 1d never' -d 'Life time'
complete -c vmgraft -n '__vmgraft_is "clone"' -l on-expire -x -a 'delete stop' -d 'What gc does then'
complete -c vmgraft -n '__vmgraft_is "clone"' -l print-xml -d 'Print the domain XML'

complete -c vmgraft -n '__vmgraft_is ""' -a exec -d 'Run a command in a VM'
complete -c vmgraft -n '__vmgraft_is "exec"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "exec"' -l user -x -d 'Run as this user'
complete -c vmgraft -n '__vmgraft_is "exec"' -l timeout -x -d 'End the command after this'
complete -c vmgraft -n '__vmgraft_is "exec"' -l no-stdin -d 'Give the command no input'

complete -c vmgraft -n '__vmgraft_is ""' -a copy -d 'Copy files into or out of a VM'
complete -c vmgraft -n '__vmgraft_is "copy"' -F -a '(__vmgraft_names vms)'

complete -c vmgraft -n '__vmgraft_is ""' -a ssh -d 'Log in to a VM by ssh'
complete -c vmgraft -n '__vmgraft_is "ssh"' -a '(__vmgraft_names vms)'

complete -c vmgraft -n '__vmgraft_is ""' -a console -d 'Join the serial console of a VM'
complete -c vmgraft -n '__vmgraft_is "console"' -a '(__vmgraft_names vms)'

complete -c vmgraft -n '__vmgraft_is ""' -a check -d 'Check whether the store is whole and agrees with libvirt'
complete -c vmgraft -n '__vmgraft_is "check"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "check"' -l quick -d 'Leave out what reads whole files'

complete -c vmgraft -n '__vmgraft_is ""' -a doctor -d 'Check what this host offers'

complete -c vmgraft -n '__vmgraft_is ""' -a version -d 'Print the version'

complete -c vmgraft -n '__vmgraft_is ""' -a snapshot -d 'Name states of a VM'

complete -c vmgraft -n '__vmgraft_is "snapshot"' -a create -d 'Name the present state of a VM'
complete -c vmgraft -n '__vmgraft_is "snapshot create"' -a '(__vmgraft_names vms)'
complete -c vmgraft -n '__vmgraft_is "snapshot create"' -l description -x -d 'A line to remember it by'
complete -c vmgraft -n '__vmgraft_is "snapshot create"' -l memory -d 'Memory and device state too'
complete -c vmgraft -n '__vmgraft_is "snapshot create"' -l timeout -x -d 'How long the guest has to let its GPUs go'

complete -c vmgraft -n '__vmgraft_is "snapshot"' -a list -d 'List the snapshots of a VM as a tree'
complete -c vmgraft -n '__vmgraft_is "snapshot list"' -a '(__vmgraft_names vms)'

complete -c vmgraft -n '__vmgraft_is "snapshot"' -a delete -d 'Forget a snapshot'
complete -c vmgraft -n '__vmgraft_is "snapshot delete"' -a '(__vmgraft_names snapshots)'

complete -c vmgraft -n '__vmgraft_is ""' -a gpu -d 'GPUs for VMs'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a list -d 'List the GPUs of this host'
complete -c vmgraft -n '__vmgraft_is "gpu list"' -l tree -d 'As they are wired'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a check -d 'Check whether GPUs can go to a VM'
complete -c vmgraft -n '__vmgraft_is "gpu check"' -a '(__vmgraft_names gpus)'
complete -c vmgraft -n '__vmgraft_is "gpu check"' -l for -x -a '(__vmgraft_names templates)' -d 'A template to check for'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a request -d 'Change which GPUs a VM asks for'
complete -c vmgraft -n '__vmgraft_is "gpu request"' -a '(__vmgraft_names vms) (__vmgraft_names gpus)'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a attach -d 'Plug GPUs into a running VM'
complete -c vmgraft -n '__vmgraft_is "gpu attach"' -a '(__vmgraft_names vms) (__vmgraft_names gpus)'
complete -c vmgraft -n '__vmgraft_is "gpu attach"' -l explain -d 'Say why these GPUs were chosen'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a detach -d 'Take a GPU out of a running VM'
complete -c vmgraft -n '__vmgraft_is "gpu detach"' -a '(__vmgraft_names vms) (__vmgraft_names gpus)'
complete -c vmgraft -n '__vmgraft_is "gpu detach"' -l timeout -x -d 'How long the guest has to let it go'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a lend -d 'Take a GPU from the host\'s driver, for VMs'
complete -c vmgraft -n '__vmgraft_is "gpu lend"' -a '(__vmgraft_names gpus)'
complete -c vmgraft -n '__vmgraft_is "gpu lend"' -l force-console -d 'Even when it drives the host\'s screen'

complete -c vmgraft -n '__vmgraft_is "gpu"' -a return -d 'Give a GPU back to the driver it came from'
complete -c vmgraft -n '__vmgraft_is "gpu return"' -a '(__vmgraft_names gpus)'
complete -c vmgraft -n '__vmgraft_is "gpu return"' -l force -d 'Lift its quarantine'

complete -c vmgraft -n '__vmgraft_is ""' -a image -d 'What VMs are made from'

complete -c vmgraft -n '__vmgraft_is "image"' -a list -d 'List images'
complete -c vmgraft -n '__vmgraft_is "image list"' -l available -d 'The catalogue'

complete -c vmgraft -n '__vmgraft_is "image"' -a build -d 'Build an image'
complete -c vmgraft -n '__vmgraft_is "image build"' -a 'micro debian-12'
complete -c vmgraft -n '__vmgraft_is "image build"' -l name -x -d 'Name of the image'
complete -c vmgraft -n '__vmgraft_is "image build"' -l force -d 'Replace an image of that name'

complete -c vmgraft -n '__vmgraft_is "image"' -a import -d 'Make an image from a disk file'
complete -c vmgraft -n '__vmgraft_is "image import"' -F
complete -c vmgraft -n '__vmgraft_is "image import"' -l format -x -a 'qcow2 raw' -d 'What the file is'
complete -c vmgraft -n '__vmgraft_is "image import"' -l agent -d 'A guest agent answers in it'
complete -c vmgraft -n '__vmgraft_is "image import"' -l cloud-init -d 'cloud-init runs in it'
complete -c vmgraft -n '__vmgraft_is "image import"' -l user -x -d 'Its login user'
complete -c vmgraft -n '__vmgraft_is "image import"' -l force -d 'Replace an image of that name'

complete -c vmgraft -n '__vmgraft_is "image"' -a pull -d 'Download an image'
complete -c vmgraft -n '__vmgraft_is "image pull"' -a '(__vmgraft_names catalogue)'
complete -c vmgraft -n '__vmgraft_is "image pull"' -l name -x -d 'Name of the image'
complete -c vmgraft -n '__vmgraft_is "image pull"' -l sha256 -x -d 'What the download must be'
complete -c vmgraft -n '__vmgraft_is "image pull"' -l force -d 'Replace an image of that name'

complete -c vmgraft -n '__vmgraft_is "image"' -a delete -d 'Forget images'
complete -c vmgraft -n '__vmgraft_is "image delete"' -a '(__vmgraft_names images)'

complete -c vmgraft -n '__vmgraft_is ""' -a template -d 'What VMs should be'

complete -c vmgraft -n '__vmgraft_is "template"' -a list -d 'List templates'

complete -c vmgraft -n '__vmgraft_is "template"' -a show -d 'Print a template as it resolves'
complete -c vmgraft -n '__vmgraft_is "template show"' -F -a '(__vmgraft_names templates)'
complete -c vmgraft -n '__vmgraft_is "template show"' -l set -x -d 'A parameter of the template'

complete -c vmgraft -n '__vmgraft_is "template"' -a check -d 'Check templates'
complete -c vmgraft -n '__vmgraft_is "template check"' -F -a '(__vmgraft_names templates)'

complete -c vmgraft -n '__vmgraft_is ""' -a extend -d 'Let a VM expire later, or never'
complete -c vmgraft -n '__vmgraft_is "extend"' -a '(__vmgraft_names vms) 1h 8h 1d never'

complete -c vmgraft -n '__vmgraft_is ""' -a gc -d 'Remove what nothing needs any more'
