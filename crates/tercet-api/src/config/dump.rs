//! A configuration as its own file would say it, without its secrets: for logs and the admin endpoint.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Config, LogLevel, ObjectName, OpenApiMode};
use crate::error::Verbosity;

impl Config {
    /// Every option that is in force. Passwords and keys are left out.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name} = {value}").expect("writing to a String cannot fail");
        };
        let name = |name: &Option<ObjectName>| quoted(name.as_ref().map(ObjectName::to_string));
        let number =
            |number: Option<u64>| number.map_or_else(|| "\"\"".to_owned(), |number| number.to_string());
        let end = match (self.db_tx_end.rollback, self.db_tx_end.allow_override) {
            (false, false) => "commit",
            (false, true) => "commit-allow-override",
            (true, false) => "rollback",
            (true, true) => "rollback-allow-override",
        };
        line("admin-server-host", quoted(Some(self.admin_server_host.clone())));
        line("admin-server-port", number(self.admin_server_port.map(u64::from)));
        line("admin-server-unix-socket", path(self.admin_server_unix_socket.as_ref()));
        line(
            "admin-server-unix-socket-mode",
            quoted(Some(format!("{:o}", self.admin_server_unix_socket_mode))),
        );
        line(
            "client-error-verbosity",
            quoted(Some(match self.client_error_verbosity {
                Verbosity::Verbose => "verbose",
                Verbosity::Minimal => "minimal",
            })),
        );
        line("db-aggregates-enabled", self.db_aggregates_enabled.to_string());
        line("db-anon-role", quoted(self.db_anon_role.as_deref()));
        line("db-channel", quoted(Some(&self.db_channel)));
        line("db-channel-enabled", self.db_channel_enabled.to_string());
        line("db-config", self.db_config.to_string());
        line("db-extra-search-path", quoted(Some(self.db_extra_search_path.join(","))));
        line("db-hoisted-tx-settings", quoted(Some(self.db_hoisted_tx_settings.join(","))));
        line("db-max-rows", number(self.db_max_rows));
        line("db-plan-enabled", self.db_plan_enabled.to_string());
        line("db-pool", self.db_pool.to_string());
        line("db-pool-acquisition-timeout", self.db_pool_acquisition_timeout.as_secs().to_string());
        line("db-pool-automatic-recovery", self.db_pool_automatic_recovery.to_string());
        line("db-pool-max-idletime", self.db_pool_max_idletime.as_secs().to_string());
        line("db-pool-max-lifetime", self.db_pool_max_lifetime.as_secs().to_string());
        line("db-pre-config", name(&self.db_pre_config));
        line("db-pre-request", name(&self.db_pre_request));
        line("db-prepared-statements", self.db_prepared_statements.to_string());
        line("db-root-spec", name(&self.db_root_spec));
        line("db-schemas", quoted(Some(self.db_schemas.join(","))));
        line("db-statement-timeout", self.db_statement_timeout.as_secs().to_string());
        line("db-timezone-enabled", self.db_timezone_enabled.to_string());
        line("db-tx-end", quoted(Some(end)));
        let uri =
            format!("postgresql://{}@{}/{}", self.db_uri.user, self.db_uri.address(), self.db_uri.database);
        line("db-uri", quoted(Some(uri)));
        line("jwt-aud", quoted(self.jwt_aud.as_ref()));
        line("jwt-cache-max-entries", self.jwt_cache_max_entries.to_string());
        line("jwt-role-claim-key", quoted(Some(self.jwt_role_claim_key.as_str())));
        line("jwt-secret", quoted(self.jwt_keys.as_ref().map(|_| "(kept secret)")));
        line(
            "log-level",
            quoted(Some(match self.log_level {
                LogLevel::Critical => "crit",
                LogLevel::Error => "error",
                LogLevel::Warn => "warn",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
            })),
        );
        line("log-query", self.log_query.to_string());
        line(
            "openapi-mode",
            quoted(Some(match self.openapi_mode {
                OpenApiMode::FollowPrivileges => "follow-privileges",
                OpenApiMode::IgnorePrivileges => "ignore-privileges",
                OpenApiMode::Disabled => "disabled",
            })),
        );
        line("openapi-security-active", self.openapi_security_active.to_string());
        line("openapi-server-proxy-uri", quoted(self.openapi_server_proxy_uri.as_ref()));
        line("openapi-title", quoted(self.openapi_title.as_ref()));
        line("openapi-version", quoted(self.openapi_version.as_ref()));
        line("server-body-timeout", self.server_body_timeout.as_secs().to_string());
        let origins = self.server_cors_allowed_origins.as_ref().map(|origins| origins.join(","));
        line("server-cors-allowed-origins", quoted(origins));
        line("server-host", quoted(Some(&self.server_host)));
        line("server-max-body", self.server_max_body.to_string());
        line("server-max-body-memory", self.server_max_body_memory.to_string());
        line("server-port", self.server_port.to_string());
        line("server-reuseport", self.server_reuseport.to_string());
        line("server-stop-timeout", self.server_stop_timeout.as_secs().to_string());
        line("server-threads", number(self.server_threads.map(|threads| threads as u64)));
        line("server-timing-enabled", self.server_timing_enabled.to_string());
        line("server-trace-header", quoted(self.server_trace_header.as_ref()));
        line("server-unix-socket", path(self.server_unix_socket.as_ref()));
        line("server-unix-socket-mode", quoted(Some(format!("{:o}", self.server_unix_socket_mode))));
        line("url-use-legacy-target-names", self.url_use_legacy_target_names.to_string());
        for setting in self.app_settings.keys() {
            line(setting, quoted(Some("(kept secret)")));
        }
        text
    }
}

fn path(path: Option<&PathBuf>) -> String {
    quoted(path.map(|path| path.display()))
}

/// A TOML basic string; nothing is the empty one.
fn quoted(text: Option<impl ToString>) -> String {
    toml::Value::String(text.map_or_else(String::new, |text| text.to_string())).to_string()
}
