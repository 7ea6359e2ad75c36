//! How many application servers a release replaces at the same time.

use std::str::FromStr;

/// A number of servers, or a share of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// This many.
    Servers(u16),
    /// This many percent, rounded down.
    Percent(u16),
}

/// A text that is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARollout;

impl Default for Rollout {
    fn default() -> Self {
        Self::Servers(1)
    }
}

impl Rollout {
    /// The number of servers of `count`, at least one.
    pub fn servers_of(self, count: usize) -> usize {
        let servers = match self {
            Self::Servers(servers) => servers.into(),
            Self::Percent(percent) => count * usize::from(percent) / 100,
        };
        servers.max(1)
    }
}

impl FromStr for Rollout {
    type Err = NotARollout;

    /// Parses `3` or `25%`.
    fn from_str(text: &str) -> Result<Self, NotARollout> {
        let (digits, percent) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
        match digits.parse() {
            Ok(number @ 1..=100) if percent => Ok(Self::Percent(number)),
            Ok(number @ 1..) if !percent => Ok(Self::Servers(number)),
            _ => Err(NotARollout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_a_number_or_a_share() {
        for (text, count, servers) in
            [("1", 16, 1), ("3", 16, 3), ("25%", 16, 4), ("25%", 3, 1), ("30%", 16, 4), ("100%", 2, 2)]
        {
            assert_eq!(text.parse::<Rollout>().unwrap().servers_of(count), servers, "{text} of {count}");
        }
        for text in ["", "0", "0%", "101%", "%", "all", "-1", "1.5"] {
            assert_eq!(text.parse::<Rollout>(), Err(NotARollout), "{text}");
        }
    }
}
