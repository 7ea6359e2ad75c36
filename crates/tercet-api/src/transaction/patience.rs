//! How long a statement may run, as PostgreSQL will have it: `statement_timeout` of the routine, the role, or the session.

use std::time::Duration;

use super::Context;

/// The setting.
const NAME: &str = "statement_timeout";

/// How long the statements of a transaction may take before PostgreSQL ends them; `None` for ever.
pub(super) fn of(context: Context<'_>) -> Option<Duration> {
    let Context { config, identity, routine, .. } = context;
    let hoisted = || config.db_hoisted_tx_settings.iter().any(|name| name == NAME);
    let of_routine = routine.and_then(|routine| {
        let setting = routine.settings.iter().find(|(name, _)| &**name == NAME)?;
        hoisted().then_some(&*setting.1)
    });
    let of_role = || {
        let settings = config.role_settings.get(&identity.role)?;
        settings.settings.iter().find(|(name, _)| name == NAME).map(|(_, value)| value.as_str())
    };
    let limit = match of_routine.or_else(of_role) {
        Some(text) => parse(text)?,
        None => config.session_statement_timeout,
    };
    // The function that runs before each request is a statement as well.
    let statements = 1 + u32::from(config.db_pre_request.is_some());
    (!limit.is_zero()).then(|| limit.saturating_mul(statements))
}

/// A value with its unit, milliseconds where there is none
/// (<https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES>).
fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..end].trim().parse().ok()?;
    let unit = match text[end..].trim() {
        "us" => 1e-6,
        "" | "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postgresql_reads() {
        for (text, milliseconds) in [
            ("0", 0),
            ("250", 250),
            ("20ms", 20),
            (" 5 s ", 5000),
            ("1.5min", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1", "1 week", "ten"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
