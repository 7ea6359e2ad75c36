//! Every command of the guide runs in a test, or has a reason why none can; the reason is checked, too.
//!
//! [`to_run`] is what a page's test runs: a new command on a page is run by it, or fails it. That all commands are valid is a test of
//! the command line itself (`cli/tests.rs`).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use expect_test::expect;

use crate::balancer::process::{Balancer, own_address};
use crate::folder::{Folder, temporary};
use crate::http::get;
use crate::system::System;
use crate::tercet;

/// Why a command does not run in a test.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// It is about machines: the lab runs it.
    Machines,
    /// It is about a program that is downloaded, or runs one.
    Download,
    /// It changes the computer.
    Root,
    /// It builds tercet.
    Build,
    /// Its program is in no package that the tests need.
    Program,
}

/// The commands that no test here runs: page, beginning of the command.
const NOT_RUN: &[(&str, &str, Why)] = &[
    ("README.md", "cargo ", Why::Build),
    ("balancer.md", "htpasswd ", Why::Program),
    ("balancer.md", "tercet maintenance ", Why::Machines),
    ("certificates.md", "tercet certificates", Why::Machines),
    ("django.md", "", Why::Download),
    ("fastapi-template.md", "", Why::Download),
    ("install.md", "", Why::Download),
    ("machine-backups.md", "tercet ", Why::Machines),
    ("machines.md", "cargo ", Why::Build),
    ("machines.md", "tercet ", Why::Machines),
    ("monitoring.md", "ssh ", Why::Machines),
    ("monitoring.md", "tercet alerts", Why::Machines),
    ("monitoring.md", "tercet apply", Why::Machines),
    ("node.md", "", Why::Download),
    ("operating.md", "sudo ", Why::Root),
    ("operating.md", "tercet dashboard", Why::Machines),
    ("operator-state.md", "tercet state pull", Why::Machines),
    ("several-applications.md", "tercet rollback", Why::Machines),
    ("upgrades.md", "tercet plan", Why::Machines),
];

/// The pages whose other commands a test runs.
const RUN: &[&str] = &[
    "README.md",
    "authorization.md",
    "backup-and-restore.md",
    "balancer.md",
    "develop.md",
    "first-api.md",
    "monitoring.md",
    "operating.md",
    "operator-state.md",
    "several-applications.md",
    "supabase.md",
    "upgrades.md",
    "your-program.md",
];

/// Programs that begin a block of commands without a prompt.
const PROGRAMS: &[&str] = &[
    ".",
    "cargo",
    "cd",
    "curl",
    "echo",
    "git",
    "mkdir",
    "npm",
    "npx",
    "pg_dump",
    "pg_restore",
    "python3",
    "sed",
    "ssh",
    "sudo",
    "tercet",
];

/// A command of a page, and what the page shows of its output.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) output: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    let path = if name == "README.md" { root().join(name) } else { root().join("docs/guide").join(name) };
    std::fs::read_to_string(path).unwrap()
}

/// The commands of a page that a test has to run, in their order.
pub(crate) fn to_run(name: &str) -> Vec<Shown> {
    let mut commands = commands(&page(name));
    commands.retain(|it| why_not(name, &it.text).is_none());
    assert!(RUN.contains(&name) && !commands.is_empty(), "{name}");
    commands
}

fn why_not(page: &str, command: &str) -> Option<Why> {
    let found = NOT_RUN.iter().find(|(of, begin, _)| *of == page && command.starts_with(begin));
    found.map(|(_, _, why)| *why)
}

/// All commands of a page.
fn commands(page: &str) -> Vec<Shown> {
    let mut commands = Vec::new();
    for (is_shell, block) in blocks(page) {
        let has_prompts = block.iter().any(|line| prompted(line).is_some());
        let first = block.iter().find(|line| !line.trim().is_empty()).copied().unwrap_or_default();
        let word = first.split(' ').next().unwrap_or_default();
        let assigns = word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|it| it.is_ascii_uppercase() || it == '_')
        });
        if has_prompts {
            for line in block {
                match (prompted(line), commands.last_mut()) {
                    (Some(text), _) => {
                        commands.push(Shown { text: without_comment(text), output: String::new() });
                    }
                    (None, Some(Shown { output, .. })) => output.extend([line, "\n"]),
                    (None, None) => {}
                }
            }
        } else if is_shell || assigns || PROGRAMS.contains(&word) {
            commands.extend(statements(&block));
        }
    }
    commands
}

