//! A pod's addresses in records: a list, or the one address that records had when pods had one family.

use std::net::IpAddr;

use daymark_model::PerFamily;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(IpAddr),
    List(Vec<IpAddr>),
}

pub fn serialize<S: Serializer>(ips: &PerFamily<IpAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ips.iter())
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PerFamily<IpAddr>, D::Error> {
    let list = match Written::deserialize(deserializer)? {
        Written::One(ip) => vec![ip],
        Written::List(list) => list,
    };
    PerFamily::from_list(list.iter().copied())
        .ok_or_else(|| D::Error::custom(format!("addresses {list:?} are not one per family")))
}

#[cfg(test)]
mod tests {
    use crate::runtime::PodLink;

    #[test]
    fn records_with_one_address_and_with_a_list_are_read() {
        let read = |text: &str| serde_json::from_str::<PodLink>(text);
        let old = read(r#"{"name": "dm1", "ifindex": 7, "ip": "10.244.1.2"}"#).expect("an older record");
        assert_eq!(old.ips.primary().to_string(), "10.244.1.2");
        let both = read(r#"{"name": "dm1", "ifindex": 7, "ips": ["fd00::2", "10.244.1.2"]}"#).expect("two");
        assert_eq!(read(&serde_json::to_string(&both).expect("text")).expect("the same"), both);
        assert!(read(r#"{"name": "dm1", "ifindex": 7, "ips": ["10.0.0.1", "10.0.0.2"]}"#).is_err());
    }
}
