//! The hardening of tercet's units (systemd.exec(5)), as `systemd-analyze security` rates it.

use tercet_config::{Machine, Tier};

/// Of the machine, a program sees and changes as little as it can do with.
const SANDBOX: &str = "\
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
";

/// It gains no privileges, and makes the system calls of a service.
const RESTRICTIONS: &str = "\
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
";

/// Lines of a `[Service]` section for a server on `machine` that listens, connects and writes nothing but logs.
pub(super) fn server(machine: &Machine) -> String {
    let apart = "DynamicUser=yes\n";
    let processes = "ProtectProc=invisible\nProcSubset=pid\n";
    // A server that leaks is restarted before the machine, or a PostgreSQL beside it, lacks memory.
    let has_database = machine.tiers.contains(&Tier::Database);
    let memory = format!("MemoryMax={}%\n", if has_database { 50 } else { 75 });
    [apart, SANDBOX, processes, RESTRICTIONS, &memory, ONLY_SERVES].concat()
}

/// Lines of a `[Service]` section for Debian's unit of a PostgreSQL cluster, whose pg_ctlcluster(1) begins as root and becomes
/// `postgres`. Tablespaces may be anywhere but in the system's folders; compiled queries (JIT) need memory that is writable and
/// executable; the size of huge pages is in /proc/meminfo; programs of `archive_command` and of extensions inherit all of it.
pub(super) const POSTGRESQL: &str = "\
ProtectSystem=full
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
";

/// Lines of a `[Service]` section for a task that reads and writes PostgreSQL's files, as its account.
pub(super) fn task() -> String {
    [SANDBOX, RESTRICTIONS, "CapabilityBoundingSet=\n"].concat()
}

/// The rest, for a server.
const ONLY_SERVES: &str = "\
SystemCallFilter=~@privileged @resources
CapabilityBoundingSet=
AmbientCapabilities=
RemoveIPC=yes
UMask=0077
TasksMax=512
LimitNOFILE=65536
LimitCORE=0
LogRateLimitIntervalSec=0
Restart=always
RestartSec=200ms
";

/// For programs that generate no code at run time, so not for a user's own program.
pub(super) const NO_NEW_CODE: &str = "MemoryDenyWriteExecute=yes\n";
