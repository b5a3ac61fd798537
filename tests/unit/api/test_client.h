// A blocking HTTP client that can do everything wrong.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace pregate::coordinator::testing {

struct ClientResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< Names as sent.
  std::string body;                            ///< Unchunked.
};

/// Every wait ends after 20 s with an exception.
class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer_bytes = 0);
  ~TestClient();
  TestClient(TestClient&& other) noexcept : socket_(other.socket_) { other.socket_ = -1; }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  void send(std::string_view bytes);
  void send_request(const std::string& method, const std::string& path,
                    const std::string& body = "", const std::string& headers = "");
  ClientResponse receive(bool head = false);
  /// Reads until `text` has come; returns all that came and was not returned before.
  std::string receive_until(std::string_view text);
  /// True if the server has closed and nothing is left to read; waits for it.
  bool closed_by_server();

  ClientResponse get(const std::string& path);
  ClientResponse post(const std::string& path, const std::string& body);

 private:
  bool fill();
  std::string take_until(std::string_view end);
  std::string take(size_t num_bytes);

  int socket_ = -1;
  std::string received_;
};

}  // namespace pregate::coordinator::testing
