//! Pages of keys and values: who holds which, and which hold a prefix that another answer may use.
//!
//! A page is free, held by one or more sequences, or kept: full, held by nobody, findable by what it holds until its place is
//! needed. What a page holds is named by a hash over everything before it ([`PageKey`]), rooted in a [`Space`]: tenant, base,
//! profile and adapters. Two tenants never share a page, so the time of a first token tells nobody what another has asked. A page
//! gets its name when it is full, never before; equal names mean equal bits, because what a backend computes does not depend on
//! batch or chunks, so of two pages with one name the later is given back.
//!
//! Whoever holds a page holds all before it, and gives them back from the last to the first ([`Pages::release_all`]). So a kept
//! page was given up before its parent, the least recently used goes first, and a prefix is shortened at its end only.
//!
//! Cost: one hash of 288 bytes for a page of 64 tokens (300 ns), a prompt of 8,192 tokens 40 us; 80 bytes for a page beside the
//! 780 kB that its keys and values take on `SmolLM2`.

use std::collections::BTreeMap;
use std::fmt;

use crate::step::{PAGE_TOKENS, Page};

use super::residency::AdapterId;

/// Tokens of a page, as a length.
pub const TOKENS: usize = PAGE_TOKENS as usize;

/// Within which pages may be shared: the hash of tenant, base, profile and adapters with their scales, in the request's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Space([u8; 32]);

impl Space {
    /// The space of a tenant's answers under these weights. `base` and `profile` are their content hash and number.
    #[must_use]
    pub fn new(tenant: &[u8; 32], base: &[u8; 32], profile: u8, adapters: &[(AdapterId, f32)]) -> Self {
        // Every field but the last list has one length, and so has an element of it: no two inputs give one text.
        let mut hasher = blake3::Hasher::new_derive_key("tributary pages of keys and values: space");
        hasher.update(tenant).update(base).update(&[profile]);
        for (id, scale) in adapters {
            hasher.update(&id.0).update(&scale.to_bits().to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Where the names of this space's pages begin.
    #[must_use]
    pub fn root(&self) -> PageKey {
        PageKey(self.0)
    }
}

/// Name of a full page: a hash of the name before it and of its tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey([u8; 32]);

impl PageKey {
    /// The name of the page that follows and holds `tokens`.
    ///
    /// # Panics
    /// Unless there are [`PAGE_TOKENS`]: a page that is not full has no name.
    #[must_use]
    pub fn after(&self, tokens: &[u32]) -> Self {
        assert!(tokens.len() == TOKENS, "a page has a name when it is full");
        let mut bytes = [0; TOKENS * 4];
        for (place, token) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(tokens) {
            *place = token.to_le_bytes();
        }
        Self(*blake3::keyed_hash(&self.0, &bytes).as_bytes())
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({})", hex::encode(&self.0[..4]))
    }
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageKey({})", hex::encode(&self.0[..4]))
    }
}

/// What is already computed of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// The pages, now held once more, in order of positions.
    pub pages: Vec<Page>,
    /// Name of the last of them; the root if there is none.
    pub key: PageKey,
}

impl Prefix {
    /// Tokens whose keys and values are there.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.pages.len() * TOKENS
    }
}

/// A page that got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The name.
    pub key: PageKey,
    /// The page to go on with: another one if that name was there already. The given one is then free.
    pub page: Page,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    holders: u32,
    key: Option<PageKey>,
    /// When it was last given up; its place among the kept pages.
    stamp: u64,
}

/// All pages of a device.
#[derive(Debug)]
pub struct Pages {
    frames: Vec<Frame>,
    free: Vec<Page>,
    /// Full pages by their names, held or kept.
    named: BTreeMap<PageKey, Page>,
    /// Kept pages, the least recently used first.
    kept: BTreeMap<u64, Page>,
    stamp: u64,
}

impl Pages {
    /// `count` free pages.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let frame = Frame { holders: 0, key: None, stamp: 0 };
        Self {
            frames: (0..count).map(|_| frame).collect(),
            free: (0..count).rev().map(Page).collect(),
            named: BTreeMap::new(),
            kept: BTreeMap::new(),
            stamp: 0,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// Pages that can be taken now, kept ones among them.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len() + self.kept.len()
    }

    /// The longest run of whole pages that already hold the beginning of `tokens`; they are held once more from now on.
    pub fn prefix(&mut self, space: &Space, tokens: &[u32]) -> Prefix {
        let mut prefix = Prefix { pages: Vec::new(), key: space.root() };
        for tokens in tokens.chunks_exact(TOKENS) {
            let key = prefix.key.after(tokens);
            let Some(&page) = self.named.get(&key) else { break };
            self.share(page);
            prefix.pages.push(page);
            prefix.key = key;
        }
        prefix
    }

    /// A page for one holder, with nothing of use in it; a kept one is forgotten for it if none is free.
    pub fn take(&mut self) -> Option<Page> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => self.kept.pop_first()?.1,
        };
        if let Some(key) = self.frame(page).key.take() {
            self.named.remove(&key);
        }
        self.frame(page).holders = 1;
        Some(page)
    }

    /// Names a full page of one holder. `parent` is the name of the page before it, or the space's root.
    ///
    /// # Panics
    /// If the page is held by more than one, or has a name, or `tokens` do not fill it.
    pub fn seal(&mut self, page: Page, parent: PageKey, tokens: &[u32]) -> Sealed {
        let key = parent.after(tokens);
        let frame = self.frame(page);
        assert!(frame.holders == 1 && frame.key.is_none(), "only the one who fills a page names it, once");
        if let Some(&there) = self.named.get(&key) {
            self.share(there);
            self.release(page);
            return Sealed { key, page: there };
        }
        self.frame(page).key = Some(key);
        self.named.insert(key, page);
        Sealed { key, page }
    }

    /// One more holder.
    fn share(&mut self, page: Page) {
        let frame = self.frame(page);
        frame.holders += 1;
        let stamp = frame.stamp;
        if frame.holders == 1 {
            self.kept.remove(&stamp);
        }
    }

    /// One holder fewer; without any, a named page is kept and another is free.
    ///
    /// # Panics
    /// If nobody holds it.
    pub fn release(&mut self, page: Page) {
        self.stamp += 1;
        let stamp = self.stamp;
        let frame = self.frame(page);
        frame.holders = frame.holders.checked_sub(1).expect("only a holder releases");
        if frame.holders > 0 {
            return;
        }
        frame.stamp = stamp;
        if frame.key.is_some() {
            self.kept.insert(stamp, page);
        } else {
            self.free.push(page);
        }
    }

    /// Releases all pages of a sequence, from the last to the first.
    pub fn release_all(&mut self, pages: &mut Vec<Page>) {
        while let Some(page) = pages.pop() {
            self.release(page);
        }
    }

    /// Forgets every kept page: whoever asks again computes again.
    pub fn forget(&mut self) {
        while let Some((_, page)) = self.kept.pop_first() {
            if let Some(key) = self.frame(page).key.take() {
                self.named.remove(&key);
            }
            self.free.push(page);
        }
    }

    fn frame(&mut self, page: Page) -> &mut Frame {
        self.frames.get_mut(usize::try_from(page.0).unwrap_or(usize::MAX)).expect("a page of this device")
    }
}

#[cfg(test)]
mod tests;