/// The blocks of a page that may have commands: those of a shell or without a language, and indented ones.
fn blocks(page: &str) -> Vec<(bool, Vec<&str>)> {
    let mut blocks: Vec<(bool, Vec<&str>)> = Vec::new();
    let mut fence: Option<&str> = None;
    let mut indented = false;
    for line in page.lines() {
        match (fence, line.strip_prefix("```"), line.strip_prefix("    ")) {
            (None, Some(language), _) => {
                fence = Some(language);
                blocks.push((language == "sh", Vec::new()));
            }
            (Some(_), Some(_), _) => fence = None,
            (Some(language), None, _) => {
                if ["", "console", "sh"].contains(&language) {
                    blocks.last_mut().unwrap().1.push(line);
                }
            }
            (None, None, Some(text)) => {
                if !indented {
                    blocks.push((false, Vec::new()));
                }
                blocks.last_mut().unwrap().1.push(text);
            }
            (None, None, None) => {}
        }
        // An empty line does not end an indented block.
        indented = fence.is_none() && (line.starts_with("    ") || indented && line.is_empty());
    }
    blocks
}

/// What follows a prompt: `$`, or `bob$` on another person's computer.
fn prompted(line: &str) -> Option<&str> {
    let (before, command) = line.split_once("$ ")?;
    before.chars().all(|it| it.is_ascii_lowercase()).then_some(command)
}

/// Statements, which may have several lines.
fn statements(block: &[&str]) -> Vec<Shown> {
    let mut statements: Vec<Shown> = Vec::new();
    let mut open = false;
    for line in block.iter().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if open {
            let text = &mut statements.last_mut().unwrap().text;
            text.extend(["\n", line]);
        } else {
            statements.push(Shown { text: without_comment(line), output: String::new() });
        }
        let text = &statements.last().unwrap().text;
        open = text.ends_with('\\') || text.matches('(').count() > text.matches(')').count();
    }
    statements
}

fn without_comment(line: &str) -> String {
    line.split(" # ").next().unwrap_or_default().trim_end().to_owned()
}

/// All pages.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    for entry in root().join("docs/guide").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // The guide's own README has no commands.
        if path.extension().is_some_and(|it| it == "md") && name != "README.md" {
            pages.push(name);
        }
    }
    pages
}

#[test]
fn every_command_of_the_guide_runs_or_cannot() {
    let mut not_run = vec![0; NOT_RUN.len()];
    let mut count = 0;
    let lab = lab();
    for name in pages() {
        let text = page(&name);
        for Shown { text: command, .. } in commands(&text) {
            count += 1;
            let found = NOT_RUN.iter().position(|(of, begin, _)| *of == name && command.starts_with(begin));
            let Some(found) = found else {
                assert!(RUN.contains(&name.as_str()), "{name}: no test runs {command}");
                continue;
            };
            not_run[found] += 1;
            let why = NOT_RUN[found].2;
            let holds = match why {
                Why::Machines => {
                    let verb = command.strip_prefix("tercet ").map(|rest| rest.split(' ').next().unwrap());
                    verb.is_some_and(|verb| lab.contains(&format!("\"{verb}\"")))
                        || command.starts_with("ssh ")
                }
                Why::Download => {
                    ["pip install", "npm install", "git clone"].iter().any(|it| text.contains(it))
                }
                Why::Root => command.starts_with("sudo "),
                Why::Build => command.starts_with("cargo "),
                Why::Program => !is_a_prerequisite(command.split(' ').next().unwrap()),
            };
            assert!(holds, "{name}: {command} is not run: {why:?} does not hold");
        }
    }
    let unused: Vec<_> =
        NOT_RUN.iter().zip(not_run).filter(|(_, count)| *count == 0).map(|(it, _)| it).collect();
    assert!(unused.is_empty(), "these are on no page: {unused:?}");
    assert!(count > 90, "only {count} commands were found");
}

