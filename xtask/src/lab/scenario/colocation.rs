//! Tiers that share machines, and a user's own program.

use anyhow::{Result, ensure};

use super::{Named, ONE_MACHINE, SHARED, Scenario, interrupted, outage, own, rotation, sandbox, tls};

pub(super) const STAGES: &[Named] = &[
    ("the database on the balancer's machine, a user's own program", own_program),
    ("a release of a user's own program, and back", own_release),
    ("a total outage: a rollback and a fix go through", outage::undone_and_fixed),
    ("a program systemd cannot start is refused before the switch, and gone after the fix", outage::refused),
    ("power cut during a build: it is built again", outage::half_built),
    ("an operator suspended during a build loses the lease and the build", outage::asleep),
    ("a program migrates the database as its owner, once for each release", migrated),
    ("a build in its sandbox, and secrets for the program alone", sandbox::build_and_secrets),
];

pub(super) const ALONE: &[Named] = &[
    ("everything on one machine, the first apply killed at any step", one_machine),
    ("secrets and authority rotated on one machine, under load", rotation::on_one_machine),
    ("https with a certificate, and one that is renewed", tls::served),
];

const PROGRAM: &str = "import http.server, os, sys
broken = False
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        global broken
        broken |= self.path == '/break'
        body = (open('version').read() + ' ' + os.environ['DATABASE_URL']).encode()
        self.send_response(500 if broken else 200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((os.environ['HOST'], int(os.environ['PORT'])), Handler).serve_forever()
";

fn own_program(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    std::fs::write(folder.join("main.py"), PROGRAM)?;
    std::fs::write(folder.join("source"), "one")?;
    scenario.write(SHARED, &own("python3 main.py", "cp source version"))?;
    scenario.succeed("apply", &["--yes"])?;
    let answer = scenario.get("/")?;
    ensure!(
        answer.contains("one postgresql://authenticator@10.77.0.10:5432/shop?sslmode=verify-full"),
        "{answer}"
    );
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "{plan}");
    Ok(())
}

fn own_release(scenario: &Scenario<'_>) -> Result<()> {
    // The second time "two" is the newer one, but was not in use.
    for next in ["two", "three"] {
        std::fs::write(scenario.project.path().join("source"), next)?;
        scenario.succeed("apply", &["--yes"])?;
        ensure!(scenario.get("/")?.contains(&format!("{next} postgresql://")), "{next} does not answer");
        scenario.succeed("rollback", &["--yes"])?;
        ensure!(
            scenario.get("/")?.contains("one postgresql://"),
            "the release before {next} does not answer"
        );
    }
    Ok(())
}

fn migrated(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    std::fs::write(folder.join("migrate.py"), include_str!("migrate.py"))?;
    let with = |migrate: &str| {
        let program = own("python3 main.py", "cp source version");
        scenario.write(SHARED, &format!("{program}migrate = \"python3 migrate.py{migrate}\"\n"))
    };
    let runs = || {
        let sql = "select string_agg(distinct owner, ' ') || count(*) from run; \
                   select rolpassword is null from pg_authid where rolname = 'shop_owner'; \
                   select has_table_privilege('authenticated', 'run', 'insert')";
        scenario.on("lb", &format!("runuser -u postgres -- psql -Atc \"{sql}\" shop"))
    };
    with("")?;
    scenario.succeed("apply", &["--yes"])?;
    ensure!(runs()? == "shop_owner1\nt\nt\n", "{}", runs()?);
    super::nothing_to_do(scenario)?;
    std::fs::write(folder.join("source"), "migrated")?;
    scenario.succeed("apply", &["--yes"])?;
    ensure!(runs()? == "shop_owner2\nt\nt\n", "{}", runs()?);
    // One that fails stops the release; its words are shown, the password is not.
    with(" broken")?;
    std::fs::write(folder.join("source"), "never")?;
    let printed = scenario.fail("apply", &["--yes"])?;
    ensure!(printed.contains("postgresql://shop_owner:…@") && printed.contains("broken"), "{printed}");
    ensure!(runs()? == "shop_owner3\nt\nt\n", "{}", runs()?);
    ensure!(scenario.get("/")?.contains("migrated postgresql://authenticator@"), "another release answers");
    with("")?;
    scenario.succeed("apply", &["--yes"])?;
    ensure!(scenario.get("/")?.contains("never postgresql://authenticator@"), "the fix does not answer");
    super::nothing_to_do(scenario)
}

fn one_machine(scenario: &Scenario<'_>) -> Result<()> {
    scenario.write(ONE_MACHINE, "application.servers = 2")?;
    interrupted::first_apply(scenario)?;
    let answer = scenario.get("/event?select=number")?;
    ensure!(answer.contains("[{\"number\":0}]"), "{answer}");
    let listening = scenario.on("lb", "ss -Hltn | awk '{print $4}' | sort")?;
    for line in listening.lines() {
        let public = line.starts_with("0.0.0.0:") || line.starts_with("[::]:");
        ensure!(
            !public || line.ends_with(":80") || line.ends_with(":22"),
            "more than the door is open:\n{listening}"
        );
    }
    Ok(())
}
