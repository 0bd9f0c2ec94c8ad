// SPDX-License-Identifier: Apache-2.0
#include "support/recorded_host.hpp"

#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>

namespace vmgraft {
namespace {

namespace fs = std::filesystem;

struct Recorded {
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> links;
  std::vector<std::string> folders;
};

std::string bytes_of(const std::string& hex) {
  std::istringstream words(hex);
  std::string bytes, word;
  while (words >> word) bytes += static_cast<char>(std::stoul(word, nullptr, 16));
  return bytes;
}

class Parser {
 public:
  explicit Parser(std::string where) : where_(std::move(where)) {}

  Recorded parse(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      ++number_;
      if (!line.empty() && line.front() != '#') take(line);
    }
    return std::move(recorded_);
  }

 private:
  void take(const std::string& line) {
    if (line.front() == '[' && line.back() == ']') {
      folder_ = line.substr(1, line.size() - 2);
      return;
    }
    // The mark that comes first counts: values hold anything.
    const std::size_t file = line.find(" ="), link = line.find(" -> "), hex = line.find(" :hex ");
    const std::size_t mark = std::min({file, link, hex});
    if (mark == std::string::npos) {
      if (line.back() != '/') fail("want 'PATH = VALUE', 'PATH -> TARGET', 'PATH :hex BYTES' or 'PATH/'");
      recorded_.folders.push_back(full(line.substr(0, line.size() - 1)));
    } else if (mark == file) {
      const std::string value = line.substr(std::min(mark + 3, line.size()));
      recorded_.files[full(line.substr(0, mark))] += value + "\n";
    } else if (mark == link) {
      recorded_.links[full(line.substr(0, mark))] = line.substr(mark + 4);
    } else {
      recorded_.files[full(line.substr(0, mark))] = bytes_of(line.substr(mark + 6));
    }
  }

  [[nodiscard]] std::string full(const std::string& path) const {
    if (path.front() == '/') return path;
    if (folder_.empty()) fail("'" + path + "' stands below no folder");
    return folder_ + "/" + path;
  }

  [[noreturn]] void fail(const std::string& why) const {
    throw std::runtime_error(where_ + ":" + std::to_string(number_) + ": " + why);
  }

  std::string where_;
  std::string folder_;
  std::size_t number_ = 0;
  Recorded recorded_;
};

Recorded load(const std::string& name) {
  const fs::path file = fs::path(VMGRAFT_TEST_DATA) / "hosts" / (name + ".host");
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("there is no recorded host '" + file.native() + "'");
  std::ostringstream text;
  text << stream.rdbuf();
  return Parser(file.filename()).parse(text.str());
}

FakeHost host_of(Recorded recorded) {
  FakeHost host;
  for (auto& [path, content] : recorded.files) host.add_file(path, std::move(content));
  for (auto& [path, target] : recorded.links) host.add_link(path, std::move(target));
  for (const std::string& path : recorded.folders) host.add_folder(path);
  return host;
}

}  // namespace

FakeHost recorded_host(const std::string& name) {
  return host_of(load(name));
}

FakeHost recorded_host_from(const std::string& text, const std::string& where) {
  return host_of(Parser(where).parse(text));
}

void expand_recorded_host(const std::string& name, const fs::path& root) {
  const Recorded recorded = load(name);
  const auto place = [&root](const std::string& path) { return root / fs::path(path).relative_path(); };
  for (const std::string& path : recorded.folders) fs::create_directories(place(path));
  for (const auto& [path, content] : recorded.files) {
    fs::create_directories(place(path).parent_path());
    std::ofstream stream(place(path), std::ios::binary);
    stream << content;
    if (!stream.flush()) throw std::runtime_error("cannot write '" + place(path).native() + "'");
  }
  for (const auto& [path, target] : recorded.links) {
    fs::create_directories(place(path).parent_path());
    fs::create_symlink(target, place(path));
  }
}

}  // namespace vmgraft