/// The stages of the lab, as text.
fn lab() -> String {
    let mut folders = vec![root().join("xtask/src/lab/scenario")];
    let mut text = std::fs::read_to_string(root().join("xtask/src/lab/scenario.rs")).unwrap();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

/// Whether a program is in a package that the gate installs.
fn is_a_prerequisite(program: &str) -> bool {
    let package = match program {
        "htpasswd" => "apache2-utils",
        program => program,
    };
    std::fs::read_to_string(root().join(".ci/run")).unwrap().contains(package)
}

/// Runs a command in a shell, in which `tercet` is the real one and the guide's port that of a system.
pub(crate) fn shell(folder: &Path, address: Option<SocketAddr>, command: &str) -> Output {
    let address = address.map_or_else(|| "127.0.0.1:8080".to_owned(), |address| address.to_string());
    let function = format!("tercet() {{ '{}' \"$@\"; }}\n", env!("CARGO_BIN_EXE_tercet"));
    let script = function + &command.replace("127.0.0.1:8080", &address);
    tercet::command_of("sh").args(["-c", &script]).current_dir(folder).env("HOME", folder).output().unwrap()
}

/// What a command that succeeds prints.
fn printed(folder: &Path, address: Option<SocketAddr>, command: &str) -> String {
    let output = shell(folder, address, command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The first columns of a table's lines, and its headings.
fn outline(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.contains("  "));
    let first = |line: &str| match line.split_whitespace().next() {
        Some("part" | "server") if !line.contains("127.0.0.1") => {
            line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" | ")
        }
        _ => line.split("  ").next().unwrap().replace("app-2", "app-1"),
    };
    lines.map(first).collect()
}

#[test]
fn operating_a_project_looks_as_the_guide_shows_it() {
    let folder = temporary();
    let shop = folder.path().join("shop");
    tercet::run(folder.path(), ["init", "shop"]);
    let [up, status, trace] = &to_run("operating.md")[..] else { panic!("{:?}", to_run("operating.md")) };
    assert_eq!(up.text, "tercet up shop");
    let mut system = System::start(&shop);
    let answer = system.ask(get("/todo"));
    assert_eq!(answer.status, 200);
    let id = answer.header("x-request-id").unwrap();
    system.wait_for(|line| line["request_id"] == id && line["event"] == "request");

    let shown = printed(&shop, None, &status.text);
    assert!(shown.starts_with("shop is up on http://127.0.0.1:"), "{shown}");
    let mut expected = outline(&status.output);
    // Which of two servers was killed differs.
    expected.sort();
    let mut found = outline(&shown);
    found.sort();
    assert_eq!(found, expected, "{shown}");

    let (command, example) = trace.text.rsplit_once(' ').unwrap();
    assert_eq!(example.len(), id.len());
    let shown = printed(&shop, None, &format!("{command} {id}"));
    assert!(shown.starts_with("GET /todo → 200 by app-"), "{shown}");
    assert_eq!(outline(&shown), outline(&trace.output), "{shown}");

    let [run] = &to_run("your-program.md")[..] else { panic!("{:?}", to_run("your-program.md")) };
    add_program(&shop);
    let said = printed(&shop, None, &run.text);
    assert!(
        said.starts_with("createsuperuser postgresql://shop_owner:"),
        "another command line, or no database"
    );
}

/// In place of a program in Python: a server of files, and a command that shows its environment.
fn add_program(folder: &Path) {
    let programs = folder.join(".venv/bin");
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink("/bin/sh", programs.join("python")).unwrap();
    std::fs::write(folder.join("manage.py"), "echo \"$1 $DATABASE_URL\"\n").unwrap();
    // main:app --host HOST --port PORT
    let uvicorn = programs.join("uvicorn");
    std::fs::write(&uvicorn, "#!/bin/sh\nexec python3 -m http.server --bind \"$3\" \"$5\"\n").unwrap();
    std::fs::set_permissions(&uvicorn, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("health"), "fine\n").unwrap();
}

#[test]
fn several_applications_look_as_the_guide_shows_them() {
    let name = "several-applications.md";
    let [up, run] = &to_run(name)[..] else { panic!("{:?}", to_run(name)) };
    let text = page(name);
    let settings = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = Folder::with(&[("tercet.toml", &format!("name = \"shop\"\n{settings}"))]);
    add_program(folder.path());
    assert_eq!(up.text, "tercet up");
    let system = System::start(folder.path());
    let ready = system.log_lines().filter(|line| line["event"] == "part_ready");
    let mut ready: Vec<String> = ready.map(|line| line["name"].as_str().unwrap().to_owned()).collect();
    ready.retain(|part| part != "database");
    ready.sort();
    let shown = up.output.lines().filter(|line| line.contains(" 127.0.0.1:"));
    let mut shown: Vec<&str> = shown.filter_map(|line| line.split_whitespace().next()).collect();
    shown.sort_unstable();
    assert_eq!(ready, shown);
    assert_eq!(system.ask(get("/health")).body, "fine\n");
    assert_eq!(system.ask(get("/api/")).status, 200);
    let said = printed(folder.path(), None, &run.text);
    assert!(
        said.starts_with("createsuperuser postgresql://shop_owner:"),
        "another command line, or no database"
    );
}

#[test]
fn the_first_commands_of_the_readme_work() {
    let folder = temporary();
    let [ask, init, up] = &to_run("README.md")[..] else { panic!("{:?}", to_run("README.md")) };
    assert!(printed(folder.path(), None, &init.text).contains("start it with: tercet up shop"));
    assert_eq!(up.text, "tercet up shop");
    let atlas = crate::examples::copy_of("atlas");
    let system = System::start(atlas.path());
    let answer = printed(atlas.path(), Some(system.address), &ask.text);
    assert!(
        answer.contains("x-served-by: app-")
            && answer.contains("[{\"name\":\"Switzerland\",\"capitals\":[\"Bern\"]"),
        "{answer}"
    );
}

#[test]
fn commands_without_a_system_work() {
    let folder = temporary();
    let [version] = &to_run("upgrades.md")[..] else { panic!() };
    let expected = format!("tercet {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(folder.path(), None, &version.text), expected);

    for (index, Shown { text, output }) in to_run("operator-state.md").iter().enumerate() {
        assert_eq!(text, "tercet state identity");
        let (first, again) = (output.lines().next().unwrap(), index > 0);
        let said = shell(folder.path(), None, text);
        assert!(said.status.success());
        let said = String::from_utf8([said.stderr, said.stdout].concat()).unwrap();
        assert!(said.lines().last().unwrap().starts_with("age1"), "{said}");
        let home = folder.path().to_str().unwrap();
        assert!(again || said.contains(&first.replace('~', home)), "{said}");
    }

    let [export] = &to_run("monitoring.md")[..] else { panic!("{:?}", to_run("monitoring.md")) };
    let settings = "name = 'shop'\nmonitoring.prometheus = '10.0.0.99'\nmachine = [
        { name = 'one', ssh = 'one', address = '10.0.0.1', tiers = ['balancer', 'application'] },
        { name = 'two', ssh = 'two', address = '10.0.0.2', tiers = ['database'] },
    ]\n";
    let project = Folder::with(&[("tercet.toml", settings)]);
    printed(project.path(), None, &export.text);
    let mut files: Vec<String> = project
        .path()
        .join("monitoring")
        .read_dir()
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    expect![[r#"tercet-dashboard.json tercet-rules.yml tercet-scrapes.yml"#]].assert_eq(&files.join(" "));
}

/// A server that answers with this text, over a connection for each request.
fn serving(text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or_default() == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            // A check may have gone away.
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
            );
        }
    });
    address
}

