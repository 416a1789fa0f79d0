use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use types::{split, time::Time};

use super::*;
use crate::proto::draft::Cause;

const SECOND: u64 = 1_000_000;

fn provider(node: u8, rate_out: u128, queue: u16) -> Provider {
    Provider {
        node: NodeId([node; 32]),
        account: Address([node; 20]),
        holds: Holds::All,
        profile: Some(Profile::Exact),
        stake: Amount(1),
        region: None,
        rate_in: Amount(1_000),
        rate_out: Amount(rate_out),
        queue,
        ttft_ms: Some(1),
        tokens_per_s: None,
    }
}

fn said(node: u8, ttft_ms: Option<u32>) -> Provider {
    Provider { ttft_ms, ..provider(node, 5_000, 0) }
}

fn asked(number: u32) -> Asked {
    let mut client = Address([7; 20]);
    client.0[..4].copy_from_slice(&number.to_be_bytes());
    Asked { profile: Profile::Exact, tokens_in: 50, tokens_out: 100, client, number: u64::from(number) }
}

fn mode(mode: Mode) -> Preference {
    Preference { mode, ..Preference::default() }
}

fn firsts(route: &Route) -> Vec<u8> {
    route.order.iter().map(|node| node.0[0]).collect()
}

/// The order for a client that remembers nothing and wants it cheap.
fn names(providers: Vec<Provider>, number: u32) -> Vec<u8> {
    firsts(&choose(providers, &asked(number), &Preference::default(), &Memory::default(), Time(0)))
}

#[test]
fn the_cheapest_comes_first_then_the_shortest_queue() {
    for number in 0..20 {
        assert_eq!(names(vec![provider(1, 9_000, 0), provider(2, 5_000, 4), provider(3, 5_000, 1)], number), [3, 2, 1]);
    }
}

#[test]
fn a_first_token_seen_to_be_slow_outweighs_the_providers_word_and_a_few_milliseconds_weigh_nothing() {
    let mut memory = Memory::default();
    memory.on_first_token(NodeId([1; 32]), Duration::from_millis(900), Time(0));
    let all = [said(1, Some(0)), said(2, Some(100)), said(3, Some(120))];
    let first = |number| firsts(&choose(all.to_vec(), &asked(number), &Preference::default(), &memory, Time(0)))[0];
    let firsts: Vec<u8> = (0..64).map(first).collect();
    assert!(firsts.contains(&2) && firsts.contains(&3) && !firsts.contains(&1), "{firsts:?}");
}

#[test]
fn a_provider_that_has_measured_nothing_is_neither_the_quickest_nor_the_slowest() {
    for number in 0..32 {
        let asked = vec![said(1, Some(9_000)), said(2, None), said(3, Some(10)), said(4, Some(500))];
        let order = names(asked, number);
        assert_eq!((order[0], order[3]), (3, 1), "{order:?}");
    }
    let alone: Vec<u8> = (0..64).map(|number| names(vec![said(1, None), said(2, Some(700))], number)[0]).collect();
    assert!(alone.contains(&1) && alone.contains(&2), "who is new is asked too: {alone:?}");
}

/// Five equal providers, 1,000 clients: a fair draw gives each 200 with a standard deviation of 12.6; the bound is four of them.
#[test]
fn equal_providers_share_the_clients_evenly_and_a_client_keeps_to_its_node() {
    let mut first: BTreeMap<u8, u32> = BTreeMap::new();
    for number in 1..=1_000 {
        let order = names((1..=5).map(|node| provider(node, 5_000, 0)).collect(), number);
        let again = Asked { number: 77, ..asked(number) };
        let reversed = (1..=5).rev().map(|node| provider(node, 5_000, 0)).collect();
        let route = choose(reversed, &again, &Preference::default(), &Memory::default(), Time(0));
        assert_eq!(order, firsts(&route), "neither the order of ads nor the count of choices changes anything");
        *first.entry(order[0]).or_default() += 1;
    }
    assert_eq!(first.len(), 5);
    assert!(first.values().all(|count| (150..=250).contains(count)), "{first:?}");
}

