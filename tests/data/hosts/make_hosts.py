#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the .host files beside it that are composed and not recorded (lab.host alone is a recording).

No such machine was at hand. Ids are those of pci.ids; class codes, sysfs formats, group shapes, BAR sizes, drivers and
quirks follow the kernel's and the vendors' documents and published lspci listings. What a real host of the kind would
tell may differ in detail: where a recording of one can be had (record.sh), it should replace the composed file.
Only what vmgraft reads is written. Format: tests/support/recorded_host.hpp.
"""
import os
import sys

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
MEM32, MEM64, IO = 0x40200, 0x140204, 0x40101
PREF64 = 0x14220C  # memory, 64 bits, prefetchable
FREE_RUN = "0x0000000000000000 0x0000000000000000 0x0000000000000000"


class Host:
    def __init__(self, name, what):
        self.name, self.lines = name, [f"# {line}" for line in what.strip().splitlines()]
        self.lines.append("# Composed by make_hosts.py, not recorded.")
        self.groups, self.paths, self.body = {}, {}, []
        self.next_free = {MEM32: 0xA0000000, IO: 0x3000}  # of the flags; all else is put high

    def file(self, path, text):
        for line in str(text).split("\n"):
            self.lines.append(f"{path} = {line}")

    def base(self, cmdline, cpu, sizes, kernel, memory):
        """What every host tells; memory in bytes."""
        self.file("/proc/cmdline", cmdline)
        self.file("/proc/sys/kernel/osrelease", kernel)
        self.file("/proc/self/status", "Uid:\t0\t0\t0\t0")
        vendor = "GenuineIntel" if "Intel" in cpu else "AuthenticAMD"
        self.file("/proc/cpuinfo",
                  f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: {cpu}\naddress sizes\t: {sizes}")
        self.file("/proc/meminfo", f"MemTotal:       {memory // 1024} kB\nMemFree:        {memory * 9 // 10240} kB")
        self.file("/sys/kernel/security/lockdown", "[none] integrity confidentiality")

    def vfio(self):
        self.lines.append("/sys/bus/pci/drivers/vfio-pci/")
        self.file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N")

    def intel_iommu(self, units, cap):
        for unit in range(units):
            self.file(f"/sys/devices/virtual/iommu/dmar{unit}/intel-iommu/cap", cap)

    def cpus(self, cores, threads=2):
        """Cores 0..n-1, their second threads behind them, as Linux counts on PCs."""
        self.file("/sys/devices/system/cpu/online", f"0-{cores * threads - 1}")
        for cpu in range(cores * threads):
            siblings = ",".join(str(cpu % cores + cores * t) for t in range(threads))
            self.file(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)

    def node(self, number, cpulist, memory, free, pools):
        """pools: {page size in KiB: (total, free)}; memory and free in bytes."""
        at = f"/sys/devices/system/node/node{number}"
        self.file(f"{at}/cpulist", cpulist)
        self.file(f"{at}/meminfo", "\n".join(f"Node {number} {key}: {value // 1024} kB" for key, value in
                  (("MemTotal", memory), ("MemFree", free), ("Active(file)", GIB), ("Inactive(file)", GIB))))
        for size, (total, left) in pools.items():
            self.file(f"{at}/hugepages/hugepages-{size}kB/nr_hugepages", total)
            self.file(f"{at}/hugepages/hugepages-{size}kB/free_hugepages", left)

    def bars(self, wanted):
        """[(size, flags)], 0 for a BAR that is not there, to lines of `resource`, each aligned to its size."""
        rows = []
        for size, flags in wanted:
            if not size:
                rows.append(FREE_RUN)
                continue
            kind = flags if flags in (MEM32, IO) else MEM64
            start = -(-self.next_free.get(kind, 0x20000000000) // size) * size
            self.next_free[kind] = start + size
            rows.append(f"0x{start:016x} 0x{start + size - 1:016x} 0x{flags:016x}")
        return (rows + [FREE_RUN] * 6)[:6]

    def add(self, address, parent, cls, ids, subsystem="0000:0000", driver="", group=None, numa=-1, bars=(), reset="",
            link=None, multi=False, vga=None, extra=(), alive=True, power="D0", override="(null)", physfn=""):
        """parent: a bridge's address, or "pci0000:40", a host bridge. link: (speed, lanes) or ((now), (at most))."""
        at = (self.paths.get(parent) or f"/sys/devices/{parent}") + f"/{address}"
        self.paths[address] = at
        up = "../" * (at.count("/") - 1)
        out = [f"/sys/bus/pci/devices/{address} -> ../../../{at[len('/sys/'):]}", f"[{at}]"]
        vendor, device = ids.split(":")
        sub_vendor, sub_device = subsystem.split(":")
        out += [f"class = 0x{cls:06x}", f"vendor = 0x{vendor}", f"device = 0x{device}",
                f"subsystem_vendor = 0x{sub_vendor}", f"subsystem_device = 0x{sub_device}"]
        if driver:
            out.append(f"driver -> {up}bus/pci/drivers/{driver}")
        if group is not None:
            out.append(f"iommu_group -> {up}kernel/iommu_groups/{group}")
            self.groups.setdefault(group, []).append(address)
        out += [f"driver_override = {override}", f"numa_node = {numa}"]
        if vga is not None:
            out.append(f"boot_vga = {vga}")
        is_bridge = cls >> 8 == 0x0604
        if not is_bridge:
            out += [f"resource = {row}" for row in self.bars(bars)]
            out += [f"reset_method = {reset}"] if reset else []
        if link:
            now, most = link if isinstance(link[0], tuple) else (link, link)
            out += [f"current_link_speed = {now[0]}", f"max_link_speed = {most[0]}",
                    f"current_link_width = {now[1]}", f"max_link_width = {most[1]}"]
        if physfn:
            out.append(f"physfn -> ../{physfn}")
        out.append(f"power_state = {power}")
        # The ids of a VF read as ffff: the SR-IOV specification has them in its physical function only.
        head = "ff ff ff ff" if physfn else f"{vendor[2:]} {vendor[:2]} {device[2:]} {device[:2]}"
        code = f"a1 {cls & 0xff:02x} {cls >> 8 & 0xff:02x} {cls >> 16:02x}"
        kind = (0x80 if multi else 0) | (1 if is_bridge else 0)
        out.append("config :hex " + (f"{head} 07 04 10 00 {code} 10 00 {kind:02x} 00" if alive else "ff " * 15 + "ff"))
        self.body += out + list(extra)

    def filler(self, address, root, cls, ids):
        """A function that only its class is read of."""
        at = f"/sys/devices/{root}/{address}"
        vendor, device = ids.split(":")
        self.body += [f"/sys/bus/pci/devices/{address} -> ../../../{at[len('/sys/'):]}", f"[{at}]",
                      f"class = 0x{cls:06x}", f"vendor = 0x{vendor}", f"device = 0x{device}"]

    def nic(self, address, name, default=False):
        self.lines.append(f"/sys/class/net/{name} -> ../..{self.paths[address][len('/sys'):]}/net/{name}")
        if default:
            self.file("/proc/net/route",
                      "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"
                      f"\n{name}\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0"
                      f"\n{name}\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0")

    def disk(self, address, parts):
        """An NVMe disk and its mounts: {partition number: folder}."""
        at = f"../..{self.paths[address][len('/sys'):]}/nvme/nvme0/nvme0n1"
        self.lines.append(f"/sys/class/block/nvme0n1 -> {at}")
        for part, folder in parts.items():
            self.lines.append(f"/sys/class/block/nvme0n1p{part} -> {at}/nvme0n1p{part}")
            self.file("/proc/mounts", f"/dev/nvme0n1p{part} {folder} ext4 rw,relatime 0 0")

    def process(self, pid, command, uid, nodes, maps=()):
        self.file(f"/proc/{pid}/comm", command)
        self.file(f"/proc/{pid}/status", f"Name:\t{command}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}")
        for fd, node in enumerate(nodes, 5):
            self.lines.append(f"/proc/{pid}/fd/{fd} -> {node}")
        for node in maps:
            self.file(f"/proc/{pid}/maps", f"7f2c40000000-7f2c40200000 rw-s 00000000 00:05 612   {node}")

    def write(self, folder):
        out = self.lines + ["", "# IOMMU groups"]
        for number, members in sorted(self.groups.items()):
            out += [f"[/sys/kernel/iommu_groups/{number}]", "type = DMA-FQ",
                    "reserved_regions = 0x00000000fee00000 0x00000000feefffff msi"]
            out += [f"devices/{a} -> ../../../../{self.paths[a][len('/sys/'):]}" for a in sorted(members)]
        out += ["", "# PCI functions"] + self.body
        with open(os.path.join(folder, self.name + ".host"), "w", encoding="ascii") as file:
            file.write("\n".join(out) + "\n")


