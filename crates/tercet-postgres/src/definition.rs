//! The desired state of roles and databases, and the SQL that creates or alters them.
//!
//! The SQL does not depend on the present state. It runs in psql and by the simple query protocol; it begins and
//! commits a transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quote::{identifier, literal};

/// A role without the attributes superuser, createdb, createrole, replication and bypassrls
/// (<https://www.postgresql.org/docs/current/sql-createrole.html>). `S` is the type of its password's SCRAM verifier,
/// whose `Debug` form does not show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role<S> {
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub login: bool,
    /// Whether it inherits the privileges of the roles it is a member of.
    pub inherit: bool,
    /// The roles it is a member of.
    pub member_of: Vec<String>,
    /// Its password's SCRAM verifier; without one it has no password.
    pub verifier: Option<S>,
    /// Its settings (`ALTER ROLE … SET`).
    pub settings: BTreeMap<String, String>,
}

/// How to treat settings and memberships of a role that its definition does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay, except the setting `role`.
    Kept,
    /// They are reset and revoked.
    Removed,
}

impl<S> Role<S> {
    /// SQL that creates or alters the role. It contains the verifier as `reveal` returns it.
    pub fn sql(&self, others: Others, reveal: impl Fn(&S) -> &str) -> String {
        let name = identifier(&self.name);
        let quoted = literal(&self.name);
        let mut sql = format!(
            "begin;\ndo $$ begin if not exists (select from pg_roles where rolname = {quoted}) then create role {name}; end if; end $$;\n\
             alter role {name} nosuperuser nocreatedb nocreaterole noreplication nobypassrls {login} {inherit} password {password};\n\
             alter role {name} reset {reset};\n",
            login = if self.login { "login" } else { "nologin" },
            inherit = if self.inherit { "inherit" } else { "noinherit" },
            password = self.verifier.as_ref().map_or("null".to_owned(), |verifier| literal(reveal(verifier))),
            reset = match others {
                Others::Kept => "role",
                Others::Removed => "all",
            },
        );
        for (key, value) in &self.settings {
            sql += &format!("alter role {name} set {} = {};\n", identifier(key), literal(value));
        }
        if others == Others::Removed {
            // All memberships are revoked and the desired ones granted, in one transaction.
            sql += &format!(
                "do $$ declare other record; begin for other in select g.rolname from pg_auth_members m \
                 join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member where r.rolname = {quoted} \
                 loop execute format('revoke %I from %I', other.rolname, {quoted}); end loop; end $$;\n"
            );
        }
        for group in &self.member_of {
            sql += &format!("grant {} to {name};\n", identifier(group));
        }
        sql + "commit;\n"
    }
}

/// A database, and the roles with the CONNECT privilege besides its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// The roles with the CONNECT privilege.
    pub connect: Vec<String>,
}

impl Database {
    /// The statement that creates it; PostgreSQL runs it outside a transaction and alone
    /// (<https://www.postgresql.org/docs/current/sql-createdatabase.html>).
    pub fn create(&self) -> String {
        let (name, owner) = (identifier(&self.name), identifier(&self.owner));
        format!("create database {name} owner {owner} template template0 encoding 'UTF8'")
    }

    /// SQL that sets the owner and the privileges of the database, which must exist.
    pub fn sql(&self) -> String {
        let name = identifier(&self.name);
        let owner = identifier(&self.owner);
        let quoted = literal(&self.name);
        let mut sql = format!(
            "begin;\nalter database {name} owner to {owner};\nrevoke all on database {name} from public;\n\
             do $$ declare other record; begin for other in select distinct r.rolname from pg_database d, \
             aclexplode(d.datacl) a join pg_roles r on r.oid = a.grantee where d.datname = {quoted} and a.grantee <> d.datdba \
             loop execute format('revoke all on database %I from %I', {quoted}, other.rolname); end loop; end $$;\n"
        );
        for role in &self.connect {
            sql += &format!("grant connect on database {name} to {};\n", identifier(role));
        }
        sql + "commit;\n"
    }

    /// A script for psql that creates the database if it is missing, then does the same as [`Database::sql`].
    pub fn script(&self) -> String {
        format!(
            "select {} where not exists (select from pg_database where datname = {}) \\gexec\n{}",
            literal(&self.create()),
            literal(&self.name),
            self.sql()
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn role() -> Role<&'static str> {
        Role {
            name: "authenticator".to_owned(),
            login: true,
            inherit: false,
            member_of: vec!["anon".to_owned()],
            verifier: Some("SCRAM-SHA-256$4096:…"),
            settings: BTreeMap::from([("role".to_owned(), "authenticated".to_owned())]),
        }
    }

    #[test]
    fn others_are_kept_or_removed() {
        let kept = role().sql(Others::Kept, |verifier| verifier);
        expect![[r#"
            begin;
            do $$ begin if not exists (select from pg_roles where rolname = 'authenticator') then create role "authenticator"; end if; end $$;
            alter role "authenticator" nosuperuser nocreatedb nocreaterole noreplication nobypassrls login noinherit password 'SCRAM-SHA-256$4096:…';
            alter role "authenticator" reset role;
            alter role "authenticator" set "role" = 'authenticated';
            grant "anon" to "authenticator";
            commit;
        "#]]
        .assert_eq(&kept);
        let removed = role().sql(Others::Removed, |verifier| verifier);
        assert!(removed.contains("reset all;") && removed.contains("revoke %I from %I"), "{removed}");
    }

    #[test]
    fn a_database_is_created_alone_and_then_owned() {
        let database =
            Database { name: "it's".to_owned(), owner: "o".to_owned(), connect: vec!["c".to_owned()] };
        let script = database.script();
        assert!(
            script.starts_with(
                "select 'create database \"it''s\" owner \"o\" template template0 encoding ''UTF8''' where not exists"
            ),
            "{script}"
        );
        assert!(script.ends_with("grant connect on database \"it's\" to \"c\";\ncommit;\n"), "{script}");
    }
}
