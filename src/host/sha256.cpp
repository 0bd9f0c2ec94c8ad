// SPDX-License-Identifier: Apache-2.0
#include "host/sha256.hpp"

#include <array>
#include <cerrno>
#include <memory>

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "host/posix.hpp"
#include "model/freer.hpp"

namespace vmgraft {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new()) {
    check(context_ ? EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) : 0);
  }
  void add(const void* bytes, std::size_t count) { check(EVP_DigestUpdate(context_.get(), bytes, count)); }
  [[nodiscard]] std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned length = 0;
    check(EVP_DigestFinal_ex(context_.get(), bytes.data(), &length));
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(std::size_t{length} * 2);
    for (unsigned i = 0; i < length; ++i) text.append(1, digits[bytes[i] >> 4]).append(1, digits[bytes[i] & 0xf]);
    return text;
  }

 private:
  static void check(int result) {
    // A build of OpenSSL with its algorithms locked away (a broken FIPS setting) fails here.
    if (result != 1) throw Error(Errc::host_unfit, "OpenSSL refuses to compute sha256", "look at its configuration");
  }
  std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>> context_;
};

}  // namespace

std::string sha256_text(std::string_view text) {
  Digest digest;
  digest.add(text.data(), text.size());
  return digest.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  const posix::Fd fd = posix::open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, "read");
  struct stat facts {};
  if (::fstat(fd.get(), &facts) != 0) posix::fail("read", path, errno);
  if (S_ISDIR(facts.st_mode)) posix::fail("read", path, EISDIR);
  if (!S_ISREG(facts.st_mode)) posix::fail("read", path, EINVAL);
  (void)::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  Digest digest;
  constexpr std::size_t piece = 1 << 20;
  const auto buffer = std::make_unique<char[]>(piece);
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer.get(), piece);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) posix::fail("read", path, errno);
    if (got == 0) return digest.hex();
    digest.add(buffer.get(), static_cast<std::size_t>(got));
  }
}

}  // namespace vmgraft
