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
df -Pk $data | sed -n '2s/[^ ]* *\([0-9]*\) *[^ ]* *\([0-9]*\).*/data=\1\nfree=\2/p'
echo "machine-id=$(cat /etc/machine-id 2>/dev/null)"
echo "connection=$SSH_CONNECTION"
ip -o address show scope global | sed -n 's/^[0-9]*: *\([^ ]*\) .* inet6\{0,1\} \([^ ]*\).*/address=\2 \1/p'
dpkg --audit 2>/dev/null | sed -n 's/^ \([^ ]*\) .*/broken=\1/p'
ss -Hltnp 2>/dev/null | while read -r _ _ _ socket _ users; do
  pid=${users#*pid=}
  case $(cat "/proc/${pid%%,*}/cgroup" 2>/dev/null) in
    *tercet-* | *postgresql*) ;;
    *) echo "listener=$socket $users" ;;
  esac
done
for unit in prometheus prometheus-alertmanager prometheus-node-exporter prometheus-postgres-exporter; do
  [ -e "/etc/systemd/system/$unit.service.d/tercet.conf" ] && continue
  if systemctl is-active --quiet "$unit.service" 2>/dev/null; then echo "running=$unit.service"; fi
done
sshd -T 2>/dev/null | sed -n 's/^passwordauthentication \(.*\)/passwords=\1/p'
for file in /etc/postgresql/*/main/postgresql.conf; do
  [ -f "$file" ] || continue
  grep -Eqi "^[[:space:]]*include_dir[[:space:]=]+'([^']*/)?conf\.d/?'" "$file" || echo "no-conf.d=$file"
done
