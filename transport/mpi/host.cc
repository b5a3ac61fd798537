#include "transport/mpi/host.h"

#include <new>

#include "base/log.h"

namespace pregate::transport {

void MpiHost::open() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  ranks_.assign(static_cast<size_t>(size), nullptr);
  // Errors are returned, here too: host_ inherits that from the communicator of all.
  if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host_) !=
      MPI_SUCCESS) {
    return;
  }
  void* memory = nullptr;
  if (MPI_Win_allocate_shared(sizeof(Rank), 1, MPI_INFO_NULL, host_, &memory, &window_) !=
      MPI_SUCCESS) {
    spdlog::debug("ranks of this host share no memory; messages are looked for now and then");
    return;
  }
  MPI_Win_set_errhandler(window_, MPI_ERRORS_RETURN);
  mine_ = new (memory) Rank{};
  find_ranks();
  MPI_Barrier(host_);  // now everybody's is there
}

void MpiHost::find_ranks() {
  MPI_Group host = MPI_GROUP_NULL;
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Comm_group(host_, &host);
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  int size = 0;
  MPI_Comm_size(host_, &size);
  for (int i = 0; i < size; ++i) {
    int rank = 0;
    MPI_Group_translate_ranks(host, 1, &i, world, &rank);
    MPI_Aint bytes = 0;
    int unit = 0;
    void* memory = nullptr;
    MPI_Win_shared_query(window_, i, &bytes, &unit, &memory);
    ranks_[static_cast<size_t>(rank)] = static_cast<Rank*>(memory);
  }
  MPI_Group_free(&host);
  MPI_Group_free(&world);
  has_all_ = static_cast<size_t>(size) == ranks_.size();
}

void MpiHost::close() {
  if (window_ != MPI_WIN_NULL) MPI_Win_free(&window_);
  if (host_ != MPI_COMM_NULL) MPI_Comm_free(&host_);
}

void MpiHost::ring(PeerId peer) {
  Rank* const rank = ranks_[peer.value];
  if (rank == nullptr) return;
  // Another one may have begun to listen meanwhile.
  for (uint32_t listener = rank->listener, rung = ~listener; rung != listener;
       listener = rank->listener) {
    Bell(rank->bells[listener]).wake();
    rung = listener;
  }
}

}  // namespace pregate::transport
