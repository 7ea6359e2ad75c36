if [ -r /etc/os-release ]; then
  . /etc/os-release
  echo "system=$ID"
  echo "version=$VERSION_ID"
fi
echo "architecture=$(uname -m)"
if [ -d /run/systemd/system ]; then echo systemd=yes; fi
sed -n 's/^MemTotal: *\([0-9]*\) kB/memory=\1/p' /proc/meminfo
df -Pk /usr/local | sed -n '2s/[^ ]* *[^ ]* *[^ ]* *\([0-9]*\).*/disk=\1/p'
data=/var/lib/postgresql
[ -d $data ] || data=/var/lib
df -Pk $data | sed -n '2s/[^ ]* *\([0-9]*\).*/data=\1/p'
echo "machine-id=$(cat /etc/machine-id 2>/dev/null)"
echo "connection=$SSH_CONNECTION"
ip -o address show scope global | sed -n 's/.* inet6\{0,1\} \([^ ]*\).*/address=\1/p'
