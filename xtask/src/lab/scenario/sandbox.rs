//! The sandbox of a user's own build and program on a machine, and where their secrets are.

use anyhow::{Context as _, Result, ensure};

use super::Scenario;

/// Without tercet's own PostgreSQL.
const TIERS: &str = "lb=balancer+application app1=application";

/// In every secret, in letters that no encoding changes.
const MARK: &str = "hushhush";

/// Characters that mean something to systemd, a shell or TOML.
const URL: &str = r#"postgres://shop:hushhush$x${HOME}%25%n%40`id`\"\n'w@db.example/shop?sslmode=require"#;

/// Leaves a note of all it could do, and things a release must not have.
const BUILD: &str = r#"
note() { echo "$*" >> facts; }
note "user $(id -un)" "argument $1"
touch /etc/was-here && note wrote /etc
cat /etc/tercet/credentials/* && note read credentials
touch ../written && note wrote beside the program
cp /bin/true "$HOME/tool" && chmod 6755 "$HOME/tool" && note made a set-id file
sleep 1000 &
mkfifo pipe
ln -s "$HOME/tool" tool
chmod 666 facts
"#;

const PROGRAM: &str = r#"
import http.server, json, os, sys
def writes(path):
    try:
        open(path, 'a')
        return True
    except OSError:
        return False
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = json.dumps({
            'facts': open('facts').read().splitlines(), 'url': os.environ['DATABASE_URL'], 'arguments': sys.argv[1:],
            'writes': [path for path in ('facts', 'new', '../home' '/new', '/etc/tercet/new') if writes(path)],
            'tool': oct(os.stat('tool').st_mode), 'files': sorted(os.listdir('.')),
        }).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((os.environ['HOST'], int(os.environ['PORT'])), Handler).serve_forever()
"#;

pub(super) fn build_and_secrets(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    // There is no database to migrate.
    std::fs::remove_dir_all(folder.join("migrations"))?;
    std::fs::write(folder.join("main.py"), PROGRAM)?;
    std::fs::write(folder.join("build.sh"), BUILD)?;
    let config = format!(
        "[application]\nrun = \"python3 main.py 'a b' 50% $HOME\"\nbuild = \"sh build.sh 'x $HOME %n'\"\n\
         health = \"/health\"\n[database]\nurl = '''{URL}'''\n"
    );
    scenario.write(TIERS, &config)?;
    let printed = [
        scenario.succeed("plan", &[])?,
        scenario.succeed("plan", &["--json"])?,
        scenario.succeed("apply", &["--yes"])?,
        scenario.succeed("plan", &[])?,
        scenario.succeed("status", &["--json"])?,
        scenario.succeed("logs", &["--json"])?,
    ];
    ensure!(printed[3].contains("nothing to do"), "{}", printed[3]);
    for printed in &printed {
        ensure!(!printed.contains(MARK), "a secret is shown:\n{printed}");
    }
    got_what_it_needs(scenario)?;
    for machine in ["lb", "app1"] {
        only_the_program_has_it(scenario, machine).context(machine)?;
    }
    Ok(())
}

/// What the program says of itself, of its build and of what it may do.
fn got_what_it_needs(scenario: &Scenario<'_>) -> Result<()> {
    let answer = scenario.get("/")?;
    let body = answer.split_once("\r\n\r\n").context("no body")?.1;
    let found: serde_json::Value = serde_json::from_str(body).with_context(|| answer.clone())?;
    ensure!(found["url"] == URL, "another URL: {}", found["url"]);
    ensure!(found["arguments"] == serde_json::json!(["a b", "50%", "$HOME"]), "{}", found["arguments"]);
    let facts = serde_json::json!(["user tercet-build argument x $HOME %n"]);
    ensure!(found["facts"] == facts, "the build could do more: {}", found["facts"]);
    ensure!(found["writes"] == serde_json::json!([]), "the program may write: {}", found["writes"]);
    ensure!(found["tool"] == "0o100555", "{}", found["tool"]);
    let files = found["files"].as_array().context("no files")?;
    ensure!(!files.iter().any(|file| file == "pipe"), "a pipe is in the release: {files:?}");
    Ok(())
}

/// Of the machine, as root and as another user sees it.
fn only_the_program_has_it(scenario: &Scenario<'_>, machine: &str) -> Result<()> {
    let nothing = |what: &str, command: &str| -> Result<()> {
        let found = scenario.on(machine, &format!("{command} || true"))?;
        ensure!(found.trim().is_empty(), "{what}:\n{found}");
        Ok(())
    };
    nothing(
        "a file with a secret that others may read",
        "grep -rl hushhush /etc /usr/local /var/lib/tercet /var/log /run/systemd /run/tercet* 2>/dev/null \
         | xargs -r stat -c '%a %U %n' | grep -v '^[64]00 root '",
    )?;
    nothing("a secret in the journal", "journalctl --no-pager | grep hushhush")?;
    nothing("a secret in an argument list", "ps -eo args | grep [h]ushhush")?;
    nothing(
        "a secret that systemd shows to other users",
        "for unit in $(systemctl list-units --plain --no-legend 'tercet-*' | cut -d' ' -f1); do \
         runuser -u nobody -- systemctl show $unit; runuser -u nobody -- systemctl cat $unit; done | grep hushhush",
    )?;
    nothing(
        "an environment that others may read",
        "for process in $(pgrep -f main.py); do runuser -u nobody -- cat /proc/$process/environ; done 2>/dev/null | grep -a hushhush",
    )?;
    nothing("what a build left running", "pgrep -u tercet-build -a")?;
    nothing(
        "a release that is not root's, or writable",
        "find /usr/local/lib/tercet/releases -not -user root -o -not -type l -path '*/program*' -perm /7222 \
         -o -not -type l -path '*/home*' -perm /7222",
    )
}
