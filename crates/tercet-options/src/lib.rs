//! The options of the tiers. An option is declared here once: its name, type, default, range and documentation.
//!
//! `tercet.toml`, each tier's own configuration file, the JSON Schema and the reference pages are made from the
//! declarations. Pure: this crate opens no file, no socket and no environment variable. It does not know what a tier does
//! with an option.
//!
//! A declaration is a field of a struct in `options!`; the name is the field's, with `-` for `_`.
//! What serde and JSON Schema have no word for is a keyword of the schema that starts with `x-`, see [`schema`].

/// Declares a table of options, each with its default: `name: Type = default`.
macro_rules! options {
    ($(#[$about:meta])* pub struct $table:ident {
        $($(#[$option:meta])* $name:ident: $type:ty = $default:expr,)*
    }) => {
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        $(#[$about])*
        pub struct $table {
            $($(#[$option])* pub $name: $type,)*
        }

        impl Default for $table {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }
    };
}

pub mod api;
mod authority;
pub mod balancer;
mod diagnostic;
pub mod document;
mod file_mode;
mod format;
mod list;
mod located;
pub mod otlp;
mod quantity;
pub mod reference;
pub mod schema;
mod secret;
mod server_address;
mod share;
pub mod web_url;

pub use self::diagnostic::{Added, Mistake, Mistakes};
pub use self::document::{Section, Spans};
pub use self::file_mode::FileMode;
pub use self::list::List;
pub use self::located::Located;
pub use self::quantity::{Duration, Seconds, Size, Timeout};
pub use self::secret::Secret;
pub use self::share::Share;
