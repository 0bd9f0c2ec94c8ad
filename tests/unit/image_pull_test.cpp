// SPDX-License-Identifier: Apache-2.0
#include "host/sha256.hpp"
#include "image/download.hpp"
#include "image/image_maker.hpp"
#include "support/http_server.hpp"
#include "support/image_files.hpp"

using namespace vmgraft;

namespace {

const std::string kDisk = mbr_disk(3u << 20);

struct PullBench : ImageBench {
  HttpServer server;
  std::filesystem::path cache = temp / "cache";

  MadeImage pull(const std::string& source, const std::string& sha256 = {},
                 const std::vector<CatalogueEntry>& catalogue = {}) {
    ImagePullRequest request;
    request.source = source;
    request.sha256 = sha256;
    return pull_image(work, request, catalogue, cache);
  }

  [[nodiscard]] CatalogueEntry entry(const std::string& list = "/SUMS") const {
    return {"tiny-cloud", "d", server.url("/disk.img"), server.url(list), "", "dev", true, true};
  }

  [[nodiscard]] std::size_t cached() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(cache), {}));
  }

  void check_content(const MadeImage& image) {
    write("expected.raw", kDisk);
    qemu_img({"compare", "-f", "raw", "-F", "qcow2", (temp / "expected.raw").string(), image.disk.string()});
  }
};

HttpServer::File file(const std::string& body) {
  HttpServer::File result;
  result.body = body;
  return result;
}

}  // namespace

TEST_CASE("An image is pulled from a URL, verified by the given sum, and the cache is left empty") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  const auto image = bench.pull(bench.server.url("/disk.img?token=1"), sha256_text(kDisk));
  bench.check_content(image);
  CHECK(image.sha256 == sha256_text(kDisk));
  CHECK(image.origin == "pull " + bench.server.url("/disk.img"));
  CHECK(bench.cached() == 0);
}

TEST_CASE("A catalogue's image is verified by the list beside it and brings its facts") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  bench.server.put("/SUMS", file("SHA256 (disk.img) = " + sha256_text(kDisk) + "\n"));
  const auto image = bench.pull("tiny-cloud", {}, {bench.entry()});
  CHECK(image.layer.agent);
  CHECK(image.layer.cloud_init);
  CHECK(image.layer.default_user == "dev");
}

TEST_CASE("A connection that breaks is taken up again where it broke") {
  PullBench bench;
  auto breaking = file(kDisk);
  breaking.break_after = 1'000'000;
  bench.server.put("/disk.img", breaking);
  bench.check_content(bench.pull(bench.server.url("/disk.img"), sha256_text(kDisk)));
  const auto requests = bench.server.requests();
  REQUIRE(requests.size() == 2);
  CHECK(requests[1].headers.at("range") == "bytes=1000000-");
  CHECK(requests[1].headers.at("if-range") == "\"one\"");
}

TEST_CASE("A later call goes on with what an earlier one fetched") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  std::atomic<bool> interrupted = false;
  bench.work.interrupted = &interrupted;
  bench.work.on_progress = [&](const Progress& progress) { interrupted = progress.done > 0; };
  const auto error = error_of([&] { (void)bench.pull(bench.server.url("/disk.img"), sha256_text(kDisk)); });
  CHECK(error.code() == Errc::interrupted);
  REQUIRE(bench.cached() == 2);  // the part and its validator

  interrupted = false;
  bench.work.on_progress = {};
  bench.check_content(bench.pull(bench.server.url("/disk.img"), sha256_text(kDisk)));
  CHECK(bench.server.requests().back().headers.count("range") == 1);
  CHECK(bench.cached() == 0);
}

TEST_CASE("A server without ranges sends it all again, and nothing is glued together") {
  PullBench bench;
  auto breaking = file(kDisk);
  breaking.break_after = 1'000'000;
  breaking.ranges = false;
  bench.server.put("/disk.img", breaking);
  bench.check_content(bench.pull(bench.server.url("/disk.img"), sha256_text(kDisk)));
}

