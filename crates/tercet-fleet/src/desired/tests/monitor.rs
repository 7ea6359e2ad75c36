//! What the monitoring becomes on its machine and on those that it watches.

use expect_test::expect;
use tercet_machine::file::Contents;

use super::{FOUR, MONITORED, check, desired, openings};

#[test]
fn the_monitor_alone_may_read_the_metrics_of_every_machine() {
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        meta nfproto ipv4 tcp dport 80 accept comment "the internet to balancer"
        meta nfproto ipv6 tcp dport 80 accept comment "the internet to balancer"
        ip saddr 10.0.0.40 ip daddr 10.0.0.10 tcp dport 9080 accept comment "mon to balancer"
        ip saddr 10.0.0.40 ip daddr 10.0.0.10 tcp dport 9100 accept comment "mon to node-exporter-lb"
    "#]]
    .assert_eq(&openings(&desired(MONITORED, "lb")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8081 accept comment "lb to app-1"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 9081 accept comment "lb to app-1"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8082 accept comment "lb to app-1"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 9082 accept comment "lb to app-1"
        ip saddr 10.0.0.40 ip daddr 10.0.0.11 tcp dport 9081 accept comment "mon to app-1"
        ip saddr 10.0.0.40 ip daddr 10.0.0.11 tcp dport 9082 accept comment "mon to app-1"
        ip saddr 10.0.0.40 ip daddr 10.0.0.11 tcp dport 9100 accept comment "mon to node-exporter-app1"
    "#]]
    .assert_eq(&openings(&desired(MONITORED, "app1")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.11 ip daddr 10.0.0.20 tcp dport 5432 accept comment "app1 to database"
        ip saddr 10.0.0.40 ip daddr 10.0.0.20 tcp dport 9100 accept comment "mon to node-exporter-db"
        ip saddr 10.0.0.40 ip daddr 10.0.0.20 tcp dport 9187 accept comment "mon to postgres-exporter"
    "#]]
    .assert_eq(&openings(&desired(MONITORED, "db")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
    "#]]
    .assert_eq(&openings(&desired(MONITORED, "mon")));
    check(
        &desired(MONITORED, "mon"),
        "prometheus.yml",
        expect![[r##"
            # Written by tercet from the edges of the topology; changes are undone by the next apply.
            alerting:
              alertmanagers:
                - static_configs:
                    - targets: ["127.0.0.1:9093"]
            global:
              evaluation_interval: "5s"
              external_labels:
                project: "shop"
              scrape_interval: "5s"
              scrape_timeout: "4s"
            rule_files: ["rules.yml"]
            scrape_configs:
              - job_name: "machine"
                static_configs:
                  - labels:
                      machine: "lb"
                    targets: ["10.0.0.10:9100"]
                  - labels:
                      machine: "app1"
                    targets: ["10.0.0.11:9100"]
                  - labels:
                      machine: "db"
                    targets: ["10.0.0.20:9100"]
                  - labels:
                      machine: "mon"
                    targets: ["127.0.0.1:9100"]
              - job_name: "balancer"
                metric_relabel_configs:
                  - regex: "tercet_balancer_server_.*;app-1"
                    replacement: "app1"
                    source_labels: ["__name__","server"]
                    target_label: "machine"
                static_configs:
                  - labels:
                      machine: "lb"
                    targets: ["10.0.0.10:9080"]
              - job_name: "api"
                static_configs:
                  - labels:
                      machine: "app1"
                      server: "app-1"
                    targets: ["10.0.0.11:9081"]
                  - labels:
                      machine: "app1"
                      server: "app-1"
                    targets: ["10.0.0.11:9082"]
              - job_name: "postgresql"
                static_configs:
                  - labels:
                      machine: "db"
                    targets: ["10.0.0.20:9187"]
              - job_name: "alertmanager"
                static_configs:
                  - labels:
                      machine: "mon"
                    targets: ["127.0.0.1:9093"]
        "##]],
    );
    let admin = |text: &str| {
        let lb = desired(text, "lb");
        let file = lb.files.iter().find(|file| file.path.ends_with("balancer.toml")).expect("its file");
        let Contents::Text(text) = &file.contents else { panic!("it is no secret") };
        text.lines().skip_while(|line| *line != "[admin]").take(3).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        [admin]
        socket = "/run/tercet-balancer/admin.sock"
        metrics = "10.0.0.10:9080""#]]
    .assert_eq(&admin(MONITORED));
    expect![[r#"
        [admin]
        socket = "/run/tercet-balancer/admin.sock"
    "#]]
    .assert_eq(&admin(FOUR));
}

#[test]
fn the_programs_of_the_monitoring_are_units_of_tercet() {
    let (db, mon) = (desired(MONITORED, "db"), desired(MONITORED, "mon"));
    check(
        &db,
        "tercet-node-exporter.service",
        expect![[r#"
            [Unit]
            Description=tercet: metrics of this machine
            Wants=network-online.target
            After=network-online.target
            StartLimitIntervalSec=0

            [Service]
            ExecStart=/usr/bin/prometheus-node-exporter \
              "--web.listen-address=10.0.0.20:9100" \
              "--web.disable-exporter-metrics" \
              "--collector.disable-defaults" \
              "--collector.cpu" \
              "--collector.diskstats" \
              "--collector.filesystem" \
              "--collector.loadavg" \
              "--collector.meminfo" \
              "--collector.netdev" \
              "--collector.pressure" \
              "--collector.stat" \
              "--collector.systemd" \
              "--collector.textfile" \
              "--collector.time" \
              "--collector.uname" \
              "--collector.vmstat" \
              "--collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fuse.*|fusectl|hugetlbfs|iso9660|mqueue|nsfs|proc|procfs|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$$" \
              "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|snap|sys|var/lib/(docker|containers|kubelet)/.+)($$|/)" \
              "--collector.netdev.device-exclude=^(lo|veth.*|br-.*|docker.*)$$" \
              "--collector.systemd.unit-include=^(tercet-.+|postgresql@.+)[.](service|timer)$$" \
              "--collector.systemd.enable-restarts-metrics" \
              "--collector.textfile.directory=/var/lib/tercet/metrics"
            User=tercet-exporter
            ProtectSystem=strict
            ProtectHome=read-only
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
            MemoryMax=64M
            Environment=GOMEMLIMIT=57MiB
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
            MemoryDenyWriteExecute=yes

            [Install]
            WantedBy=multi-user.target
        "#]],
    );
    check(
        &db,
        "tercet-postgres-exporter.service",
        expect![[r#"
        [Unit]
        Description=tercet: metrics of PostgreSQL
        Wants=network-online.target
        After=network-online.target
        StartLimitIntervalSec=0

        [Service]
        ExecStart=/usr/bin/prometheus-postgres-exporter \
          "--web.listen-address=10.0.0.20:9187" \
          "--disable-settings-metrics" \
          "--extend.query-path=/etc/tercet/monitor/queries.yml"
        Environment="DATA_SOURCE_NAME=user=tercet_monitor host=/run/postgresql port=5432 dbname=postgres sslmode=disable"
        User=tercet-exporter
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
        SystemCallErrorNumber=EPERM
        MemoryMax=64M
        Environment=GOMEMLIMIT=57MiB
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
        MemoryDenyWriteExecute=yes

        [Install]
        WantedBy=multi-user.target
    "#]],
    );
    check(
        &mon,
        "tercet-prometheus.service",
        expect![[r#"
            [Unit]
            Description=tercet: scrapes the metrics, and evaluates the rules of the alerts
            Wants=network-online.target
            After=network-online.target
            StartLimitIntervalSec=0

            [Service]
            ExecStart=/usr/bin/prometheus \
              "--config.file=/etc/tercet/monitor/prometheus.yml" \
              "--storage.tsdb.path=/var/lib/tercet-prometheus" \
              "--storage.tsdb.retention.time=15d" \
              "--storage.tsdb.retention.size=2200MB" \
              "--web.listen-address=127.0.0.1:9090"
            ExecReload=/bin/kill -HUP $MAINPID
            StateDirectory=tercet-prometheus
            TimeoutStopSec=30
            User=tercet-monitor
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
            SystemCallErrorNumber=EPERM
            MemoryMax=512M
            Environment=GOMEMLIMIT=460MiB
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
            MemoryDenyWriteExecute=yes

            [Install]
            WantedBy=multi-user.target
        "#]],
    );
    check(
        &mon,
        "tercet-alertmanager.service",
        expect![[r#"
            [Unit]
            Description=tercet: sends the alerts
            Wants=network-online.target
            After=network-online.target
            StartLimitIntervalSec=0

            [Service]
            ExecStart=/usr/bin/prometheus-alertmanager \
              "--config.file=/run/credentials/tercet-alertmanager.service/alertmanager.yml" \
              "--storage.path=/var/lib/tercet-alertmanager" \
              "--web.listen-address=127.0.0.1:9093" \
              "--cluster.listen-address=" \
              "--log.level=debug"
            LoadCredential=alertmanager.yml:/etc/tercet/credentials/alertmanager.yml
            StateDirectory=tercet-alertmanager
            User=tercet-monitor
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
            SystemCallErrorNumber=EPERM
            MemoryMax=128M
            Environment=GOMEMLIMIT=115MiB
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
            MemoryDenyWriteExecute=yes

            [Install]
            WantedBy=multi-user.target
        "#]],
    );
    check(
        &db,
        "prometheus-node-exporter.service.d/tercet.conf",
        expect![[r#"
        # Written by tercet, which has a unit of its own for this program.
        [Unit]
        ConditionPathExists=!/
    "#]],
    );
    check(
        &db,
        "pg_hba.conf",
        expect![[r##"
        # Written by tercet from the edges of the topology; changes are undone by the next apply.
        local all postgres peer
        local "shop" "shop_owner" peer map=tercet
        local "postgres" tercet_monitor peer map=tercet
        hostssl "shop" authenticator 10.0.0.11/32 scram-sha-256 clientcert=verify-full
    "##]],
    );
    check(
        &db,
        "pg_ident.conf",
        expect![[r#"
        tercet postgres "shop_owner"
        tercet tercet-exporter tercet_monitor
    "#]],
    );
    let roles: Vec<_> =
        db.cluster.iter().flat_map(|cluster| &cluster.roles).map(|role| &*role.name).collect();
    assert!(roles.contains(&"tercet_monitor"), "{roles:?}");
    let receivers = mon.files.iter().find(|file| file.path.ends_with("alertmanager.yml")).expect("its file");
    assert!(matches!(receivers.contents, Contents::Secret(_)) && receivers.mode == 0o600);
    let stopped = |name: &str| mon.units.iter().any(|unit| unit.name == name && unit.enabled == Some(false));
    assert!(stopped("prometheus.service") && stopped("prometheus-alertmanager.service"));
    assert!(desired(FOUR, "lb").files.iter().all(|file| !file.path.to_string_lossy().contains("exporter")));
}
