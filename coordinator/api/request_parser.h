// Bytes from a socket to an HttpRequest. The only user of Boost.Beast (whose headers cost half a
// minute per file that includes them).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/api/http_message.h"

namespace pregate::coordinator {

struct RequestLimits {
  size_t header_bytes = 16 << 10;
  size_t body_bytes = 16 << 20;
};

/// What was wrong with a request, as the answer's status and a sentence.
struct RequestFault {
  int status = 400;
  std::string message;
};

/// One request. Feed it what arrives until it is done or at fault.
class RequestParser {
 public:
  explicit RequestParser(RequestLimits limits);
  ~RequestParser();

  /// Takes bytes from the front of `input`; returns how many. Bytes it does not take (a header that
  /// is not complete, the next request) must be offered again, with more behind them.
  size_t feed(std::string_view input);

  bool done() const;
  const std::optional<RequestFault>& fault() const;
  /// The header is complete and the peer waits for "100 Continue" before it sends the body. True
  /// once.
  bool wants_continue();
  /// Only when done; empties the parser.
  HttpRequest take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pregate::coordinator
