//! The hardening of tercet's units (systemd.exec(5)), as `systemd-analyze security` rates it.

use tercet_config::{Machine, Tier};

use super::egress::account;

/// The system's files are read-only, and those of users are not there.
const READ_ONLY: &str = "ProtectSystem=strict\nProtectHome=yes\n";

/// Of the machine beyond its files, a program sees and changes as little as it can do with.
const APART: &str = "\
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
";

/// The kinds of sockets of a program that serves and connects.
const SOCKETS: &str = "AF_INET AF_INET6 AF_UNIX";

/// It gains no privileges, has sockets of these kinds, and makes the system calls of a service.
fn restrictions(sockets: &str) -> String {
    format!(
        "NoNewPrivileges=yes\nRestrictAddressFamilies={sockets}\nRestrictNamespaces=yes\nRestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\nLockPersonality=yes\nSystemCallArchitectures=native\nSystemCallFilter=@system-service\n"
    )
}

/// What a program that serves sees of its machine.
struct View {
    files: &'static str,
    processes: &'static str,
    sockets: &'static str,
}

const NOTHING: View =
    View { files: READ_ONLY, processes: "ProtectProc=invisible\nProcSubset=pid\n", sockets: SOCKETS };

/// The processes, file systems and network interfaces.
const MACHINE: View = View {
    files: "ProtectSystem=strict\nProtectHome=read-only\n",
    processes: "",
    sockets: "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
};

/// Lines of a `[Service]` section for a program that listens, connects and writes nothing but logs.
fn serving(account: &str, view: &View, memory: &str) -> String {
    let user = format!("User={account}\n");
    [&user, view.files, APART, view.processes, &restrictions(view.sockets), memory, ONLY_SERVES].concat()
}

/// Those of a server of `tier` on `machine`. Its account is not a dynamic one, since firewall rules name it.
pub(super) fn server(machine: &Machine, tier: Tier) -> String {
    // A server that leaks is restarted before the machine, or a PostgreSQL beside it, lacks memory.
    let has_database = machine.tiers.contains(&Tier::Database);
    let memory = format!("MemoryMax={}%\n", if has_database { 50 } else { 75 });
    serving(account(tier), &NOTHING, &memory)
}

/// The most memory that a program may use, in MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory(pub(super) u64);

impl Memory {
    /// The limit, and what the garbage collector of a Go program keeps below.
    fn lines(self) -> String {
        format!("{ERRORS}MemoryMax={}M\nEnvironment=GOMEMLIMIT={}MiB\n", self.0, self.0 * 9 / 10)
    }
}

/// Those of a program of the monitoring.
pub(super) fn monitoring(account: &str, memory: Memory) -> String {
    serving(account, &NOTHING, &memory.lines()) + NO_NEW_CODE
}

/// Those of the node exporter, which sees the machine. D-Bus lets in no user that only systemd knows.
pub(super) fn node_exporter(account: &str, memory: Memory) -> String {
    serving(account, &MACHINE, &memory.lines()) + NO_NEW_CODE
}

/// Lines of a `[Service]` section for a task of root that reads tercet's files and writes metrics.
pub(super) fn measurement() -> String {
    [READ_ONLY, APART, &restrictions(SOCKETS), "CapabilityBoundingSet=CAP_DAC_OVERRIDE\n"].concat()
}

/// A forbidden system call fails: Go's runtime asks for a higher limit of open files, and goes on without.
const ERRORS: &str = "SystemCallErrorNumber=EPERM\n";

/// Lines of a `[Service]` section for Debian's unit of a PostgreSQL cluster, whose pg_ctlcluster(1) begins as root and becomes
/// `postgres`. Tablespaces may be anywhere but in the system's folders; compiled queries (JIT) need memory that is writable and
/// executable; the size of huge pages is in /proc/meminfo; programs of `archive_command` and of extensions inherit all of it.
pub(super) fn postgresql() -> String {
    let more = "SystemCallErrorNumber=EPERM\n\
                CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID\n";
    let sockets = format!("{SOCKETS} AF_NETLINK");
    ["ProtectSystem=full\n", APART, &restrictions(&sockets), more].concat()
}

/// Lines of a `[Service]` section for a task that reads and writes PostgreSQL's files, as its account.
pub(super) fn task() -> String {
    [READ_ONLY, APART, &restrictions(SOCKETS), "CapabilityBoundingSet=\n"].concat()
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
