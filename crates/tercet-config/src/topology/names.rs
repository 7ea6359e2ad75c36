//! Names that become names elsewhere: of a database, a role, a folder, a unit.

/// The longest a name may be: `NAME_owner` must fit PostgreSQL's 63 bytes with room to spare.
const LONGEST: usize = 40;

/// What a name must look like, in words.
pub(super) const RULE: &str = "lower case letters, digits, _ and -, a letter first, at most 40";

/// Whether a name is as [`RULE`] says.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
}

/// A folder's name made into a project's.
pub(super) fn from_folder(folder: &str) -> String {
    let lower = folder.to_lowercase();
    let kept =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' });
    let name: String = kept.skip_while(|c| !c.is_ascii_lowercase()).take(LONGEST).collect();
    if name.is_empty() { "tercet".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_gives_a_name() {
        for (folder, name) in [
            ("atlas", "atlas"),
            ("My Shop", "my_shop"),
            ("2024-books", "books"),
            ("书店", "tercet"),
            ("", "tercet"),
        ] {
            assert_eq!(from_folder(folder), name);
            assert!(is_name(name));
        }
        assert!(is_name(&from_folder(&"long".repeat(100))));
    }
}