TEST_CASE("Without a validator a broken download begins again") {
  PullBench bench;
  auto breaking = file(kDisk);
  breaking.break_after = 1'000'000;
  breaking.etag.clear();
  bench.server.put("/disk.img", breaking);
  bench.check_content(bench.pull(bench.server.url("/disk.img"), sha256_text(kDisk)));
  CHECK(bench.server.requests().back().headers.count("range") == 0);
}

TEST_CASE("A file that changed on the server meanwhile is fetched whole") {
  PullBench bench;
  const auto target = bench.write("part", "old old old");
  bench.write("part.validator", "\"old\"");
  bench.server.put("/f", file("new"));
  download(bench.work, parse_url(bench.server.url("/f")), target, "x");
  CHECK(ImageBench::read(target) == "new");
}

TEST_CASE("A file that is whole already is not fetched again") {
  PullBench bench;
  const auto target = bench.write("part", "whole");
  bench.write("part.validator", "\"one\"");
  bench.server.put("/f", file("whole"));
  download(bench.work, parse_url(bench.server.url("/f")), target, "x");
  CHECK(ImageBench::read(target) == "whole");
  CHECK(bench.server.requests().size() == 1);
}

TEST_CASE("A file that is shorter than what we have of it is fetched whole") {
  PullBench bench;
  const auto target = bench.write("part", "too long by far");
  bench.write("part.validator", "\"one\"");
  bench.server.put("/f", file("short"));
  download(bench.work, parse_url(bench.server.url("/f")), target, "x");
  CHECK(ImageBench::read(target) == "short");
}

TEST_CASE("A wrong sum drops the download and says both sums") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  const std::string wrong(64, '0');
  const auto error = error_of([&] { (void)bench.pull(bench.server.url("/disk.img"), wrong); });
  CHECK(error.what() == "'" + bench.server.url("/disk.img") + "' is not what it should be: its sha256 is " +
                            sha256_text(kDisk) + ", wanted " + wrong);
  CHECK(bench.cached() == 0);
  CHECK(std::filesystem::is_empty(bench.work.folder));
}

TEST_CASE("A URL without a sum is refused before anything is fetched") {
  PullBench bench;
  const auto url = bench.server.url("/disk.img");
  const auto error = error_of([&] { (void)bench.pull(url); });
  CHECK(error.code() == Errc::usage);
  CHECK(error.what() == "nothing says what '" + url + "' must be: a URL needs its sha256");
  CHECK(error.hint() == "vmgraft image pull " + url + " --sha256 HEX, with the sum that the publisher gives");
  CHECK(bench.server.requests().empty());
}

TEST_CASE("What is no sha256, no http URL or names no file is refused") {
  PullBench bench;
  CHECK(error_of([&] { (void)bench.pull(bench.server.url("/d"), "abc"); }).what() ==
        std::string("'abc' is not a sha256 (want 64 hex digits)"));
  CHECK(error_of([&] { (void)bench.pull("file:///etc/passwd"); }).what() ==
        std::string("'file:///etc/passwd' is not an http or https URL"));
  CHECK(error_of([&] { (void)bench.pull(bench.server.url("/")); }).code() == Errc::usage);
}

TEST_CASE("An unknown name is answered with the nearest one") {
  PullBench bench;
  const auto error = error_of([&] { (void)bench.pull("tiny-clod", {}, {bench.entry()}); });
  CHECK(error.code() == Errc::not_found);
  CHECK(error.what() == std::string("the catalogue has no image 'tiny-clod'"));
  CHECK(error.hint() == "did you mean 'tiny-cloud'?");
}

TEST_CASE("A list without our file, a missing file and a failing server are told apart") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  bench.server.put("/SUMS", file(sha256_text(kDisk) + "  other.img\n"));
  CHECK(error_of([&] { (void)bench.pull("tiny-cloud", {}, {bench.entry()}); }).code() == Errc::other);
  CHECK(error_of([&] { (void)bench.pull("tiny-cloud", {}, {bench.entry("/none")}); }).code() == Errc::not_found);
  const auto missing = error_of([&] { (void)bench.pull(bench.server.url("/none.img"), sha256_text("x")); });
  CHECK(missing.what() == "cannot download '" + bench.server.url("/none.img") + "': the server answered 404");
  auto failing = file("");
  failing.status = 503;
  bench.server.put("/bad.img", failing);
  CHECK(error_of([&] { (void)bench.pull(bench.server.url("/bad.img"), sha256_text("x")); }).code() ==
        Errc::unreachable);
}

