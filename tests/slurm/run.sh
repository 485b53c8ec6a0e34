#!/usr/bin/env bash
# A study on a one-node Slurm, with the node killed in the middle, and then the study itself; it must complete.
#
#   sudo tests/slurm/run.sh        in a Debian (or Ubuntu) container or VM that may be changed; as root
#
# Takes some minutes. Slurm comes from Debian's packages (slurm-wlm, munge), its files lie in a temporary folder, its
# ports are not the usual ones, its two settings files in /etc/slurm are taken away again,
# and every daemon that was started here is stopped at the end.
# The node declares a GPU that is only a number (Gres=gpu:1): enough to see that encoder jobs ask for it and wait for it.
set -euo pipefail
cd "$(dirname "$0")/../.."
ROOT=$PWD
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PATH="$(dirname "$PYTHON"):/usr/sbin:$PATH"
export JUPYTER_PLATFORM_DIRS=1 TOKENIZERS_PARALLELISM=false

say() { printf '\n== %s\n' "$*"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "Slurm's daemons need root; run this in a container or VM of your own"
"$PYTHON" -c 'import snakemake_executor_plugin_slurm' 2>/dev/null || fail "the plugin is missing; run: make slurm"
if ! command -v slurmctld munged >/dev/null; then
  say "installing Debian's slurm-wlm and munge"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
fi

DIR=$(mktemp -d)
NAME=slurmtest-$$
MUNGED="" STUDY=""
CONF=/etc/slurm  # the plugin takes SLURM_CONF out of the environment of its jobs, so it must be the usual place
[ ! -e $CONF/slurm.conf ] && [ ! -e $CONF/gres.conf ] || fail "there is a Slurm on this machine already ($CONF)"

# Ends only what this script started: every id comes from a file in its own folder.
stop() {
  [ -n "$STUDY" ] && kill -9 -- "-$STUDY" 2>/dev/null || true
  scancel -u root 2>/dev/null && sleep 6 || true
  for name in slurmd slurmctld; do
    [ -f "$DIR/$name.pid" ] && kill "$(cat "$DIR/$name.pid")" 2>/dev/null || true
  done
  [ -n "$MUNGED" ] && kill "$MUNGED" 2>/dev/null || true
}
finish() {
  status=$?
  [ $status = 0 ] || tail -n 15 "$DIR"/slurm*.log "$DIR"/study*.log 2>/dev/null || true
  stop
  sleep 1
  rm -rf "$DIR" "runs/$NAME" "models/$NAME" $CONF/slurm.conf $CONF/gres.conf
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

say "munge and Slurm $(slurmctld -V | cut -d' ' -f2) on one node"
mkdir -p "$DIR/state" "$DIR/spool" "$DIR/munge"
chmod 755 "$DIR"
chmod 700 "$DIR/munge"
chown -R munge: "$DIR/munge"
if ! munge -n >/dev/null 2>&1; then
  [ -s /etc/munge/munge.key ] || mungekey --create
  install -d -o munge -g munge /run/munge
  setpriv --reuid=munge --regid=munge --clear-groups munged --foreground --pid-file="$DIR/munge/pid" \
    --log-file="$DIR/munge/log" --seed-file="$DIR/munge/seed" 2>/dev/null &
  MUNGED=$!
  for _ in $(seq 20); do munge -n >/dev/null 2>&1 && break; sleep 0.5; done
  munge -n >/dev/null || fail "munged does not answer"
fi
sed -e "s|@HOST@|$(hostname -s)|g" -e "s|@DIR@|$DIR|g" -e "s|@CPUS@|$(nproc --all)|" \
  -e "s|@MEMORY@|$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)|" tests/slurm/slurm.conf.in >$CONF/slurm.conf
echo "Name=gpu File=/dev/null" >$CONF/gres.conf  # a device that exists; no job opens it
slurmctld -c
slurmd -c
for _ in $(seq 30); do [ "$(sinfo -h -o %t 2>/dev/null)" = idle ] && break; sleep 1; done
sinfo -o "%P %D %t %c cores %G" || fail "slurmctld does not answer"
[ "$(sinfo -h -o %t)" = idle ] || fail "the node did not come up"

say "a study of a few notes: two CRF runs and, to see the GPU asked for, two of a micro encoder"
"$PYTHON" tests/slurm/small_study.py "$DIR" "$NAME"
study() { "$PYTHON" -m nbutils.study run "$DIR/$NAME.yaml" --profile profiles/slurm; }
finished() { find "runs/$NAME" -name run.json 2>/dev/null | wc -l; }

setsid "$PYTHON" -m nbutils.study run "$DIR/$NAME.yaml" --profile profiles/slurm >"$DIR/study-1.log" 2>&1 &
STUDY=$!
for _ in $(seq 240); do
  squeue -h -t R -o %i | grep -q . && break
  kill -0 "$STUDY" 2>/dev/null || fail "the study ended before its first job ran"
  sleep 0.5
done
sleep 3
squeue -o "%i %T %M"
VICTIM=$(squeue -h -t R -o %i | head -n 1)
[ -n "$VICTIM" ] || fail "no job ran"

say "killing the node while job $VICTIM runs"
SLURMD=$(cat "$DIR/slurmd.pid")
# The daemon and all that it started: its steps keep no other parent than it or the init process, so ask Slurm first.
STEPS=$(scontrol listpids 2>/dev/null | awk 'NR > 1 && $1 > 1 {print $1}')
STEPDS=$(for pid in $STEPS; do ps -o ppid= -p "$pid"; done | sort -un | grep -vx ' *1' || true)
kill -9 "$SLURMD" $STEPS 2>/dev/null || true
for pid in $STEPDS; do [ "$(ps -o comm= -p "$pid")" = slurmstepd ] && kill -9 "$pid"; done 2>/dev/null || true
rm -f "$DIR/slurmd.pid"
for _ in $(seq 60); do sinfo -h -o %t | grep -q down && break; sleep 1; done
sinfo -o "%P %D %t"
say "the node comes back"
slurmd -c
for _ in $(seq 30); do sinfo -h -o %t | grep -qx 'idle\|mix\|alloc' && break; sleep 1; done
sinfo -o "%P %D %t"

say "killing the study itself once one more run is done, and starting it again"
for _ in $(seq 300); do
  [ "$(finished)" -ge 1 ] && break
  kill -0 "$STUDY" 2>/dev/null || fail "the study gave up after the node was lost"
  sleep 1
done
kill -9 -- "-$STUDY" 2>/dev/null || true
scancel -u root || true
BEFORE=$(finished)
for file in $(find "runs/$NAME" -name run.json); do md5sum "$file"; done >"$DIR/before.md5"
echo "$BEFORE of 4 runs are finished"
study | tee "$DIR/study-2.log"

say "what was asked of Slurm"
scontrol show jobs | awk '/^JobId=/ {if (line) print line; line = $1} /JobState=|TRES=|TresPer|Comment=/ {line = line " " $1}
  END {print line}' | tee "$DIR/jobs"
grep -q 'gpu:1' "$DIR/jobs" || fail "no job asked for a GPU"
[ "$(finished)" = 4 ] || fail "$(finished) of 4 runs are finished"
md5sum --quiet -c "$DIR/before.md5" || fail "a finished run was made again"
grep -q "A CRF" "$DIR/study-2.log" || fail "the study did not end with its table"
study | grep -q "Nothing was left to train" || fail "a second call found something to do"
say "PASSED: 4 of 4 runs, one node and one study killed in the middle, the finished ($BEFORE) kept as they were"