#[test]
fn each_provider_that_is_not_asked_is_counted_with_its_first_reason() {
    let good = Provider { stake: Amount(100), region: Some(*b"DE"), ..provider(1, 5_000, 0) };
    let preference =
        Preference { rates_max: (Amount(1_000), Amount(5_000)), stake_min: Amount(100), regions: vec![*b"FR", *b"DE"], ..mode(Mode::Fast) };
    let cases = [
        (Unfit::Model, Provider { holds: Holds::NoBase, profile: None, stake: Amount::ZERO, ..good.clone() }),
        (Unfit::Adapter, Provider { holds: Holds::NoAdapter, region: None, ..good.clone() }),
        (Unfit::Profile, Provider { profile: Some(Profile::Fast), ..good.clone() }),
        (Unfit::Profile, Provider { profile: None, ..good.clone() }),
        (Unfit::Unregistered, Provider { stake: Amount::ZERO, ..good.clone() }),
        (Unfit::Stake, Provider { stake: Amount(99), ..good.clone() }),
        (Unfit::Region, Provider { region: Some(*b"US"), ..good.clone() }),
        (Unfit::Region, Provider { region: None, ..good.clone() }),
        (Unfit::RateIn, Provider { rate_in: Amount(1_001), ..good.clone() }),
        (Unfit::RateOut, Provider { rate_out: Amount(5_001), ..good.clone() }),
    ];
    for (unfit, one) in &cases {
        assert_eq!(filter(one, Profile::Exact, &preference), Err(*unfit));
    }
    assert!(Unfit::ALL.iter().all(|unfit| cases.iter().any(|(case, _)| case == unfit)), "each reason has a case");
    let all = cases.iter().map(|(_, one)| one.clone()).chain([good.clone()]).collect();
    let route = choose(all, &asked(0), &preference, &Memory::default(), Time(0));
    assert_eq!((firsts(&route), route.why), (vec![1], Some(Why::Best)));
    assert_eq!((route.unfit.of(Unfit::Region), route.unfit.of(Unfit::RateIn), route.unfit.is_choosy()), (2, 1, true));
    let none = choose(vec![cases[0].1.clone(), cases[9].1.clone()], &asked(0), &preference, &Memory::default(), Time(0));
    assert_eq!((none.order.len(), none.why), (0, None));
    assert_eq!(none.unfit.to_string(), "1 without the model, 1 above the highest output rate");
}

#[test]
fn fast_takes_the_quickest_whatever_it_costs_and_balanced_pays_twice_for_twice_the_speed_and_no_more() {
    let all = |dear: u128| {
        let quick = Provider { ttft_ms: Some(100), tokens_per_s: Some(100), ..provider(1, dear, 0) };
        let cheap = Provider { ttft_ms: Some(400), tokens_per_s: Some(25), ..provider(2, 10_000, 0) };
        vec![quick, cheap]
    };
    let first = |dear, wanted| {
        let preference = mode(wanted);
        firsts(&choose(all(dear), &asked(0), &preference, &Memory::default(), Time(0)))[0]
    };
    assert_eq!((first(1_000_000, Mode::Fast), first(10_010, Mode::Economic)), (1, 2));
    assert_eq!((first(30_000, Mode::Balanced), first(50_000, Mode::Balanced)), (1, 2), "four times as quick");
}

#[test]
fn a_queue_counts_as_so_many_prompts_and_the_shorter_of_two_is_taken_among_equals() {
    let queued = |node, ttft, queue| Provider { queue, ..said(node, Some(ttft)) };
    let first = |all: Vec<Provider>, number| firsts(&choose(all, &asked(number), &mode(Mode::Fast), &Memory::default(), Time(0)))[0];
    assert_eq!(first(vec![queued(1, 100, 4), queued(2, 300, 0)], 0), 2);
    // Ten as good as one another, one of them with the shorter queue: it is one of the two drawn in 2 of 10 choices, 200 of 1,000 with a standard
    // deviation of 12.6; the bound is four of them.
    let all: Vec<Provider> = (1..=10).map(|node| queued(node, if node == 1 { 1_010 } else { 505 }, u16::from(node != 1))).collect();
    let taken = (0..1_000).filter(|number| first(all.clone(), *number) == 1).count();
    assert!((150..=250).contains(&taken), "{taken}");
}

/// 10,000 choices at 2.5 %: a standard deviation of 16; the bound is four of them.
#[test]
fn one_choice_of_forty_asks_whoever_has_no_fresh_measure_and_who_wants_it_cheap_explores_nothing() {
    let all: Vec<Provider> = (1..=10).map(|node| said(node, Some(if node == 1 { 10 } else { 900 }))).collect();
    let mut memory = Memory::default();
    memory.on_first_token(NodeId([1; 32]), Duration::from_millis(10), Time(0));
    let explored = |memory: &Memory, wanted, now| {
        let route = |number| choose(all.clone(), &asked(number), &mode(wanted), memory, now);
        (0..10_000).map(route).filter(|route| route.why == Some(Why::Explored)).collect::<Vec<_>>()
    };
    let some = explored(&memory, Mode::Fast, Time(0));
    assert!((188..=312).contains(&some.len()), "{}", some.len());
    assert!((2..=10).all(|node| some.iter().any(|route| firsts(route)[0] == node)), "each is measured some day");
    assert!(
        some.iter().all(|route| firsts(route)[0] != 1 && firsts(route)[1] == 1),
        "a fresh measure is not taken anew; the best comes next"
    );
    assert!(explored(&memory, Mode::Economic, Time(0)).is_empty() && explored(&Memory::default(), Mode::Fast, Time(0)).is_empty());
    let late = Time(0).after(STALE_AFTER + Duration::from_secs(1));
    assert!(explored(&memory, Mode::Fast, late).iter().any(|route| firsts(route)[0] == 1), "an old measure is taken anew");
}

