//! The formats of strings that Kubernetes knows in schemas.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const KNOWN: [&str; 32] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "date-time",
    "int32",
    "int64",
    "float",
    "double",
    "k8s-short-name",
    "k8s-long-name",
    "binary",
];

/// Whether Kubernetes knows the format; a definition with another one is warned of.
pub fn is_known(format: &str) -> bool {
    format.is_empty() || KNOWN.contains(&format)
}

/// Whether a string has the format; of formats that are not checked here every string has it.
pub fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "byte" => STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid::Uuid::try_parse(text).is_ok(),
        "mac" => {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            let byte = |part: &&str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
            matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(byte)
        }
        "email" => text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty()),
        "uri" => text.parse::<http::Uri>().is_ok(),
        "hostname" => {
            let label = |part: &str| {
                (1..=63).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
        }
        "k8s-short-name" => crate::kinds::format::dns1123_label(text).is_empty(),
        "k8s-long-name" => crate::kinds::format::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}
