//! Who is registered, who answers, and since when the others do not: counted as it changes, so that a look need not count.
//!
//! A node of 5,000 objects at 16/48 would ask 240,000 times a minute whether a holder answers, and every time it got the answer of the minute before. So the
//! numbers behind "half of the network answers" are kept, and so is who changed since the last look: at 10,000 operators that live 90 days that is one in
//! 13 minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use types::{id::Address, time::Time};

use crate::proto::placement::Site;

/// What was last heard of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Online,
    Offline { since: Time },
    Gone,
}

/// Everyone, as this node knows them.
#[derive(Debug)]
pub(super) struct Crowd {
    me: Address,
    /// Who was never heard of is away since then.
    began: Time,
    sites: Arc<BTreeMap<Address, Site>>,
    presence: BTreeMap<Address, Presence>,
    /// Of the registered: those that answer, and those that left for good.
    online: usize,
    gone: usize,
    /// Whose presence changed since the last look.
    changed: BTreeSet<Address>,
}

impl Crowd {
    pub(super) fn new(me: Address, now: Time) -> Self {
        let (sites, presence) = (Arc::default(), BTreeMap::from([(me, Presence::Online)]));
        Self { me, began: now, sites, presence, online: 0, gone: 0, changed: BTreeSet::new() }
    }

    pub(super) fn sites(&self) -> &BTreeMap<Address, Site> {
        &self.sites
    }

    /// Who is registered now. What was heard of others is forgotten once it says no more than silence does: they have been away, and this node has been
    /// there, for `lost_anyway_after`. So the table holds the registered and those who went in some days, however long the node runs.
    pub(super) fn register(&mut self, now: Time, sites: Arc<BTreeMap<Address, Site>>, lost_anyway_after: Duration) {
        self.sites = sites;
        let is_long = |since: Time| now.since(since) >= lost_anyway_after;
        if is_long(self.began) {
            let (sites, me) = (&self.sites, self.me);
            self.presence.retain(|operator, presence| {
                let says_more = match presence {
                    Presence::Online => true,
                    Presence::Offline { since } => !is_long(*since),
                    Presence::Gone => false,
                };
                *operator == me || says_more || sites.contains_key(operator)
            });
        }
        let count = |wanted| self.sites.keys().filter(|operator| self.presence.get(operator) == Some(&wanted)).count();
        (self.online, self.gone) = (count(Presence::Online), count(Presence::Gone));
    }

    pub(super) fn get(&self, operator: Address) -> Option<Presence> {
        self.presence.get(&operator).copied()
    }

    pub(super) const fn began(&self) -> Time {
        self.began
    }

    pub(super) fn seen(&mut self, now: Time, operator: Address, is_online: bool) {
        let presence = match (self.get(operator), is_online) {
            // Who comes back after leaving registers anew, and is told as an operator and then as online.
            (_, true) => Presence::Online,
            (Some(old @ (Presence::Offline { .. } | Presence::Gone)), false) => old,
            (Some(Presence::Online) | None, false) => Presence::Offline { since: now },
        };
        if operator != self.me {
            self.set(operator, presence);
        }
    }

    pub(super) fn set(&mut self, operator: Address, presence: Presence) {
        let before = self.presence.insert(operator, presence);
        if before == Some(presence) {
            return;
        }
        self.changed.insert(operator);
        if self.sites.contains_key(&operator) {
            for (counted, of) in [(&mut self.online, Presence::Online), (&mut self.gone, Presence::Gone)] {
                *counted = *counted + usize::from(presence == of) - usize::from(before == Some(of));
            }
        }
    }

    /// Whether half of the registered operators answer; this node counts as one that does.
    pub(super) fn sees_majority(&self) -> bool {
        2 * self.online > self.sites.len() - self.gone
    }

    /// Registered operators that do not answer.
    pub(super) fn away(&self) -> impl Iterator<Item = Address> + '_ {
        self.sites.keys().copied().filter(|operator| self.get(*operator) != Some(Presence::Online))
    }

    /// Whose presence changed since this was asked before.
    pub(super) fn take_changed(&mut self) -> BTreeSet<Address> {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn sites(numbers: &BTreeSet<u8>) -> Arc<BTreeMap<Address, Site>> {
        Arc::new(numbers.iter().map(|number| (Address([*number; 20]), Site::default())).collect())
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_count_finds(
            events in proptest::collection::vec((0..4_u8, 0..20_u8, proptest::collection::btree_set(0..20_u8, 0..20), 0..3_000_u64), 1..60),
        ) {
            let (mut crowd, mut now) = (Crowd::new(Address([0; 20]), Time(0)), Time(0));
            for (what, who, registered, minutes) in events {
                now = now.after(Duration::from_secs(60 * minutes));
                let who = Address([who; 20]);
                match what {
                    0 => crowd.seen(now, who, true),
                    1 => crowd.seen(now, who, false),
                    2 => crowd.set(who, Presence::Gone),
                    _ => crowd.register(now, sites(&registered), DAY),
                }
                let count = |wanted| crowd.sites.keys().filter(|operator| crowd.get(**operator) == Some(wanted)).count();
                prop_assert_eq!((crowd.online, crowd.gone), (count(Presence::Online), count(Presence::Gone)));
                prop_assert_eq!(crowd.away().count(), crowd.sites.len() - crowd.online);
            }
        }
    }

    #[test]
    fn operators_that_come_and_go_for_years_leave_a_table_of_those_that_are_there() {
        let mut crowd = Crowd::new(Address([255; 20]), Time(0));
        for day in 0..3_000_u64 {
            let now = Time(0).after(DAY * u32::try_from(day).unwrap());
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&day.to_be_bytes());
            crowd.register(now, Arc::new(BTreeMap::from([(Address(bytes), Site::default())])), 3 * DAY);
            crowd.seen(now, Address(bytes), true);
            // The one of the day before was replaced and is silent.
            bytes[..8].copy_from_slice(&day.saturating_sub(1).to_be_bytes());
            crowd.seen(now, Address(bytes), day == 0);
        }
        assert!(crowd.presence.len() <= 6, "{}", crowd.presence.len());
    }
}
