#include "tests/unit/api/test_client.h"

#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace pregate::coordinator::testing {

TestClient::TestClient(uint16_t port, int receive_buffer_bytes)
    : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  const timeval limit{20, 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (receive_buffer_bytes > 0) {
    setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("cannot connect");
  }
}

TestClient::~TestClient() {
  if (socket_ >= 0) ::close(socket_);
}

void TestClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) throw std::runtime_error("cannot send");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

void TestClient::send_request(const std::string& method, const std::string& path,
                              const std::string& body, const std::string& headers) {
  send(method + " " + path + " HTTP/1.1\r\nHost: test\r\n" + headers +
       "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

bool TestClient::fill() {
  char buffer[65536];
  ssize_t got = 0;
  do {
    got = ::recv(socket_, buffer, sizeof buffer, 0);
  } while (got < 0 && errno == EINTR);  // as after this process was stopped
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) throw std::runtime_error("timed out");
  if (got > 0) received_.append(buffer, static_cast<size_t>(got));
  return got > 0;
}

std::string TestClient::take(size_t num_bytes) {
  while (received_.size() < num_bytes) {
    if (!fill()) throw std::runtime_error("closed in mid-answer");
  }
  std::string out = received_.substr(0, num_bytes);
  received_.erase(0, num_bytes);
  return out;
}

std::string TestClient::take_until(std::string_view end) {
  size_t at;
  while ((at = received_.find(end)) == std::string::npos) {
    if (!fill()) throw std::runtime_error("closed in mid-answer: " + received_);
  }
  return take(at + end.size());
}

std::string TestClient::receive_until(std::string_view text) { return take_until(text); }

ClientResponse TestClient::receive(bool head) {
  ClientResponse response;
  const std::string status_line = take_until("\r\n");
  response.status = std::stoi(status_line.substr(9, 3));
  for (std::string line; (line = take_until("\r\n")) != "\r\n";) {
    const size_t colon = line.find(": ");
    response.headers[line.substr(0, colon)] = line.substr(colon + 2, line.size() - colon - 4);
  }
  if (head) return response;
  if (response.headers.contains("Content-Length")) {
    response.body = take(std::stoul(response.headers["Content-Length"]));
  } else if (response.headers.contains("Transfer-Encoding")) {
    for (size_t size; (size = std::stoul(take_until("\r\n"), nullptr, 16)) > 0;) {
      response.body += take(size);
      take(2);
    }
    take(2);
  }
  return response;
}

bool TestClient::closed_by_server() { return received_.empty() && !fill(); }

ClientResponse TestClient::get(const std::string& path) {
  send_request("GET", path);
  return receive();
}

ClientResponse TestClient::post(const std::string& path, const std::string& body) {
  send_request("POST", path, body);
  return receive();
}

}  // namespace pregate::coordinator::testing