GEN3, GEN4, GEN5 = "8.0 GT/s PCIe", "16.0 GT/s PCIe", "32.0 GT/s PCIe"
H100 = dict(cls=0x030200, ids="10de:2330", subsystem="10de:16c1", reset="flr bus", link=(GEN5, 16),
            bars=[(16 * MIB, PREF64), (0, 0), (128 * GIB, PREF64), (0, 0), (32 * MIB, PREF64), (0, 0)])
A100 = dict(cls=0x030200, ids="10de:20b5", subsystem="10de:1533", reset="flr bus", link=(GEN4, 16),
            bars=[(16 * MIB, MEM32), (128 * GIB, PREF64), (0, 0), (32 * MIB, PREF64), (0, 0), (0, 0)])
MLX5 = dict(cls=0x020700, ids="15b3:1021", subsystem="15b3:0041", driver="mlx5_core", reset="flr bus", link=(GEN5, 16),
            bars=[(32 * MIB, PREF64)])


def nvidia(host, address, minor):
    host.file(f"/proc/driver/nvidia/gpus/{address}/information",
              f"Model: \t\t NVIDIA\nBus Location: \t {address}\nDevice Minor: \t {minor}")


def switch(host, root, port, bus, node, group, gpus, nics, driver, numbered=0):
    """A root port, a switch of four ports below it, a GPU or NIC below each; every port keeps its own apart (ACS)."""
    host.add(f"0000:{port}", root, 0x060400, "8086:352a", driver="pcieport", group=group, numa=node, link=(GEN5, 16))
    up = f"0000:{bus:02x}:00.0"
    host.add(up, f"0000:{port}", 0x060400, "1000:c030", driver="pcieport", group=group + 1, numa=node, link=(GEN5, 16))
    for i, kind in enumerate(["gpu"] * gpus + ["nic"] * nics):
        down = f"0000:{bus + 1:02x}:{i:02x}.0"
        host.add(down, up, 0x060400, "1000:c030", driver="pcieport", group=group + 2 + 2 * i, numa=node, link=(GEN5,
                                                                                                               16))
        address = f"0000:{bus + 2 + i:02x}:00.0"
        if kind == "gpu":
            host.add(address, down, driver=driver, group=group + 3 + 2 * i, numa=node, **H100)
        else:
            host.add(address, down, group=group + 3 + 2 * i, numa=node, **MLX5)
            host.nic(address, f"ib{numbered + i - gpus}")


