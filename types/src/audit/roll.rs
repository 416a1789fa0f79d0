//! Who audits whom (P8): the roll of nodes that keep fragments, as the contract `AuditRent` has it, and the draw of three of them by an epoch's beacon.

use serde::{Deserialize, Serialize};

use crate::{
    id::{Address, Hash32},
    merkle::keccak,
};

/// Auditors per node and epoch.
pub const AUDITORS: usize = 3;
/// Places drawn before a roll is taken to have no more auditors for a node.
const TRIES: u8 = 64;

/// A place of the roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Who sits there.
    pub node: Address,
    /// Network of its address in 48 bits, as it said itself: a /24 behind 24 zero bits, a /48; 0 for none, which is nobody's neighbour.
    pub subnet: u64,
}

/// The auditors of the node at `place` of an epoch's roll, the opener first: the places keccak("tributary/auditors/v1", beacon, node, try u8), first 128 bits modulo the
/// roll's size, but for the node itself, its neighbours in the subnet, who may be the same person, and who was drawn before. Fewer than three where
/// 64 tries find no more; none of a place that is not on the roll.
pub fn auditors(beacon: Hash32, place: usize, roll: &[Seat]) -> Vec<Address> {
    let mut drawn = Vec::with_capacity(AUDITORS);
    let Some(own) = roll.get(place) else { return drawn };
    let size = u128::try_from(roll.len()).expect("a length is below 2^128");
    for number in 0..TRIES {
        let hash = keccak(&[b"tributary/auditors/v1", &beacon.0, &own.node.0, &[number]]);
        let high = u128::from_be_bytes(*hash.0.first_chunk().expect("a hash has 32 bytes"));
        let seat = &roll[usize::try_from(high % size).expect("below a length")];
        let is_near = own.subnet != 0 && seat.subnet == own.subnet;
        if seat.node != own.node && !is_near && !drawn.contains(&seat.node) {
            drawn.push(seat.node);
            if drawn.len() == AUDITORS {
                break;
            }
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn roll(subnets: &[u64]) -> Vec<Seat> {
        (1..).zip(subnets).map(|(byte, subnet)| Seat { node: Address([byte; 20]), subnet: *subnet }).collect()
    }

    #[test]
    fn a_small_roll_has_fewer_auditors_and_neighbours_none_of_each_other() {
        let drawn = |place, subnets: &[u64]| auditors(Hash32([7; 32]), place, &roll(subnets)).len();
        assert_eq!([drawn(0, &[]), drawn(0, &[0]), drawn(0, &[0; 2]), drawn(0, &[0; 3]), drawn(0, &[0; 4])], [0, 0, 1, 2, 3]);
        assert_eq!([drawn(0, &[5; 9]), drawn(0, &[5, 5, 5, 6, 0]), drawn(3, &[5, 5, 5, 6])], [0, 2, 3]);
        assert_eq!(drawn(4, &[0; 4]), 0, "nobody sits there");
    }

    #[test]
    fn every_other_place_is_drawn_alike() {
        let (seats, mut times) = (roll(&[0; 10]), [0_u32; 11]);
        for epoch in 0..3_000_u32 {
            auditors(keccak(&[&epoch.to_be_bytes()]), 0, &seats).iter().for_each(|auditor| times[usize::from(auditor.0[0])] += 1);
        }
        // 9,000 over nine places: 1,000 each, standard deviation 26.
        assert_eq!(times[1], 0);
        assert!(times[2..].iter().all(|count| (870..=1_130).contains(count)), "{times:?}");
    }

    proptest! {
        #[test]
        fn auditors_are_others_and_distinct(beacon: [u8; 32], subnets in proptest::collection::vec(0..4_u64, 1..30), place in 0..30_usize) {
            let seats = roll(&subnets);
            let drawn = auditors(Hash32(beacon), place, &seats);
            prop_assert!(drawn.len() <= AUDITORS);
            for (index, auditor) in drawn.iter().enumerate() {
                let seat = seats.iter().find(|seat| seat.node == *auditor).unwrap();
                prop_assert!(seat.node != seats[place].node && (seats[place].subnet == 0 || seat.subnet != seats[place].subnet));
                prop_assert!(!drawn[..index].contains(auditor));
            }
        }
    }
}
