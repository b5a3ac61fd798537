// Has payloads end in a device's memory on their way out, and brings them to the host on their way
// in: so every scenario says something of tails.
#pragma once

#include <atomic>
#include <memory>

#include "transport/transport.h"

namespace pregate::transport {

/// Of four payloads one stays as it is, as do those for which the memory has no room.
class Tails final : public Transport {
 public:
  Tails(std::unique_ptr<Transport> transport, std::shared_ptr<DeviceMemory> memory)
      : transport_(std::move(transport)), memory_(std::move(memory)) {}

  std::string name() const override { return transport_->name(); }
  PeerId self() const override { return transport_->self(); }
  std::vector<PeerId> launched_peers() const override { return transport_->launched_peers(); }
  void start(Hello hello, Events events) override;
  void connect(PeerId peer) override { transport_->connect(peer); }
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override;
  void disconnect(PeerId peer) override { transport_->disconnect(peer); }
  void stop(const StopOptions& options) override { transport_->stop(options); }
  bool needs_hard_exit() const override { return transport_->needs_hard_exit(); }

 private:
  Payload with_tail(const Payload& payload);

  const std::unique_ptr<Transport> transport_;
  const std::shared_ptr<DeviceMemory> memory_;
  std::atomic<uint64_t> num_sent_{0};
};

}  // namespace pregate::transport