def sxm(name, what, driver, buses, command_line):
    host = Host(name, what)
    host.base(command_line, "Intel(R) Xeon(R) Platinum 8462Y+", "52 bits physical, 57 bits virtual",
              "6.8.0-45-generic", 2 * TIB)
    host.vfio()
    host.intel_iommu(4, "9ed008c40780c66")
    host.cpus(64)
    for node, cpulist in enumerate(("0-31,64-95", "32-63,96-127")):
        host.node(node, cpulist, TIB, 120 * GIB, {1048576: (900, 880), 2048: (0, 0)})
    host.add("0000:00:1c.0", "pci0000:00", 0x060400, "8086:1bb8", driver="pcieport", group=0, numa=0)
    host.add("0000:01:00.0", "0000:00:1c.0", 0x060400, "1a03:1150", driver="", group=1, numa=0)
    host.add("0000:02:00.0", "0000:01:00.0", 0x030000, "1a03:2000", "1a03:2000", driver="ast", group=1, numa=0, vga=1,
             bars=[(64 * MIB, MEM32), (256 * 1024, MEM32), (128, IO)], extra=["drm/card0/",
                                                                              "drm/card0/card0-VGA-1/status = "
             "disconnected", "drm/card0/card0-VGA-1/enabled = disabled"])
    host.add("0000:00:1d.0", "pci0000:00", 0x060400, "8086:1bb0", driver="pcieport", group=2, numa=0)
    host.add("0000:03:00.0", "0000:00:1d.0", 0x010802, "144d:a824", driver="nvme", group=3, numa=0, reset="flr bus",
             bars=[(32768, MEM64)], link=(GEN4, 4), extra=["nvme/nvme0/nvme0n1/"])
    host.disk("0000:03:00.0", {2: "/", 1: "/boot/efi"})
    for i, bus in enumerate(buses):
        switch(host, f"pci0000:{bus:02x}", f"{bus:02x}:01.0", bus + 1, 0 if i < len(buses) // 2 else 1, 20 + 10 * i, 2,
               2,
               driver, 2 * i)
    return host


