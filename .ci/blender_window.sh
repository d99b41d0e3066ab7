#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs a Python script inside a real Blender window, with software OpenGL where there is no screen.
#
#   .ci/blender_window.sh --prepare                       get Blender ready; prints where it is
#   .ci/blender_window.sh SCRIPT.py OUT [FOLDER ...]      run a script in it
#   .ci/blender_window.sh --background [FOLDER ...] -- ARGUMENT ...
#                                                         Blender's own command line, from the present folder, no window
#
# The script's environment is the caller's, with NEURAL_AVATAR_OUT for OUT, a folder that takes what it writes. Each
# FOLDER is one that the script needs (checkout, backend's environment, the Python under it). SIZE=960x600 is the
# window's, WINDOW_TIMEOUT=300 the seconds that it may take.
#
# BLENDER=/path/to/blender uses that program, on the present DISPLAY or under an Xvfb of its own. Without it, and as
# root on Debian or Ubuntu, a folder with a small Debian is made once (debootstrap, some minutes, 1.4 GB) in the cache
# folder of this project's environments and entered with chroot. Exit code 77: no window can be had here, and why.
set -euo pipefail

suite=trixie
packages=(blender xvfb libgl1-mesa-dri libegl1 libegl-mesa0 libglx-mesa0 python3-numpy imagemagick)
size=${SIZE:-960x600}
limit=${WINDOW_TIMEOUT:-300}
cache=${NEURAL_AVATAR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/neural-avatar}
root=${BLENDER_WINDOW_ROOT:-$cache/window-$suite}
mounted=() server=""

skip() {
  echo "NO BLENDER WINDOW: $1" >&2
  exit 77
}

# Everything that was mounted or started here ends here, in the reverse order, however the script ends.
tidy() {
  local code=$? i
  trap - EXIT INT TERM HUP
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do
    umount "${mounted[i]}" 2>/dev/null || umount --lazy "${mounted[i]}" 2>/dev/null || true
  done
  exit "$code"
}
trap tidy EXIT
trap 'exit 130' INT TERM HUP

# attach FROM TO: FROM appears under TO, for this run alone.
attach() {
  mkdir -p "$2"
  mount --bind "$1" "$2"
  mounted+=("$2")
}

system_folders() {
  mount -t proc proc "$root/proc"
  mounted+=("$root/proc")
  local folder
  for folder in /dev /dev/shm /dev/pts; do
    attach "$folder" "$root$folder"
  done
}

# The mirror that apt already uses here; nothing where that is no Debian, and debootstrap takes its own.
mirror_of_apt() {
  local found
  found=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  [ -n "$found" ] || found=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}}' \
    /etc/apt/sources.list 2>/dev/null || true)
  case $found in *ubuntu*) found="" ;; esac
  echo "$found"
}

# Makes the folder. A half-made one is made again: the marker comes last.
prepare() {
  [ -e "$root/.complete" ] && return
  mkdir -p "$cache"
  exec 9>"$root.lock"
  flock 9
  [ -e "$root/.complete" ] && return
  if ! command -v debootstrap >/dev/null; then
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap >&2 ||
      skip "debootstrap cannot be installed"
  fi
  echo "Making a Debian with Blender in $root: some minutes, once" >&2
  rm -rf --one-file-system "$root"
  local keys=()
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] &&
    keys=(--keyring=/usr/share/keyrings/debian-archive-keyring.gpg)
  local mirror
  mirror=$(mirror_of_apt)
  debootstrap --variant=minbase "${keys[@]}" "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 ||
    skip "debootstrap failed, see $root.log"
  # No service is to start in there.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  system_folders
  chroot "$root" apt-get update -qq >>"$root.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends "${packages[@]}" \
      >>"$root.log" 2>&1 || skip "Blender cannot be installed, see $root.log"
  chroot "$root" apt-get clean
  touch "$root/.complete"
  flock -u 9
}

