//! Entries that may be written in more than one way: an address or a table, a word or a name.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::{AccessLogTo, Certificate, HashOn, Listen, Server, duration};

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Table {
            address: SocketAddr,
            #[serde(default)]
            certificates: Vec<Certificate>,
            #[serde(default)]
            proxy_protocol: bool,
            #[serde(default)]
            redirect_to_https: bool,
            #[serde(default, with = "duration::optional")]
            hsts: Option<Duration>,
        }
        Ok(match deserializer.deserialize_any(AddressOr(PhantomData::<Table>))? {
            Entry::Address(address) => Self::on(address),
            Entry::Table(Table { address, certificates, proxy_protocol, redirect_to_https, hsts }) => {
                Self { address, certificates, proxy_protocol, redirect_to_https, hsts }
            }
        })
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Table {
            name: Option<String>,
            address: SocketAddr,
            health_address: Option<SocketAddr>,
            weight: Option<u16>,
            #[serde(default)]
            max_connections: u32,
            pipeline: Option<u16>,
        }
        Ok(match deserializer.deserialize_any(AddressOr(PhantomData::<Table>))? {
            Entry::Address(address) => Self::new(address.to_string(), address),
            Entry::Table(Table { name, address, health_address, weight, max_connections, pipeline }) => {
                Self {
                    name: name.unwrap_or_else(|| address.to_string()),
                    address,
                    health_address,
                    weight: weight.unwrap_or(1),
                    max_connections,
                    pipeline: pipeline.unwrap_or(1),
                }
            }
        })
    }
}

/// An entry that may be written as an address alone, or as a table of type `T`.
enum Entry<T> {
    Address(SocketAddr),
    Table(T),
}

struct AddressOr<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for AddressOr<T> {
    type Value = Entry<T>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an IP address with a port, or a table with an `address`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text.parse() {
            Ok(address) => Ok(Entry::Address(address)),
            Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Entry::Table)
    }
}

impl<'de> Deserialize<'de> for HashOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "client" => Ok(Self::Client),
            _ if crate::http1::is_token(name.as_bytes()) => Ok(Self::Header(name)),
            _ => {
                Err(de::Error::invalid_value(de::Unexpected::Str(&name), &"`client` or the name of a header"))
            }
        }
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

impl<'de> Deserialize<'de> for AccessLogTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "stdout" => Self::Stdout,
            "off" => Self::Off,
            path => Self::File(PathBuf::from(path)),
        })
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
