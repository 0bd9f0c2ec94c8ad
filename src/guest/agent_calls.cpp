// SPDX-License-Identifier: Apache-2.0
#include "guest/agent_calls.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/random.h>
#include <nlohmann/json.hpp>

#include <vmgraft/error.hpp>

namespace vmgraft {
namespace {

using Json = nlohmann::json;

// How long one command may take to be answered. The agent answers all of ours at once; a guest that swaps or is
// emulated may need seconds.
constexpr std::chrono::seconds kAnswerTimeout{30};

constexpr const char* kBase64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string to_base64(std::string_view bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends with a NUL
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

std::optional<std::string> parse_base64(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > std::size_t{1} << 30) return std::nullopt;
  // EVP_DecodeBlock takes white space around the text and '=' anywhere in it, and makes NULs of them.
  const std::size_t digits = std::min(text.find_first_not_of(kBase64Digits), text.size());
  if (text.size() - digits > 2 || text.find_first_not_of('=', digits) != std::string_view::npos) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  // EVP_DecodeBlock counts the padding as bytes.
  bytes.resize(static_cast<std::size_t>(length) - (text.size() - digits));
  return bytes;
}

std::string random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    const ssize_t got = ::getrandom(bytes.data() + have, count - have, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(Errc::other, fmt::format("cannot get random bytes: {}", std::strerror(errno)));
    have += static_cast<std::size_t>(got);
  }
  return bytes;
}

std::string random_hex(std::size_t count) {
  std::string text;
  for (const char byte : random_bytes(count)) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

AgentCalls::AgentCalls(Hypervisor& hypervisor, std::string vm_name, std::string uuid, GracePeriod grace)
    : hypervisor_(hypervisor), vm_name_(std::move(vm_name)), uuid_(std::move(uuid)), grace_(grace) {}

std::string AgentCalls::place() const {
  return fmt::format("VM '{}'", vm_name_);
}

namespace {

struct Senseless {};

/// The "return" of a reply, made sense of by \p read. The guest is not trusted: its answer may be anything.
template <typename Read>
auto parse_reply(const std::string& place, const std::string& reply, Read&& read) {
  const Error senseless(Errc::unreachable, fmt::format("{}: the guest agent gave an answer that makes no sense", place),
                        "is it a QEMU guest agent? restart it in the guest");
  try {
    return read(Json::parse(reply).at("return"));
  } catch (const Json::exception&) {
    throw senseless;
  } catch (const Senseless&) {
    throw senseless;
  }
}

/// A whole number that \p Number holds. nlohmann's get() makes 1 of 1.9, and of 1e300 what the compiler pleases.
template <typename Number>
Number whole(const Json& value) {
  if (value.is_number_unsigned() && std::in_range<Number>(value.get<std::uint64_t>())) {
    return static_cast<Number>(value.get<std::uint64_t>());
  }
  if (!value.is_number_integer() || value.is_number_unsigned() || !std::in_range<Number>(value.get<std::int64_t>())) {
    throw Senseless();
  }
  return static_cast<Number>(value.get<std::int64_t>());
}

std::string decoded(const std::string& place, const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  std::optional<std::string> bytes = parse_base64(found->get<std::string>());
  if (!bytes) throw Error(Errc::unreachable, fmt::format("{}: the guest agent sent malformed base64", place));
  return std::move(*bytes);
}

std::string request(const char* command, Json arguments) {
  Json whole;
  whole["execute"] = command;
  if (!arguments.empty()) whole["arguments"] = std::move(arguments);
  return whole.dump();
}

}  // namespace

std::string AgentCalls::call(const std::string& request) {
  if (grace_.is_over()) throw Error(Errc::interrupted, fmt::format("{}: interrupted", place()));
  return hypervisor_.agent_command(uuid_, request, kAnswerTimeout, grace_);
}

std::int64_t AgentCalls::exec(const AgentExec& program) {
  std::string text;
  try {
    Json arguments{{"path", program.path}, {"arg", program.arguments}, {"capture-output", true}};
    if (!program.environment.empty()) arguments["env"] = program.environment;
    if (!program.input.empty()) arguments["input-data"] = to_base64(program.input);
    text = request("guest-exec", std::move(arguments));
  } catch (const Json::exception&) {
    throw Error(Errc::usage, fmt::format("{}: an argument of the command is not valid UTF-8", place()),
                "the guest agent takes JSON: give such bytes on stdin or in a file");
  }
  if (text.size() > kLongestRequest) {
    throw Error(Errc::usage,
                fmt::format("{}: the command is too long ({} bytes in JSON, at most {})", place(), text.size(),
                            kLongestRequest),
                "give long data on stdin or in a file");
  }
  std::string reply;
  try {
    reply = call(text);
  } catch (const Error& error) {
    if (error.code() != Errc::other) throw;
    Error refused(Errc::other, error.what(),
                  "some distributions switch guest-exec off: see BLOCK_RPCS, BLACKLIST_RPC or FILTER_RPC_ARGS in "
                  "/etc/sysconfig/qemu-ga of the guest");
    for (const std::string& frame : error.context()) refused.add_context(frame);
    if (error.libvirt()) refused.set_libvirt(*error.libvirt());
    throw refused;
  }
  return parse_reply(place(), reply, [](const Json& value) { return whole<std::int64_t>(value.at("pid")); });
}

AgentExecStatus AgentCalls::exec_status(std::int64_t pid) {
  const std::string reply = call(request("guest-exec-status", {{"pid", pid}}));
  return parse_reply(place(), reply, [this](const Json& value) {
    AgentExecStatus status;
    status.exited = value.at("exited").get<bool>();
    if (!status.exited) return status;
    if (value.contains("exitcode")) status.exit_code = whole<int>(value.at("exitcode"));
    if (value.contains("signal")) status.signal = whole<int>(value.at("signal"));
    status.out = decoded(place(), value, "out-data");
    status.err = decoded(place(), value, "err-data");
    return status;
  });
}

std::int64_t AgentCalls::open_file(const std::string& path, const std::string& mode) {
  const std::string reply = call(request("guest-file-open", {{"path", path}, {"mode", mode}}));
  return parse_reply(place(), reply, [](const Json& value) { return whole<std::int64_t>(value); });
}

AgentPiece AgentCalls::read_piece(std::int64_t handle) {
  const std::string reply = call(request("guest-file-read", {{"handle", handle}, {"count", kAgentPiece}}));
  return parse_reply(place(), reply, [this](const Json& value) {
    return AgentPiece{decoded(place(), value, "buf-b64"), value.at("eof").get<bool>()};
  });
}

void AgentCalls::write_piece(std::int64_t handle, std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kWritePiece);
    const std::string reply = call(request("guest-file-write", {{"handle", handle}, {"buf-b64", to_base64(piece)}}));
    const auto written =
        parse_reply(place(), reply, [](const Json& value) { return whole<std::uint64_t>(value.at("count")); });
    if (written == 0 || written > piece.size()) {
      throw Error(Errc::unreachable, fmt::format("{}: the guest agent claims to have written {} of {} bytes", place(),
                                                 written, piece.size()));
    }
    bytes.remove_prefix(written);
  }
}

void AgentCalls::close_file(std::int64_t handle) {
  call(request("guest-file-close", {{"handle", handle}}));
}

void AgentCalls::set_time(std::int64_t nanoseconds) {
  call(request("guest-set-time", {{"time", nanoseconds}}));
}

}  // namespace vmgraft
