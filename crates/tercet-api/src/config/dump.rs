//! A configuration in the form of its file, without secrets: for logs and the admin endpoint.

use std::fmt::Write as _;

use tercet_options::api::rules;
use tercet_options::reference::properties;
use toml::Value;

use super::Config;

impl Config {
    /// All options in effect. Passwords and keys are left out.
    pub fn dump(&self) -> String {
        let mut options = toml::Table::try_from(&self.options)
            .expect("an option is written as a string, number or boolean");
        let target = &self.db_uri;
        let uri = format!("postgresql://{}@{}/{}", target.user, target.address(), target.database);
        for (name, value) in [
            ("admin-server-host", self.admin_server_host.clone()),
            ("db-uri", uri),
            ("jwt-role-claim-key", self.jwt_role_claim_key.as_str().to_owned()),
        ] {
            options.insert(name.to_owned(), value.into());
        }
        let mut text = String::new();
        let empty = Value::from("");
        for (name, _) in properties(rules()).into_iter().filter(|(name, _)| *name != "app") {
            let value = options.get(name).unwrap_or(&empty);
            writeln!(text, "{name} = {value}").expect("writing to a String cannot fail");
        }
        for setting in self.app_settings.keys() {
            writeln!(text, "{setting} = \"(kept secret)\"").expect("writing to a String cannot fail");
        }
        text
    }
}
