//! Sixteen fragments are needed; each stream brings 16 MB/s.

use super::*;

fn fetched(holders: &[Kind], config: Config) -> World {
    let mut world = World::of(Profile::new(16, 48).unwrap(), holders);
    let mut fetch = Fetch::new(world.object.manifest.id(), (0..holders.len()).map(node), config);
    let fetched = world.drive(&mut fetch).0.unwrap();
    assert!(fetched.bytes == world.bytes);
    world
}

#[test]
fn the_first_few_stay_alone_while_they_bring_enough() {
    let world = fetched(&[Honest; 48], Config { few_bytes_per_s: 50_000_000, ..Config::default() });
    assert_eq!((world.widest, world.groups), (4, 16 * GROUPS));
}

#[test]
fn all_that_are_needed_are_read_once_the_first_few_bring_too_little() {
    let world = fetched(&[Honest; 48], Config { few_bytes_per_s: 1_000_000_000, ..Config::default() });
    assert_eq!((world.widest, world.groups), (16, 16 * GROUPS));
    // A fragment takes 40 ms; those that were not among the first began 20.4 ms later.
    assert!((60_000..62_000).contains(&world.now), "{}", world.now);
}

#[test]
fn first_ones_that_bring_nothing_hold_nobody_up() {
    let mut holders = [Honest; 48];
    holders[..4].fill(Silent);
    let world = fetched(&holders, Config { few_bytes_per_s: 1, ..Config::default() });
    assert_eq!(world.widest, 16);
    assert!(world.now < 1_000_000, "{}", world.now);
}

#[test]
fn the_pace_among_few_makes_nobody_late_among_all() {
    let mut holders = [Slow(25); 48];
    holders[..8].fill(Slow(5));
    let world = fetched(&holders, Config { few_bytes_per_s: 12_000_000, ..Config::default() });
    // Half of the fragments took a fifth of the time of the others, which would be late after three fifths.
    assert_eq!((world.widest, world.groups), (8, 16 * GROUPS));
    assert!((1_400_000..1_600_000).contains(&world.now), "{}", world.now);
}
