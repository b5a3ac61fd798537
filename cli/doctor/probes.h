// What the system says about this host, by system calls.
#pragma once

#include "cli/doctor/checks.h"

namespace pregate::cli::doctor {

std::string host_name();
/// What a name stands for; empty: nobody knows it.
std::vector<std::string> addresses_of(const std::string& name);
/// Those that are up and have an address.
std::vector<Interface> list_interfaces();
/// Whether "HOST:PORT" can be bound to, which is undone at once.
Status probe_address(const std::string& address);

size_t cores_of_machine();
/// Those that this process may run on.
size_t allowed_cores();
uint64_t open_files_limit();
SharedMemory look_at_shared_memory(bool needed);
std::optional<bool> clock_synchronised();

}  // namespace pregate::cli::doctor
