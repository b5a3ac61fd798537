// The UCX transport itself: ucx.cc has its loop, commands and frames, greeting.cc its sockets.
#pragma once

#include <atomic>
#include <optional>
#include <thread>
#include <unordered_map>

#include "base/random.h"
#include "transport/peer_table.h"
#include "transport/ucx/command.h"
#include "transport/ucx/door.h"
#include "transport/ucx/link.h"
#include "transport/ucx/ucx.h"

namespace pregate::transport {

/// What the poller answers with besides the tokens of connections, which are larger.
inline constexpr uint64_t kUcxKey = 1;
inline constexpr uint64_t kListenerKey = 2;
inline constexpr uint64_t kFirstToken = 16;

/// From dialling to closed.
struct Connection {
  enum class Step { kLookUp, kDial, kHello, kCard, kReady, kUp, kClosed };

  Connection(UcxLinks& links, uint64_t token, TimePoint come_up_by)
      : deadline(come_up_by), link(links, token) {}

  bool is_greeting() const { return step < Step::kUp; }
  bool is_accepted() const { return address.empty(); }

  Step step = Step::kHello;
  std::string address;         // whom we dialled; empty if we were
  std::optional<PeerId> peer;  // of one that was accepted: once it has said hello
  const TimePoint deadline;    // to come up
  Door door;
  std::vector<std::byte> hello;
  UcxCard card;
  UcxLink link;
};

/// UCX is called by one thread at a time, which runs the callbacks too: the transport's own, or one
/// in drive(). Who works holds owner_, and nobody sleeps with it. While a thread drives, UCX's
/// descriptor is not among those that the own thread sleeps on: it looks after the doors only.
class UcxTransportImpl final : public UcxTransport {
 public:
  UcxTransportImpl(UcxOptions options, std::unique_ptr<UcpWorker> worker,
                   std::shared_ptr<UcxMailbox> mailbox);
  ~UcxTransportImpl() override;

  Status listen(const SocketAddress& address);

  std::string name() const override { return "ucx"; }
  PeerId self() const override { return options_.self; }
  std::vector<PeerId> launched_peers() const override { return {}; }
  std::string listen_address() const override { return listen_address_; }
  uint64_t num_refused() const override { return num_refused_; }
  void start(Hello hello, Events events) override;
  void connect(PeerId peer) override;
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override;
  Status queue(PeerId to, std::span<const std::byte> header, Payload payload,
               Completion done) override;
  void disconnect(PeerId peer) override;
  void stop(const StopOptions& options) override;
  bool drive(TimePoint until, const std::function<bool()>& done) override;
  void interrupt_drive() override { mailbox_->interrupt_drive(); }

 private:
  using Kind = UcxCommand::Kind;
  using Step = Connection::Step;

  void serve();
  bool take_turn();
  void sleep();
  bool drive_until(TimePoint until, const std::function<bool()>& done);
  void sleep_driving(TimePoint until);
  Result<UcxCommand> admit(PeerId to, std::span<const std::byte> header, Payload payload,
                           Completion done);
  Duration time_to_sleep() const;
  bool may_leave();
  void close_all();

  bool take_commands();
  void execute(UcxCommand& command);
  void begin_connection(PeerId peer);
  void look_up(const Connection& connection);
  void dial_address(uint64_t token, const Result<SocketAddress>& address);
  void begin_send(UcxCommand& command);
  void end_connection(UcxCommand& command);
  void begin_leaving(TimePoint leave_by);

  void attend_doors(const std::vector<uint64_t>& keys);
  void attend_door(Connection& connection);
  void accept_connections();
  size_t num_ungreeted() const;
  void drop_late_connections();
  bool advance(Connection& connection);
  void finish_dial(Connection& connection);
  bool read_hello(Connection& connection);
  bool read_card(Connection& connection);
  Result<uint16_t> offer_port(Connection& connection);
  void open_link(Connection& connection);
  Status call_port(Connection& connection);
  void expect_silence(Connection& connection);

  bool attend_links();
  void deliver(Connection& connection);
  void handle_frame(Connection& connection, UcxFrame frame);
  void bring_up(Connection& connection);
  void finish_sends(Connection& connection);
  void lose(Connection& connection, const Error& error);
  void count_refused(const Error& error);
  void forget_closed();

  Connection& add_connection();
  Connection* find(uint64_t token);
  Connection* find(PeerId peer);
  void write_door(Connection& connection, std::span<const std::byte> bytes);
  ucs_status_t receive(std::span<const std::byte> header, void* data, size_t data_bytes,
                       const ucp_am_recv_param_t& param);

  const UcxOptions options_;
  PeerTable table_;
  std::string listen_address_;                  // constant once made
  Events events_;                               // constant once started
  std::array<std::byte, kHelloBytes> hello_{};  // constant once started
  uint32_t version_ = 0;                        // constant once started
  const std::shared_ptr<UcxMailbox> mailbox_;
  std::atomic<uint64_t> num_refused_{0};
  std::thread thread_;

  std::mutex owner_;
  // Guarded by owner_.
  std::unique_ptr<UcpWorker> worker_;
  UcxLinks links_;
  Fd listener_;
  Random random_{seed_from_system()};
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;  // by token
  std::unordered_map<PeerId, uint64_t> tokens_;
  std::vector<uint64_t> closing_;
  uint32_t next_peer_ = 0;
  std::optional<TimePoint> leave_by_;
};

}  // namespace pregate::transport
