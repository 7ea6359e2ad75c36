//! The `statement_timeout` that PostgreSQL applies to a request: the routine's, the role's, or the session's.

use std::time::Duration;

use super::Context;

/// The setting.
const NAME: &str = "statement_timeout";

/// The timeout of the whole transaction; `None` if there is none.
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
    // The pre-request function is another statement.
    let statements = 1 + u32::from(config.db_pre_request.is_some());
    (!limit.is_zero()).then(|| limit.saturating_mul(statements))
}

/// Parses a value with its unit; milliseconds without one
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
    fn parses_units_like_postgresql() {
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