#[test]
fn who_boasts_of_a_quick_first_token_is_believed_once() {
    let all = vec![said(1, Some(0)), said(2, Some(200)), said(3, Some(300))];
    let mut memory = Memory::default();
    let mut taken = [0; 4];
    for number in 0..100 {
        let now = Time(u64::from(number) * SECOND);
        let route = choose(all.clone(), &asked(number), &mode(Mode::Fast), &memory, now);
        let (node, first) = (route.order[0], firsts(&route)[0]);
        if route.why != Some(Why::Explored) {
            taken[usize::from(first)] += 1;
        }
        memory.on_first_token(node, Duration::from_millis([0, 5_000, 200, 300][usize::from(first)]), now);
        memory.on_answer(node, now);
    }
    assert_eq!(taken[1], 1, "{taken:?}");
}

/// One choice a second: a dead node that is the cheapest is tried at 0, 15, 45 and 105 s, one that seems the quickest less often for its failures weigh too.
#[test]
fn a_dead_node_is_left_alone_twice_as_long_each_time() {
    for (wanted, times) in [(Mode::Economic, vec![0, 15, 45]), (Mode::Fast, vec![0, 92])] {
        let all = vec![Provider { rate_out: Amount(4_000), ..said(1, Some(10)) }, said(2, Some(500))];
        let mut memory = Memory::default();
        let mut tried = Vec::new();
        for second in 0..=104 {
            let now = Time(second * SECOND);
            memory.on_first_token(NodeId([2; 32]), Duration::from_millis(500), now);
            let route = choose(all.clone(), &Asked { number: 1, ..asked(1) }, &mode(wanted), &memory, now);
            if firsts(&route)[0] == 1 {
                tried.push(second);
                memory.on_fault(NodeId([1; 32]), Cause::Unreachable, now);
            }
        }
        assert_eq!(tried, times, "{}", wanted.name());
    }
}

#[test]
fn bans_double_to_ten_minutes_and_a_whole_answer_clears_them_and_who_is_alone_is_asked_all_the_same() {
    let node = NodeId([1; 32]);
    let mut memory = Memory::default();
    let mut now = Time(SECOND);
    for seconds in [15, 30, 60, 120, 240, 480, 600, 600] {
        memory.on_fault(node, Cause::Silent, now);
        let end = now.after(Duration::from_secs(seconds));
        assert!(memory.is_banned(node, Time(end.0 - 1)) && !memory.is_banned(node, end), "{seconds} s");
        now = end;
    }
    memory.on_fault(node, Cause::Broken, now);
    let route = choose(vec![said(1, None)], &asked(0), &Preference::default(), &memory, now);
    assert_eq!((firsts(&route), route.why), (vec![1], Some(Why::LeftAlone)));
    memory.on_answer(node, now);
    assert!(!memory.is_banned(node, now));
    memory.on_fault(node, Cause::Broken, now);
    assert!(!memory.is_banned(node, now.after(BAN_MIN)), "it begins at the shortest again");
}

#[test]
fn a_failure_weighs_half_as_much_every_half_minute_and_a_full_node_is_not_left_alone() {
    let (node, at) = (NodeId([1; 32]), Time(5 * SECOND));
    let mut memory = Memory::default();
    memory.on_fault(node, Cause::Misbehaved, at);
    let weight = |memory: &Memory, seconds| memory.errors_milli(node, at.after(Duration::from_secs(seconds)));
    let weights: Vec<u64> = [0, 15, 30, 60, 90, 100_000_000].map(|seconds| weight(&memory, seconds)).to_vec();
    assert_eq!(weights, [1_000, 750, 500, 250, 125, 0]);
    (0..1_000).for_each(|_| memory.on_fault(node, Cause::Silent, at));
    assert_eq!(weight(&memory, 0), 16_000, "what counts has an end");
    let mut memory = Memory::default();
    memory.on_fault(node, Cause::Refused, at);
    assert!(weight(&memory, 0) == 250 && !memory.is_banned(node, at));
    let mut memory = Memory::default();
    let not_theirs = [Cause::TooLong, Cause::Invalid, Cause::Unpaid, Cause::Empty, Cause::Interrupted];
    not_theirs.into_iter().for_each(|cause| memory.on_fault(node, cause, at));
    assert!(memory.is_empty(), "the question's and the payer's faults are not the node's");
}

