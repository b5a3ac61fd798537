// The ranks of one host, which wake one another: MPI itself wakes nobody when a message comes.
//
// Each has bells in memory that the ranks of a host share. Who looks for messages sleeps until its
// bell is rung; for what comes from other hosts, and for large messages, which move in parts, it
// looks now and then all the same (nap.h).
#pragma once

#include <array>
#include <vector>

#include <mpi.h>

#include "transport/mpi/bell.h"
#include "transport/transport.h"

namespace pregate::transport {

class MpiHost {
 public:
  /// Who looks for messages: the transport's own thread, or one that drives.
  enum Listener : uint32_t { kOwn, kDriver };

  /// All ranks open and close together. Where they can share no memory nobody rings.
  void open();
  void close();

  /// This rank's. Other ones after open().
  Bell bell_of(Listener listener) { return Bell(mine_->bells[listener]); }
  /// Whom the others wake from now on. Thread-safe, as is ring().
  void set_listener(Listener listener) { mine_->listener.store(listener); }
  /// Wakes whoever looks for a rank's messages, if that is on this host.
  void ring(PeerId peer);
  /// Whether every other rank rings.
  bool has_all() const { return has_all_; }

 private:
  /// Fills a cache line, at whatever address MPI gives.
  struct Rank {
    std::array<BellMemory, 2> bells;
    std::atomic<uint32_t> listener;
    std::array<uint32_t, 11> padding;
  };
  static_assert(sizeof(Rank) == 64);

  void find_ranks();

  Rank private_{};  // until there is shared memory
  Rank* mine_ = &private_;
  std::vector<Rank*> ranks_;  // by rank; null: on another host
  bool has_all_ = false;
  MPI_Comm host_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;
};

}  // namespace pregate::transport
