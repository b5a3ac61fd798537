#include "cli/doctor/checks.h"

#include <algorithm>
#include <cmath>

#include "base/memory.h"
#include "cli/quantity.h"

namespace pregate::cli::doctor {
namespace {

/// The server's connections, and the files of a large checkpoint.
constexpr uint64_t kEnoughFiles = 4096 + 512;
constexpr uint64_t kFewestFiles = 256;
/// What each rank's queues take, for some ranks.
constexpr uint64_t kEnoughSharedMemory = uint64_t{64} << 20;

Check ok(std::string name, std::string found) {
  return {std::move(name), Outcome::kOk, std::move(found), ""};
}
Check warning(std::string name, std::string found, std::string advice) {
  return {std::move(name), Outcome::kWarning, std::move(found), std::move(advice)};
}
Check failed(std::string name, std::string found, std::string advice) {
  return {std::move(name), Outcome::kFailed, std::move(found), std::move(advice)};
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::string describe(const Memory& memory) {
  std::vector<std::string> parts;
  const auto add = [&](uint64_t bytes, const char* what) {
    if (bytes > 0) parts.push_back(fmt::format("{} {}", describe_bytes(bytes), what));
  };
  add(memory.backbone, "backbone");
  add(memory.kv_cache, "KV cache");
  add(memory.experts, "experts");
  const std::string whose = memory.device.empty() ? "" : "of " + memory.device + "'s memory ";
  return fmt::format("{} needed ({}), {} {}available", describe_bytes(memory.needed()),
                     fmt::join(parts, ", "), describe_bytes(memory.available), whose);
}

/// A back end has left out what it needs itself.
uint64_t usable_of(const Memory& memory) {
  return memory.device.empty() ? less_reserve(memory.available) : memory.available;
}

}  // namespace

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kWarning:
      return "warning";
    case Outcome::kFailed:
      return "FAILED";
  }
  return "";
}

Outcome worst(const Checks& checks) {
  Outcome outcome = Outcome::kOk;
  for (const Check& check : checks) outcome = std::max(outcome, check.outcome);
  return outcome;
}

Check check_library(const transport::LibraryVersion& library) {
  if (library.running.empty()) return ok(library.name, "not in this build");
  // The headers may not know as much of the version as the library does.
  const bool same = library.running == library.built_with ||
                    library.running.starts_with(library.built_with + ".");
  if (same) return ok(library.name, library.running);
  return warning(
      library.name, fmt::format("{}, built with {}", library.running, library.built_with),
      "install the version it was built with (see deploy/dependencies.txt), or build again here");
}

Check check_kernels(const Kernels& kernels) {
  constexpr const char* kName = "kernels";
  if (!kernels.chosen) {
    return failed(
        kName, kernels.chosen.error().message,
        fmt::format("leave --backend out, or give one of: {}", fmt::join(kernels.available, ", ")));
  }
  const std::string& chosen = *kernels.chosen;
  if (chosen == "cpu/generic" && kernels.available.front() == chosen) {
    return warning(kName, chosen + ": this processor has neither AVX2 nor AVX-512",
                   "expect it to be slow; use another machine where speed matters");
  }
  if (kernels.wanted == "cpu" && chosen != kernels.available.front()) {
    return warning(kName,
                   fmt::format("{}, because {} fails its self-test on this processor", chosen,
                               kernels.available.front()),
                   "report it, with the line of `pregate bench` that says why");
  }
  return ok(kName, fmt::format("{} of {}", chosen, fmt::join(kernels.available, ", ")));
}

Check check_cores(const Cores& cores) {
  constexpr const char* kName = "cores";
  std::string found = fmt::format("{} of {}", cores.allowed, cores.of_machine);
  if (std::isfinite(cores.quota)) found += fmt::format(", CPU quota {:.2f}", cores.quota);
  if (cores.quota < 1) {
    return warning(kName, found,
                   "raise the quota to a whole core or more (docker --cpus, CPU "
                   "limit of the pod, CPUQuota)");
  }
  const size_t usable = std::min(cores.allowed, static_cast<size_t>(std::min(cores.quota, 1e6)));
  if (cores.threads > usable) {
    return warning(kName, fmt::format("{}, but --threads {}", found, cores.threads),
                   fmt::format("--threads {}, or leave it out; more wait for one another", usable));
  }
  if (cores.allowed == 1 && cores.of_machine > 2) {
    return warning(kName, found,
                   "if mpirun bound this process: --bind-to none, or more cores for "
                   "each rank");
  }
  return ok(kName, found);
}

