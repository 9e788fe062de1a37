//! Addresses that a key may be used from: one, or a network of them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address, or a network in CIDR notation. Addresses of IPv4 written as IPv6 count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AddressRange {
    network: IpAddr,
    bits: u8,
}

/// Why a text is no address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an IP address nor a network like 10.0.0.0/8")]
pub struct InvalidRange;

impl AddressRange {
    /// Whether an address is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                v6_prefix(network, self.bits) == v6_prefix(address, self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn v6_prefix(address: Ipv6Addr, bits: u8) -> u128 {
    address.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = address.trim().parse().map_err(|_| InvalidRange)?;
        let widest = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.trim().parse().map_err(|_| InvalidRange)?,
            None => widest,
        };
        if bits > widest {
            return Err(InvalidRange);
        }
        Ok(Self { network, bits })
    }
}

impl TryFrom<String> for AddressRange {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, InvalidRange> {
        text.parse()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = if self.network.is_ipv4() { 32 } else { 128 };
        if self.bits == widest {
            self.network.fmt(f)
        } else {
            write!(f, "{}/{}", self.network, self.bits)
        }
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let network: AddressRange = "10.1.0.0/16".parse().unwrap();

        assert!(network.holds("10.1.200.3".parse().unwrap()));
        assert!(network.holds("::ffff:10.1.200.3".parse().unwrap()));
        assert!(!network.holds("10.2.0.1".parse().unwrap()));
        assert!(!network.holds("::1".parse().unwrap()));
    }

    #[test]
    fn a_network_of_no_bits_holds_every_address_of_its_kind() {
        let all: AddressRange = "0.0.0.0/0".parse().unwrap();
        let all_v6: AddressRange = "::/0".parse().unwrap();

        assert!(all.holds("203.0.113.9".parse().unwrap()));
        assert!(all_v6.holds("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "host"] {
            assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text}");
        }
    }
}
