#!/bin/sh
# run_mpi.sh PROGRAM SCENARIO SURVIVORS: three ranks on this host; SURVIVORS of them must say "ok".
program=$1 scenario=$2 survivors=$3
[ -x "$program" ] || { echo "$program is not built"; exit 1; }
if ! command -v mpirun >/dev/null; then
  echo "skipped: no mpirun on this machine"
  exit 77
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo
output=$(timeout -k 5 120 mpirun --oversubscribe --enable-recovery -n 3 \
  "$program" "$scenario" 2>&1)
status=$?
echo "$output"
count=$(echo "$output" | grep -c "^ok $scenario rank")
[ "$status" -eq 0 ] && [ "$count" -eq "$survivors" ]
