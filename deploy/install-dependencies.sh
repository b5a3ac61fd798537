#!/usr/bin/env bash
# Installs the Debian 12 packages of dependencies.txt that are missing, and says which.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here

usage() {
  cat <<'HELP'
Usage: deploy/install-dependencies.sh [--list] [SECTION...]

Installs what is missing of the sections of deploy/dependencies.txt: build, run, test, mpijob.
Without a section: build and run. Needs root or sudo only if something is missing.

  --list   print the missing packages and stop; nothing is installed
  --help   this text
HELP
}

say() { echo "install-dependencies: $*"; }
fail() {
  say "$*" >&2
  exit 1
}

packages_of() {
  awk -v section="[$1]" '/^\[/ { on = ($0 == section); next } on && NF && !/^#/ { print $1 }' \
    "$here/dependencies.txt"
}

is_installed() {
  [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

as_root() {
  if [[ "$(id -u)" == 0 ]]; then
    DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo >/dev/null; then
    sudo DEBIAN_FRONTEND=noninteractive "$@"
  else
    fail "not root and no sudo; as root run: apt-get install -y ${missing[*]}"
  fi
}

# Boost 1.81's headers conflict with 1.74's. Exchanging one -dev package for the other is fine;
# removing anything else of this machine is not ours to decide.
check_removals() {
  local removed others
  removed="$(apt-get -s install --no-install-recommends "$@" | awk '$1 == "Remv" { print $2 }')"
  [[ -n "$removed" ]] || return 0
  others="$(grep -v '^libboost' <<<"$removed" || true)"
  [[ -z "$others" ]] || fail "would have to remove ${others//$'\n'/ }; nothing was changed"
  say "replaces ${removed//$'\n'/ } (they conflict with libboost1.81-dev)"
}

# Debian's servers start when they are installed, and at each boot; the tests start their own. So
# while new ones are installed, systemd may not start them, and afterwards they are left switched
# off. Containers have no systemd, and start no services.
without_servers() {
  local service services=() status=0
  for service in prometheus munge slurmctld slurmd; do
    if [[ " ${missing[*]} " == *" $service "* ]]; then services+=("$service.service"); fi
  done
  if ! [[ -d /run/systemd/system && ${#services[@]} -gt 0 ]]; then
    "$@"
    return
  fi
  as_root systemctl mask --quiet --runtime "${services[@]}"
  "$@" || status=$?
  as_root systemctl unmask --quiet --runtime "${services[@]}"
  as_root systemctl disable --quiet "${services[@]}" || true
  return "$status"
}

sections=()
list_only=false
for argument in "$@"; do
  case "$argument" in
    --help | -h) usage && exit 0 ;;
    --list) list_only=true ;;
    build | run | test | mpijob) sections+=("$argument") ;;
    *) fail "$argument: expected --list, --help, build, run, test or mpijob" ;;
  esac
done
[[ ${#sections[@]} -gt 0 ]] || sections=(build run)

missing=()
for section in "${sections[@]}"; do
  for package in $(packages_of "$section"); do
    is_installed "$package" || missing+=("$package")
  done
done

if [[ ${#missing[@]} == 0 ]]; then
  say "nothing missing for ${sections[*]}"
  exit 0
fi
say "missing for ${sections[*]}: ${missing[*]}"
if $list_only; then exit 0; fi
command -v apt-get >/dev/null || fail "no apt-get here; install the above by other means"

readonly options=(-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
as_root apt-get "${options[@]}" -qq update
check_removals "${missing[@]}"
# dpkg speaks several lines of each package: shown only if it fails.
say "installing; the first time takes a minute or two"
log="$(mktemp)"
readonly log
trap 'rm -f "$log"' EXIT
without_servers as_root apt-get "${options[@]}" -qq -y --no-install-recommends \
  install "${missing[@]}" >"$log" 2>&1 || {
  tail -n 40 "$log" >&2
  fail "apt-get failed; the end of what it said is above"
}
say "done"