TEST_CASE("A redirect is followed, but not to another kind of address") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  auto moved = file("");
  moved.redirect = bench.server.url("/disk.img");
  bench.server.put("/moved.img", moved);
  bench.check_content(bench.pull(bench.server.url("/moved.img"), sha256_text(kDisk)));
  moved.redirect = "file:///etc/passwd";
  bench.server.put("/evil.img", moved);
  CHECK(error_of([&] { (void)bench.pull(bench.server.url("/evil.img"), sha256_text(kDisk)); }).code() ==
        Errc::unreachable);
}

TEST_CASE("What is verified and yet no image is refused and dropped") {
  PullBench bench;
  bench.server.put("/notes.img", file(std::string(5000, 'x')));
  const auto error =
      error_of([&] { (void)bench.pull(bench.server.url("/notes.img"), sha256_text(std::string(5000, 'x'))); });
  CHECK(error.what() == "'" + bench.server.url("/notes.img") +
                            "' cannot be an image: there is no partition table and no known file system in it");
  CHECK(bench.cached() == 0);
}

TEST_CASE("User and password of a URL are never shown or kept") {
  const auto url = parse_url("https://me:secret@example.org/a/disk%20one.img");
  CHECK(url.shown == "https://example.org/a/disk%20one.img");
  CHECK(url.full == "https://me:secret@example.org/a/disk%20one.img");
  CHECK(url.file == "disk one.img");
}

// The origin of an image pulled by a signed link was shown by `image list`, with the key in it.
TEST_CASE("The query of a URL, which may be a key, is fetched with and never shown or kept") {
  const auto url = parse_url("https://example.org/disk.img?X-Amz-Signature=secret#part");
  CHECK(url.shown == "https://example.org/disk.img");
  CHECK(url.full == "https://example.org/disk.img?X-Amz-Signature=secret#part");
}

TEST_CASE("A list of sums that came without https vouches for nothing") {
  PullBench bench;
  CatalogueEntry entry;
  entry.name = "open";
  entry.url = "http://192.0.2.1/disk.img";
  entry.checksum_url = "http://192.0.2.1/SUMS";
  ImagePullRequest request;
  request.source = "open";
  const auto error = error_of([&] { (void)pull_image(bench.work, request, {entry}, bench.cache); });
  CHECK(error.code() == Errc::usage);
  CHECK(std::string(error.what()) ==
        "'http://192.0.2.1/SUMS' is not fetched by https: whoever sits between could change sum "
        "and image together");
}

// The cache stands in a store, which may have come from elsewhere: the download was written through the link.
TEST_CASE("A download is not written through a link that waits in its place") {
  PullBench bench;
  bench.server.put("/disk.img", file(kDisk));
  std::filesystem::create_directory(bench.cache);
  bench.write("precious", "precious");
  const auto sum = sha256_text(kDisk);
  const auto part = sha256_text(bench.server.url("/disk.img")).substr(0, 32) + "-" + sum.substr(0, 32) + ".part";
  std::filesystem::create_symlink(bench.temp / "precious", bench.cache / part);
  CHECK_THROWS_AS((void)bench.pull(bench.server.url("/disk.img"), sum), Error);
  CHECK(std::filesystem::file_size(bench.temp / "precious") == 8);
}

TEST_CASE("A part of an older version of the same URL is dropped") {
  PullBench bench;
  auto breaking = file(kDisk);
  breaking.status = 503;
  bench.server.put("/disk.img", breaking);
  std::filesystem::create_directory(bench.cache);
  const auto prefix = sha256_text(bench.server.url("/disk.img")).substr(0, 32);
  bench.write("cache/" + prefix + "-old.part", "x");
  bench.write("cache/someone-elses.part", "x");
  CHECK(error_of([&] { (void)bench.pull(bench.server.url("/disk.img"), sha256_text(kDisk)); }).code() ==
        Errc::unreachable);
  CHECK_FALSE(std::filesystem::exists(bench.cache / (prefix + "-old.part")));
  CHECK(std::filesystem::exists(bench.cache / "someone-elses.part"));
}
