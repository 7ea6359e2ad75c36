use expect_test::{Expect, expect};

use super::*;

fn read(file: &str, environment: &[(&str, &str)], database: &[(&str, &str)]) -> Result<Config, String> {
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.conf");
    std::fs::write(&path, file).unwrap();
    let mut environment = owned(environment);
    environment.insert("USER".to_owned(), "me".to_owned());
    let source = ConfigSource { file: Some(path), environment };
    source.read_with(&owned(database)).map_err(|mistakes| {
        let folder = format!("{}/", folder.path().display());
        mistakes.lines().replace(&folder, "")
    })
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_mistakes(file: &str, expected: Expect) {
    expected.assert_eq(&read(file, &[], &[]).unwrap_err());
}

#[test]
fn an_empty_file_is_postgrests_defaults() {
    expect![[r#"
        admin-server-host = "!4"
        admin-server-port = ""
        admin-server-unix-socket = ""
        admin-server-unix-socket-mode = "660"
        client-error-verbosity = "verbose"
        db-aggregates-enabled = false
        db-anon-role = ""
        db-channel = "pgrst"
        db-channel-enabled = true
        db-config = true
        db-extra-search-path = "public"
        db-hoisted-tx-settings = "statement_timeout,plan_filter.statement_cost_limit,default_transaction_isolation"
        db-max-rows = ""
        db-plan-enabled = false
        db-pool = 10
        db-pool-acquisition-timeout = 10
        db-pool-automatic-recovery = true
        db-pool-max-idletime = 30
        db-pool-max-lifetime = 1800
        db-pre-config = ""
        db-pre-request = ""
        db-prepared-statements = true
        db-root-spec = ""
        db-schemas = "public"
        db-statement-timeout = 30
        db-timezone-enabled = true
        db-tx-end = "commit"
        db-uri = "postgresql://me@/var/run/postgresql/.s.PGSQL.5432/me"
        jwks-cache-file = ""
        jwks-url = ""
        jwt-aud = ""
        jwt-cache-max-entries = 1000
        jwt-issuer = ""
        jwt-role-claim-key = '."role"'
        jwt-secret = ""
        jwt-secret-is-base64 = false
        log-level = "error"
        log-query = false
        log-slow-requests = "500ms"
        openapi-mode = "follow-privileges"
        openapi-security-active = false
        openapi-server-proxy-uri = ""
        openapi-title = ""
        openapi-version = ""
        otlp-endpoint = ""
        otlp-sample = "1%"
        otlp-slow = "1s"
        server-body-timeout = 60
        server-cors-allowed-origins = ""
        server-host = "!4"
        server-local-socket = ""
        server-max-body = 67108864
        server-max-body-memory = 268435456
        server-otel-enabled = false
        server-port = 3000
        server-reuseport = false
        server-stages-header = false
        server-stop-timeout = 30
        server-threads = ""
        server-timing-enabled = false
        server-trace-header = ""
        server-unix-socket = ""
        server-unix-socket-mode = "660"
        url-use-legacy-target-names = true
    "#]]
    .assert_eq(&read("", &[], &[]).unwrap().dump());
}

#[test]
fn the_database_wins_over_the_environment_and_that_over_the_file() {
    let file = "db-pool = 1\ndb-max-rows = 1\njwt-aud = \"file\"\napp.settings.a = \"file\"";
    let environment = [
        ("PGRST_DB_MAX_ROWS", "2"),
        ("PGRST_JWT_AUD", "environment"),
        ("PGRST_APP_SETTINGS_a", "environment"),
        ("PGRST_APP_SETTINGS_b", "$(kept)"),
    ];
    let config = read(file, &environment, &[("jwt_aud", "database")]).unwrap();
    assert_eq!(
        (config.db_pool, config.db_max_rows, config.jwt_aud.as_deref()),
        (1, Some(2), Some("database"))
    );
    let settings: Vec<_> =
        config.app_settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(settings, ["app.settings.a=environment", "app.settings.b=$(kept)"]);
}

#[test]
fn a_variable_is_replaced_unless_the_dollar_is_doubled() {
    let file = "app.settings.a = 'x$(NAME)y $$(NAME) $$$(NAME) $(OTHER) $NAME'";
    let config = read(file, &[("NAME", "value")], &[]).unwrap();
    assert_eq!(config.app_settings["app.settings.a"], "xvaluey $(NAME) $$(NAME) $(OTHER) $NAME");
}

#[test]
fn values_are_taken_for_what_they_mean() {
    let file = r#"
        db-pool = "7"
        server-timing-enabled = "True"
        openapi-security-active = 1
        db-schema = "a, b"
        max-rows = 3
        pre-request = "test.check"
        db-extra-search-path = ""
        log-query = true
        db-channel = "$(NAME)$(missing)"
    "#;
    let config = read(file, &[("NAME", "from environment")], &[]).unwrap();
    assert_eq!(config.db_pool, 7);
    assert!(config.server_timing_enabled && config.openapi_security_active && config.log_query);
    assert_eq!(*config.db_schemas, ["a", "b"]);
    assert_eq!(config.db_max_rows, Some(3));
    assert_eq!(config.db_pre_request.as_ref().unwrap().sql(), r#""test"."check""#);
    assert!(config.db_extra_search_path.is_empty());
    assert_eq!(config.db_channel, "from environment$(missing)");
}

#[test]
fn secrets_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, uri) = (folder.path().join("secret"), folder.path().join("uri"));
    std::fs::write(&secret, "a secret that is at least 32 bytes\n").unwrap();
    std::fs::write(&uri, "postgres://me:password@host/db\n").unwrap();
    let file = format!("jwt-secret = \"@{}\"\ndb-uri = \"@{}\"", secret.display(), uri.display());
    let config = read(&file, &[], &[]).unwrap();
    assert!(config.jwt_keys.is_some());
    assert_eq!(config.db_uri.password.as_deref(), Some("password"));
    let shown = format!("{config:?} {:?}", config.db_uri);
    assert!(!shown.contains("password") && !shown.contains("a secret"), "{shown}");
}

#[test]
fn every_mistake_is_named_at_once() {
    check_mistakes(
        "db-poool = 1\ndb-pool = \"many\"\nlog-level = \"loud\"\nadmin-server-port = 3000\njwt-secret = \"short\"\n\
         server-unix-socket-mode = \"599\"\nopenapi-server-proxy-uri = \"example.com\"\ndb-uri = \"nonsense\"\n\
         server-otel-enabled = true\njwt-role-claim-key = \"role\"\ndb-schemas = \"pg_catalog\"",
        expect![[r#"
            api.conf:1: unknown key db-poool at the top of the file
            hint: did you mean db-pool?
            api.conf:2: db-pool can't be "many"
            hint: write an integer
            api.conf:3: log-level can't be "loud"
            hint: choose one of crit, error, warn, info, debug
            api.conf:4: admin-server-port can't be the same as server-port
            hint: give the admin endpoint another port
            api.conf:5: jwt-secret can't be used: the JWT secret must be at least 32 characters long
            api.conf:6: server-unix-socket-mode can't be "599"
            hint: write an octal number from "600" to "777"
            api.conf:7: openapi-server-proxy-uri can't be "example.com"
            hint: write it like "https://example.com:8443/basePath"
            api.conf:8: db-uri can't be used: not a connection string: expected keyword=value pairs or a URI
            api.conf:9: server-otel-enabled is not implemented
            hint: leave it out
            api.conf:10: jwt-role-claim-key can't be used: failed to parse role-claim-key value (role)
            api.conf:11: db-schemas can't expose "pg_catalog"
            hint: expose views in a schema of your own"#]],
    );
    check_mistakes(
        "db-pool =",
        expect!["api.conf:1: not TOML: string values must be quoted, expected literal string"],
    );
    let error = read("", &[("PGRST_RAW_MEDIA_TYPES", "image/png")], &[]).unwrap_err();
    assert!(error.contains("PGRST_RAW_MEDIA_TYPES is not implemented"), "{error}");
}

#[test]
fn variables_that_are_no_options_are_warned_of() {
    // Kubernetes names a service `pgrst` so.
    let variables =
        [("PGRST_SERVICE_HOST", "10.0.0.1"), ("PGRST_PORT_80_TCP", "tcp"), ("PGRST_DB_POOL", "3")];
    let config = read("", &variables, &[]).unwrap();
    assert_eq!(config.db_pool, 3);
    assert_eq!(
        config.warnings,
        [
            "PGRST_PORT_80_TCP: not an option, it is ignored",
            "PGRST_SERVICE_HOST: not an option, it is ignored"
        ]
    );
}

#[test]
fn the_example_has_every_option_and_is_understood() {
    let file = tercet_options::reference::api_example();
    let example: String = file
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.contains(" = "))
        // two places for one endpoint, and a file that is not there
        .filter(|line| !line.starts_with("admin-server-port") && !line.starts_with("jwt-secret ="))
        .map(|line| format!("{line}\n"))
        .collect();
    read(&example, &[], &[]).unwrap();
    let dumped: toml::Table = read("", &[], &[]).unwrap().dump().parse().unwrap();
    for name in dumped.keys() {
        assert!(file.contains(&format!("\n# {name} = ")), "{name}");
    }
}