#[test]
fn the_balancer_alone_works_as_the_guide_shows_it() {
    let page = page("balancer.md");
    let toml = |has: &str| {
        let mut blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        blocks.find(|block| block.contains(has)).unwrap().to_owned()
    };
    let all = to_run("balancer.md");
    let [start, served, page_of_app, script, orders, application, api, compressed, drain, wrong] = &all[..]
    else {
        panic!("{all:?}")
    };
    let [one, two] = ["one", "two"].map(|name| serving(name.repeat(1000)));

    assert_eq!(start.text, "tercet balancer --config balancer.toml &");
    let address = own_address();
    let first = toml("served-by").replace("127.0.0.1:8080", &address.to_string());
    let first = first.replace("127.0.0.1:3001", &one.to_string()).replace("127.0.0.1:3002", &two.to_string());
    let balancer =
        Balancer::start_as(tercet::command(), address, &format!("{first}access-log.to = \"off\"\n"));
    let by: Vec<String> =
        (0..2).map(|_| printed(Path::new("/"), Some(address), &served.text).trim().to_owned()).collect();
    for server in [one, two] {
        let expected = served.output.trim().replace("127.0.0.1:3001", &server.to_string());
        assert!(by.contains(&expected), "{by:?}");
    }
    drop(balancer);

    let listening = |more: &str| {
        let folder = temporary();
        for (name, text) in [("public/index.html", "<h1>Orders</h1>"), ("public/app.js", "let orders;")] {
            std::fs::create_dir_all(folder.path().join("public")).unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let address = own_address();
        let more = more.replace("\"public\"", &format!("{:?}", folder.path().join("public")));
        let text = format!(
            "listen = [\"{address}\"]\nservers = [{{ name = \"app-1\", address = \"{one}\" }}, {{ name = \"app-2\", address = \"{two}\" }}]\n\
             access-log.to = \"off\"\nadmin.socket = \"admin.sock\"\n{more}"
        );
        (Balancer::start_as(tercet::command(), address, &text), folder)
    };
    let (balancer, _folder) = listening(&toml("fallback"));
    for (command, expected) in [(page_of_app, "<h1>Orders</h1>"), (script, "let orders;")] {
        assert_eq!(printed(Path::new("/"), Some(balancer.address), &command.text), expected);
    }
    let answer = printed(Path::new("/"), Some(balancer.address), &orders.text);
    assert!(["one", "two"].map(|name| name.repeat(1000)).contains(&answer), "{answer}");

    let mut pools = toml("[pool.api]");
    let servers = ["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.21:8081", "10.0.0.22:8081", "10.0.0.23:8081"]
        .map(|shown| (shown, serving(shown.to_owned())));
    for (shown, server) in &servers {
        assert!(pools.contains(shown));
        pools = pools.replace(shown, &server.to_string());
    }
    let address = own_address();
    let pools = format!("listen = [\"{address}\"]\naccess-log.to = \"off\"\n{pools}");
    let pools = Balancer::start_as(tercet::command(), address, &pools);
    for (command, pool) in [(application, &servers[..2]), (api, &servers[2..4])] {
        let output = printed(Path::new("/"), Some(address), &command.text);
        let (name, _) = command.output.split_once(' ').unwrap();
        assert!(pool.iter().any(|(_, server)| output.trim() == format!("{name} {server}")), "{output}");
    }
    drop(pools);

    assert!(drain.text.contains("--unix-socket /run/tercet/balancer.sock "), "{}", drain.text);
    let socket = balancer.file().with_file_name("admin.sock");
    let command = drain.text.replace("/run/tercet/balancer.sock", socket.to_str().unwrap());
    printed(Path::new("/"), None, &format!("{command} --fail"));
    assert_eq!(balancer.state("app-1"), "draining");

    let (balancer, _folder) = listening(&toml("compress = \"with-credentials\""));
    let said = printed(Path::new("/"), Some(balancer.address), &compressed.text).replace('\r', "");
    assert_eq!(said, compressed.output);

    let folder = temporary();
    std::fs::write(folder.path().join("balancer.toml"), "servers = [\"127.0.0.1:1\"]\n\npolcy = \"hash\"\n")
        .unwrap();
    let failed = shell(folder.path(), None, &wrong.text);
    assert_eq!(failed.status.code(), Some(2));
    let said = String::from_utf8(failed.stderr).unwrap();
    // The guide's lines do not end in spaces.
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(said.trim_end()), trimmed(wrong.output.trim_end()));
}
