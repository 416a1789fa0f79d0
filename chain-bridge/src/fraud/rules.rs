//! F4 to F6: what a billed receipt must agree with, by the same rules and in the same order as `BillingVerifier`.
//!
//! The books give the registry's facts at the block that the receipt names. Each rule costs a few look-ups.

use types::{
    encoding::Document,
    id::{AssetVersion, Hash32},
    manifest::{AssetKind, Manifest, treasury},
    quote::Quote,
    receipt::Receipt,
    split,
};

use crate::registry::{State, state::Version};

/// A rule; its place is the contract's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// F4: the body is no receipt.
    Form,
    /// F4: an answer that failed is billed.
    Unbillable,
    /// F4: the spans weigh more than the answer, or the lane's cumulative amount does not cover the fee.
    Weights,
    /// F4: the fee is not what the quote gives.
    Fee,
    /// F4: the manifest root opens to bytes that are no manifest.
    ManifestForm,
    /// F4: assets, index root or parameter id are not the manifest's.
    ManifestMatch,
    /// F4: the manifest's assets are not a registered version with its parents.
    Versions,
    /// F4: the split is not the outermost version's.
    SplitTable,
    /// F4: the Datanets are not the declared ones, or a treasury is not its Datanet's.
    Datanets,
    /// F4: index root and parameters are not those posted by the named block.
    Index,
    /// F5: an asset or Datanet was not published at the named block.
    Unpublished,
    /// F5: one of them had been frozen for longer than the grace.
    Frozen,
    /// F6: the quote is another node's, or none.
    QuoteForeign,
    /// F6: manifest root, profile or class are not the quote's.
    QuoteTerms,
    /// F6: more output tokens than the quote offers.
    QuoteTokens,
    /// F6: the named block is not the quote's, or after its expiry.
    QuoteBlock,
}

impl Rule {
    /// All rules, in the order of their codes.
    pub const ALL: [Self; 16] = [
        Self::Form,
        Self::Unbillable,
        Self::Weights,
        Self::Fee,
        Self::ManifestForm,
        Self::ManifestMatch,
        Self::Versions,
        Self::SplitTable,
        Self::Datanets,
        Self::Index,
        Self::Unpublished,
        Self::Frozen,
        Self::QuoteForeign,
        Self::QuoteTerms,
        Self::QuoteTokens,
        Self::QuoteBlock,
    ];

    /// Code in the contract.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What is looked at: a receipt with what it names. Where that is not known, no rule about it is found broken.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The receipt.
    pub receipt: &'a Receipt,
    /// The quote behind its quote hash; one with another hash is passed over.
    pub quote: Option<&'a Quote>,
    /// The manifest behind its manifest root; one with another hash is passed over.
    pub manifest: Option<&'a Manifest>,
    /// Blocks for which a frozen version may still be named.
    pub grace_blocks: u64,
}

