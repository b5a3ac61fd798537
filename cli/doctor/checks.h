// The checks of `pregate doctor`: what was found out about a host in, a line of the report out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "transport/libraries.h"

namespace pregate::cli::doctor {

enum class Outcome { kOk, kWarning, kFailed };
const char* to_string(Outcome outcome);

struct Check {
  std::string name;
  Outcome outcome = Outcome::kOk;
  std::string found;
  std::string advice;  ///< What to do; empty where all is well.
};
using Checks = std::vector<Check>;

/// The worst of them.
Outcome worst(const Checks& checks);

Check check_library(const transport::LibraryVersion& library);

struct Kernels {
  std::string wanted;                  ///< --backend
  std::vector<std::string> available;  ///< The fastest first.
  Result<std::string> chosen;
};
Check check_kernels(const Kernels& kernels);

struct Cores {
  size_t of_machine = 1;
  size_t allowed = 1;  ///< That this process may run on.
  double quota = 0;    ///< Of the cgroups; infinite without one.
  size_t threads = 0;  ///< --threads; 0: as many as there are.
};
Check check_cores(const Cores& cores);

struct Memory {
  uint64_t available = 0;         ///< 0: unknown.
  uint64_t backbone = 0;          ///< 0 in a worker.
  uint64_t kv_cache = 0;          ///< 0 in a worker.
  uint64_t experts = 0;           ///< 0 in a coordinator.
  bool may_stay_on_disk = false;  ///< Experts that have no room are read when they are needed.
  std::string device;             ///< Whose memory it is; empty: the host's.

  uint64_t needed() const { return backbone + kv_cache + experts; }
};
Check check_memory(const Memory& memory);

/// What became of binding to an address that a process of the cluster would take.
struct Port {
  std::string flag;     ///< "--port"
  std::string address;  ///< "HOST:PORT"
  Status free;
};
Check check_port(const Port& port);

struct SharedMemory {
  Status writable;
  uint64_t free_bytes = 0;
  bool needed = false;  ///< Ranks of one host speak through it.
};
Check check_shared_memory(const SharedMemory& memory);

/// `limit` is the hard one: the program raises the other to it.
Check check_open_files(uint64_t limit);

struct Interface {
  std::string name;
  std::string address;
  bool is_loopback = false;
};
/// `wanted`: what --iface says; empty: any.
Check check_interfaces(const std::vector<Interface>& interfaces, const std::string& wanted);

struct OwnName {
  std::string name;
  std::vector<std::string> addresses;  ///< That it stands for; empty: nobody knows it.
};
Check check_own_name(const OwnName& own);

/// Whether something keeps the clock right; nothing: that cannot be found out.
Check check_clock(std::optional<bool> synchronised);

}  // namespace pregate::cli::doctor
