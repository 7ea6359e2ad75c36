#!/bin/sh
# Installs tercet @VERSION@ into ~/.local/bin, without root:  sh install.sh
#
# TERCET_BASE_URL     the URL of the folder to download from
# TERCET_INSTALL_DIR  the folder to install to
#
# All of it is in main, so that a script that was cut off in the download does nothing.

main() {
  set -eu
  version='@VERSION@'
  archive='@ARCHIVE@'
  sha256='@SHA256@'
  base=${TERCET_BASE_URL:-'@BASE_URL@'}
  folder=${TERCET_INSTALL_DIR:-$HOME/.local/bin}

  [ -n "$base" ] || fail 'TERCET_BASE_URL is not set' "set it to the URL of the folder that has $archive"
  case "$(uname -s) $(uname -m)" in
    'Linux x86_64') ;;
    Linux*) fail "there is no tercet for $(uname -m) here" 'build it: cargo install --path crates/tercet' ;;
    *) fail "tercet runs on Linux, and this is $(uname -s)" 'run it in a container or on a virtual machine' ;;
  esac
  check_libc
  for program in tar gzip sha256sum; do
    command -v "$program" >/dev/null || fail "$program is missing" "install it"
  done

  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  echo "downloading $base/$archive"
  download "$base/$archive" "$work/$archive"
  echo "$sha256  $work/$archive" | sha256sum --check --status ||
    fail "$archive is damaged: its SHA-256 is not $sha256" 'download it again; if it happens again, tell the authors'
  tar -xzf "$work/$archive" -C "$work"
  mkdir -p "$folder"
  # In one step: a tercet that runs keeps its file.
  cp "$work/${archive%.tar.gz}/tercet" "$folder/.tercet.new"
  chmod 755 "$folder/.tercet.new"
  mv -f "$folder/.tercet.new" "$folder/tercet"
  "$folder/tercet" --version >/dev/null || fail "$folder/tercet does not start" 'is the folder mounted noexec?'
  echo "installed tercet $version: $folder/tercet"
  case ":$PATH:" in
    *":$folder:"*) ;;
    *) echo "hint: $folder is not on the PATH yet: export PATH=\"$folder:\$PATH\"" ;;
  esac
  echo 'start a project: tercet init shop && tercet up shop'
  echo "remove it: rm $folder/tercet"
}

# The binary needs glibc 2.34: Debian 12, Ubuntu 22.04, Fedora 35, RHEL 9 and newer.
check_libc() {
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
  case "$libc" in
    'glibc '*) ;;
    *) fail 'tercet needs glibc, and this system has another C library (musl?)' 'use a Debian container' ;;
  esac
  number=${libc#glibc }
  major=${number%%.*}
  minor=${number#*.}
  minor=${minor%%.*}
  if [ "$major" -lt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -lt 34 ]; }; then
    fail "tercet needs glibc 2.34, and this system has $number" 'use Debian 12, Ubuntu 22.04 or newer'
  fi
}

download() {
  if command -v curl >/dev/null; then
    curl --fail --silent --show-error --location --retry 3 --output "$2" "$1" || fail "$1 cannot be downloaded" 'check the URL'
  elif command -v wget >/dev/null; then
    wget --quiet --tries=3 --output-document="$2" "$1" || fail "$1 cannot be downloaded" 'check the URL'
  else
    fail 'neither curl nor wget is here' 'install one of them'
  fi
}

fail() {
  echo "error: $1" >&2
  echo "hint: $2" >&2
  exit 1
}

main "$@"
