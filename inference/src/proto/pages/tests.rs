//! The pages against a plain model that remembers what every page holds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn space(tenant: u8) -> Space {
    Space::new(&[tenant; 32], &[0; 32], 2, &[])
}

fn tokens(first: u32, count: usize) -> Vec<u32> {
    (first..).take(count).collect()
}

/// Takes and seals pages for whole pages of `tokens`.
fn fill(pages: &mut Pages, space: &Space, tokens: &[u32]) -> Vec<Page> {
    let mut prefix = pages.prefix(space, tokens);
    for tokens in tokens.chunks_exact(TOKENS).skip(prefix.pages.len()) {
        let page = pages.take().unwrap();
        let sealed = pages.seal(page, prefix.key, tokens);
        prefix.pages.push(sealed.page);
        prefix.key = sealed.key;
    }
    prefix.pages
}

#[test]
fn a_prefix_is_found_again_after_its_holder_is_gone() {
    let mut pages = Pages::new(4);
    let mut held = fill(&mut pages, &space(1), &tokens(0, 128));
    let first = held.clone();
    pages.release_all(&mut held);
    assert_eq!(pages.available(), 4);
    let again = pages.prefix(&space(1), &tokens(0, 200));
    assert_eq!((again.pages, pages.available()), (first, 2));
}

#[test]
fn a_prefix_ends_where_a_token_differs_and_at_whole_pages() {
    let mut pages = Pages::new(4);
    fill(&mut pages, &space(1), &tokens(0, 128));
    let mut other = tokens(0, 128);
    other[127] = 9_999;
    assert_eq!(pages.prefix(&space(1), &other).tokens(), 64);
    assert_eq!(pages.prefix(&space(1), &tokens(0, 127)).tokens(), 64);
    assert_eq!(pages.prefix(&space(1), &tokens(0, 63)).tokens(), 0);
    // The same tokens at another place are another page.
    assert_eq!(pages.prefix(&space(1), &tokens(64, 64)).tokens(), 0);
}

#[test]
fn tenant_base_profile_adapter_order_and_scale_each_make_a_space() {
    let (a, b) = (AdapterId([1; 32]), AdapterId([2; 32]));
    let spaces = [
        Space::new(&[0; 32], &[0; 32], 2, &[]),
        Space::new(&[1; 32], &[0; 32], 2, &[]),
        Space::new(&[0; 32], &[1; 32], 2, &[]),
        Space::new(&[0; 32], &[0; 32], 3, &[]),
        Space::new(&[0; 32], &[0; 32], 2, &[(a, 1.0)]),
        Space::new(&[0; 32], &[0; 32], 2, &[(a, 0.5)]),
        Space::new(&[0; 32], &[0; 32], 2, &[(a, 1.0), (b, 1.0)]),
        Space::new(&[0; 32], &[0; 32], 2, &[(b, 1.0), (a, 1.0)]),
    ];
    assert_eq!(spaces.iter().collect::<BTreeSet<_>>().len(), spaces.len());
    let mut pages = Pages::new(8);
    for (at, space) in spaces.iter().enumerate() {
        assert_eq!(pages.prefix(space, &tokens(0, 64)).tokens(), 0, "space {at} saw another's page");
        fill(&mut pages, space, &tokens(0, 64));
    }
}

#[test]
fn of_two_pages_with_one_content_the_later_is_given_back() {
    let mut pages = Pages::new(3);
    let (one, two) = (pages.take().unwrap(), pages.take().unwrap());
    let first = pages.seal(one, space(1).root(), &tokens(0, 64));
    let second = pages.seal(two, space(1).root(), &tokens(0, 64));
    assert_eq!((first, second.page, pages.available()), (second, one, 2));
    pages.release(one);
    assert_eq!(pages.available(), 2, "it is still held by the second");
    pages.release(one);
    assert_eq!(pages.available(), 3);
}

