//! Backups and restores of a project under `tercet up`.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use crate::folder::Folder;
use crate::guide;
use crate::http::{get, request};
use crate::system::System;
use crate::tercet;

const BOOKS: (&str, &str) = (
    "migrations/0001_book.sql",
    "create table book (id int primary key);\ninsert into book values (1);\n\
     grant select, insert on book to anon;\n",
);

/// The project's name is that of its folder, in quotes where it needs them.
const NAME: (&str, &str) = ("tercet.toml", "name = \"shop\"\n");

fn insert(system: &System, id: u32) {
    let body = format!(r#"{{"id": {id}}}"#);
    assert_eq!(system.ask(request("POST", "/book").json(&body)).status, 201);
}

fn ids(system: &System) -> Vec<u64> {
    let answer = system.ask(get("/book?select=id&order=id")).value();
    answer.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

fn now() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn list(folder: &Path) -> Value {
    serde_json::from_str(&tercet::run(folder, ["backup", "list", "--json"])).unwrap()
}

/// The folder of the only backup.
fn backup(folder: &Path) -> PathBuf {
    let list = list(folder);
    assert_eq!(list["backups"].as_array().unwrap().len(), 1, "{list}");
    folder.join(".tercet/backups").join(list["backups"][0]["id"].as_str().unwrap())
}

/// The WAL segments in the archive, the oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let wal = folder.join(".tercet/backups/wal");
    let archive = std::fs::read_dir(wal).unwrap().next().unwrap().unwrap().path();
    let paths = std::fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = paths.filter(|path| path.file_name().unwrap().len() == 24).collect();
    segments.sort();
    segments
}

/// Starts `restore --to`, runs the psql command that it prints with a query, and stops it.
fn look(folder: &Path, target: &str, query: &str) -> String {
    let mut process = tercet::command()
        .current_dir(folder)
        .args(["restore", "--to", target])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let psql = lines.find_map(|line| Some(line.split_once("look at it ")?.1.trim().to_owned())).unwrap();
    assert!(lines.next().unwrap().contains("Ctrl-C"));
    let mut words = psql.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["-qAtc", query]);
    if geteuid().is_root() {
        // The superuser is the user that root became.
        command.uid(std::fs::metadata(folder.join(".tercet")).unwrap().uid());
    }
    let output = command.output().unwrap();
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!(lines.last().unwrap(), "the copy is removed");
    assert!(!folder.join(".tercet/backups/restored").exists());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_database_is_restored_to_a_time_beside_it_and_in_its_place_and_back() {
    let folder = Folder::with(&[BOOKS, NAME, ("checks/books.sql", "select count(*) > 0 from book")]);
    let path = folder.path();
    let system = System::start(path);
    assert!(tercet::run(path, ["backup", "check"]).contains("there is no backup in"));
    insert(&system, 2);
    let made = tercet::run(path, ["backup", "--full"]);
    assert!(made.contains("is made") && made.contains("--full changes nothing"), "{made}");
    assert_eq!(list(path)["backups"][0]["checked"], Value::Null);
    insert(&system, 3);
    let three = now();
    insert(&system, 4);

    let checked = tercet::run(path, ["backup", "check"]);
    for passed in ["recovery", "heartbeat", "catalogue", "relations", "own check", "schema", "checksums"] {
        assert!(checked.contains(&format!("  passed   {passed}")), "{checked}");
    }
    let passed = |path: &Path| {
        let findings = list(path)["backups"][0]["checked"]["findings"].clone();
        findings.as_array().unwrap().iter().all(|finding| finding["outcome"] != "failed")
    };
    assert!(passed(path));
    let query = "select string_agg(id::text, ',' order by id) from book";
    assert_eq!(look(path, &three, query), "1,2,3");
    assert_eq!(look(path, "latest", query), "1,2,3,4");
    let early = tercet::run(path, ["restore", "--to", "2020-01-01T00:00:00Z"]);
    assert!(early.contains("no backup reaches 2020-01-01T00:00:00Z: the oldest goes back to"), "{early}");
    let replace = |target: &str| tercet::run(path, ["restore", "--to", target, "--replace", "--yes", "shop"]);
    let refused = replace(&three);
    assert!(refused.contains("tercet up is running") && refused.ends_with("exit code 2\n"), "{refused}");

    // The WAL of a killed server is not archived yet.
    insert(&system, 5);
    system.kill_and_wait();
    assert_eq!(look(path, "latest", query), "1,2,3,4,5");
    let wrong = tercet::run(path, ["restore", "--to", "latest", "--replace", "--yes", "other"]);
    assert!(wrong.contains("the name is shop"), "{wrong}");
    let replaced = replace(&three);
    assert!(replaced.contains("the database is replaced"), "{replaced}");
    let system = System::start(path);
    assert_eq!(ids(&system), [1, 2, 3]);
    insert(&system, 30);
    assert_eq!(look(path, "latest", query), "1,2,3,30");
    assert!(tercet::run(path, ["backup"]).contains("is made"));
    insert(&system, 31);
    system.stop(Signal::TERM);
    assert_eq!(look(path, "latest", query), "1,2,3,30,31");

    // Back: the backup since then is of another history.
    let undone = tercet::run(path, ["restore", "--undo", "--yes", "shop"]);
    assert!(undone.contains("is back"), "{undone}");
    let system = System::start(path);
    assert_eq!(ids(&system), [1, 2, 3, 4, 5]);
    insert(&system, 6);
    assert_eq!(look(path, "latest", query), "1,2,3,4,5,6");
    system.stop(Signal::TERM);

    // The databases before the restores are kept until they are dropped.
    let kept = || {
        std::fs::read_dir(folder.cluster())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("data.before-"))
            .count()
    };
    assert_eq!(kept(), 1);
    assert!(tercet::run(path, ["restore", "--drop", "--yes", "other"]).contains("nothing was changed"));
    assert!(tercet::run(path, ["restore", "--drop", "--yes", "shop"]).contains("are removed"));
    assert_eq!(kept(), 0);

    // A false check keeps the database as it is.
    folder.write("checks/books.sql", "select count(*) > 4 from book");
    let failed = replace(&three);
    assert!(failed.contains("books.sql: its result is f") && failed.contains("is unchanged"), "{failed}");
    let system = System::start(path);
    assert_eq!(ids(&system), [1, 2, 3, 4, 5, 6]);
    system.stop(Signal::TERM);

    // Killed between the two renames of a replacement.
    let cluster = folder.cluster();
    std::fs::rename(cluster.join("data"), cluster.join("data.before-1")).unwrap();
    std::fs::write(cluster.join("replacement.json"), r#"{"before":"data.before-1","new":"restored/data"}"#)
        .unwrap();
    let system = System::start(path);
    assert_eq!(ids(&system), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn damage_of_a_backup_or_its_archive_is_named() {
    let folder = Folder::with(&[BOOKS, NAME]);
    let path = folder.path();
    System::start(path).stop(Signal::TERM);
    // The database is started for the backup.
    assert!(tercet::run(path, ["backup"]).contains("is made"));
    let owner = std::fs::metadata(path.join(".tercet")).unwrap().uid();
    assert_eq!(std::fs::metadata(backup(path).join("base.tar.gz")).unwrap().uid(), owner);
    assert!(tercet::run(path, ["backup", "check"]).contains("passed   checksums"));

    // What a killed command leaves is no backup.
    folder.write(".tercet/backups/20200101-000000.partial/base.tar.gz", "half");
    let check = || tercet::run(path, ["backup", "check"]);
    let file = backup(path).join("base.tar.gz");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = std::fs::File::options().write(true).open(&file).unwrap();
    damaged.seek(SeekFrom::Start(whole.len() as u64 / 2)).unwrap();
    damaged.write_all(b"damage").unwrap();
    let failed = check();
    assert!(failed.contains("base.tar.gz is damaged") && failed.ends_with("exit code 1\n"), "{failed}");
    assert!(tercet::run(path, ["backup", "list"]).contains("FAILED its check: "));
    assert!(!path.join(".tercet/backups/20200101-000000.partial").exists());
    assert!(!path.join(".tercet/backups/check").exists());
    std::fs::write(&file, whole).unwrap();

    let manifest = backup(path).join("backup_manifest");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("PG_VERSION", "PG_0000000", 1)).unwrap();
    let failed = check();
    assert!(failed.contains("is damaged: pg_verifybackup:"), "{failed}");
    std::fs::write(&manifest, text).unwrap();

    // Each check completes a segment.
    assert!(check().contains("passed   recovery"));
    let missing = segments(path).pop().unwrap();
    assert!(check().contains("passed   recovery"));
    assert!(check().contains("passed   recovery"));
    let aside = path.join("aside");
    std::fs::rename(&missing, &aside).unwrap();
    let name = missing.file_name().unwrap().to_str().unwrap();
    let failed = check();
    assert!(failed.contains(&format!("WAL segment {name} is missing from the archive")), "{failed}");
    assert!(
        failed.contains("the last heartbeat in the archive") || failed.contains("passed   heartbeat"),
        "{failed}"
    );
    let failed = tercet::run(path, ["restore", "--to", "latest"]);
    assert!(failed.contains(&format!("{name} is missing")) && failed.contains("hint: --to"), "{failed}");
    std::fs::copy(&aside, &missing).unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::chown(&missing, Some(owner), None).unwrap();
    }
    assert!(check().contains("passed   recovery"));

    // The live cluster is lost: its last WAL with it, and nothing else.
    std::fs::remove_dir_all(folder.cluster()).unwrap();
    let replaced = tercet::run(path, ["restore", "--to", "latest", "--replace", "--yes", "shop"]);
    assert!(replaced.contains("the database is replaced"), "{replaced}");
    let system = System::start(path);
    assert_eq!(ids(&system), [1]);
}

#[test]
fn the_commands_of_the_guide_work() {
    let folder = Folder::with(&[BOOKS, NAME]);
    let path = folder.path();
    if geteuid().is_root() {
        assert!(Command::new("chown").args(["-R", "daemon"]).arg(path).status().unwrap().success());
    }
    let commands = guide::to_run("backup-and-restore.md").into_iter().map(|it| it.text);
    let (tercets, dumps): (Vec<_>, Vec<_>) = commands.partition(|command| command.starts_with("tercet "));
    let run = |index: usize, expected: &str, time: &str| {
        let command = &tercets[index];
        let command = command.strip_prefix("tercet ").unwrap().replace(r#""10 minutes ago""#, time);
        assert_eq!(command, expected.replace("TIME", time));
        let mut words: Vec<&str> = command.split(' ').collect();
        if words.iter().any(|word| ["--replace", "--undo", "--drop"].contains(word)) {
            words.extend(["--yes", "shop"]);
        }
        tercet::run(path, words)
    };
    let mut system = System::start(path);
    let address = system.wait_for(|line| line["event"] == "part_ready" && line["name"] == "database");
    let port = address["address"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    assert!(run(0, "backup", "").contains("is made"));
    assert!(run(1, "backup check", "").contains("passed   recovery"));
    assert!(run(2, "backup list", "").contains("passed 20"));
    insert(&system, 2);
    let two = now();
    insert(&system, 3);

    let [to_table, dump, restore] = dumps.as_slice() else { panic!("{dumps:?}") };
    assert!(to_table.contains("--data-only --table=book shop > book.sql"), "{to_table}");
    let shell = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(path).env("PGPORT", &port);
        if geteuid().is_root() {
            shell.uid(std::fs::metadata(path).unwrap().uid());
        }
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    };
    shell(dump);
    insert(&system, 4);
    shell(restore);
    assert_eq!(ids(&system), [1, 2, 3]);

    assert_eq!(look(path, &two, "select max(id) from book"), "2");
    system.stop(Signal::TERM);
    assert_eq!(tercets[3], "tercet restore --to \"10 minutes ago\"");
    assert!(run(4, "restore --to TIME --replace", &two).contains("is replaced"));
    assert!(run(5, "restore --undo", "").contains("is back"));
    assert!(run(6, "restore --drop", "").contains("are removed"));
    assert_eq!(tercets.len(), 7);
    assert_eq!(ids(&System::start(path)), [1, 2, 3]);
}
