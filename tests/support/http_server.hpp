// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

/// An HTTP/1.1 server on 127.0.0.1 and a free port, for downloads in tests: whole files, ranges, ETags, redirects,
/// and connections that break. One connection at a time, one request each.
class HttpServer {
 public:
  struct File {
    std::string body;
    std::string etag = "\"one\"";            ///< with its quotes; empty: none is sent
    bool ranges = true;                      ///< false: always the whole file
    std::optional<std::size_t> break_after;  ///< once: close after so many bytes of the body
    std::function<void()> on_stall = {};     ///< after half of the body this is called, and no more comes until the client goes
    int status = 200;                        ///< another one is answered with an error page
    std::string redirect;                    ///< 302 to this URL
  };

  struct Request {
    std::string path;
    std::map<std::string, std::string> headers;  ///< lower-case names
  };

  HttpServer() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    if (socket_ < 0 || ::bind(socket_, plain, size) != 0 || ::listen(socket_, 8) != 0 ||
        ::getsockname(socket_, plain, &size) != 0) {
      throw std::runtime_error("the test's HTTP server cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer() {
    stopping_ = true;
    ::shutdown(socket_, SHUT_RDWR);  // wakes accept
    thread_.join();
    ::close(socket_);
  }

  void put(const std::string& path, File file) {
    const std::lock_guard lock(mutex_);
    files_[path] = std::move(file);
  }

  [[nodiscard]] std::string url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }

  [[nodiscard]] std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (!stopping_) {
      const int peer = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer < 0) continue;
      answer(peer);
      ::close(peer);
    }
  }

  static void send_all(int peer, std::string_view bytes) {
    while (!bytes.empty()) {
      const auto done = ::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (done <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(done));
    }
  }

  static std::optional<Request> read_request(int peer) {
    std::string text;
    char buffer[4096];
    while (text.find("\r\n\r\n") == std::string::npos) {
      const auto got = ::recv(peer, buffer, sizeof(buffer), 0);
      if (got <= 0) return std::nullopt;
      text.append(buffer, static_cast<std::size_t>(got));
    }
    Request request;
    const auto space = text.find(' ');
    request.path = text.substr(space + 1, text.find(' ', space + 1) - space - 1);
    auto at = text.find("\r\n") + 2;
    for (auto end = text.find("\r\n", at); end != at; end = text.find("\r\n", at)) {
      auto name = text.substr(at, text.find(':', at) - at);
      for (auto& c : name) c = static_cast<char>(::tolower(c));
      const auto value = text.find_first_not_of(' ', text.find(':', at) + 1);
      request.headers[name] = text.substr(value, end - value);
      at = end + 2;
    }
    return request;
  }

  void answer(int peer) {
    const auto request = read_request(peer);
    if (!request) return;
    const std::lock_guard lock(mutex_);
    requests_.push_back(*request);
    const auto found = files_.find(request->path.substr(0, request->path.find('?')));
    if (found == files_.end())
      return send_all(peer, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnope\n");
    auto& file = found->second;
    if (!file.redirect.empty()) {
      return send_all(peer, "HTTP/1.1 302 Found\r\nLocation: " + file.redirect +
                                "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if (file.status != 200) {
      return send_all(peer, "HTTP/1.1 " + std::to_string(file.status) +
                                " No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnope\n");
    }
    send_file(peer, *request, file);
  }

  static void send_file(int peer, const Request& request, File& file) {
    std::size_t begin = 0;
    const auto range = request.headers.find("range");
    const auto condition = request.headers.find("if-range");
    const bool same = condition == request.headers.end() || condition->second == file.etag;
    const bool partial = file.ranges && same && range != request.headers.end();
    if (partial) begin = std::stoul(range->second.substr(std::string("bytes=").size()));
    const auto size = std::to_string(file.body.size());
    std::string head;
    if (partial && begin >= file.body.size()) {
      head = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */" + size + "\r\nContent-Length: 0\r\n";
      begin = file.body.size();
    } else if (partial) {
      head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(begin) + "-" +
             std::to_string(file.body.size() - 1) + "/" + size +
             "\r\nContent-Length: " + std::to_string(file.body.size() - begin) + "\r\n";
    } else {
      head = "HTTP/1.1 200 OK\r\nContent-Length: " + size + "\r\n";
    }
    if (!file.etag.empty()) head += "ETag: " + file.etag + "\r\n";
    send_all(peer, head + "Connection: close\r\n\r\n");
    auto body = std::string_view(file.body).substr(begin);
    if (file.break_after) {
      body = body.substr(0, *file.break_after);
      file.break_after.reset();
    }
    if (file.on_stall) {
      send_all(peer, body.substr(0, body.size() / 2));
      file.on_stall();
      char gone = 0;
      static_cast<void>(::recv(peer, &gone, 1, 0));
      return;
    }
    send_all(peer, body);
  }

  int socket_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, File> files_;
  std::vector<Request> requests_;
  std::thread thread_;
};
