//! libpq's connection service files: named sets of connection parameters
//! (<https://www.postgresql.org/docs/current/libpq-pgservice.html>).
//!
//! A parameter of the connection string overrides one of its service, which overrides the environment. The caller
//! passes the environment in; only the files that it and the string name are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::connection_string::TargetError;

/// The folders of the system-wide service file: those of Debian's libpq and of the upstream packages.
const SYSTEM: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// Adds the parameters that `parameters` lacks from the service that `parameters` or the environment names.
pub(crate) fn complete(
    parameters: &mut BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<(), TargetError> {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let named = parameters.remove("servicefile");
    let Some(name) = parameters.remove("service").or_else(|| variable("PGSERVICE").cloned()) else {
        return Ok(());
    };
    let failed = |problem: String| TargetError::Service(problem);
    let own = named.as_ref().or_else(|| variable("PGSERVICEFILE")).map(PathBuf::from);
    // A file that is named must exist; the default files may be missing.
    let must_exist = own.is_some();
    let own = own.or_else(|| variable("HOME").map(|home| Path::new(home).join(".pg_service.conf")));
    let folders: Vec<&str> = match variable("PGSYSCONFDIR") {
        Some(folder) => vec![folder],
        None => SYSTEM.to_vec(),
    };
    let files =
        own.into_iter().chain(folders.into_iter().map(|folder| Path::new(folder).join("pg_service.conf")));
    for (index, file) in files.enumerate() {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(_) if index > 0 || !must_exist => continue,
            Err(error) => return Err(failed(format!("{}: {error}", file.display()))),
        };
        let found =
            section(&text, &name).map_err(|problem| failed(format!("{}: {problem}", file.display())))?;
        if let Some(found) = found {
            for (name, value) in found {
                parameters.entry(name).or_insert(value);
            }
            return Ok(());
        }
    }
    Err(failed(
        "no service file has it; hint: write [NAME] and its parameters into ~/.pg_service.conf".to_owned(),
    ))
}

/// The parameters in the section of that name; an error has the number of the line.
fn section(text: &str, name: &str) -> Result<Option<BTreeMap<String, String>>, String> {
    let mut found = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            found = (header.strip_suffix(']') == Some(name)).then(BTreeMap::new);
            continue;
        }
        let Some(parameters) = &mut found else { continue };
        match line.split_once('=') {
            Some(("service" | "servicefile", _)) => {
                return Err(format!("line {}: a service cannot name another", index + 1));
            }
            Some((name, value)) => {
                // The first of several applies, as in libpq.
                parameters.entry(name.trim_end().to_owned()).or_insert_with(|| value.trim_start().to_owned());
            }
            None => return Err(format!("line {}: expected parameter=value", index + 1)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::Target;

    use super::*;

    const FILE: &str =
        "# ours\n[shop]\nhost=db.example\nport=6000\nuser=clerk\n\n[bad]\nhost\n[nested]\nservice=shop\n";

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(uri: &str, variables: &[(&str, &str)], expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join(".pg_service.conf"), FILE).unwrap();
        std::fs::write(folder.path().join("pg_service.conf"), "[everywhere]\nhost=system.example\n").unwrap();
        let mut environment = BTreeMap::from([
            ("HOME".to_owned(), path.clone()),
            ("PGSYSCONFDIR".to_owned(), path.clone()),
            ("USER".to_owned(), "me".to_owned()),
        ]);
        environment.extend(
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).replace("DIR", &path))),
        );
        let shown = match Target::parse(uri, &environment) {
            Ok(target) => format!("{}@{} {}", target.user, target.address(), target.database),
            Err(error) => error.to_string().replace(&path, "DIR"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn services_fill_in_what_the_string_leaves_out() {
        check("service=shop", &[], expect!["clerk@db.example:6000 clerk"]);
        check("postgresql:///stock?service=shop", &[], expect!["clerk@db.example:6000 stock"]);
        check("postgresql://me@/stock?service=shop", &[("PGPORT", "1")], expect!["me@db.example:6000 stock"]);
        check("postgresql://", &[("PGSERVICE", "shop")], expect!["clerk@db.example:6000 clerk"]);
        check("service=everywhere", &[], expect!["me@system.example:5432 me"]);
        check(
            "service=everywhere",
            &[("PGSERVICEFILE", "DIR/pg_service.conf"), ("PGSYSCONFDIR", "/nonexistent")],
            expect!["me@system.example:5432 me"],
        );
    }

    #[test]
    fn services_that_cannot_be_read_say_why() {
        check(
            "service=none",
            &[],
            expect![[
                r#"connection service: no service file has it; hint: write [NAME] and its parameters into ~/.pg_service.conf"#
            ]],
        );
        check(
            "service=bad",
            &[],
            expect![[r#"connection service: DIR/.pg_service.conf: line 8: expected parameter=value"#]],
        );
        check(
            "service=nested",
            &[],
            expect![[r#"connection service: DIR/.pg_service.conf: line 10: a service cannot name another"#]],
        );
        check(
            "service=shop",
            &[("PGSERVICEFILE", "DIR/missing")],
            expect![[r#"connection service: DIR/missing: No such file or directory (os error 2)"#]],
        );
    }
}
