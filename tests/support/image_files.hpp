// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "host/linux_host.hpp"
#include "image/image_maker.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

/// A work folder on the real host, for what reads and writes disk images.
struct ImageBench {
  TempFolder temp;
  vmgraft::LinuxHost host;
  std::vector<vmgraft::Progress> told;
  vmgraft::ImageWork work{host, temp / "work", [this](const vmgraft::Progress& progress) { told.push_back(progress); },
                          nullptr};

  ImageBench() { std::filesystem::create_directory(work.folder); }

  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(temp / name, std::ios::binary) << content;
    return temp / name;
  }

  static std::string read(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }

  std::string qemu_img(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "qemu-img");
    vmgraft::Command command;
    command.argv = std::move(arguments);
    auto result = host.run(command);
    // qemu-img times its key derivation, and now and then gives up on a busy machine: nothing of ours.
    for (int again = 0; again < 5 && result.err.find("accurate CPU usage") != std::string::npos; ++again)
      result = host.run(command);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return result.out;
  }
};

/// The start of a disk with an MBR, boot code and one partition; the rest counts up so that every piece differs.
inline std::string mbr_disk(std::size_t size) {
  std::string disk(size, '\0');
  for (std::size_t i = 1024; i < size; ++i) disk[i] = static_cast<char>(i / 512 * 7 + i);
  disk[0] = '\xeb';
  disk[446] = '\x80';
  disk[446 + 4] = '\x83';
  disk[510] = '\x55';
  disk[511] = '\xaa';
  return disk;
}
