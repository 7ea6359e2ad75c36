//! The TLS of the balancer on its machine.

use expect_test::expect;
use tercet_machine::file::Contents;
use tercet_machine::path::Owner;

use super::{FOUR, desired, openings};

#[test]
fn domains_give_the_balancer_a_folder_and_their_authoritys_files_as_credentials() {
    let text = format!(
        "balancer.domains = ['shop.example']\n\
         balancer.acme = {{ directory = 'https://ca.example/dir', root = 'ca.crt', eab = {{ kid = 'k', hmac-key-file = 'eab.key' }} }}\n{FOUR}"
    );
    let desired = desired(&text, "lb");
    assert!(desired.packages.iter().any(|package| package.0 == "ca-certificates"));
    let file = |path: &str| desired.files.iter().find(|file| file.path.ends_with(path)).expect(path);
    assert!(
        matches!(&file("credentials/balancer-acme-hmac.key").contents, Contents::Secret(key) if key.reveal() == "hush hmac")
    );
    let mut shown = String::new();
    for path in ["balancer.toml", "tercet-balancer.service", "tercet-balancer.socket"] {
        let Contents::Text(text) = &file(path).contents else { panic!("{path} is secret") };
        let begins = [
            "domains",
            "address =",
            "redirect",
            "tls",
            "folder",
            "root",
            "hmac",
            "directory",
            "State",
            "Load",
            "Listen",
        ];
        let lines = text.lines().filter(|line| begins.iter().any(|it| line.starts_with(it)));
        shown.extend(lines.map(|line| format!("{line}\n")));
    }
    expect![[r#"
        domains = ["shop.example"]
        address = "0.0.0.0:80"
        redirect-to-https = true
        address = "[::]:80"
        redirect-to-https = true
        address = "0.0.0.0:443"
        tls = true
        address = "[::]:443"
        tls = true
        directory = "https://ca.example/dir"
        folder = "/var/lib/tercet-balancer"
        root = "/run/credentials/tercet-balancer.service/balancer-acme-root.crt"
        hmac-key-file = "/run/credentials/tercet-balancer.service/balancer-acme-hmac.key"
        address = "10.0.0.11:8081"
        address = "10.0.0.12:8081"
        StateDirectory=tercet-balancer
        StateDirectoryMode=0700
        LoadCredential=balancer-acme-root.crt:/etc/tercet/credentials/balancer-acme-root.crt
        LoadCredential=balancer-acme-hmac.key:/etc/tercet/credentials/balancer-acme-hmac.key
        ListenStream=0.0.0.0:80
        ListenStream=[::]:80
        ListenStream=0.0.0.0:443
        ListenStream=[::]:443
    "#]]
    .assert_eq(&shown);
}

#[test]
fn users_of_routes_reach_the_balancer_as_credentials_and_maintenance_is_a_file() {
    let text = format!(
        "balancer.route = [{{ path = '/a', basic-auth = {{ users = '@secrets/a' }} }}, \
         {{ path = '/b', basic-auth = {{ users = 'secrets/b', realm = 'b' }} }}, \
         {{ path = '/c', basic-auth = {{ users = 'secrets/a' }} }}]\n\
         balancer.error-pages.folder = 'errors'\n{FOUR}"
    );
    let desired = desired(&text, "lb");
    let file = |path: &str| desired.files.iter().find(|file| file.path.ends_with(path)).expect(path);
    let users = file("credentials/balancer-users-2");
    assert!(matches!(&users.contents, Contents::Secret(users) if users.reveal() == "ann:hush hash"));
    assert_eq!((users.owner.clone(), users.mode), (Owner::root(), 0o600));
    let mut shown = String::new();
    for path in ["balancer.toml", "tercet-balancer.service"] {
        let Contents::Text(text) = &file(path).contents else { panic!("{path} is secret") };
        let begins = ["path", "users", "realm", "file", "folder", "Load"];
        let lines = text.lines().filter(|line| begins.iter().any(|it| line.starts_with(it)));
        shown.extend(lines.map(|line| format!("{line}\n")));
    }
    expect![[r#"
        path = "/ready"
        file = "/etc/tercet/maintenance"
        path = "/a"
        users = "/run/credentials/tercet-balancer.service/balancer-users-1"
        path = "/b"
        realm = "b"
        users = "/run/credentials/tercet-balancer.service/balancer-users-2"
        path = "/c"
        users = "/run/credentials/tercet-balancer.service/balancer-users-1"
        LoadCredential=balancer-users-1:/etc/tercet/credentials/balancer-users-1
        LoadCredential=balancer-users-2:/etc/tercet/credentials/balancer-users-2
    "#]]
    .assert_eq(&shown);
}

#[test]
fn certificates_reach_the_balancer_as_credentials() {
    let text = format!(
        "balancer.hsts = '365d'\nbalancer.certificates = [{{ certificate = 'shop.crt', key = 'shop.key' }}]\n{FOUR}"
    );
    let desired = desired(&text, "lb");
    let file = |path: &str| desired.files.iter().find(|file| file.path.ends_with(path)).expect(path);
    assert!(
        matches!(&file("credentials/balancer-1.crt").contents, Contents::Text(text) if text == "public certificate\n")
    );
    assert!(
        matches!(&file("credentials/balancer-1.key").contents, Contents::Secret(key) if key.reveal() == "public key\n")
    );
    let Contents::Text(text) = &file("balancer.toml").contents else { panic!("it is secret") };
    let configuration: toml::Table = text.parse().expect("TOML");
    assert_eq!(configuration["listen"].as_array().map(Vec::len), Some(4));
    let mut shown = String::new();
    for path in ["balancer.toml", "tercet-balancer.service", "tercet-balancer.socket"] {
        let Contents::Text(text) = &file(path).contents else { panic!("{path} is secret") };
        let lines = text.lines().filter(|line| {
            ["listen", "address =", "redirect", "hsts", "cert", "key", "Load", "Listen"]
                .iter()
                .any(|it| line.starts_with(it))
        });
        shown.extend(lines.map(|line| format!("{line}\n")));
    }
    expect![[r#"
        address = "0.0.0.0:80"
        redirect-to-https = true
        address = "[::]:80"
        redirect-to-https = true
        address = "0.0.0.0:443"
        hsts = "365d"
        certificate = "/run/credentials/tercet-balancer.service/balancer-1.crt"
        key = "/run/credentials/tercet-balancer.service/balancer-1.key"
        address = "[::]:443"
        hsts = "365d"
        certificate = "/run/credentials/tercet-balancer.service/balancer-1.crt"
        key = "/run/credentials/tercet-balancer.service/balancer-1.key"
        address = "10.0.0.11:8081"
        address = "10.0.0.12:8081"
        LoadCredential=balancer-1.crt:/etc/tercet/credentials/balancer-1.crt
        LoadCredential=balancer-1.key:/etc/tercet/credentials/balancer-1.key
        ListenStream=0.0.0.0:80
        ListenStream=[::]:80
        ListenStream=0.0.0.0:443
        ListenStream=[::]:443
    "#]]
    .assert_eq(&shown);
    for name in ["balancer-1.crt", "balancer-1.key"] {
        let file = file(name);
        assert_eq!((file.mode, &file.owner), (0o600, &Owner::root()));
        let unit =
            desired.units.iter().find(|unit| unit.name == "tercet-balancer.service").expect("the balancer");
        assert!(unit.restart_when.contains(&file.path), "{name}");
    }
    assert!(openings(&desired).contains("tcp dport 443"));
}
