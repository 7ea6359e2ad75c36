#!/bin/sh
# In a bare Debian: installs tercet in one way, gets the first answer of a new project, and removes tercet again.
# $1: the way; $2: the version. Packages come from an index on this machine.
set -eu
way=$1 version=$2
index=http://127.0.0.1:8000
fail() { echo "error: $way: $1" >&2; tail -n 30 /tmp/up.log 2>/dev/null >&2 || true; exit 1; }

export DEBIAN_FRONTEND=noninteractive
echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list
apt-get -qq update
useradd --create-home --home-dir /opt/dev dev
(cd /srv/index && exec python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1) &
until curl --silent --output /dev/null "$index/"; do :; done
as_dev() { runuser -u dev -- env HOME=/opt/dev "$@"; }
cd /opt/dev
# A newcomer by npm has it.
if [ "$way" = npm ]; then apt-get -qq --yes --no-install-recommends install npm >/dev/null; fi

began=$(date +%s%N)
case $way in
  deb)
    apt-get -qq --yes --no-install-recommends install "/srv/index/tercet_${version}_amd64.deb" >/dev/null
    tercet=tercet ;;
  wheel)
    as_dev python3 -m venv venv
    as_dev env PIP_CONFIG_FILE=/dev/null venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --index-url "$index/simple/" "tercet==$version"
    tercet=/opt/dev/venv/bin/tercet ;;
  npm)
    # --ignore-scripts: nothing runs at the installation.
    as_dev env npm_config_registry="$index/npm/" npm install --silent --ignore-scripts --no-audit --no-fund "tercet@$version"
    tercet="npx --no-install tercet" ;;
  tarball)
    as_dev tar -xzf "/srv/index/tercet-$version-x86_64-unknown-linux-gnu.tar.gz"
    tercet=/opt/dev/tercet-$version-x86_64-unknown-linux-gnu/tercet ;;
  install.sh)
    as_dev env TERCET_BASE_URL="$index" PATH="$PATH" sh /srv/index/install.sh
    tercet=/opt/dev/.local/bin/tercet ;;
esac
[ "$(as_dev $tercet --version)" = "tercet $version" ] || fail 'it has another version'
as_dev $tercet init shop >/dev/null
: >/tmp/up.log
as_dev $tercet up shop >/tmp/up.log 2>&1 &
up=$!
until grep -q '"event":"up"' /tmp/up.log; do
  kill -0 $up 2>/dev/null || fail 'it ended before it was up'
  sleep 0.1
done
answer=$(curl --silent --fail http://127.0.0.1:8080/todo?select=task) || fail 'no answer'
case $answer in *'read the first migration'*) ;; *) fail "the answer is $answer" ;; esac
milliseconds=$((($(date +%s%N) - began) / 1000000))
echo "$way: the first answer after $milliseconds ms"
[ $milliseconds -le 60000 ] || fail 'the first answer took more than 60 s'
as_dev pkill -TERM -u dev -x tercet || true
wait $up || fail 'it did not stop well'

case $way in
  deb) apt-get -qq --yes purge tercet >/dev/null ;;
  wheel) as_dev venv/bin/pip uninstall --quiet --yes tercet ;;
  npm) as_dev npm uninstall --silent --no-audit --no-fund tercet ;;
  tarball) as_dev rm -r "tercet-$version-x86_64-unknown-linux-gnu" ;;
  install.sh) as_dev rm .local/bin/tercet ;;
esac
# What is left is the project, and PostgreSQL's programs that it fetched.
left=$(find / -xdev -iname '*tercet*' -not '(' -type d -empty ')' -not -path '/proc/*' -not -path '/srv/*' -not -path '/opt/dev/shop/*' \
  -not -path '/opt/dev/.cache/tercet*' -not -path '/opt/dev/.npm/*' -not -path '/var/lib/dpkg/*' || true)
[ -z "$left" ] || fail "this is left: $left"
