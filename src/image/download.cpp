// SPDX-License-Identifier: Apache-2.0
#include "image/download.hpp"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>

#include <fcntl.h>
#include <unistd.h>

#include <vmgraft/error.hpp>

#include "image/programs.hpp"
#include "model/freer.hpp"
#include "model/names.hpp"
#include "model/size.hpp"

namespace vmgraft {

namespace {

constexpr long kConnectSeconds = 30;
constexpr long kStallBytes = 1024, kStallSeconds = 60;  // slower than this for so long counts as broken
constexpr int kMostBreaks = 5;                          // without a byte gained in between

using CurlHandle = std::unique_ptr<CURL, Freer<curl_easy_cleanup>>;
using HeaderList = std::unique_ptr<curl_slist, Freer<curl_slist_free_all>>;
using UrlHandle = std::unique_ptr<CURLU, Freer<curl_url_cleanup>>;

/// One request and what came of it. The callbacks are C's: an exception is kept and thrown after curl has returned.
struct Transfer {
  ImageWork& work;
  std::string what;
  std::uint64_t offset = 0;  ///< bytes we have already
  CURL* curl = nullptr;
  std::function<void(std::string_view)> on_data;            ///< only of a 2xx answer
  std::function<void(const Transfer&)> on_first_data = {};  ///< headers are complete
  std::string etag = {}, modified = {}, content_range = {};
  long status = 0;
  bool begun = false;
  std::uint64_t told = 0;
  std::exception_ptr failure = nullptr;
};

std::string header_value(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':') return {};
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(line[i])) != name[i]) return {};
  }
  line.remove_prefix(name.size() + 1);
  const auto first = line.find_first_not_of(" \t");
  const auto last = line.find_last_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string{} : std::string(line.substr(first, last - first + 1));
}

size_t take_header(char* data, size_t, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, count);
  if (line.rfind("HTTP/", 0) == 0) {  // of each answer: a redirect's headers are not the file's
    transfer.etag.clear();
    transfer.modified.clear();
    transfer.content_range.clear();
  }
  if (auto value = header_value(line, "etag"); !value.empty()) transfer.etag = std::move(value);
  if (auto value = header_value(line, "last-modified"); !value.empty()) transfer.modified = std::move(value);
  if (auto value = header_value(line, "content-range"); !value.empty()) transfer.content_range = std::move(value);
  return count;
}

size_t take_data(char* data, size_t, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  try {
    curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &transfer.status);
    if (transfer.status < 200 || transfer.status >= 300) return count;  // an error page is no data
    if (!transfer.begun && transfer.on_first_data) transfer.on_first_data(transfer);
    transfer.begun = true;
    transfer.on_data(std::string_view(data, count));
    return count;
  } catch (...) {
    transfer.failure = std::current_exception();
    return 0;
  }
}

int take_progress(void* user, curl_off_t total, curl_off_t done, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (transfer.work.interrupted != nullptr && transfer.work.interrupted->load()) return 1;
  if (!transfer.begun || total <= 0) return 0;
  const auto now = transfer.offset + static_cast<std::uint64_t>(done);
  if (now == transfer.told) return 0;
  transfer.told = now;
  try {
    tell(transfer.work, transfer.what, now, transfer.offset + static_cast<std::uint64_t>(total));
  } catch (...) {
    transfer.failure = std::current_exception();
    return 1;
  }
  return 0;
}

/// An http URL may lead to https, never the other way round.
const char* allowed_redirects(const std::string& url) {
  return url.rfind("https:", 0) == 0 ? "https" : "http,https";
}

CURLcode perform(Transfer& transfer, const std::string& url, const std::vector<std::string>& headers) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  const CurlHandle curl(curl_easy_init());
  if (started != CURLE_OK || curl == nullptr) throw Error(Errc::other, "libcurl cannot be started");
  HeaderList list;
  for (const auto& header : headers) {
    auto* longer = curl_slist_append(list.get(), header.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    static_cast<void>(list.release());
    list.reset(longer);
  }
  transfer.curl = curl.get();
  CURL* handle = curl.get();
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, list.get());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, allowed_redirects(url));
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "vmgraft");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, kStallBytes);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_data);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, take_progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &transfer);
  const auto code = curl_easy_perform(handle);
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &transfer.status);
  transfer.curl = nullptr;
  if (transfer.failure) std::rethrow_exception(transfer.failure);
  return code;
}

