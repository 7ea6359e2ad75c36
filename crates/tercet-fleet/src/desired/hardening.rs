//! The hardening of tercet's units (systemd.exec(5)), as `systemd-analyze security` rates it.

/// Lines of a `[Service]` section for a server that listens, connects and writes nothing but logs.
pub(super) const SERVICE: &str = "\
DynamicUser=yes
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
ProtectProc=invisible
ProcSubset=pid
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
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
