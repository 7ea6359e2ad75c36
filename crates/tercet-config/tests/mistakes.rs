//! What a person sees when their `tercet.toml` is wrong.
//!
//! Long because it is one table: every mistake with the whole of what a person then reads.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use expect_test::{Expect, expect};
use miette::{GraphicalReportHandler, GraphicalTheme};
use tercet_config::Origin;

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(text: &str, expected: Expect) {
    let mistakes = tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).unwrap_err();
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut shown, &mistakes)
        .unwrap();
    let trimmed: Vec<&str> = shown.lines().map(str::trim_end).collect();
    expected.assert_eq(&(trimmed.join("\n") + "\n"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    check(
        r#"
nmae = "shop"

[balancer]
listen = "0.0.0.0:8080"
policy = "roundrobin"

[application]
servers = "3"
health = "/health"

[databse]
"#,
        expect![[r#"
              × tercet.toml has 6 mistakes

            Error:
              × unknown key nmae at the top of the file
               ╭─[tercet.toml:2:1]
             1 │
             2 │ nmae = ******
               · ──┬─
               ·   ╰── unknown
             3 │
               ╰────
              help: did you mean name?

            Error:
              × balancer.listen must be a list of strings, not a string
               ╭─[tercet.toml:5:10]
             4 │ [balancer]
             5 │ listen = "0.0.0.0:8080"
               ·          ───────┬──────
               ·                 ╰── this is a string
             6 │ policy = "roundrobin"
               ╰────
              help: write ["0.0.0.0:8080"]

            Error:
              × balancer.policy can't be "roundrobin"
               ╭─[tercet.toml:6:10]
             5 │ listen = "0.0.0.0:8080"
             6 │ policy = "roundrobin"
               ·          ──────┬─────
               ·                ╰── not one of the choices
             7 │
               ╰────
              help: did you mean "round-robin"?

            Error:
              × application.servers must be an integer, not a string
                ╭─[tercet.toml:9:11]
              8 │ [application]
              9 │ servers = "3"
                ·           ─┬─
                ·            ╰── this is a string
             10 │ health = "/health"
                ╰────
              help: write 3 without quotes

            Error:
              × health is for your own program, and there is none
                ╭─[tercet.toml:10:10]
              9 │ servers = "3"
             10 │ health = "/health"
                ·          ────┬────
                ·              ╰── for run
             11 │
                ╰────
              help: the data API has a health path of its own: leave this out, or add run

            Error:
              × unknown key databse at the top of the file
                ╭─[tercet.toml:12:2]
             11 │
             12 │ [databse]
                ·  ───┬───
                ·     ╰── unknown
                ╰────
              help: did you mean database?
        "#]],
    );
}

#[test]
fn a_machine_with_a_wrong_value_is_mended_before_the_machines_are_compared() {
    check(
        "[[machine]]\nname = \"lb\"\ntiers = [\"balanser\"]\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × machine.tiers can't be "balanser"
           ╭─[tercet.toml:3:10]
         2 │ name = "lb"
         3 │ tiers = ["balanser"]
           ·          ─────┬────
           ·               ╰── not one of the choices
           ╰────
          help: did you mean "balancer"?
    "#]],
    );
}

#[test]
fn secrets_are_not_shown() {
    check(
        "[api]\njwt-secret = \"hüsh\"\njwt = 1\n[database]\nurl = \"hush\"\n",
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × unknown key jwt in [api]
               ╭─[tercet.toml:3:1]
             2 │ jwt-secret = *******
             3 │ jwt = *
               · ─┬─
               ·  ╰── unknown
             4 │ [database]
               ╰────
              help: did you mean jwt-aud?

            Error:
              × this is no connection URL
               ╭─[tercet.toml:5:7]
             4 │ [database]
             5 │ url = ******
               ·       ───┬──
               ·          ╰── not a URL
               ╰────
              help: write postgres://USER@HOST/DATABASE, or "@path" of a file that holds it
        "#]],
    );
}

#[test]
fn text_that_is_not_toml() {
    check(
        "[balancer\nlisten = [",
        expect![[r"
              × tercet.toml has 2 mistakes

            Error:
              × not TOML: unclosed table, expected `]`
               ╭─[tercet.toml:1:10]
             1 │ [balancer
               ·          ▲
               ·          ╰── here
             2 │ listen = [
               ╰────

            Error:
              × not TOML: unclosed array, expected `]`
               ╭─[tercet.toml:2:10]
             1 │ [balancer
             2 │ listen = [
               ·          ┬
               ·          ╰── here
               ╰────
        "]],
    );
    check(
        "name = 1\nname = 2\n",
        expect![[r"
          × tercet.toml has a mistake

        Error:
          × not TOML: duplicate key
           ╭─[tercet.toml:2:1]
         1 │ name = 1
         2 │ name = 2
           · ──┬─
           ·   ╰── here
           ╰────
    "]],
    );
}

#[test]
fn wrong_types_and_values() {
    check(
        "name = 3\n[application]\nservers = 0\nport = 70000\n[machine]\nname = \"lb\"\n[api]\ndb-schemas = 1\ndb-plan-enabled = \"true\"\nlog-level = \"loud\"\njwt-secret = \"\"\n",
        expect![[r#"
              × tercet.toml has 8 mistakes

            Error:
              × name must be a string, not an integer
               ╭─[tercet.toml:1:8]
             1 │ name = 3
               ·        ┬
               ·        ╰── this is an integer
             2 │ [application]
               ╰────
              help: write "3"

            Error:
              × application.servers is out of range
               ╭─[tercet.toml:3:11]
             2 │ [application]
             3 │ servers = 0
               ·           ┬
               ·           ╰── out of range
             4 │ port = 70000
               ╰────
              help: from 1 to 64

            Error:
              × application.port is out of range
               ╭─[tercet.toml:4:8]
             3 │ servers = 0
             4 │ port = 70000
               ·        ──┬──
               ·          ╰── out of range
             5 │ [machine]
               ╰────
              help: from 1 to 65535

            Error:
              × machine must be a list of tables, not a table
               ╭─[tercet.toml:5:1]
             4 │ port = 70000
             5 │ [machine]
               · ────┬────
               ·     ╰── this is a table
             6 │ name = "lb"
               ╰────
              help: write the header in double brackets: [[machine]]

            Error:
              × api.db-schemas must be a string or a list of strings, not an integer
               ╭─[tercet.toml:8:14]
             7 │ [api]
             8 │ db-schemas = 1
               ·              ┬
               ·              ╰── this is an integer
             9 │ db-plan-enabled = "true"
               ╰────

            Error:
              × api.db-plan-enabled must be true or false, not a string
                ╭─[tercet.toml:9:19]
              8 │ db-schemas = 1
              9 │ db-plan-enabled = "true"
                ·                   ───┬──
                ·                      ╰── this is a string
             10 │ log-level = "loud"
                ╰────
              help: write true without quotes

            Error:
              × api.log-level can't be "loud"
                ╭─[tercet.toml:10:13]
              9 │ db-plan-enabled = "true"
             10 │ log-level = "loud"
                ·             ───┬──
                ·                ╰── not one of the choices
             11 │ jwt-secret = **
                ╰────
              help: choose one of crit, error, warn, info, debug

            Error:
              × api.jwt-secret is empty
                ╭─[tercet.toml:11:14]
             10 │ log-level = "loud"
             11 │ jwt-secret = **
                ·              ─┬
                ·               ╰── empty
                ╰────
              help: leave it out for no tokens at all
        "#]],
    );
}

#[test]
fn options_that_tercet_sets_itself() {
    check(
        "[api]\ndb-uri = \"postgres://\"\nserver-port = 3000\ndb-schema = \"public\"\n",
        expect![[r#"
              × tercet.toml has 3 mistakes

            Error:
              × db-uri is set by tercet and can't be set in [api]
               ╭─[tercet.toml:2:1]
             1 │ [api]
             2 │ db-uri = *************
               · ───┬──
               ·    ╰── set by tercet
             3 │ server-port = ****
               ╰────
              help: an existing database is named by url in [database]

            Error:
              × server-port is set by tercet and can't be set in [api]
               ╭─[tercet.toml:3:1]
             2 │ db-uri = *************
             3 │ server-port = ****
               · ─────┬─────
               ·      ╰── set by tercet
             4 │ db-schema = ********
               ╰────
              help: the first server's port is port in [application]

            Error:
              × unknown key db-schema in [api]
               ╭─[tercet.toml:4:1]
             3 │ server-port = ****
             4 │ db-schema = ********
               · ────┬────
               ·     ╰── unknown
               ╰────
              help: did you mean db-schemas?
        "#]],
    );
}

#[test]
fn a_project_cannot_have_the_name_of_a_database_of_postgresql() {
    check(
        "name = \"postgres\"\n",
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × "postgres" can't be the name of a project
               ╭─[tercet.toml:1:8]
             1 │ name = "postgres"
               ·        ─────┬────
               ·             ╰── a database of PostgreSQL's own
               ╰────
              help: name it after what it does, like shop
        "#]],
    );
}

#[test]
fn addresses_and_names() {
    check(
        r#"
name = "My Shop"
[balancer]
listen = ["localhost:80", "127.0.0.1:80", "127.0.0.1:80"]
[application]
run = "uvicorn {app} --port {port}"
health = "health"
[database]
url = "db.example"
port = 5433
"#,
        expect![[r#"
              × tercet.toml has 7 mistakes

            Error:
              × "My Shop" can't be the name of a project
               ╭─[tercet.toml:2:8]
             1 │
             2 │ name = "My Shop"
               ·        ────┬────
               ·            ╰── not a name
             3 │ [balancer]
               ╰────
              help: lower case letters, digits, _ and -, a letter first, at most 40

            Error:
              × "localhost:80" is no address to listen on
               ╭─[tercet.toml:4:11]
             3 │ [balancer]
             4 │ listen = ["localhost:80", "127.0.0.1:80", "127.0.0.1:80"]
               ·           ───────┬──────
               ·                  ╰── not IP:PORT
             5 │ [application]
               ╰────
              help: write it like 0.0.0.0:8080, or [::]:8080 for IPv6

            Error:
              × the balancer can't listen on 127.0.0.1:80 twice
               ╭─[tercet.toml:4:43]
             3 │ [balancer]
             4 │ listen = ["localhost:80", "127.0.0.1:80", "127.0.0.1:80"]
               ·                                           ───────┬──────
               ·                                                  ╰── again
             5 │ [application]
               ╰────

            Error:
              × run can't be started: {app} is none of {host}, {port}
               ╭─[tercet.toml:6:7]
             5 │ [application]
             6 │ run = "uvicorn {app} --port {port}"
               ·       ──────────────┬──────────────
               ·                     ╰── this command
             7 │ health = "health"
               ╰────

            Error:
              × "health" is no path
               ╭─[tercet.toml:7:10]
             6 │ run = "uvicorn {app} --port {port}"
             7 │ health = "health"
               ·          ────┬───
               ·              ╰── not a path
             8 │ [database]
               ╰────
              help: write it like /health

            Error:
              × this is no connection URL
                ╭─[tercet.toml:9:7]
              8 │ [database]
              9 │ url = ************
                ·       ──────┬─────
                ·             ╰── not a URL
             10 │ port = 5433
                ╰────
              help: write postgres://USER@HOST/DATABASE, or "@path" of a file that holds it

            Error:
              × port is for tercet's own PostgreSQL, and url names another
                ╭─[tercet.toml:9:7]
              8 │ [database]
              9 │ url = ************
                ·       ──────┬─────
                ·             ╰── the other one
             10 │ port = 5433
                ·        ──┬─
                ·          ╰── its port
                ╰────
              help: write the port into the url
        "#]],
    );
    check(
        "[balancer]\nlisten = []\n",
        expect![[r"
              × tercet.toml has a mistake

            Error:
              × the balancer must listen on an address
               ╭─[tercet.toml:2:10]
             1 │ [balancer]
             2 │ listen = []
               ·          ─┬
               ·           ╰── none
               ╰────
              help: leave the key out for 127.0.0.1:8080
        "]],
    );
}

#[test]
fn the_balancers_own_options() {
    check(
        r#"
[balancer]
hash-on = "user name"
trusted-proxies = ["10.0.0.0/8", "proxy"]
timeouts.connect = "2 seconds"
timeouts.idle = 75
[balancer.limits]
body = "10 MiB"
bodies = "10MiB"
headers = 0
"#,
        expect![[r#"
              × tercet.toml has 6 mistakes

            Error:
              × balancer.hash-on can't be "user name"
               ╭─[tercet.toml:3:11]
             2 │ [balancer]
             3 │ hash-on = "user name"
               ·           ─────┬─────
               ·                ╰── not a header name
             4 │ trusted-proxies = ["10.0.0.0/8", "proxy"]
               ╰────
              help: write "client", or a header like "authorization"

            Error:
              × balancer.trusted-proxies can't be "proxy"
               ╭─[tercet.toml:4:34]
             3 │ hash-on = "user name"
             4 │ trusted-proxies = ["10.0.0.0/8", "proxy"]
               ·                                  ───┬───
               ·                                     ╰── not a network
             5 │ timeouts.connect = "2 seconds"
               ╰────
              help: write it like 10.0.0.0/8

            Error:
              × balancer.timeouts.connect can't be "2 seconds"
               ╭─[tercet.toml:5:20]
             4 │ trusted-proxies = ["10.0.0.0/8", "proxy"]
             5 │ timeouts.connect = "2 seconds"
               ·                    ─────┬─────
               ·                         ╰── a whole number and a unit
             6 │ timeouts.idle = 75
               ╰────
              help: write a duration like "250ms", "5s", "2m" or "1h"

            Error:
              × balancer.timeouts.idle must be a string, not an integer
               ╭─[tercet.toml:6:17]
             5 │ timeouts.connect = "2 seconds"
             6 │ timeouts.idle = 75
               ·                 ─┬
               ·                  ╰── this is an integer
             7 │ [balancer.limits]
               ╰────
              help: write a duration like "250ms", "5s", "2m" or "1h"

            Error:
              × unknown key bodies in [balancer.limits]
                ╭─[tercet.toml:9:1]
              8 │ body = "10 MiB"
              9 │ bodies = *******
                · ───┬──
                ·    ╰── unknown
             10 │ headers = 0
                ╰────
              help: did you mean body?

            Error:
              × balancer.limits.headers is out of range
                ╭─[tercet.toml:10:11]
              9 │ bodies = *******
             10 │ headers = 0
                ·           ┬
                ·           ╰── out of range
                ╰────
              help: from 1 to 1000
        "#]],
    );
}

#[test]
fn your_own_program_and_the_data_api() {
    check(
        "[application]\nrun = \"./server\"\n[api]\ndb-schemas = [\"public\"]\n",
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × [api] is for the data API, and run replaces it
               ╭─[tercet.toml:2:7]
             1 │ [application]
             2 │ run = "./server"
               ·       ─────┬────
               ·            ╰── your own program
             3 │ [api]
               · ──┬──
               ·   ╰── the data API's options
             4 │ db-schemas = ["public"]
               ╰────
              help: keep one of the two
        "#]],
    );
    check(
        "[application]\nhealth = \"/up\"\n",
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × health is for your own program, and there is none
               ╭─[tercet.toml:2:10]
             1 │ [application]
             2 │ health = "/up"
               ·          ──┬──
               ·            ╰── for run
               ╰────
              help: the data API has a health path of its own: leave this out, or add run
        "#]],
    );
}

#[test]
fn ports_that_collide() {
    check(
        "[balancer]\nlisten = [\"0.0.0.0:8082\"]\n[application]\nport = 8081\n[database]\nport = 8081\n",
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × balancer and app-2 share a machine and port 8082
               ╭─[tercet.toml:2:11]
             1 │ [balancer]
             2 │ listen = ["0.0.0.0:8082"]
               ·           ───────┬──────
               ·                  ╰── balancer
             3 │ [application]
             4 │ port = 8081
               ·        ──┬─
               ·          ╰── app-2
             5 │ [database]
               ╰────

            Error:
              × app-1 and database share a machine and port 8081
               ╭─[tercet.toml:4:8]
             3 │ [application]
             4 │ port = 8081
               ·        ──┬─
               ·          ╰── app-1
             5 │ [database]
             6 │ port = 8081
               ·        ──┬─
               ·          ╰── database
               ╰────
        "#]],
    );
    check(
        "[application]\nservers = 3\nport = 65534\n",
        expect![[r"
          × tercet.toml has a mistake

        Error:
          × there are no 3 ports from here on
           ╭─[tercet.toml:3:8]
         2 │ servers = 3
         3 │ port = 65534
           ·        ──┬──
           ·          ╰── too high
           ╰────
    "]],
    );
    // On machines, a server's admin port is 1000 above its own, that of its next release among them.
    let machines = "machine = [
        { name = 'one', ssh = 'one', address = '10.0.0.10', tiers = ['application', 'database'] },
        { name = 'two', ssh = 'two', address = '10.0.0.11', tiers = ['balancer'] },
    ]\n";
    check(
        &format!("{machines}[application]\nport = 4431\n[database]\nport = 5432\n"),
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × app-1 and database share a machine and port 5432
               ╭─[tercet.toml:6:8]
             5 │ [application]
             6 │ port = 4431
               ·        ──┬─
               ·          ╰── app-1
             7 │ [database]
             8 │ port = 5432
               ·        ──┬─
               ·          ╰── database
               ╰────
        "#]],
    );
}

#[test]
fn machines_that_do_not_fit_together() {
    check(
        r#"
[application]
servers = 1

[[machine]]
name = "lb"
ssh = "root@203.0.113.10"
address = "10.0.0.10"
tiers = ["balancer", "balancer"]

[[machine]]
name = "lb"
ssh = "-oProxyCommand=touch /tmp/x"
address = "203.0.113.11"
tiers = ["application", "database"]

[[machine]]
name = "app2"
ssh = "root@203.0.113.12"
address = "10.0.0.10"
tiers = ["application"]
"#,
        expect![[r#"
              × tercet.toml has 6 mistakes

            Error:
              × 2 application machines can't share 1 server(s)
               ╭─[tercet.toml:3:11]
             2 │ [application]
             3 │ servers = 1
               ·           ┬
               ·           ╰── too few
             4 │
               ╰────
              help: at least 2, or leave it out for one each

            Error:
              × the balancer is listed twice
                ╭─[tercet.toml:9:22]
              8 │ address = "10.0.0.10"
              9 │ tiers = ["balancer", "balancer"]
                ·                      ─────┬────
                ·                           ╰── again
             10 │
                ╰────

            Error:
              × two machines have the name "lb"
                ╭─[tercet.toml:6:8]
              5 │ [[machine]]
              6 │ name = "lb"
                ·        ──┬─
                ·          ╰── first
              7 │ ssh = "root@203.0.113.10"
              8 │ address = "10.0.0.10"
              9 │ tiers = ["balancer", "balancer"]
             10 │
             11 │ [[machine]]
             12 │ name = "lb"
                ·        ──┬─
                ·          ╰── again
             13 │ ssh = "-oProxyCommand=touch /tmp/x"
                ╰────

            Error:
              × "-oProxyCommand=touch /tmp/x" is no ssh destination
                ╭─[tercet.toml:13:7]
             12 │ name = "lb"
             13 │ ssh = "-oProxyCommand=touch /tmp/x"
                ·       ──────────────┬──────────────
                ·                     ╰── not a destination
             14 │ address = "203.0.113.11"
                ╰────
              help: write it like root@203.0.113.10

            Error:
              × 203.0.113.11 is not a private address
                ╭─[tercet.toml:14:11]
             13 │ ssh = "-oProxyCommand=touch /tmp/x"
             14 │ address = "203.0.113.11"
                ·           ───────┬──────
                ·                  ╰── not private
             15 │ tiers = ["application", "database"]
                ╰────
              help: the tiers talk over a private network: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16,
                    100.64.0.0/10 or fc00::/7

            Error:
              × two machines have the address "10.0.0.10"
               ╭─[tercet.toml:8:11]
             7 │ ssh = "root@203.0.113.10"
             8 │ address = "10.0.0.10"
               ·           ─────┬─────
               ·                ╰── first
             9 │ tiers = ["balancer", "balancer"]
               ╰────
                ╭─[tercet.toml:20:11]
             19 │ ssh = "root@203.0.113.12"
             20 │ address = "10.0.0.10"
                ·           ─────┬─────
                ·                ╰── again
             21 │ tiers = ["application"]
                ╰────
        "#]],
    );
    check(
        "[[machine]]\nname = \"one\"\ntiers = []\n",
        expect![[r#"
              × tercet.toml has 5 mistakes

            Error:
              × this machine has no ssh, address
               ╭─[tercet.toml:1:1]
             1 │ [[machine]]
               · ─────┬─────
               ·      ╰── incomplete
             2 │ name = "one"
               ╰────

            Error:
              × no machine carries the balancer
               ╭─[tercet.toml:1:1]
             1 │ [[machine]]
               · ─────┬─────
               ·      ╰── none up to here
             2 │ name = "one"
               ╰────
              help: add "balancer" to a machine's tiers

            Error:
              × no machine carries the application
               ╭─[tercet.toml:1:1]
             1 │ [[machine]]
               · ─────┬─────
               ·      ╰── none up to here
             2 │ name = "one"
               ╰────
              help: add "application" to a machine's tiers

            Error:
              × no machine carries the database
               ╭─[tercet.toml:1:1]
             1 │ [[machine]]
               · ─────┬─────
               ·      ╰── none up to here
             2 │ name = "one"
               ╰────
              help: add "database" to a machine's tiers, or name an existing one by url in [database]

            Error:
              × this machine carries no tier
               ╭─[tercet.toml:3:9]
             2 │ name = "one"
             3 │ tiers = []
               ·         ─┬
               ·          ╰── nothing
               ╰────
              help: one or more of balancer, application, database, backup, monitor
        "#]],
    );
    check(
        r#"
[database]
url = "@secrets/url"
[[machine]]
name = "all"
ssh = "all"
address = "10.0.0.10"
tiers = ["balancer", "application", "database"]
"#,
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × a machine carries the database, and url names another
               ╭─[tercet.toml:3:7]
             2 │ [database]
             3 │ url = "@secrets/url"
               ·       ───────┬──────
               ·              ╰── the other one
             4 │ [[machine]]
               ╰────
               ╭─[tercet.toml:8:37]
             7 │ address = "10.0.0.10"
             8 │ tiers = ["balancer", "application", "database"]
               ·                                     ─────┬────
               ·                                          ╰── tercet's own
               ╰────
              help: keep one of the two
        "#]],
    );
}

#[test]
fn domains_are_names_that_an_authority_can_reach() {
    check(
        r#"
[balancer]
domains = ["*.example.com", "10.0.0.1", "a.example", "a.example"]
acme = { directory = "zerossl", email = "shoppe" }
"#,
        expect![[r#"
              × tercet.toml has 4 mistakes

            Error:
              × balancer.domains can't be "*.example.com"
               ╭─[tercet.toml:3:12]
             2 │ [balancer]
             3 │ domains = ["*.example.com", "10.0.0.1", "a.example", "a.example"]
               ·            ───────┬───────
               ·                   ╰── not a domain name
             4 │ acme = { directory = "zerossl", email = "shoppe" }
               ╰────
              help: write it like shop.example.com: no wildcard, no IP address, no port, and bücher.example as
                    xn--bcher-kva.example

            Error:
              × balancer.domains can't be "10.0.0.1"
               ╭─[tercet.toml:3:29]
             2 │ [balancer]
             3 │ domains = ["*.example.com", "10.0.0.1", "a.example", "a.example"]
               ·                             ─────┬────
               ·                                  ╰── not a domain name
             4 │ acme = { directory = "zerossl", email = "shoppe" }
               ╰────
              help: write it like shop.example.com: no wildcard, no IP address, no port, and bücher.example as
                    xn--bcher-kva.example

            Error:
              × balancer.acme.directory needs an account at ZeroSSL
               ╭─[tercet.toml:4:22]
             3 │ domains = ["*.example.com", "10.0.0.1", "a.example", "a.example"]
             4 │ acme = { directory = "zerossl", email = "shoppe" }
               ·                      ────┬────
               ·                          ╰── without eab
               ╰────
              help: add eab = { kid = "…", hmac-key-file = "FILE" } with the credentials that ZeroSSL shows

            Error:
              × balancer.acme.email can't be "shoppe"
               ╭─[tercet.toml:4:41]
             3 │ domains = ["*.example.com", "10.0.0.1", "a.example", "a.example"]
             4 │ acme = { directory = "zerossl", email = "shoppe" }
               ·                                         ────┬───
               ·                                             ╰── not an email address
               ╰────
              help: write it like operator@example.com
        "#]],
    );
    check(
        "[balancer]\nlisten = [\"0.0.0.0:80\"]\ndomains = [\"a.example\", \"A.example\"]\nacme.directory = \"zerossl\"\n",
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × balancer.domains[1] is a.example again
               ╭─[tercet.toml:3:25]
             2 │ listen = ["0.0.0.0:80"]
             3 │ domains = ["a.example", "A.example"]
               ·                         ─────┬─────
               ·                              ╰── again
             4 │ acme.directory = "zerossl"
               ╰────
              help: remove one of the two

            Error:
              × balancer.acme.directory needs an account at ZeroSSL
               ╭─[tercet.toml:4:18]
             3 │ domains = ["a.example", "A.example"]
             4 │ acme.directory = "zerossl"
               ·                  ────┬────
               ·                      ╰── without eab
               ╰────
              help: add eab = { kid = "…", hmac-key-file = "FILE" } with the credentials that ZeroSSL shows
        "#]],
    );
    check(
        "[balancer]\ndomains = [\"a.example\"]\nacme.folder = \"tls\"\n",
        expect![[r#"
          × tercet.toml has 2 mistakes

        Error:
          × balancer.domains needs addresses that the certificate authority can reach, and the balancer
          │ listens on 127.0.0.1
           ╭─[tercet.toml:2:11]
         1 │ [balancer]
         2 │ domains = ["a.example"]
           ·           ──────┬──────
           ·                 ╰── for a public address
         3 │ acme.folder = *****
           ╰────
          help: add listen = ["0.0.0.0:80"] and tls-listen = ["0.0.0.0:443"], or [[machine]]s

        Error:
          × folder is set by tercet and can't be set in [balancer.acme]
           ╭─[tercet.toml:3:6]
         2 │ domains = ["a.example"]
         3 │ acme.folder = *****
           ·      ───┬──
           ·         ╰── set by tercet
           ╰────
          help: tercet has a folder for them
    "#]],
    );
}

#[test]
fn certificates_are_whole_and_what_is_about_tls_needs_one() {
    check(
        r#"
[balancer]
tls-listen = ["0.0.0.0:8443"]
redirect-to-https = true
hsts = "365d"
"#,
        expect![[r#"
              × tercet.toml has 3 mistakes

            Error:
              × tls-listen means nothing without a certificate
               ╭─[tercet.toml:3:14]
             2 │ [balancer]
             3 │ tls-listen = ["0.0.0.0:8443"]
               ·              ────────┬───────
               ·                      ╰── for TLS
             4 │ redirect-to-https = true
               ╰────
              help: add domains = ["shop.example.com"], or certificates = [{ certificate = "FILE", key =
                    "FILE" }]

            Error:
              × redirect-to-https means nothing without a certificate
               ╭─[tercet.toml:4:21]
             3 │ tls-listen = ["0.0.0.0:8443"]
             4 │ redirect-to-https = true
               ·                     ──┬─
               ·                       ╰── for TLS
             5 │ hsts = "365d"
               ╰────
              help: add domains = ["shop.example.com"], or certificates = [{ certificate = "FILE", key =
                    "FILE" }]

            Error:
              × hsts means nothing without a certificate
               ╭─[tercet.toml:5:8]
             4 │ redirect-to-https = true
             5 │ hsts = "365d"
               ·        ───┬──
               ·           ╰── for TLS
               ╰────
              help: add domains = ["shop.example.com"], or certificates = [{ certificate = "FILE", key =
                    "FILE" }]
        "#]],
    );
    check(
        r#"
[balancer]
listen = ["0.0.0.0:443"]
certificates = [{ certificate = "shop.crt" }, { certificate = "", key = "shop.key" }]
tls-listen = ["0.0.0.0:443", "443"]
hsts = "1 year"
"#,
        expect![[r#"
              × tercet.toml has 5 mistakes

            Error:
              × this certificate has no key
               ╭─[tercet.toml:4:17]
             3 │ listen = ["0.0.0.0:443"]
             4 │ certificates = [{ certificate = "shop.crt" }, { certificate = "", key = "shop.key" }]
               ·                 ──────────────┬─────────────
               ·                               ╰── incomplete
             5 │ tls-listen = ["0.0.0.0:443", "443"]
               ╰────
              help: write { certificate = "FILE", key = "FILE" }

            Error:
              × certificate names no file
               ╭─[tercet.toml:4:63]
             3 │ listen = ["0.0.0.0:443"]
             4 │ certificates = [{ certificate = "shop.crt" }, { certificate = "", key = "shop.key" }]
               ·                                                               ─┬
               ·                                                                ╰── empty
             5 │ tls-listen = ["0.0.0.0:443", "443"]
               ╰────

            Error:
              × the balancer can't listen on 0.0.0.0:443 twice
               ╭─[tercet.toml:5:15]
             4 │ certificates = [{ certificate = "shop.crt" }, { certificate = "", key = "shop.key" }]
             5 │ tls-listen = ["0.0.0.0:443", "443"]
               ·               ──────┬──────
               ·                     ╰── again
             6 │ hsts = "1 year"
               ╰────

            Error:
              × "443" is no address to listen on
               ╭─[tercet.toml:5:30]
             4 │ certificates = [{ certificate = "shop.crt" }, { certificate = "", key = "shop.key" }]
             5 │ tls-listen = ["0.0.0.0:443", "443"]
               ·                              ──┬──
               ·                                ╰── not IP:PORT
             6 │ hsts = "1 year"
               ╰────
              help: write it like 0.0.0.0:8080, or [::]:8080 for IPv6

            Error:
              × balancer.hsts can't be "1 year"
               ╭─[tercet.toml:6:8]
             5 │ tls-listen = ["0.0.0.0:443", "443"]
             6 │ hsts = "1 year"
               ·        ────┬───
               ·            ╰── a whole number and a unit
               ╰────
              help: write a duration like "250ms", "5s", "2m" or "1h"
        "#]],
    );
    check(
        "[balancer]\ncertificates = { certificate = 'a', key = 'b' }\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × balancer.certificates must be a list of tables, not a table
           ╭─[tercet.toml:2:16]
         1 │ [balancer]
         2 │ certificates = { certificate = 'a', key = 'b' }
           ·                ────────────────┬───────────────
           ·                                ╰── this is a table
           ╰────
          help: put it in brackets: [{ … }]
    "#]],
    );
    check(
        "[balancer]\ncertificates = [{ certificate = 'a', key = 'b' }]\ntls-listen = []\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × the balancer must listen on an address
           ╭─[tercet.toml:3:14]
         2 │ certificates = [{ certificate = 'a', key = 'b' }]
         3 │ tls-listen = []
           ·              ─┬
           ·               ╰── none
           ╰────
          help: leave the key out for 127.0.0.1:8443
    "#]],
    );
}

#[test]
fn recipients_are_public_keys_and_the_authority_a_fingerprint() {
    check(
        "[state]\nrecipients = ['age1one', 'ann', 'age1one']\nauthority = 'sha256:AB'\n",
        expect![[r#"
          × tercet.toml has 3 mistakes

        Error:
          × recipients has a text that is no public key
           ╭─[tercet.toml:2:26]
         1 │ [state]
         2 │ recipients = ['age1one', 'ann', 'age1one']
           ·                          ──┬──
           ·                            ╰── not a public key
         3 │ authority = 'sha256:AB'
           ╰────
          help: write what `tercet state identity` prints, age1…, or an ssh public key: ssh-ed25519 … or
                ssh-rsa …

        Error:
          × recipients names this key twice
           ╭─[tercet.toml:2:33]
         1 │ [state]
         2 │ recipients = ['age1one', 'ann', 'age1one']
           ·                                 ────┬────
           ·                                     ╰── again
         3 │ authority = 'sha256:AB'
           ╰────
          help: leave one of the two out

        Error:
          × authority is no fingerprint
           ╭─[tercet.toml:3:13]
         2 │ recipients = ['age1one', 'ann', 'age1one']
         3 │ authority = 'sha256:AB'
           ·             ─────┬─────
           ·                  ╰── not a fingerprint
           ╰────
          help: write sha256: and 64 lower case digits, as `tercet state` prints them
    "#]],
    );
}

#[test]
fn a_mistake_is_the_same_in_a_tiers_own_file() {
    for options in [
        "polcy = 1",
        "policy = \"hsah\"",
        "hash-on = \"client\"",
        "trusted-proxies = [\"10\"]",
        "health.ejection-time = \"2m\"",
        "limits.head = \"2MiB\"",
        "limits.target = \"64KiB\"",
        "retries.budget-percent = 101",
        "timeouts.idle = \"0s\"",
    ] {
        let own = format!("servers = ['127.0.0.1:1']\n{options}");
        let own = tercet_options::balancer::Config::parse(&own, "file").unwrap_err().lines();
        let origin = Origin { file: "file", folder: "shop" };
        let here = tercet_config::parse(&format!("[balancer]\n{options}"), origin).unwrap_err().lines();
        let here = here.replace("in [balancer]", "at the top of the file").replace("balancer.", "");
        assert_eq!(here, own);
    }
}

#[test]
fn options_that_only_a_tiers_own_file_has() {
    check(
        "[balancer]\nservers = []\nhealth.path = \"/up\"\n[api]\nurl-use-legacy-target-names = true\ndb-schemas = \"pg_catalog\"\n",
        expect![[r#"
              × tercet.toml has 4 mistakes

            Error:
              × servers is set by tercet and can't be set in [balancer]
               ╭─[tercet.toml:2:1]
             1 │ [balancer]
             2 │ servers = []
               · ───┬───
               ·    ╰── set by tercet
             3 │ health.path = *****
               ╰────
              help: servers in [application] is their number

            Error:
              × path is set by tercet and can't be set in [balancer.health]
               ╭─[tercet.toml:3:8]
             2 │ servers = []
             3 │ health.path = *****
               ·        ──┬─
               ·          ╰── set by tercet
             4 │ [api]
               ╰────
              help: health in [application] is the path of your own program

            Error:
              × url-use-legacy-target-names is set by tercet and can't be set in [api]
               ╭─[tercet.toml:5:1]
             4 │ [api]
             5 │ url-use-legacy-target-names = ****
               · ─────────────┬─────────────
               ·              ╰── set by tercet
             6 │ db-schemas = "pg_catalog"
               ╰────
              help: it is an option of `tercet api` alone

            Error:
              × api.db-schemas can't expose "pg_catalog"
               ╭─[tercet.toml:6:14]
             5 │ url-use-legacy-target-names = ****
             6 │ db-schemas = "pg_catalog"
               ·              ──────┬─────
               ·                    ╰── a system schema
               ╰────
              help: expose views in a schema of your own
        "#]],
    );
}

#[test]
fn backups_that_are_none() {
    check(
        r#"
[[machine]]
name = "all"
ssh = "all"
address = "10.0.0.1"
tiers = ["balancer", "application", "database", "backup"]
[backup]
full = "every $day"
keep = "4 months"
check = "never"
key = "@secrets/key"
"#,
        expect![[r#"
              × tercet.toml has 5 mistakes

            Error:
              × the backups would be lost with the database's machine
               ╭─[tercet.toml:6:49]
             5 │ address = "10.0.0.1"
             6 │ tiers = ["balancer", "application", "database", "backup"]
               ·                                                 ────┬───
               ·                                                     ╰── same machine
             7 │ [backup]
               ╰────
              help: give another machine the tier "backup", or use an object store: `to` in [backup]

            Error:
              × "every $day" is no calendar expression
               ╭─[tercet.toml:8:8]
             7 │ [backup]
             8 │ full = "every $day"
               ·        ──────┬─────
               ·              ╰── not a time
             9 │ keep = "4 months"
               ╰────
              help: write it as systemd.time(7) says: daily, "Sun 03:00", "*-*-* 03:00"

            Error:
              × "4 months" is no number of days or weeks
                ╭─[tercet.toml:9:8]
              8 │ full = "every $day"
              9 │ keep = "4 months"
                ·        ─────┬────
                ·             ╰── how long?
             10 │ check = "never"
                ╰────
              help: write "10 days" or "4 weeks"; at most 3650 days

            Error:
              × a backup that is never restored may not be one
                ╭─[tercet.toml:10:9]
              9 │ keep = "4 months"
             10 │ check = "never"
                ·         ───┬───
                ·            ╰── never
             11 │ key = "@secrets/key"
                ╰────
              help: name a time, or add allow-unchecked = true

            Error:
              × key is for an object store, and there is no `to`
                ╭─[tercet.toml:11:7]
             10 │ check = "never"
             11 │ key = "@secrets/key"
                ·       ───────┬──────
                ·              ╰── for to
                ╰────
              help: leave it out, or add to
        "#]],
    );
    check(
        "[backup]\nkeep = \"4 weeks\"\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × [backup] is for machines, and the file names none
           ╭─[tercet.toml:1:1]
         1 │ [backup]
           · ────┬───
           ·     ╰── for machines
         2 │ keep = "4 weeks"
           ╰────
          help: leave it out: `tercet backup` backs the database of `tercet up` up
    "#]],
    );
    check(
        r#"
[[machine]]
name = "all"
ssh = "all"
address = "10.0.0.1"
tiers = ["balancer", "application", "database"]
[backup]
to = "https://example.com/bucket"
key = ""
"#,
        expect![[r#"
              × tercet.toml has 3 mistakes

            Error:
              × the object store has no secret
               ╭─[tercet.toml:8:6]
             7 │ [backup]
             8 │ to = "https://example.com/bucket"
               ·      ──────────────┬─────────────
               ·                    ╰── not without
             9 │ key = **
               ╰────
              help: name a file that holds it: secret = "@secrets/s3-secret"

            Error:
              × "https://example.com/bucket" is no object store
               ╭─[tercet.toml:8:6]
             7 │ [backup]
             8 │ to = "https://example.com/bucket"
               ·      ──────────────┬─────────────
               ·                    ╰── not an object store
             9 │ key = **
               ╰────
              help: write it like s3://bucket/folder?endpoint=s3.example.com&region=eu-central-1

            Error:
              × key is empty
               ╭─[tercet.toml:9:7]
             8 │ to = "https://example.com/bucket"
             9 │ key = **
               ·       ─┬
               ·        ╰── empty
               ╰────
        "#]],
    );
}

#[test]
fn firewalls_that_lock_out() {
    let machine = "name = \"all\"\nssh = \"all\"\naddress = \"10.0.0.1\"\ntiers = [\"balancer\", \"application\", \"database\"]\n";
    check(
        &format!("[firewall]\nssh-from = []\n[[machine]]\n{machine}"),
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × no address could connect by ssh
           ╭─[tercet.toml:2:12]
         1 │ [firewall]
         2 │ ssh-from = []
           ·            ─┬
           ·             ╰── none
         3 │ [[machine]]
           ╰────
          help: leave it out for the address that you connect from, or name networks
    "#]],
    );
    check(
        &format!(
            "[firewall]\nssh-from = [\"203.0.113.0/24\", \"anywhere\", \"10.0.0.0/0\"]\n[[machine]]\n{machine}"
        ),
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × "anywhere" is no network
               ╭─[tercet.toml:2:31]
             1 │ [firewall]
             2 │ ssh-from = ["203.0.113.0/24", "anywhere", "10.0.0.0/0"]
               ·                               ─────┬────
               ·                                    ╰── not a network
             3 │ [[machine]]
               ╰────
              help: write it like 203.0.113.0/24 or 2001:db8::/32; or ["anywhere"] alone

            Error:
              × "10.0.0.0/0" is no network
               ╭─[tercet.toml:2:43]
             1 │ [firewall]
             2 │ ssh-from = ["203.0.113.0/24", "anywhere", "10.0.0.0/0"]
               ·                                           ──────┬─────
               ·                                                 ╰── not a network
             3 │ [[machine]]
               ╰────
              help: write it like 203.0.113.0/24 or 2001:db8::/32; or ["anywhere"] alone
        "#]],
    );
    let other = "name = \"two\"\nssh = \"two\"\naddress = \"fd00::2\"\ntiers = [\"application\"]\n";
    check(
        &format!("[[machine]]\n{machine}[[machine]]\n{other}"),
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × the machines have addresses of both IPv4 and IPv6
            ╭─[tercet.toml:4:11]
          3 │ ssh = "all"
          4 │ address = "10.0.0.1"
            ·           ─────┬────
            ·                ╰── the first
          5 │ tiers = ["balancer", "application", "database"]
          6 │ [[machine]]
          7 │ name = "two"
          8 │ ssh = "two"
          9 │ address = "fd00::2"
            ·           ────┬────
            ·               ╰── another family
         10 │ tiers = ["application"]
            ╰────
          help: write the private addresses of one family
    "#]],
    );
}

#[test]
fn what_surrounds_a_program_needs_one_and_one_machine() {
    check(
        "[application]\nmigrate = \"alembic upgrade head\"\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × migrate is for your own program, and there is none
           ╭─[tercet.toml:2:11]
         1 │ [application]
         2 │ migrate = "alembic upgrade head"
           ·           ───────────┬──────────
           ·                      ╰── for run
           ╰────
          help: add run, or leave this out
    "#]],
    );
    check(
        "[application]\nrun = \"./serve\"\nmigrate = \"sh '\"\nenv = { PORT = \"1\" }\nstart-timeout = \"soon\"\n",
        expect![[r#"
              × tercet.toml has 3 mistakes

            Error:
              × migrate can't be started: a quote is not closed
               ╭─[tercet.toml:3:11]
             2 │ run = "./serve"
             3 │ migrate = "sh '"
               ·           ───┬──
               ·              ╰── this command
             4 │ env = { PORT = *** }
               ╰────

            Error:
              × "PORT" can't be the name of an environment variable
               ╭─[tercet.toml:4:7]
             3 │ migrate = "sh '"
             4 │ env = { PORT = *** }
               ·       ───────┬──────
               ·              ╰── in here
             5 │ start-timeout = "soon"
               ╰────
              help: tercet sets it for each server: leave it out

            Error:
              × application.start-timeout can't be "soon"
               ╭─[tercet.toml:5:17]
             4 │ env = { PORT = *** }
             5 │ start-timeout = "soon"
               ·                 ───┬──
               ·                    ╰── a whole number and a unit
               ╰────
              help: write a duration like "250ms", "5s", "2m" or "1h"
        "#]],
    );
    check(
        "[application]\nrun = \"./serve\"\nenv-file = \"@app.env\"\nmigrate = \"./up\"\n[database]\nsupabase = true\n[[machine]]\nname = \"one\"\n\
         ssh = \"root@one\"\naddress = \"10.0.0.1\"\ntiers = [\"balancer\", \"application\", \"database\"]\n",
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × supabase is for tercet up so far, not for machines
               ╭─[tercet.toml:6:12]
             5 │ [database]
             6 │ supabase = true
               ·            ──┬─
               ·              ╰── for one machine
             7 │ [[machine]]
               ╰────
              help: create the schema auth in a migration
        "#]],
    );
    check(
        "[database]\nsupabase = true\nurl = \"postgres://a@b/c\"\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × supabase is for tercet's own PostgreSQL, and url names another
           ╭─[tercet.toml:2:12]
         1 │ [database]
         2 │ supabase = true
           ·            ──┬─
           ·              ╰── for its own
         3 │ url = ******************
           ·       ─────────┬────────
           ·                ╰── the other one
           ╰────
          help: keep one of the two
    "#]],
    );
}

#[test]
fn static_files_are_in_a_folder_of_their_own() {
    check(
        r#"
[balancer]
certificates = [{ certificate = "web/tls/shop.crt", key = "web/tls/shop.key" }]
route = [
    { path = "/a", files = "." },
    { path = "/b", files = "../b" },
    { path = "/c", files = "/var/www" },
    { path = "/d", files = "./web" },
    { path = "/e", files = "sql/x/.." },
    { path = "/f", files = "sql" },
    { path = "/g", files = "keys" },
    { path = "/h", files = ".tercet" },
    { path = "/i", files = "public", strip = true },
    { path = "/j", to = "shop" },
]

[database]
migrations = "sql/migrations"

[api]
jwt-secret = "@keys/token"
"#,
        expect![[r#"
              × tercet.toml has 9 mistakes

            Error:
              × balancer.route[0].files contains tercet.toml, which clients must not read
               ╭─[tercet.toml:5:28]
             4 │ route = [
             5 │     { path = "/a", files = "." },
               ·                            ─┬─
               ·                             ╰── this folder
             6 │     { path = "/b", files = "../b" },
               ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.route[1].files must be a folder in the project's folder
               ╭─[tercet.toml:6:28]
             5 │     { path = "/a", files = "." },
             6 │     { path = "/b", files = "../b" },
               ·                            ───┬──
               ·                               ╰── outside
             7 │     { path = "/c", files = "/var/www" },
               ╰────
              help: write it relative to tercet.toml, like public, and without ..

            Error:
              × balancer.route[2].files must be a folder in the project's folder
               ╭─[tercet.toml:7:28]
             6 │     { path = "/b", files = "../b" },
             7 │     { path = "/c", files = "/var/www" },
               ·                            ─────┬────
               ·                                 ╰── outside
             8 │     { path = "/d", files = "./web" },
               ╰────
              help: write it relative to tercet.toml, like public, and without ..

            Error:
              × balancer.route[3].files contains web/tls/shop.key, which clients must not read
               ╭─[tercet.toml:8:28]
             7 │     { path = "/c", files = "/var/www" },
             8 │     { path = "/d", files = "./web" },
               ·                            ───┬───
               ·                               ╰── this folder
             9 │     { path = "/e", files = "sql/x/.." },
               ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.route[4].files must be a folder in the project's folder
                ╭─[tercet.toml:9:28]
              8 │     { path = "/d", files = "./web" },
              9 │     { path = "/e", files = "sql/x/.." },
                ·                            ─────┬────
                ·                                 ╰── outside
             10 │     { path = "/f", files = "sql" },
                ╰────
              help: write it relative to tercet.toml, like public, and without ..

            Error:
              × balancer.route[5].files contains sql/migrations, which clients must not read
                ╭─[tercet.toml:10:28]
              9 │     { path = "/e", files = "sql/x/.." },
             10 │     { path = "/f", files = "sql" },
                ·                            ──┬──
                ·                              ╰── this folder
             11 │     { path = "/g", files = "keys" },
                ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.route[6].files contains keys/token, which clients must not read
                ╭─[tercet.toml:11:28]
             10 │     { path = "/f", files = "sql" },
             11 │     { path = "/g", files = "keys" },
                ·                            ───┬──
                ·                               ╰── this folder
             12 │     { path = "/h", files = ".tercet" },
                ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.route[7].files contains .tercet, which clients must not read
                ╭─[tercet.toml:12:28]
             11 │     { path = "/g", files = "keys" },
             12 │     { path = "/h", files = ".tercet" },
                ·                            ────┬────
                ·                                ╰── this folder
             13 │     { path = "/i", files = "public", strip = true },
                ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.route[9].to names no backend pool: shop
                ╭─[tercet.toml:14:25]
             13 │     { path = "/i", files = "public", strip = true },
             14 │     { path = "/j", to = "shop" },
                ·                         ───┬──
                ·                            ╰── unknown
             15 │ ]
                ╰────
              help: write "application"
        "#]],
    );
    check(
        "[balancer]\nroute = [{ files = \".tercet/run\" }, { path = \"/b\", files = \"sql/migrations/old\" }]\n\
         [database]\nmigrations = \"sql/migrations\"\n",
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × balancer.route[0].files is in .tercet, which clients must not read
               ╭─[tercet.toml:2:20]
             1 │ [balancer]
             2 │ route = [{ files = ".tercet/run" }, { path = "/b", files = "sql/migrations/old" }]
               ·                    ──────┬──────
               ·                          ╰── this folder
             3 │ [database]
               ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.route[1].files is in sql/migrations, which clients must not read
               ╭─[tercet.toml:2:60]
             1 │ [balancer]
             2 │ route = [{ files = ".tercet/run" }, { path = "/b", files = "sql/migrations/old" }]
               ·                                                            ──────────┬─────────
               ·                                                                      ╰── this folder
             3 │ [database]
               ╰────
              help: move the website to a folder of its own, like public
        "#]],
    );
}

#[test]
fn compression_and_access_of_routes() {
    check(
        r#"
[balancer]
compress = "of"
route = [
    { path = "/a", files = "public", compress = "on" },
    { path = "/b", compress = true },
    { path = "/c", allow = [], deny = ["10.0.0.0/33"] },
    { path = "/d", allow = ["10.1.0.0/16", "192.0.2.1"], deny = ["10.0.0.0/8"] },
    { path = "/e", basic-auth = { users = "@web/users", realm = "a \"b\"" } },
    { path = "/f", basic-auth = { user = "web/users" } },
    { path = "/g", files = "web", basic-auth = { users = "@web/users" } },
]

[balancer.compression]
codings = ["gzip", "br", "gzip", "deflate"]
gzip-level = 10
brotli-level = 11
"#,
        expect![[r#"
              × tercet.toml has 13 mistakes

            Error:
              × balancer.compress can't be "of"
               ╭─[tercet.toml:3:12]
             2 │ [balancer]
             3 │ compress = "of"
               ·            ──┬─
               ·              ╰── not one of the choices
             4 │ route = [
               ╰────
              help: did you mean "off"?

            Error:
              × balancer.route[0].compress has no effect with files
               ╭─[tercet.toml:5:49]
             4 │ route = [
             5 │     { path = "/a", files = "public", compress = "on" },
               ·                                                 ──┬─
               ·                                                   ╰── for responses of servers
             6 │     { path = "/b", compress = true },
               ╰────
              help: compress the files beforehand: FILE.br and FILE.gz beside FILE

            Error:
              × balancer.route.compress must be a string, not a boolean
               ╭─[tercet.toml:6:31]
             5 │     { path = "/a", files = "public", compress = "on" },
             6 │     { path = "/b", compress = true },
               ·                               ──┬─
               ·                                 ╰── this is a boolean
             7 │     { path = "/c", allow = [], deny = ["10.0.0.0/33"] },
               ╰────
              help: write "on"

            Error:
              × balancer.route.allow is empty
               ╭─[tercet.toml:7:28]
             6 │     { path = "/b", compress = true },
             7 │     { path = "/c", allow = [], deny = ["10.0.0.0/33"] },
               ·                            ─┬
               ·                             ╰── empty
             8 │     { path = "/d", allow = ["10.1.0.0/16", "192.0.2.1"], deny = ["10.0.0.0/8"] },
               ╰────
              help: for example: ["10.0.0.0/8"]

            Error:
              × balancer.route.deny can't be "10.0.0.0/33"
               ╭─[tercet.toml:7:40]
             6 │     { path = "/b", compress = true },
             7 │     { path = "/c", allow = [], deny = ["10.0.0.0/33"] },
               ·                                        ──────┬──────
               ·                                              ╰── not a network
             8 │     { path = "/d", allow = ["10.1.0.0/16", "192.0.2.1"], deny = ["10.0.0.0/8"] },
               ╰────
              help: write it like 10.0.0.0/8

            Error:
              × balancer.route[3].allow[0] is in the network 10.0.0.0/8 of deny, which precedes
               ╭─[tercet.toml:8:29]
             7 │     { path = "/c", allow = [], deny = ["10.0.0.0/33"] },
             8 │     { path = "/d", allow = ["10.1.0.0/16", "192.0.2.1"], deny = ["10.0.0.0/8"] },
               ·                             ──────┬──────
               ·                                   ╰── denied
             9 │     { path = "/e", basic-auth = { users = "@web/users", realm = "a \"b\"" } },
               ╰────
              help: remove it from one of the two

            Error:
              × balancer.route.basic-auth.realm can't be "a \"b\""
                ╭─[tercet.toml:9:65]
              8 │     { path = "/d", allow = ["10.1.0.0/16", "192.0.2.1"], deny = ["10.0.0.0/8"] },
              9 │     { path = "/e", basic-auth = { users = "@web/users", realm = "a \"b\"" } },
                ·                                                                 ────┬────
                ·                                                                     ╰── not a realm
             10 │     { path = "/f", basic-auth = { user = *********** } },
                ╰────
              help: use printable ASCII characters other than " and \

            Error:
              × missing key users in [balancer.route.basic-auth]
                ╭─[tercet.toml:10:33]
              9 │     { path = "/e", basic-auth = { users = "@web/users", realm = "a \"b\"" } },
             10 │     { path = "/f", basic-auth = { user = *********** } },
                ·                                 ───────────┬──────────
                ·                                            ╰── no users
             11 │     { path = "/g", files = "web", basic-auth = { users = "@web/users" } },
                ╰────
              help: for example: users = "@secrets/users"

            Error:
              × unknown key user in [balancer.route.basic-auth]
                ╭─[tercet.toml:10:35]
              9 │     { path = "/e", basic-auth = { users = "@web/users", realm = "a \"b\"" } },
             10 │     { path = "/f", basic-auth = { user = *********** } },
                ·                                   ──┬─
                ·                                     ╰── unknown
             11 │     { path = "/g", files = "web", basic-auth = { users = "@web/users" } },
                ╰────
              help: did you mean users?

            Error:
              × balancer.route[6].files contains web/users, which clients must not read
                ╭─[tercet.toml:11:28]
             10 │     { path = "/f", basic-auth = { user = *********** } },
             11 │     { path = "/g", files = "web", basic-auth = { users = "@web/users" } },
                ·                            ──┬──
                ·                              ╰── this folder
             12 │ ]
                ╰────
              help: move the website to a folder of its own, like public

            Error:
              × balancer.compression.codings can't be "deflate"
                ╭─[tercet.toml:15:34]
             14 │ [balancer.compression]
             15 │ codings = ["gzip", "br", "gzip", "deflate"]
                ·                                  ────┬────
                ·                                      ╰── not one of the choices
             16 │ gzip-level = 10
                ╰────
              help: choose one of br, zstd, gzip

            Error:
              × balancer.compression.gzip-level is out of range
                ╭─[tercet.toml:16:14]
             15 │ codings = ["gzip", "br", "gzip", "deflate"]
             16 │ gzip-level = 10
                ·              ─┬
                ·               ╰── out of range
             17 │ brotli-level = 11
                ╰────
              help: from 1 to 9

            Error:
              × balancer.compression.brotli-level is out of range
                ╭─[tercet.toml:17:16]
             16 │ gzip-level = 10
             17 │ brotli-level = 11
                ·                ─┬
                ·                 ╰── out of range
                ╰────
              help: from 0 to 6
        "#]],
    );
    check(
        "[balancer]\ncompression.zstd-level = 1\n",
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × balancer.compression has no effect without compress
               ╭─[tercet.toml:2:1]
             1 │ [balancer]
             2 │ compression.zstd-level = 1
               · ─────┬─────
               ·      ╰── for compressed responses
               ╰────
              help: set compress = "on", here or in a route; or leave it out
        "#]],
    );
}

#[test]
fn error_pages_and_maintenance() {
    check(
        r#"
[balancer.error-pages]
folder = "../errors"
replace-server = true

[balancer.maintenance]
file = "off"
allow = ["office"]
retry-after = 300
"#,
        expect![[r#"
              × tercet.toml has 5 mistakes

            Error:
              × balancer.error-pages.folder must be a folder in the project's folder
               ╭─[tercet.toml:3:10]
             2 │ [balancer.error-pages]
             3 │ folder = "../errors"
               ·          ─────┬─────
               ·               ╰── outside
             4 │ replace-server = ****
               ╰────
              help: write it relative to tercet.toml, like public, and without ..

            Error:
              × unknown key replace-server in [balancer.error-pages]
               ╭─[tercet.toml:4:1]
             3 │ folder = "../errors"
             4 │ replace-server = ****
               · ───────┬──────
               ·        ╰── unknown
             5 │
               ╰────
              help: did you mean replace-servers?

            Error:
              × file is set by tercet and can't be set in [balancer.maintenance]
               ╭─[tercet.toml:7:1]
             6 │ [balancer.maintenance]
             7 │ file = *****
               · ──┬─
               ·   ╰── set by tercet
             8 │ allow = ["office"]
               ╰────
              help: `tercet maintenance on` and `off` turn it on and off

            Error:
              × balancer.maintenance.allow can't be "office"
               ╭─[tercet.toml:8:10]
             7 │ file = *****
             8 │ allow = ["office"]
               ·          ────┬───
               ·              ╰── not a network
             9 │ retry-after = 300
               ╰────
              help: write it like 10.0.0.0/8

            Error:
              × balancer.maintenance.retry-after must be a string, not an integer
               ╭─[tercet.toml:9:15]
             8 │ allow = ["office"]
             9 │ retry-after = 300
               ·               ─┬─
               ·                ╰── this is an integer
               ╰────
              help: write a duration like "250ms", "5s", "2m" or "1h"
        "#]],
    );
    check(
        "[balancer]\nerror-pages.replace-servers = true\n",
        expect![[r#"
              × tercet.toml has a mistake

            Error:
              × balancer.error-pages.replace-servers has no effect without pages
               ╭─[tercet.toml:2:31]
             1 │ [balancer]
             2 │ error-pages.replace-servers = true
               ·                               ──┬─
               ·                                 ╰── without folder
               ╰────
              help: add folder = "errors" with pages such as 404.html, or leave it out
        "#]],
    );
}

#[test]
fn egress_that_says_nothing() {
    check(
        "[application]\negress = [\"*:443\"]\n[database]\negress = [\"db.example.com:5432\"]\n",
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × egress is for your own program, and there is none
               ╭─[tercet.toml:2:10]
             1 │ [application]
             2 │ egress = ["*:443"]
               ·          ────┬────
               ·              ╰── for run
             3 │ [database]
               ╰────
              help: leave it out: the data API connects to the database, and to what its options name

            Error:
              × "db.example.com:5432" is no destination
               ╭─[tercet.toml:4:11]
             3 │ [database]
             4 │ egress = ["db.example.com:5432"]
               ·           ──────────┬──────────
               ·                     ╰── not a destination
               ╰────
              help: write a network, a port or both: 10.0.0.0/24, "*:443", 10.0.0.30:6379; names have changing
                    addresses
        "#]],
    );
}

#[test]
fn alerts_that_nobody_would_get() {
    check(
        r#"
[[machine]]
name = "all"
ssh = "all"
address = "10.0.0.1"
tiers = ["balancer", "application", "database"]
[alerts]
to = ["pager:hush", "webhook:hush", "mail:ops", "mail:ops@example.com", "ntfy:@"]
heartbeat = "ftp://hush"
"#,
        expect![[r#"
              × tercet.toml has 7 mistakes

            Error:
              × [alerts] is for a monitor, and no machine carries it
               ╭─[tercet.toml:7:1]
             6 │ tiers = ["balancer", "application", "database"]
             7 │ [alerts]
               · ────┬───
               ·     ╰── sent by the monitor
             8 │ to = [************, **************, **********, **********************, ********]
               ╰────
              help: give a machine the tier "monitor", or leave this out

            Error:
              × this is no receiver of alerts
               ╭─[tercet.toml:8:7]
             7 │ [alerts]
             8 │ to = [************, **************, **********, **********************, ********]
               ·       ──────┬─────
               ·             ╰── neither webhook, ntfy nor mail
             9 │ heartbeat = ************
               ╰────
              help: write webhook:URL, ntfy:URL or mail:ADDRESS

            Error:
              × this is no URL
               ╭─[tercet.toml:8:21]
             7 │ [alerts]
             8 │ to = [************, **************, **********, **********************, ********]
               ·                     ───────┬──────
               ·                            ╰── not a URL
             9 │ heartbeat = ************
               ╰────
              help: write https://… or http://…, or "@path" of a file that holds it

            Error:
              × "ops" is no mail address
               ╭─[tercet.toml:8:37]
             7 │ [alerts]
             8 │ to = [************, **************, **********, **********************, ********]
               ·                                     ─────┬────
               ·                                          ╰── not an address
             9 │ heartbeat = ************
               ╰────
              help: write it like mail:ops@example.com

            Error:
              × a mail address needs a mail server
               ╭─[tercet.toml:8:49]
             7 │ [alerts]
             8 │ to = [************, **************, **********, **********************, ********]
               ·                                                 ───────────┬──────────
               ·                                                            ╰── by which server?
             9 │ heartbeat = ************
               ╰────
              help: name a file that holds its URL: smtp = "@secrets/smtp"

            Error:
              × this is no URL
               ╭─[tercet.toml:8:73]
             7 │ [alerts]
             8 │ to = [************, **************, **********, **********************, ********]
               ·                                                                         ────┬───
               ·                                                                             ╰── not a URL
             9 │ heartbeat = ************
               ╰────
              help: write https://… or http://…, or "@path" of a file that holds it

            Error:
              × this is no URL
               ╭─[tercet.toml:9:13]
             8 │ to = [************, **************, **********, **********************, ********]
             9 │ heartbeat = ************
               ·             ──────┬─────
               ·                   ╰── not a URL
               ╰────
              help: write https://… or http://…, or "@path" of a file that holds it
        "#]],
    );
    check(
        r#"
[[machine]]
name = "one"
ssh = "one"
address = "10.0.0.1"
tiers = ["balancer", "application", "database", "monitor"]
[[machine]]
name = "two"
ssh = "two"
address = "10.0.0.2"
tiers = ["monitor"]
[alerts]
to = ["ntfy:https://ntfy.sh/shop", "webhook:@secrets/hook"]
smtp = "smtps://u:p@mail.example.com"
"#,
        expect![[r#"
              × tercet.toml has 2 mistakes

            Error:
              × only one machine can carry the monitor
                ╭─[tercet.toml:6:49]
              5 │ address = "10.0.0.1"
              6 │ tiers = ["balancer", "application", "database", "monitor"]
                ·                                                 ────┬────
                ·                                                     ╰── first
              7 │ [[machine]]
              8 │ name = "two"
              9 │ ssh = "two"
             10 │ address = "10.0.0.2"
             11 │ tiers = ["monitor"]
                ·          ────┬────
                ·              ╰── again
             12 │ [alerts]
                ╰────

            Error:
              × smtp is for mail, and no receiver is an address
                ╭─[tercet.toml:14:8]
             13 │ to = [***************************, ***********************]
             14 │ smtp = ******************************
                ·        ───────────────┬──────────────
                ·                       ╰── for mail
                ╰────
              help: add "mail:ADDRESS" to `to`, or leave this out
        "#]],
    );
}

#[test]
fn traces_go_to_a_collector() {
    check(
        "[monitoring]\notlp = \"collector:4318\"\notlp-sample = \"2\"\notlp-slow = \"1\"\n[balancer.otlp]\nsample = \"1%\"\n",
        expect![[r#"
              × tercet.toml has 4 mistakes

            Error:
              × monitoring.otlp can't be "collector:4318"
               ╭─[tercet.toml:2:8]
             1 │ [monitoring]
             2 │ otlp = "collector:4318"
               ·        ────────┬───────
               ·                ╰── not the URL of a collector
             3 │ otlp-sample = "2"
               ╰────
              help: write it like "http://collector:4318": scheme, host, port and path, without a user or a
                    query

            Error:
              × monitoring.otlp-sample can't be "2"
               ╭─[tercet.toml:3:15]
             2 │ otlp = "collector:4318"
             3 │ otlp-sample = "2"
               ·               ─┬─
               ·                ╰── not a percentage
             4 │ otlp-slow = "1"
               ╰────
              help: write it like "1%" or "0.5%", at most "100%"

            Error:
              × monitoring.otlp-slow can't be "1"
               ╭─[tercet.toml:4:13]
             3 │ otlp-sample = "2"
             4 │ otlp-slow = "1"
               ·             ─┬─
               ·              ╰── a whole number and a unit
             5 │ [balancer.otlp]
               ╰────
              help: write a duration like "250ms", "5s", "2m" or "1h"

            Error:
              × otlp is set by tercet and can't be set in [balancer]
               ╭─[tercet.toml:5:11]
             4 │ otlp-slow = "1"
             5 │ [balancer.otlp]
               ·           ──┬─
               ·             ╰── set by tercet
             6 │ sample = ****
               ╰────
              help: otlp in [monitoring] is for all tiers
        "#]],
    );
    check(
        "[monitoring]\notlp-sample = \"2%\"\notlp-slow = \"1s\"\n",
        expect![[r#"
          × tercet.toml has 2 mistakes

        Error:
          × otlp-sample is for traces, and no collector is named
           ╭─[tercet.toml:2:15]
         1 │ [monitoring]
         2 │ otlp-sample = "2%"
           ·               ──┬─
           ·                 ╰── for otlp
         3 │ otlp-slow = "1s"
           ╰────
          help: add otlp = "http://COLLECTOR:4318", or leave this out

        Error:
          × otlp-slow is for traces, and no collector is named
           ╭─[tercet.toml:3:13]
         2 │ otlp-sample = "2%"
         3 │ otlp-slow = "1s"
           ·             ──┬─
           ·               ╰── for otlp
           ╰────
          help: add otlp = "http://COLLECTOR:4318", or leave this out
    "#]],
    );
}