[[noreturn]] void throw_status(const DownloadUrl& url, long status) {
  const auto code = status == 404 || status == 410 ? Errc::not_found : status >= 500 ? Errc::unreachable : Errc::other;
  throw Error(code, fmt::format("cannot download '{}': the server answered {}", printable(url.shown), status),
              code == Errc::not_found ? "see that the address is right; a catalogue's entry may have moved" : "");
}

bool is_transient(CURLcode code) {
  return code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
         code == CURLE_GOT_NOTHING || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_HTTP2 ||
         code == CURLE_HTTP2_STREAM;
}

/// The growing file. Closed by destruction; nothing is removed by it.
class PartialFile {
 public:
  explicit PartialFile(std::filesystem::path path)
      : path_(std::move(path)), fd_(open(path_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)) {
    if (fd_ < 0) fail("open");
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() { close(fd_); }

  void truncate(std::uint64_t size) {
    if (ftruncate(fd_, static_cast<off_t>(size)) != 0 || lseek(fd_, static_cast<off_t>(size), SEEK_SET) < 0)
      fail("cut");
  }

  void append(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto done = ::write(fd_, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail("write");
      bytes.remove_prefix(static_cast<std::size_t>(done));
    }
  }

 private:
  [[noreturn]] void fail(const char* verb) const {
    throw tool_error(fmt::format("{} '{}'", verb, path_.string()), std::strerror(errno), path_.parent_path());
  }

  std::filesystem::path path_;
  int fd_;
};

/// The first byte of "bytes 100-199/200".
std::optional<std::uint64_t> range_begin(std::string_view content_range) {
  if (content_range.rfind("bytes ", 0) != 0) return std::nullopt;
  content_range.remove_prefix(6);
  std::uint64_t begin = 0;
  const auto result = std::from_chars(content_range.data(), content_range.data() + content_range.size(), begin);
  if (result.ec != std::errc{} || result.ptr == content_range.data() + content_range.size() || *result.ptr != '-') {
    return std::nullopt;
  }
  return begin;
}

/// A download that goes on over breaks and calls.
class Resumable {
 public:
  Resumable(ImageWork& work, const DownloadUrl& url, std::filesystem::path target, std::string what)
      : work_(work),
        url_(url),
        target_(std::move(target)),
        validator_(target_.string() + ".validator"),
        what_(std::move(what)) {}

  void run() {
    int breaks = 0;
    for (;;) {
      const auto before = have();
      const auto code = attempt();
      if (code == CURLE_OK) return;
      if (code == CURLE_ABORTED_BY_CALLBACK) {
        throw Error(Errc::interrupted, fmt::format("interrupted while downloading '{}'", printable(url_.shown)),
                    "what was fetched is kept: the same command goes on from there");
      }
      breaks = have() > before ? 0 : breaks + 1;
      if (!is_transient(code) || breaks >= kMostBreaks) {
        throw Error(Errc::unreachable,
                    fmt::format("cannot download '{}': {}", printable(url_.shown), curl_easy_strerror(code)),
                    have() > 0 ? "what was fetched is kept: the same command goes on from there"
                               : "see that this host reaches that server");
      }
    }
  }

 private:
  [[nodiscard]] std::uint64_t have() const { return work_.host.stat(target_).value_or(FileInfo{}).size; }

  CURLcode attempt() {
    const auto validator = work_.host.read_file(validator_).value_or("");
    // Without a validator two versions of a file could be glued together: then it begins again.
    std::uint64_t offset = validator.empty() ? 0 : have();
    PartialFile file(target_);
    file.truncate(offset);
    std::vector<std::string> headers;
    if (offset > 0) headers = {fmt::format("Range: bytes={}-", offset), "If-Range: " + validator};
    Transfer transfer{work_, what_, offset, nullptr, [&](std::string_view bytes) { file.append(bytes); }};
    transfer.on_first_data = [&](const Transfer& begun) { begin(begun, file, offset, transfer); };
    const auto code = perform(transfer, url_.full, headers);
    if (code == CURLE_OK && transfer.status == 416 && offset > 0) {
      // It is whole already, or has shrunk: the sum will tell a whole one, so only a wrong size begins again.
      if (transfer.content_range == fmt::format("bytes */{}", offset)) return CURLE_OK;
      work_.host.remove(validator_);
      return CURLE_PARTIAL_FILE;
    }
    if (code == CURLE_OK && (transfer.status < 200 || transfer.status >= 300)) throw_status(url_, transfer.status);
    return code;
  }