# A display number that nobody uses. Xvfb itself is the judge: it refuses a number that is taken.
start_display() {
  local number sockets=$1 log=$2 i
  shift 2
  for number in $(seq $((100 + $$ % 400)) 1 600); do
    [ -e "$sockets/X$number" ] || [ -e "/tmp/.X$number-lock" ] && continue
    "$@" Xvfb ":$number" -screen 0 "${size}x24" +extension GLX -nolisten tcp >"$log" 2>&1 &
    server=$!
    for ((i = 0; i < 100; i++)); do
      kill -0 "$server" 2>/dev/null || break
      if [ -S "$sockets/X$number" ]; then
        display=":$number"
        return
      fi
      sleep 0.1
    done
    wait "$server" 2>/dev/null || true
    server=""
  done
  skip "no X display could be started, see $log"
}

given=("$@")
mode=window
case ${1:-} in
  --prepare) mode=prepare ;;
  --background) mode=background ;;
esac
if [ "$mode" = background ]; then
  shift
  folders=()
  while [ "${1:-}" != -- ]; do
    [ $# -gt 0 ] || { echo "-- is missing before Blender's arguments" >&2; exit 2; }
    folders+=("$1")
    shift
  done
  arguments=("${@:2}")
elif [ "$mode" = window ]; then
  script=$(realpath "$1") out=$(realpath -m "$2") folders=("${@:3}")
  mkdir -p "$out"
fi
window=(--window-geometry 0 0 "${size%x*}" "${size#*x}")

if [ -n "${BLENDER:-}" ]; then
  [ -x "$(command -v "$BLENDER" || true)" ] || skip "BLENDER=$BLENDER is no program"
  case $mode in
    prepare)
      echo "$BLENDER"
      exit
      ;;
    background) exec "$BLENDER" "${arguments[@]}" ;;
  esac
  display=${DISPLAY:-}
  if [ -z "$display" ]; then
    command -v Xvfb >/dev/null || skip "there is no screen, and no Xvfb to make one"
    start_display /tmp/.X11-unix "$out/display.log"
    export LIBGL_ALWAYS_SOFTWARE=1
  fi
  DISPLAY=$display NEURAL_AVATAR_OUT=$out timeout "$limit" "$BLENDER" --factory-startup "${window[@]}" --python "$script"
  exit
fi

[ "$(uname -s)" = Linux ] || skip "a window of its own is made on Linux only; set BLENDER=/path/to/blender"
[ "$(id -u)" -eq 0 ] || skip "it takes root to make one; set BLENDER=/path/to/blender, or run as root"
# What is mounted for this run is nobody else's, and ends with it even when it is killed: several runs at once share the
# Debian, not the mounts.
if [ -z "${NEURAL_AVATAR_OWN_MOUNTS:-}" ]; then
  unshare --mount --propagation private true 2>/dev/null || skip "this system lets nobody mount anything"
  NEURAL_AVATAR_OWN_MOUNTS=1 exec unshare --mount --propagation private "$0" "${given[@]}"
fi
prepare
if [ "$mode" = prepare ]; then
  echo "$root"
  exit
fi
[ -e "$root/proc/self" ] || system_folders
if [ "$mode" = window ]; then
  folders=("$out" "$(dirname "$script")" "${folders[@]}")
fi
for folder in "${folders[@]}"; do
  folder=$(realpath "$folder")
  attach "$folder" "$root$folder"
done
if [ "$mode" = background ]; then
  code=0
  chroot "$root" sh -c 'cd "$1" && shift && exec blender "$@"' sh "$PWD" "${arguments[@]}" || code=$?
  exit "$code"
fi
start_display "$root/tmp/.X11-unix" "$out/display.log" chroot "$root"
timeout "$limit" chroot "$root" env DISPLAY="$display" LIBGL_ALWAYS_SOFTWARE=1 HOME=/root XDG_RUNTIME_DIR=/tmp \
  NEURAL_AVATAR_OUT="$out" blender --factory-startup "${window[@]}" --python "$script"