def sxm_8gpu(folder):
    buses = (0x15, 0x41, 0x97, 0xC1)
    host = sxm("sxm-8gpu",
               """8 x H100 SXM on four PCIe switches, two a NUMA node, each switch with two NICs; 4 NVSwitches.
BARs of 128 GiB. All GPUs were on vfio-pci from boot.""", "vfio-pci", buses,
               "BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro intel_iommu=on iommu=pt vfio-pci.ids=10de:2330")
    gpus = [f"0000:{bus + 3 + i:02x}:00.0" for bus in buses for i in range(2)]
    for i in range(4):
        port = f"0000:05:{i + 1:02x}.0"
        host.add(port, "pci0000:05", 0x060400, "8086:352a", driver="pcieport", group=70 + 2 * i, numa=0, link=(GEN4, 2))
        host.add(f"0000:{7 + i:02x}:00.0", port, 0x068000, "10de:22a3", "10de:1796", driver="nvidia-nvswitch",
                 group=71 + 2 * i, numa=0, reset="flr bus", bars=[(32 * MIB, MEM64)], link=(GEN4, 2))
    parts = []
    for size in (8, 4, 2, 1):
        for at in range(0, 8, size):
            listed = ", ".join(f'"{gpu}"' for gpu in gpus[at:at + size])
            parts.append(f'{{"name": "p{size}-{at // size}", "gpus": [{listed}]}}')
    host.file("/etc/vmgraft/gpus.json", '{"version": 1, "partitions": [\n' + ",\n".join(parts) + "\n]}")
    host.write(folder)


def big(folder):
    buses = (0x10, 0x20, 0x30, 0x40, 0x90, 0xA0, 0xB0, 0xC0)
    host = sxm("big-16gpu-500",
               """16 GPUs and 500 PCI functions, for speed: eight switches of two GPUs and two NICs, the rest
fillers of which only the class is read. The GPUs are on nvidia.""", "nvidia", buses,
               "BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro intel_iommu=on iommu=pt")
    for minor in range(16):
        nvidia(host, f"0000:{buses[minor // 2] + 3 + minor % 2:02x}:00.0", minor)
    kinds = [(0x020000, "15b3:101e"), (0x088000, "8086:3258"), (0x060000, "8086:324d"), (0x010802, "144d:a824")]
    count = len(host.paths)
    for bus in range(0xE0, 0x100):
        for slot in range(32):
            if count < 500:
                host.filler(f"0000:{bus:02x}:{slot:02x}.{count % 8}", f"pci0000:{bus:02x}", *kinds[count % 4])
                count += 1
    host.write(folder)


