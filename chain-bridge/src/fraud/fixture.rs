//! A tiny answer and Datanet with all their trees, made with `types` alone; the test on a real chain includes this file too.

use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, Hash32},
    merkle::{Opening, Tree},
    quote::{Class, Profile},
    receipt::{Reason, Receipt, Span},
    text,
    time::BlockRef,
};

/// A leaf with its opening.
pub(super) type Open = (Vec<u8>, Opening);

/// What the trees are made of.
pub(super) struct World {
    pub(super) answer: &'static str,
    pub(super) source: &'static str,
    /// Bytes that the Datanet holds after the segment opened here.
    pub(super) beyond: u64,
    salt: Hash32,
}

/// The quote stands in both texts.
pub(super) const QUOTE: &str = "a febrile seizure is a convulsion that occurs with fever";

impl World {
    pub(super) fn new() -> Self {
        Self {
            answer: "You asked what it is. In short, a febrile seizure is a convulsion that occurs with fever in a young child, \
                     and most of them pass within minutes without lasting harm.",
            source: "Abdominal pain is pain felt between the chest and groin.\0Febrile seizure: a febrile seizure is a convulsion \
                     that occurs with fever, usually between six months and six years.\0",
            beyond: 0,
            salt: Hash32([42; 32]),
        }
    }

    /// Answer leaves by P3: leaf salt, running weight, words with weights, text.
    fn answer_leaves(&self) -> Vec<Vec<u8>> {
        const WEIGHT: u32 = 512;
        let text = self.answer.as_bytes();
        let words = text::words(self.answer);
        (0..text::leaf_count(text.len()))
            .map(|index| {
                let begin = index * text::LEAF_STRIDE;
                let here: Vec<_> = words.iter().filter(|w| (begin..begin + text::LEAF_STRIDE).contains(&w.start)).collect();
                let before = words.iter().filter(|w| w.start < begin).count() as u64 * u64::from(WEIGHT);
                let mut leaf = text::leaf_salt(self.salt, index).0.to_vec();
                leaf.extend(before.to_be_bytes());
                leaf.push(here.len() as u8);
                for word in here {
                    leaf.push((word.start - begin) as u8);
                    leaf.extend((word.len() as u16).to_be_bytes());
                    leaf.extend(WEIGHT.to_be_bytes());
                }
                leaf.extend(&text[text::leaf_range(index, text.len())]);
                leaf
            })
            .collect()
    }

    fn answer_tree(&self) -> Tree {
        let digests = self.answer_leaves().iter().map(|leaf| types::merkle::leaf(leaf)).collect();
        Tree::new(digests, self.answer.len() as u64)
    }

    fn text_tree(&self) -> Tree {
        let digests = text::leaves(self.source.as_bytes()).map(types::merkle::leaf).collect();
        Tree::new(digests, self.source.len() as u64)
    }

    fn segment_leaf(&self) -> Vec<u8> {
        let mut leaf = self.text_tree().root().0.to_vec();
        leaf.extend([1; 32]);
        leaf.extend([2; 32]);
        leaf.extend(0_u64.to_be_bytes());
        leaf.extend((self.source.len() as u64).to_be_bytes());
        leaf.extend(20_u64.to_be_bytes());
        leaf
    }

    fn datanet_leaf(&self) -> Vec<u8> {
        let mut leaf = 2_u64.to_be_bytes().to_vec();
        leaf.extend(1_u32.to_be_bytes());
        leaf.extend((self.source.len() as u64 + self.beyond).to_be_bytes());
        leaf.extend(Tree::over([self.segment_leaf().as_slice()]).root().0);
        leaf
    }

    pub(super) fn open_answer(&self, span: &Span) -> Open {
        let index = (span.start as usize / text::LEAF_STRIDE).min(self.answer_leaves().len() - 1);
        (self.answer_leaves()[index].clone(), self.answer_tree().open(index as u64).unwrap())
    }

    pub(super) fn open_datanet(&self) -> Open {
        let leaf = self.datanet_leaf();
        let opening = Tree::over([leaf.as_slice()]).open(0).unwrap();
        (leaf, opening)
    }

    pub(super) fn open_segment(&self) -> Open {
        let leaf = self.segment_leaf();
        let opening = Tree::over([leaf.as_slice()]).open(0).unwrap();
        (leaf, opening)
    }

    pub(super) fn open_text(&self, span: &Span) -> Open {
        let leaves: Vec<_> = text::leaves(self.source.as_bytes()).map(<[u8]>::to_vec).collect();
        let index = (span.position as usize / text::LEAF_STRIDE).min(leaves.len() - 1);
        (leaves[index].clone(), self.text_tree().open(index as u64).unwrap())
    }

    /// The true span of [`QUOTE`].
    pub(super) fn true_span(&self, payee: Address) -> Span {
        Span {
            start: self.answer.find(QUOTE).unwrap() as u32,
            length: QUOTE.len() as u16,
            datanet: 0,
            position: self.source.find(QUOTE).unwrap() as u64,
            weight: 10 * 512,
            payee,
        }
    }

    pub(super) fn receipt(&self, node: Address, client: Address, fee: u128, spans: Vec<Span>) -> Receipt {
        let leaf = self.datanet_leaf();
        Receipt {
            request: Hash32([1; 32]),
            attempt: 0,
            client,
            node,
            lane: Hash32([5; 32]),
            cumulative_after: Amount(fee),
            manifest: Hash32([7; 32]),
            index: Tree::over([leaf.as_slice()]).root(),
            parameters: 1,
            profile: Profile::Exact,
            class: Class::Checked,
            block: BlockRef { number: 10, hash: Hash32([11; 32]) },
            prompt_root: Hash32([12; 32]),
            answer_root: self.answer_tree().root(),
            token_ids: Hash32([14; 32]),
            tokens_in: 15,
            first_token: 0,
            tokens_out: 40,
            quote: Hash32([18; 32]),
            fee: Amount(fee),
            reason: Reason::Stop,
            weight_total: 28 * 512,
            fingerprint_root: Hash32::ZERO,
            assets: vec![AssetVersion { asset: AssetId(1), version: 1 }],
            spans,
            masks: vec![],
        }
    }
}
