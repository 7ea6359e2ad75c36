//! Project and machine names, from which the names of databases, roles, folders and units are made.

/// The maximum length of a name: `NAME_owner` must be shorter than PostgreSQL's maximum of 63 bytes.
const LONGEST: usize = 40;

/// Names of databases that every cluster has.
const TAKEN: [&str; 3] = ["postgres", "template0", "template1"];

/// The syntax of a name, for messages.
pub(super) const RULE: &str = "lower case letters, digits, _ and -, a letter first, at most 40";

/// Whether a name follows [`RULE`].
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
}

/// Whether a project cannot have the name, because its database could not.
pub(super) fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name)
}

/// Makes a project's name from a folder's name.
pub fn from_folder(folder: &str) -> String {
    let lower = folder.to_lowercase();
    let kept =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' });
    let name: String = kept.skip_while(|c| !c.is_ascii_lowercase()).take(LONGEST).collect();
    if name.is_empty() {
        "tercet".to_owned()
    } else if is_taken(&name) {
        format!("{name}_project")
    } else {
        name
    }
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
            ("postgres", "postgres_project"),
        ] {
            assert_eq!(from_folder(folder), name);
            assert!(is_name(name));
        }
        assert!(is_name(&from_folder(&"long".repeat(100))));
    }
}
