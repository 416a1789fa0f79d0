//! Who may have another stream: a node's streams are few, and a name costs nothing, so what counts beside the sum is the address they come from.
//!
//! One address has half of all at most, however many keys it shows. The last quarter is for addresses that have next to none: whoever comes when
//! strangers hold all the rest is still let in. IPv6 addresses count by their /64, which is what one customer has.
//!
//! Size: 40 bytes an address that has a stream, so at most as many as there are streams.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Streams of an address that may have some of the last quarter: an answer, its successor, a word on an earlier one, a status.
const FEW: usize = 4;

/// The streams of a node.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: BTreeMap<IpAddr, usize>,
}

/// A stream's place; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place {
    shares: Arc<Shares>,
    from: IpAddr,
}

/// What counts as one address.
fn counted(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(long) => IpAddr::V6(Ipv6Addr::from_bits(long.to_bits() >> 64 << 64)),
        short @ IpAddr::V4(_) => short,
    }
}

impl Shares {
    /// `most` streams in all.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each change is one step that does not panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stream from there; nothing if it has its share, or there is none.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = counted(from);
        let mut held = self.held();
        let (all, own) = (held.all, held.by.get(&from).copied().unwrap_or_default());
        let is_scarce = all >= self.most - self.most / 4;
        if all >= self.most || own >= self.most.div_ceil(2) || is_scarce && own >= FEW {
            return None;
        }
        held.all += 1;
        held.by.insert(from, own + 1);
        Some(Place { shares: Arc::clone(self), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        held.all -= 1;
        match held.by.get_mut(&self.from) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(held.by.remove(&self.from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn address(number: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, number))
    }

    fn all_of(shares: &Arc<Shares>, from: IpAddr) -> Vec<Place> {
        std::iter::from_fn(|| shares.take(from)).collect()
    }

    #[test]
    fn strangers_that_take_all_they_get_leave_room_for_who_has_none() {
        let shares = Shares::new(256);
        let first = all_of(&shares, address(1));
        assert_eq!(first.len(), 128, "whatever keys it shows");
        let second = all_of(&shares, address(2));
        assert_eq!(second.len(), 64);
        let others: Vec<Vec<Place>> = (3..=18).map(|number| all_of(&shares, address(number))).collect();
        assert!(others.iter().all(|places| places.len() == FEW), "sixteen more are let in");
        assert!(shares.take(address(19)).is_none(), "there are no more than there are");
        drop(first);
        assert_eq!(all_of(&shares, address(19)).len(), 64);
    }

    #[test]
    fn a_place_comes_free_and_nothing_is_remembered_of_who_has_left() {
        let shares = Shares::new(8);
        drop(all_of(&shares, address(1)));
        let left = {
            let held = shares.held();
            (held.all, held.by.len())
        };
        assert_eq!(left, (0, 0));
        assert_eq!(all_of(&shares, address(1)).len(), 4);
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        let shares = Shares::new(8);
        let _held = all_of(&shares, "2001:db8::1".parse().unwrap());
        assert!(shares.take("2001:db8::ffff:2".parse().unwrap()).is_none());
        assert!(shares.take("2001:db8:0:1::1".parse().unwrap()).is_some());
        let _mapped = all_of(&shares, "::ffff:203.0.113.1".parse().unwrap());
        assert_eq!(counted("::ffff:203.0.113.1".parse().unwrap()), address(1));
    }
}
