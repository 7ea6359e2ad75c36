//! Options that may be written in more than one way: an address or a table, a word or a name.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::{AccessLogTo, HashOn, Listen, Server, ServerAddress};
use crate::format;

/// An entry of a list that may be written as its address alone.
pub trait Entry {
    /// The address.
    type Address;
    /// Its format in the schema.
    const FORMAT: &'static str;
}

impl Entry for Listen {
    type Address = SocketAddr;
    const FORMAT: &'static str = "address";
}

impl Entry for Server {
    type Address = ServerAddress;
    const FORMAT: &'static str = "server address";
}

/// An entry of type `T`, or only its address.
#[derive(Debug, Deserialize)]
#[serde(untagged, bound = "T: Deserialize<'de>, T::Address: Deserialize<'de>")]
pub enum EntryOrAddress<T: Entry> {
    /// The address.
    Address(T::Address),
    /// All options of the entry.
    Entry(T),
}

impl From<EntryOrAddress<Self>> for Listen {
    fn from(entry: EntryOrAddress<Self>) -> Self {
        match entry {
            EntryOrAddress::Address(address) => Self::on(address),
            EntryOrAddress::Entry(listen) => listen,
        }
    }
}

impl From<EntryOrAddress<Self>> for Server {
    fn from(entry: EntryOrAddress<Self>) -> Self {
        match entry {
            EntryOrAddress::Address(address) => Self::new(address.server_name(), address),
            EntryOrAddress::Entry(server) if server.name.is_empty() => {
                Self { name: server.address.server_name(), ..server }
            }
            EntryOrAddress::Entry(server) => server,
        }
    }
}

/// Reads a list whose entries may be addresses.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Entry<Address: Deserialize<'de>> + Deserialize<'de> + From<EntryOrAddress<T>>,
{
    let entries = Vec::<EntryOrAddress<T>>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(T::from).collect())
}

impl<T: JsonSchema + Entry> JsonSchema for EntryOrAddress<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = generator.subschema_for::<T>();
        json_schema!({"anyOf": [format::schema(T::FORMAT), entry]})
    }
}

/// A network in the schema.
pub(super) struct Network;

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        format::schema("network")
    }
}

/// A domain name in the schema.
pub(super) struct Domain;

impl JsonSchema for Domain {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Domain".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        format::schema("domain name")
    }
}

/// Reads domain names, in lower case: they are compared without case (RFC 4343).
pub(super) fn domains<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    Ok(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
}

/// Reads the name of a file, which may begin with `@`.
pub(super) fn named_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(PathBuf::from(text.strip_prefix('@').unwrap_or(&text)))
}

/// Reads networks; an address alone is the network of that address.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map(unmapped);
        network.map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"a network"))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(network).collect()
}

/// The IPv4 network of one that is written in the form for IPv6, `::ffff:10.0.0.0/104`: clients' addresses are compared in their
/// form for IPv4, which no network of IPv6 contains.
fn unmapped(network: IpNet) -> IpNet {
    let length = network.prefix_len().checked_sub(96);
    match (network.network().to_canonical(), length) {
        (address @ IpAddr::V4(_), Some(length)) if matches!(network, IpNet::V6(_)) => {
            IpNet::new(address, length).unwrap_or(network)
        }
        _ => network,
    }
}

impl From<String> for HashOn {
    fn from(name: String) -> Self {
        if name == "client" { Self::Client } else { Self::Header(name) }
    }
}

impl From<HashOn> for String {
    fn from(hash_on: HashOn) -> Self {
        match hash_on {
            HashOn::Client => "client".to_owned(),
            HashOn::Header(name) => name,
        }
    }
}

impl From<PathBuf> for AccessLogTo {
    fn from(path: PathBuf) -> Self {
        match path.to_str() {
            Some("stdout") => Self::Stdout,
            Some("off") => Self::Off,
            _ => Self::File(path),
        }
    }
}

impl From<AccessLogTo> for PathBuf {
    fn from(to: AccessLogTo) -> Self {
        match to {
            AccessLogTo::Stdout => Self::from("stdout"),
            AccessLogTo::Off => Self::from("off"),
            AccessLogTo::File(path) => path,
        }
    }
}