#[test]
fn of_more_nodes_than_fit_the_one_not_heard_of_for_longest_is_forgotten() {
    let node = |number: usize| {
        let mut node = NodeId([0; 32]);
        node.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
        node
    };
    let mut memory = Memory::default();
    for number in 0..NODES_MAX + 3 {
        memory.on_first_token(node(number), Duration::from_millis(7), Time(number as u64));
        memory.on_answer(node(0), Time(number as u64));
    }
    let known: Vec<usize> = (0..NODES_MAX + 3).filter(|number| memory.ttft_ms(node(*number)).is_some()).collect();
    assert_eq!((known.len(), &known[..3]), (NODES_MAX, &[0, 4, 5][..]));
}

#[test]
fn rates_that_overflow_come_last_and_the_largest_numbers_are_no_harm() {
    for wanted in [Mode::Economic, Mode::Balanced] {
        let huge = provider(1, u128::MAX, 0);
        let route = choose(vec![huge, provider(2, u128::MAX >> 8, 0)], &asked(0), &mode(wanted), &Memory::default(), Time(0));
        assert_eq!(firsts(&route), [2, 1]);
    }
    let most = Provider { ttft_ms: Some(u32::MAX), queue: u16::MAX, tokens_per_s: Some(0), ..provider(1, u128::MAX, 0) };
    let asked = Asked { tokens_in: u32::MAX, tokens_out: u32::MAX, ..asked(0) };
    for wanted in [Mode::Economic, Mode::Balanced, Mode::Fast] {
        let mut memory = Memory::default();
        memory.on_first_token(most.node, Duration::MAX, Time(0));
        memory.on_fault(most.node, Cause::Silent, Time(u64::MAX));
        let route = choose(vec![most.clone(), most.clone()], &asked, &mode(wanted), &memory, Time(u64::MAX));
        assert_eq!(route.order.len(), 2);
    }
}

fn any_provider() -> impl Strategy<Value = Provider> {
    let ad = (0..6_u128, 0..6_u128, 0..4_u16, proptest::option::of(0..2_000_u32), proptest::option::of(0..90_u16));
    (any::<[u8; 2]>(), 0..3_u128, 0..10_u8, ad).prop_map(|(name, stake, holds, (rate_in, rate_out, queue, ttft_ms, tokens_per_s))| {
        let mut node = NodeId([0; 32]);
        node.0[..2].copy_from_slice(&name);
        let holds = [Holds::NoBase, Holds::NoAdapter].get(usize::from(holds)).copied().unwrap_or(Holds::All);
        let (rate_in, rate_out) = (Amount(rate_in * 100_000), Amount(rate_out * 100_000));
        Provider { node, holds, stake: Amount(stake), rate_in, rate_out, queue, ttft_ms, tokens_per_s, ..provider(0, 0, 0) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_order_is_of_all_who_may_be_asked_whatever_the_order_of_ads_and_the_cheapest_of_them_is_first(
        ads in proptest::collection::btree_map(any::<[u8; 2]>(), any_provider(), 0..24),
        failed in proptest::collection::vec(0..24_usize, 0..6),
        number in any::<u32>(),
        wanted in 0..3_usize,
    ) {
        let ads: Vec<Provider> = ads.into_iter().map(|(name, mut one)| { one.node.0[..2].copy_from_slice(&name); one }).collect();
        let preference = Preference { stake_min: Amount(2), ..mode([Mode::Economic, Mode::Balanced, Mode::Fast][wanted]) };
        let mut memory = Memory::default();
        failed.iter().filter_map(|place| ads.get(*place)).for_each(|one| memory.on_fault(one.node, Cause::Broken, Time(1)));
        let route = choose(ads.clone(), &asked(number), &preference, &memory, Time(2));
        let other = choose(ads.iter().rev().cloned().collect(), &asked(number), &preference, &memory, Time(2));
        prop_assert_eq!(&route, &other);
        let may: Vec<&Provider> = ads.iter().filter(|one| filter(one, Profile::Exact, &preference).is_ok()).collect();
        let (mut order, mut all) = (route.order.clone(), may.iter().map(|one| one.node).collect::<Vec<_>>());
        order.sort_unstable();
        all.sort_unstable();
        prop_assert_eq!(order, all);
        let free: Vec<&&Provider> = may.iter().filter(|one| !memory.is_banned(one.node, Time(2))).collect();
        if let Some(first) = route.order.first().filter(|_| !free.is_empty()) {
            let first = free.iter().find(|one| one.node == *first).expect("who failed is not first while others have not");
            let fee = |one: &Provider| split::fee(50, 100, one.rate_in, one.rate_out, Amount::ZERO).unwrap();
            if preference.mode == Mode::Economic {
                prop_assert_eq!(fee(first), free.iter().map(|one| fee(one)).min().unwrap());
            }
        }
    }
}
