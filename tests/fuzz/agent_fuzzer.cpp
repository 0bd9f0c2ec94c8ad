// SPDX-License-Identifier: Apache-2.0
// What a guest answers: replies of its agent, base64, and the output of commands with its end mark.
#include "guest/agent_calls.hpp"
#include "guest/marked_stream.hpp"

#include "fuzz/fuzz.hpp"
#include "support/fake_agent.hpp"

using namespace vmgraft;
using namespace vmgraft::fuzz;

namespace {

/// A guest that gives the same answer to everything.
class OneAnswer final : public FakeAgent {
 public:
  explicit OneAnswer(std::string answer) : answer_(std::move(answer)) {}
  std::string agent_command(const std::string&, const std::string&, std::chrono::seconds, GracePeriod&) override { return answer_; }

 private:
  std::string answer_;
};

void check_replies(const std::string& reply) {
  OneAnswer guest(reply);
  AgentCalls calls(guest, "web", "uuid");
  static_cast<void>(accepted([&] { return calls.exec({"/bin/true", {}, {}, {}}); }));
  static_cast<void>(accepted([&] { return calls.open_file("/etc/hostname", "r"); }));
  static_cast<void>(accepted([&] { return calls.read_piece(1000); }));
  const auto status = accepted([&] { return calls.exec_status(7); });
  if (status) require(status->exited || (status->out.empty() && status->err.empty()), "what runs has no output yet");
  static_cast<void>(accepted([&] { return (calls.write_piece(1000, "bytes"), true); }));
  static_cast<void>(accepted([&] { return (calls.close_file(1000), true); }));
  static_cast<void>(accepted([&] { return (calls.set_time(0), true); }));
}

void check_base64(std::string_view text) {
  if (const auto bytes = parse_base64(text)) {
    require(parse_base64(to_base64(*bytes)) == *bytes, "base64 reads back");
    require(to_base64(*bytes).size() == text.size(), "each digit counts");
  }
  require(parse_base64(to_base64(text)) == text, "bytes come back through base64");
}

/// Pieces of any size give the same as the whole.
void check_stream(std::string_view input) {
  const std::string token = "end";
  const auto fed = [&](std::size_t piece) {
    std::string out;
    MarkedStream stream(token, [&](std::string_view bytes) { out += bytes; });
    for (std::string_view rest = input; !rest.empty();) {
      stream.feed(rest.substr(0, piece));
      rest.remove_prefix(std::min(piece, rest.size()));
    }
    require(stream.fed() == input.size(), "all bytes are counted");
    const bool ended = stream.has_ended();
    stream.give_up();
    require(ended || out == input, "without an end, everything is passed on");
    return out + '\0' + stream.verdict() + (ended ? "!" : "");
  };
  require(fed(1) == fed(std::max<std::size_t>(input.size(), 1)), "byte by byte is as all at once");
}

}  // namespace

VMGRAFT_FUZZER(input) {
  switch (take_selector(input)) {
    case 'b':
      return check_base64(input);
    case 's':
      return check_stream(input);
    default:
      return check_replies(std::string(input));
  }
}