Check check_memory(const Memory& memory) {
  const bool is_host = memory.device.empty();
  const char* const name = is_host ? "memory" : "GPU memory";
  const std::string found = describe(memory);
  if (is_host && memory.available == 0) {
    return warning(name, found, "cannot find out how much is free: give --memory to workers");
  }
  const uint64_t usable = usable_of(memory);
  if (memory.needed() <= usable) return ok(name, found);
  if (memory.backbone + memory.kv_cache > usable) {
    return failed(
        name, found,
        is_host ? "a smaller --kv-cache-bytes, --weights q8 or q4, or more memory"
                : "a smaller --kv-cache-bytes, --weights q8 or q4, or a device with more free "
                  "memory");
  }
  if (memory.may_stay_on_disk) {
    return warning(name, found,
                   "experts will be read from disk when they are needed, which is "
                   "slow: more memory, --weights q8 or q4, or workers");
  }
  const std::string part =
      is_host ? fmt::format(", {} of it usable", describe_bytes(usable)) : std::string();
  return failed(
      name, found + part,
      "more workers or memory, --weights q8 or q4, or --expert-memory to keep some on disk");
}

Check check_port(const Port& port) {
  if (port.free) return ok(port.flag, port.address + " is free");
  return failed(port.flag, port.free.error().message,
                fmt::format("stop what uses it (`ss -ltnp`), or give another {}", port.flag));
}

Check check_shared_memory(const SharedMemory& memory) {
  constexpr const char* kName = "/dev/shm";
  if (!memory.writable) {
    const std::string& found = memory.writable.error().message;
    if (memory.needed) {
      return failed(kName, found, "mount a tmpfs there that this user may write (mode 1777)");
    }
    return warning(kName, found, "needed for several MPI ranks on one host only");
  }
  const std::string found = describe_bytes(memory.free_bytes) + " free";
  if (memory.free_bytes >= kEnoughSharedMemory || !memory.needed) return ok(kName, found);
  return warning(kName, found, "64 MiB or more for MPI ranks on one host (docker --shm-size)");
}

Check check_open_files(uint64_t limit) {
  constexpr const char* kName = "open files";
  const std::string found = fmt::format("limit {}", limit);
  const std::string advice =
      fmt::format("raise the hard limit to {} or more (ulimit -Hn, LimitNOFILE)", kEnoughFiles);
  if (limit < kFewestFiles) return failed(kName, found, advice);
  if (limit < kEnoughFiles) return warning(kName, found, advice + ", for as many connections");
  return ok(kName, found);
}

Check check_interfaces(const std::vector<Interface>& interfaces, const std::string& wanted) {
  constexpr const char* kName = "network";
  std::vector<std::string> all;
  bool has_wanted = false, has_other = false;
  for (const Interface& each : interfaces) {
    all.push_back(each.name + " " + each.address);
    has_wanted |= each.name == wanted;
    has_other |= !each.is_loopback;
  }
  const std::string found = fmt::format("{}", fmt::join(all, ", "));
  if (!wanted.empty() && !has_wanted) {
    return failed(kName,
                  fmt::format("no {} that is up and has an address; there are: {}", wanted,
                              all.empty() ? "none" : found),
                  "name one that every host has (`ip -br address`)");
  }
  if (all.empty()) return failed(kName, "no interface is up", "`ip link set lo up` at least");
  if (has_other) return ok(kName, found);
  return warning(kName, found + " only", "no other host can reach this one");
}

Check check_own_name(const OwnName& own) {
  constexpr const char* kName = "own name";
  if (own.addresses.empty()) {
    return warning(kName, own.name + ": nobody knows this name",
                   "add it to /etc/hosts or the name server, or use addresses throughout");
  }
  const std::string found = fmt::format("{} is {}", own.name, fmt::join(own.addresses, ", "));
  if (!std::ranges::all_of(own.addresses, is_loopback)) return ok(kName, found);
  return warning(kName, found,
                 "others cannot reach it by that: give --listen an address, and /etc/hosts the "
                 "network's address in place of 127.0.1.1");
}

Check check_clock(std::optional<bool> synchronised) {
  constexpr const char* kName = "clock";
  if (!synchronised) return ok(kName, "cannot say whether it is synchronised");
  if (*synchronised) return ok(kName, "synchronised");
  return warning(kName, "not synchronised",
                 "run chrony or systemd-timesyncd, so that logs of hosts can be compared");
}

}  // namespace pregate::cli::doctor
