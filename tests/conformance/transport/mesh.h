// The scenarios' view of UCX: processes that know each other by number and all connect to all, on
// top of a transport where only the dialling side knows whom it has.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "transport/transport.h"

namespace pregate::transport {

/// Node i dials the nodes of lower number. The first byte of every hello's info is a node's number.
class Mesh final : public Transport {
 public:
  explicit Mesh(std::unique_ptr<Transport> transport) : ucx_(std::move(transport)) {}

  std::string name() const override { return ucx_->name(); }
  PeerId self() const override { return ucx_->self(); }
  std::vector<PeerId> launched_peers() const override { return ucx_->launched_peers(); }
  void start(Hello hello, Events events) override;
  void connect(PeerId node) override { ucx_->connect(node); }
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override;
  Status queue(PeerId to, std::span<const std::byte> header, Payload payload,
               Completion done) override;
  bool drive(TimePoint until, const std::function<bool()>& done) override {
    return ucx_->drive(until, done);
  }
  void interrupt_drive() override { ucx_->interrupt_drive(); }
  void disconnect(PeerId node) override;
  void stop(const StopOptions& options) override { ucx_->stop(options); }

 private:
  PeerId node_of(PeerId peer) const;
  PeerId peer_of(PeerId node) const;

  const std::unique_ptr<Transport> ucx_;
  Events events_;
  mutable std::mutex mutex_;
  std::map<PeerId, PeerId> peers_;  // by node; guarded by mutex_
};

}  // namespace pregate::transport