  void begin(const Transfer& begun, PartialFile& file, std::uint64_t offset, Transfer& transfer) {
    const bool continues = begun.status == 206 && range_begin(begun.content_range) == offset;
    if (begun.status == 206 && !continues) {
      throw Error(Errc::other, fmt::format("cannot download '{}': the server sent another part than was asked for",
                                           printable(url_.shown)));
    }
    if (!continues) {
      file.truncate(0);
      transfer.offset = 0;
      // A weak ETag does not promise the same bytes, so it is no validator for a range.
      const bool strong = !begun.etag.empty() && begun.etag.rfind("W/", 0) != 0;
      const auto& validator = strong ? begun.etag : begun.modified;
      if (validator.empty()) {
        work_.host.remove(validator_);
      } else {
        work_.host.write_file(validator_, validator, 0600);
      }
    }
    require_space(begun.curl);
  }

  void require_space(CURL* curl) {
    curl_off_t length = -1;
    curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    const auto space = work_.host.free_space(target_.parent_path());
    if (length > 0 && static_cast<std::uint64_t>(length) > space.available) {
      throw tool_error(fmt::format("download '{}' ({} to come, {} free)", printable(url_.shown),
                                   format_size(static_cast<std::uint64_t>(length)), format_size(space.available)),
                       "No space left on device", target_.parent_path());
    }
  }

  ImageWork& work_;
  const DownloadUrl& url_;
  std::filesystem::path target_, validator_;
  std::string what_;
};

std::string url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  const std::unique_ptr<char, Freer<curl_free>> owner(text);
  return text;
}

}  // namespace

DownloadUrl parse_url(const std::string& url) {
  const UrlHandle handle(curl_url());
  if (handle == nullptr) throw std::bad_alloc();
  const bool parsed = curl_url_set(handle.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK;
  const auto scheme = parsed ? url_part(handle.get(), CURLUPART_SCHEME) : std::string{};
  if (scheme != "http" && scheme != "https") {
    throw Error(Errc::usage, fmt::format("'{}' is not an http or https URL", printable(url)));
  }
  DownloadUrl result;
  result.full = url;
  curl_url_set(handle.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(handle.get(), CURLUPART_PASSWORD, nullptr, 0);
  // A signed link carries its key in the query.
  curl_url_set(handle.get(), CURLUPART_QUERY, nullptr, 0);
  curl_url_set(handle.get(), CURLUPART_FRAGMENT, nullptr, 0);
  result.shown = url_part(handle.get(), CURLUPART_URL);
  const auto host = url_part(handle.get(), CURLUPART_HOST);
  result.is_private = scheme == "https" || host == "localhost" || host == "[::1]" || host.rfind("127.", 0) == 0;
  const auto path = url_part(handle.get(), CURLUPART_PATH, CURLU_URLDECODE);
  result.file = path.substr(path.rfind('/') + 1);
  return result;
}

void download(ImageWork& work, const DownloadUrl& url, const std::filesystem::path& target, const std::string& what) {
  tell(work, what);
  Resumable(work, url, target, what).run();
}

std::string fetch_text(ImageWork& work, const DownloadUrl& url, std::size_t most) {
  std::string text;
  Transfer transfer{work, "reading " + url.shown, 0, nullptr, [&](std::string_view bytes) {
                      if (text.size() + bytes.size() > most) {
                        throw Error(Errc::other,
                                    fmt::format("'{}' is too large for a list of sums", printable(url.shown)));
                      }
                      text += bytes;
                    }};
  const auto code = perform(transfer, url.full, {});
  if (code == CURLE_ABORTED_BY_CALLBACK) stop_if_interrupted(work);
  if (code != CURLE_OK) {
    throw Error(Errc::unreachable,
                fmt::format("cannot download '{}': {}", printable(url.shown), curl_easy_strerror(code)),
                "see that this host reaches that server");
  }
  if (transfer.status < 200 || transfer.status >= 300) throw_status(url, transfer.status);
  return text;
}

}  // namespace vmgraft
