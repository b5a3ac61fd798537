#include "tests/conformance/transport/tails.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::transport {

void Tails::start(Hello hello, Events events) {
  events.receive = [receive = std::move(events.receive)](
                       PeerId from, std::span<const std::byte> header, const Payload& payload) {
    auto on_host = payload.on_host();
    PREGATE_CHECK(on_host.has_value());
    receive(from, header, std::move(*on_host));
  };
  transport_->start(std::move(hello), std::move(events));
}

Status Tails::send(PeerId to, std::span<const std::byte> header, Payload payload, Completion done) {
  return transport_->send(to, header, with_tail(payload), std::move(done));
}

Payload Tails::with_tail(const Payload& payload) {
  if (payload.size() == 0) return payload;
  const size_t size = payload.size();
  const size_t heads[] = {size, 0, size / 8, std::min<size_t>(size - 1, 100)};
  const size_t head = heads[num_sent_++ % std::size(heads)];
  const auto tail = payload.bytes().subspan(head);
  if (tail.empty()) return payload;
  const auto data = memory_->allocate(tail.size());
  if (!data) return payload;
  PREGATE_CHECK(memory_->write(data->get(), tail).has_value());
  return {payload.slice(0, head), {*data, tail.size(), memory_}};
}

}  // namespace pregate::transport