/// The rules that a receipt breaks. A body that does not decode breaks [`Rule::Form`], one that opens to bytes which are no manifest
/// [`Rule::ManifestForm`]: neither has a [`Case`].
pub fn broken(state: &State, case: &Case<'_>) -> Vec<Rule> {
    let receipt = case.receipt;
    if !receipt.reason.is_billable() {
        return if receipt.fee.0 == 0 { Vec::new() } else { vec![Rule::Unbillable] };
    }
    let quote = case.quote.filter(|quote| quote.hash() == receipt.quote);
    let manifest = case.manifest.filter(|manifest| manifest.root() == receipt.manifest);
    let mut rules = Vec::new();
    let mut hold = |rule: Rule, holds: bool| {
        if !holds {
            rules.push(rule);
        }
    };
    let weights: u64 = receipt.spans.iter().map(|span| u64::from(span.weight)).sum();
    hold(Rule::Weights, weights <= receipt.weight_total && receipt.cumulative_after >= receipt.fee);
    if let Some(quote) = quote {
        let fee = split::fee(receipt.tokens_in, receipt.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee);
        hold(Rule::Fee, fee == Ok(receipt.fee));
    }
    if let Some(manifest) = manifest {
        hold(Rule::ManifestMatch, matches(receipt, manifest));
        hold(Rule::Versions, are_versions(state, manifest));
        let outermost = manifest.assets.last().and_then(|asset| state.version(asset.version));
        hold(Rule::SplitTable, outermost.is_some_and(|version| version.split == manifest.split));
        hold(Rule::Datanets, outermost.is_some_and(|version| are_datanets(version, manifest)));
        hold(Rule::Index, is_index(state, receipt, manifest));
    }
    let all = || {
        let datanets = manifest.into_iter().flat_map(|manifest| manifest.datanets.iter().map(|datanet| datanet.version));
        receipt.assets.iter().copied().chain(datanets)
    };
    let named = receipt.block.number;
    hold(Rule::Unpublished, all().all(|version| is_published(state, version, named)));
    let seen = named.checked_sub(case.grace_blocks);
    hold(Rule::Frozen, seen.is_none_or(|seen| all().all(|version| !is_frozen(state, version, seen))));
    if let Some(quote) = quote {
        hold(Rule::QuoteForeign, quote.node == receipt.node);
        let terms = (quote.manifest, quote.profile, quote.class) == (receipt.manifest, receipt.profile, receipt.class);
        hold(Rule::QuoteTerms, terms);
        hold(Rule::QuoteTokens, receipt.tokens_out <= quote.tokens_max);
        hold(Rule::QuoteBlock, quote.block == receipt.block && receipt.block.number <= quote.expiry);
    }
    rules
}

/// Whether a proof that a rule is broken opens the quote, and whether the manifest: as little as the rule needs.
pub const fn needs(rule: Rule) -> (bool, bool) {
    match rule {
        Rule::Fee | Rule::QuoteForeign | Rule::QuoteTerms | Rule::QuoteTokens | Rule::QuoteBlock => (true, false),
        Rule::Form | Rule::Unbillable | Rule::Weights => (false, false),
        _ => (false, true),
    }
}

/// What of a case such a proof opens.
pub const fn opened<'a>(rule: Rule, case: &Case<'a>) -> (Option<&'a Quote>, Option<&'a Manifest>) {
    let (quote, manifest) = needs(rule);
    (if quote { case.quote } else { None }, if manifest { case.manifest } else { None })
}

fn is_published(state: &State, version: AssetVersion, block: u64) -> bool {
    state.version(version).is_some_and(|known| known.published.0 <= block)
}

fn is_frozen(state: &State, version: AssetVersion, block: u64) -> bool {
    state.version(version).and_then(|known| known.frozen).is_some_and(|frozen| frozen <= block)
}

fn matches(receipt: &Receipt, manifest: &Manifest) -> bool {
    let assets = manifest.assets.iter().map(|asset| asset.version);
    receipt.index == manifest.index && receipt.parameters == manifest.parameters && assets.eq(receipt.assets.iter().copied())
}

fn are_versions(state: &State, manifest: &Manifest) -> bool {
    let Some((outermost, inner)) = manifest.assets.split_last() else { return false };
    let is_known = manifest.assets.iter().all(|row| {
        row.kind != AssetKind::Datanet
            && state.asset(row.version.asset).is_some_and(|asset| asset.kind == row.kind)
            && state.version(row.version).is_some_and(|version| version.content == row.content)
    });
    let ascends = manifest.assets.windows(2).all(|pair| pair[0].kind.code() < pair[1].kind.code());
    let Some(version) = state.version(outermost.version) else { return false };
    let has_parents =
        version.parents.len() == inner.len() && version.parents.iter().all(|parent| inner.iter().any(|row| row.version == *parent));
    is_known && ascends && has_parents
}

fn are_datanets(outermost: &Version, manifest: &Manifest) -> bool {
    let declared = manifest.datanets.iter().map(|row| row.version).eq(outermost.datanets.iter().copied());
    declared && manifest.datanets.iter().all(|row| row.treasury == treasury(row.version.asset))
}

fn is_index(state: &State, receipt: &Receipt, manifest: &Manifest) -> bool {
    let posted = manifest.assets.last().and_then(|asset| state.index(asset.version));
    posted.is_some_and(|posted| {
        posted.root != Hash32::ZERO
            && posted.block <= receipt.block.number
            && (posted.root, posted.parameters) == (manifest.index, manifest.parameters)
    })
}
