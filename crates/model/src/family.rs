//! One value per IP family, in the order in which a cluster names its families.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::AddressFamily;

/// What belongs to one IP family.
pub trait HasFamily {
    fn family(&self) -> AddressFamily;
}

impl HasFamily for IpAddr {
    fn family(&self) -> AddressFamily {
        AddressFamily::of(self)
    }
}

impl HasFamily for IpNet {
    fn family(&self) -> AddressFamily {
        AddressFamily::of(&self.addr())
    }
}

/// One value, or one of each family: never none, never two of the same family. The primary family's is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerFamily<T> {
    primary: T,
    secondary: Option<T>,
}

impl<T: HasFamily + Copy> PerFamily<T> {
    pub const fn single(value: T) -> Self {
        Self { primary: value, secondary: None }
    }

    /// `None` if there are no values, or two of one family.
    pub fn from_list(values: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut values = values.into_iter();
        let (primary, secondary) = (values.next()?, values.next());
        let differ = secondary.is_none_or(|s| s.family() != primary.family());
        (differ && values.next().is_none()).then_some(Self { primary, secondary })
    }

    pub const fn primary(&self) -> T {
        self.primary
    }

    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        std::iter::once(self.primary).chain(self.secondary)
    }

    pub fn of(&self, family: AddressFamily) -> Option<T> {
        self.iter().find(|value| value.family() == family)
    }

    pub fn families(&self) -> impl Iterator<Item = AddressFamily> + use<T> {
        self.iter().map(|value| value.family())
    }

    /// Each value turned into another of the same family.
    pub fn map<U: HasFamily + Copy>(&self, turn: impl Fn(T) -> U) -> PerFamily<U> {
        PerFamily { primary: turn(self.primary), secondary: self.secondary.map(turn) }
    }
}

impl<T: HasFamily + Copy> From<T> for PerFamily<T> {
    fn from(value: T) -> Self {
        Self::single(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(addresses: &[&str]) -> Option<PerFamily<IpAddr>> {
        PerFamily::from_list(addresses.iter().map(|a| a.parse().expect("an address")))
    }

    #[test]
    fn there_is_one_of_each_family_and_the_first_is_primary() {
        let both = list(&["fd00::1", "10.0.0.1"]).expect("two families");
        assert_eq!(both.primary().to_string(), "fd00::1");
        assert_eq!(both.of(AddressFamily::Ipv4).map(|ip| ip.to_string()), Some("10.0.0.1".into()));
        assert_eq!(both.iter().count(), 2);
        assert_eq!(list(&["10.0.0.1"]).and_then(|one| one.of(AddressFamily::Ipv6)), None);
        for wrong in [&[][..], &["10.0.0.1", "10.0.0.2"], &["10.0.0.1", "fd00::1", "fd00::2"]] {
            assert_eq!(list(wrong), None, "{wrong:?}");
        }
    }
}