#[test]
fn the_end_of_the_least_recently_used_prefix_goes_first() {
    let mut pages = Pages::new(4);
    let (mut old, mut new) = (fill(&mut pages, &space(1), &tokens(0, 128)), fill(&mut pages, &space(1), &tokens(1_000, 128)));
    pages.release_all(&mut old);
    pages.release_all(&mut new);
    pages.take().unwrap();
    let mut left = pages.prefix(&space(1), &tokens(0, 128));
    assert_eq!(left.tokens(), 64, "the beginning of the older one stays");
    pages.release_all(&mut left.pages);
    assert_eq!(pages.prefix(&space(1), &tokens(1_000, 128)).tokens(), 128);
}

#[test]
fn forgotten_pages_are_free_and_not_found() {
    let mut pages = Pages::new(4);
    let mut gone = fill(&mut pages, &space(1), &tokens(0, 128));
    fill(&mut pages, &space(1), &tokens(500, 64));
    pages.release_all(&mut gone);
    pages.forget();
    assert_eq!(pages.available(), 3);
    assert_eq!(pages.prefix(&space(1), &tokens(0, 128)).tokens(), 0);
    assert_eq!(pages.prefix(&space(1), &tokens(500, 64)).tokens(), 64, "a held page stays");
}

/// A sequence of the model: its space, tokens from a small tree of continuations, and its pages.
#[derive(Debug, Default)]
struct Held {
    tenant: u8,
    tokens: Vec<u32>,
    pages: Vec<Page>,
    key: Option<PageKey>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random sequences grow page by page and end. The model keeps, for every page, the tenant and all tokens up to its end.
    #[test]
    fn no_page_is_leaked_lost_or_shared_with_other_content(
        count in 1u32..24,
        operations in prop::collection::vec((0u8..4, 0u8..3, 0u32..2, any::<prop::sample::Index>()), 1..300),
    ) {
        let mut pages = Pages::new(count);
        let mut content: BTreeMap<Page, (u8, Vec<u32>)> = BTreeMap::new();
        let mut sequences: Vec<Held> = Vec::new();
        for (what, tenant, branch, which) in operations {
            match what {
                0 => {
                    let wanted: Vec<u32> = (0..3).flat_map(|page| tokens((branch + page) % 2, TOKENS)).collect();
                    let prefix = pages.prefix(&space(tenant), &wanted);
                    for (at, page) in prefix.pages.iter().enumerate() {
                        prop_assert_eq!(&content[page], &(tenant, wanted[..(at + 1) * TOKENS].to_vec()));
                    }
                    let tokens = wanted[..prefix.tokens()].to_vec();
                    sequences.push(Held { tenant, tokens, pages: prefix.pages, key: Some(prefix.key) });
                }
                1 | 2 if !sequences.is_empty() => {
                    let at = which.index(sequences.len());
                    let held = &mut sequences[at];
                    let available = pages.available();
                    match pages.take() {
                        None => prop_assert_eq!(available, 0),
                        Some(page) => {
                            prop_assert_eq!(pages.available(), available - 1);
                            content.remove(&page);
                            let new = tokens(branch, TOKENS);
                            held.tokens.extend(&new);
                            let sealed = pages.seal(page, held.key.unwrap(), &new);
                            held.key = Some(sealed.key);
                            held.pages.push(sealed.page);
                            let expected = (held.tenant, held.tokens.clone());
                            prop_assert_eq!(content.entry(sealed.page).or_insert_with(|| expected.clone()), &expected);
                        }
                    }
                }
                3 if !sequences.is_empty() => {
                    let mut held = sequences.swap_remove(which.index(sequences.len()));
                    pages.release_all(&mut held.pages);
                }
                _ => {}
            }
            let held: BTreeSet<Page> = sequences.iter().flat_map(|held| held.pages.iter().copied()).collect();
            prop_assert_eq!(pages.available(), pages.count() - held.len(), "every page is held or can be taken");
            for held in &sequences {
                for (at, page) in held.pages.iter().enumerate() {
                    prop_assert_eq!(&content[page], &(held.tenant, held.tokens[..(at + 1) * TOKENS].to_vec()), "a held page keeps its content");
                }
            }
        }
        for mut held in sequences {
            pages.release_all(&mut held.pages);
        }
        prop_assert_eq!(pages.available(), pages.count());
        let all: BTreeSet<Page> = std::iter::from_fn(|| pages.take()).collect();
        prop_assert_eq!(all.len(), pages.count(), "each is given once");
    }
}