def laptop(folder):
    host = Host("laptop-1gpu",
                """A hybrid laptop: the screen hangs on the Intel GPU, the NVIDIA GPU sleeps (D3cold) though the
display server has it open. Its root port shares its group, as without ACS.""")
    host.base("BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro quiet splash intel_iommu=on",
              "12th Gen Intel(R) Core(TM) i7-12700H",
              "39 bits physical, 48 bits virtual", "6.1.0-18-amd64", 32 * GIB)
    host.file("/lib/modules/6.1.0-18-amd64/kernel/drivers/vfio/pci/vfio-pci.ko", "module")
    host.intel_iommu(2, "1c0000c40660462")
    host.cpus(6)
    host.node(0, "0-11", 32 * GIB, 18 * GIB, {1048576: (0, 0), 2048: (0, 0)})
    host.add("0000:00:01.0", "pci0000:00", 0x060400, "8086:460d", driver="pcieport", group=2, link=(GEN4, 8))
    host.add("0000:00:02.0", "pci0000:00", 0x030000, "8086:46a6", "17aa:22e7", driver="i915", group=0, vga=1,
             bars=[(16 * MIB, MEM64), (0, 0), (256 * MIB, PREF64), (0, 0), (64, IO)], reset="flr pm",
             extra=["drm/card1/", "drm/renderD129/", "drm/card1/card1-eDP-1/status = connected",
                    "drm/card1/card1-eDP-1/enabled = enabled", "drm/card1/card1-HDMI-A-1/status = disconnected",
                    "drm/card1/card1-HDMI-A-1/enabled = disabled"])
    row = [line for line in host.body if line.startswith("resource")][2].split()
    host.file("/proc/iomem", f"  {row[2][2:]}-{int(row[2], 16) + 0x7fffff:x} : BOOTFB")
    host.add("0000:00:06.0", "pci0000:00", 0x060400, "8086:464d", driver="pcieport", group=1, link=(GEN4, 4))
    host.add("0000:00:14.3", "pci0000:00", 0x028000, "8086:51f0", driver="iwlwifi", group=9, reset="flr",
             bars=[(16384, MEM64)])
    host.add("0000:01:00.0", "0000:00:01.0", 0x030200, "10de:25a0", "17aa:22e8", driver="nvidia", group=2, multi=True,
             bars=[(16 * MIB, MEM32), (4 * GIB, PREF64), (0, 0), (32 * MIB, PREF64), (0, 0), (128, IO)], reset="bus",
             link=(("2.5 GT/s PCIe", 8), (GEN4, 8)), power="D3cold", alive=False,
             extra=["drm/card0/", "drm/renderD128/"])
    host.add("0000:01:00.1", "0000:00:01.0", 0x040300, "10de:2291", "17aa:22e8", driver="snd_hda_intel", group=2,
             multi=True,
             bars=[(16384, MEM32)], link=(("2.5 GT/s PCIe", 8), (GEN4, 8)), power="D3cold", alive=False,
             extra=["sound/card1/controlC1/", "sound/card1/hwC1D0/", "sound/card1/pcmC1D3p/",
                    "sound/card1/id = NVidia"])
    host.add("0000:02:00.0", "0000:00:06.0", 0x010802, "144d:a80a", driver="nvme", group=10, reset="flr bus",
             bars=[(16384, MEM64)], link=(GEN4, 4), extra=["nvme/nvme0/nvme0n1/"])
    host.nic("0000:00:14.3", "wlp0s20f3", default=True)
    host.disk("0000:02:00.0", {2: "/", 1: "/boot/efi"})
    nvidia(host, "0000:01:00.0", 0)
    host.process(1, "systemd", 0, ["/dev/null", "/dev/autofs"])
    host.process(1423, "Xorg", 0, ["/dev/dri/card1", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-modeset"])
    host.process(1690, "pipewire", 1000, ["/dev/snd/controlC1"])
    host.write(folder)


def pcie_2socket(folder):
    host = Host("pcie-2socket",
                """Two sockets with two A100 PCIe each, on the host's driver. 0000:cb:00.0 hangs with the default
route's NIC on a switch without ACS: one group. A process computes on 0000:b1:00.0, another has it mapped only.""")
    host.base("BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro intel_iommu=on iommu=pt",
              "Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz",
              "46 bits physical, 57 bits virtual", "6.1.0-18-amd64", 512 * GIB)
    host.vfio()
    host.intel_iommu(4, "8d2078c106f0466")
    host.cpus(48)
    host.node(0, "0-23,48-71", 256 * GIB, 110 * GIB, {1048576: (120, 120), 2048: (0, 0)})
    host.node(1, "24-47,72-95", 256 * GIB, 110 * GIB, {1048576: (120, 60), 2048: (0, 0)})
    sriov = ["sriov_totalvfs = 16", "sriov_numvfs = 0"]
    for i, (root, gpu, node, group) in enumerate((("16", "17", 0, 30), ("30", "31", 0, 34), ("b0", "b1", 1, 50))):
        port = f"0000:{root}:02.0"
        host.add(port, f"pci0000:{root}", 0x060400, "8086:347a", driver="pcieport", group=group, numa=node, link=(GEN4,
                                                                                                                  16))
        host.add(f"0000:{gpu}:00.0", port, driver="nvidia", group=group + 1, numa=node, **A100,
                 extra=sriov + [f"drm/card{i + 1}/", f"drm/renderD{128 + i}/"])
        nvidia(host, f"0000:{gpu}:00.0", i)
    host.add("0000:c8:02.0", "pci0000:c8", 0x060400, "8086:347a", driver="pcieport", group=60, numa=1, link=(GEN4, 16))
    host.add("0000:c9:00.0", "0000:c8:02.0", 0x060400, "10b5:8747", driver="pcieport", group=61, numa=1, link=(GEN3,
                                                                                                               16))
    for slot in ("08", "10"):
        host.add(f"0000:ca:{slot}.0", "0000:c9:00.0", 0x060400, "10b5:8747", driver="pcieport", group=61, numa=1,
                 link=(GEN3, 16))
    slow = dict(A100, link=((GEN3, 16), (GEN4, 16)))
    host.add("0000:cb:00.0", "0000:ca:08.0", driver="nvidia", group=61, numa=1, **slow,
             extra=sriov + ["drm/card4/", "drm/renderD131/"])
    nvidia(host, "0000:cb:00.0", 3)
    host.add("0000:cc:00.0", "0000:ca:10.0", 0x020000, "15b3:101d", "15b3:0043", driver="mlx5_core", group=61, numa=1,
             reset="flr bus", link=(GEN3, 16), bars=[(32 * MIB, PREF64)])
    host.nic("0000:cc:00.0", "enp204s0", default=True)
    host.lines.append("/sys/class/net/br0 -> ../../devices/virtual/net/br0")
    host.lines.append("/sys/devices/virtual/net/br0/lower_enp204s0 -> ../../../../devices/" +
                      host.paths["0000:cc:00.0"][len("/sys/devices/"):] + "/net/enp204s0")
    host.add("0000:00:1d.0", "pci0000:00", 0x060400, "8086:a298", driver="pcieport", group=5, numa=0)
    host.add("0000:01:00.0", "0000:00:1d.0", 0x010802, "144d:a824", driver="nvme", group=6, numa=0, reset="flr bus",
             bars=[(32768, MEM64)], link=(GEN4, 4), extra=["nvme/nvme0/nvme0n1/"])
    host.disk("0000:01:00.0", {2: "/", 1: "/boot/efi"})
    host.process(4242, "python3", 1000, ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia2", "/dev/nvidia2"])
    host.process(4300, "dcgm-exporter", 0, ["/dev/nvidiactl"], maps=["/dev/nvidia2"])
    host.write(folder)


def mxgpu_amd(folder):
    host = Host("mxgpu-amd",
                """AMD Instinct MI300X: 0000:05:00.0 has made a VF, which is on vfio-pci; 0000:26:00.0 could;
both are on AMD's host driver gim. 0000:46:00.0 is on amdgpu.""")
    host.base("BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro amd_iommu=on iommu=pt", "AMD EPYC 9654 96-Core Processor",
              "52 bits physical, 57 bits virtual", "6.8.0-45-generic", 1536 * GIB)
    host.vfio()
    host.cpus(192, 1)
    for node in range(2):
        host.node(node, f"{96 * node}-{96 * node + 95}", 768 * GIB, 600 * GIB, {1048576: (0, 0), 2048: (0, 0)})
    mi300x = dict(cls=0x120000, ids="1002:74a1", subsystem="1002:74a1", reset="bus", link=(GEN5, 16),
                  bars=[(256 * GIB, PREF64), (0, 0), (2 * MIB, PREF64), (0, 0), (0, 0), (2 * MIB, MEM32)])
    for root, bus, node, group, driver, vfs in (("00", "05", 0, 20, "gim", 1), ("20", "26", 0, 30, "gim", 0),
                                                ("40", "46", 1, 40, "amdgpu", 0)):
        port, gpu = f"0000:{root}:01.1", f"0000:{bus}:00.0"
        host.add(port, f"pci0000:{root}", 0x060400, "1022:14ab", driver="pcieport", group=group, numa=node, link=(GEN5,
                                                                                                                  16))
        extra = ["sriov_totalvfs = 8", f"sriov_numvfs = {vfs}"]
        if vfs:
            extra.append(f"virtfn0 -> ../0000:{bus}:02.0")
        if driver == "amdgpu":
            extra = ["drm/card1/", "drm/renderD128/"]
        host.add(gpu, port, driver=driver, group=group + 1, numa=node, extra=extra, **mi300x)
        if vfs:
            host.add(f"0000:{bus}:02.0", port, 0x120000, "1002:74b5", "1002:74a1", driver="vfio-pci", group=group + 2,
                     numa=node, bars=mi300x["bars"], reset="flr", physfn=gpu)
    host.write(folder)


def geforce(host, port, slot, group, vga, driver, others, extra=(), numa=-1):
    """A Turing card: four functions."""
    link = (("2.5 GT/s PCIe", 8), (GEN3, 16))
    host.add(f"{slot}.0", port, 0x030000, "10de:1e87", "1462:3726", driver=driver, group=group, numa=numa, vga=vga,
             multi=True,
             bars=[(16 * MIB, MEM32), (256 * MIB, PREF64), (0, 0), (32 * MIB, PREF64), (0, 0), (128, IO)], reset="bus",
             link=link, extra=extra)
    for number, (cls, device, name, size) in enumerate(((0x040300, "10f8", "snd_hda_intel", 16384), (0x0C0330, "1ad8",
                                                       "xhci_hcd", 256 * 1024), (0x0C8000, "1ad9", "nvidia-gpu",
                                                                                 4096)), 1):
        host.add(f"{slot}.{number}", port, cls, f"10de:{device}", "1462:3726", driver=others or name, group=group,
                 numa=numa,
                 multi=True, bars=[(size, MEM32)], link=link, reset="bus" if number == 1 else "")


def acs_override(folder):
    host = Host("acs-override",
                """A consumer board whose groups the ACS override patch made. Two GeForce cards with audio, USB and
USB-C functions: the first drives the screen, the second was on vfio-pci from boot.""")
    host.base("BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro quiet amd_iommu=on pcie_acs_override=downstream "
              "vfio-pci.ids=10de:1e87", "AMD Ryzen 9 3900X 12-Core Processor", "43 bits physical, 48 bits virtual",
              "6.1.0-18-amd64", 64 * GIB)
    host.vfio()
    host.cpus(12)
    host.node(0, "0-23", 64 * GIB, 40 * GIB, {1048576: (0, 0), 2048: (0, 0)})
    host.add("0000:00:03.1", "pci0000:00", 0x060400, "1022:1483", driver="pcieport", group=7, link=(GEN3, 16))
    host.add("0000:00:03.2", "pci0000:00", 0x060400, "1022:1483", driver="pcieport", group=8, link=(GEN3, 16))
    geforce(host, "0000:00:03.1", "0000:0a:00", 21, 1, "nvidia", "",
            ["drm/card0/", "drm/renderD128/", "drm/card0/card0-DP-1/status = disconnected",
             "drm/card0/card0-DP-1/enabled = disabled", "drm/card0/card0-HDMI-A-1/status = connected",
             "drm/card0/card0-HDMI-A-1/enabled = enabled"])
    geforce(host, "0000:00:03.2", "0000:0b:00", 22, 0, "vfio-pci", "vfio-pci")
    nvidia(host, "0000:0a:00.0", 0)
    host.process(1102, "gnome-shell", 1000, ["/dev/dri/card0", "/dev/nvidia0"])
    host.write(folder)


def no_iommu(folder):
    host = Host("no-iommu",
                "A desktop whose IOMMU is switched off: no groups. Its GPU drives the screen; no NUMA.")
    host.base("BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet", "Intel(R) Core(TM) i5-10400 CPU @ 2.90GHz",
              "39 bits physical, 48 bits virtual", "6.1.0-18-amd64", 16 * GIB)
    host.file("/lib/modules/6.1.0-18-amd64/kernel/drivers/vfio/pci/vfio-pci.ko", "module")
    host.cpus(6)
    for size in (1048576, 2048):
        for name in ("nr_hugepages", "free_hugepages"):
            host.file(f"/sys/kernel/mm/hugepages/hugepages-{size}kB/{name}", 0)
    host.add("0000:00:01.0", "pci0000:00", 0x060400, "8086:1901", driver="pcieport", link=(GEN3, 16))
    link = (("2.5 GT/s PCIe", 16), (GEN4, 16))
    host.add("0000:01:00.0", "0000:00:01.0", 0x030000, "10de:2504", "1458:4074", driver="nouveau", vga=1, multi=True,
             bars=[(16 * MIB, MEM32), (256 * MIB, PREF64), (0, 0), (32 * MIB, PREF64), (0, 0), (128, IO)], reset="bus",
             link=link, extra=["drm/card0/", "drm/renderD128/", "drm/card0/card0-HDMI-A-1/status = connected",
                               "drm/card0/card0-HDMI-A-1/enabled = enabled"])
    host.add("0000:01:00.1", "0000:00:01.0", 0x040300, "10de:228e", "1458:4074", driver="snd_hda_intel", multi=True,
             bars=[(16384, MEM32)], link=link, extra=["sound/card0/controlC0/", "sound/card0/pcmC0D3p/"])
    host.write(folder)


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for make in (laptop, sxm_8gpu, pcie_2socket, mxgpu_amd, acs_override, no_iommu, big):
        make(folder)
