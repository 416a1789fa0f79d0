//! Whose data an answer drew on, what each is owed, and how that is checked.
//!
//! An answer is compared, byte for byte, with the documents of the Datanets that its manifest declares. What stands there verbatim, is long and
//! rare enough and was not in the prompt, pays its earliest contributor; the rest of the data share goes to the Datanets' treasuries. All of it
//! is integer arithmetic over committed text: two nodes with the same index, prompt and answer sign the same receipt, and a false span is
//! refuted by opening a few leaves on chain.
//!
//! | module | question |
//! |---|---|
//! | [`parameters`] | what is a word worth? |
//! | [`index`] | where does a text stand, who had it first, and how is that proved under one root? |
//! | [`span`] | which runs of an answer are paid, which only repeat the prompt? |
//! | [`prompt`], [`answer`] | what exactly do the salted roots commit to? |
//! | [`shares`], [`epoch`] | who gets which wei, of one receipt and of an epoch? |
//! | [`bundle`] | does the evidence of one answer hold together, with nothing else at hand? |
//! | [`fault`], [`proof`] | which spans can be proved false on chain, and which can be proved missing or misdirected? |
//! | [`transcript`], [`watch`] | what is shown of an answer, and what does a contributor with its own text alone find missing in it? |
//! | [`message`] | what do nodes and payees ask each other about an epoch? |
//! | [`measure`], [`ratio`] | how much of many answers is attributed, how much where nothing can be, how do OLMoTrace's rules agree? |
//! | [`check`] | which receipts are checked by whom, and what did a checker find? |
//!
//! Feature `disk` (on by default, off in simulations) adds [`disk`]: segments as files, mapped, and built in a given memory. All else is pure.
//!
//! Absent on purpose: models, sockets, chains, clocks, files anywhere else, and floating point. Verbatim matches are not causal, and nothing here says they are.
//! Near copies are paid through their cluster's first document ([`index::Clusters`]); `storage` finds them, for the gate and for the index alike.
//!
//! ```
//! use attribution::{index::{DatanetIndex, Index, Segment, Source}, parameters::Parameters, span::attribute};
//! use types::{id::{Address, AssetId, AssetVersion}, text::text_root};
//!
//! let text = "Bilateral sensorineural hearing impairment of congenital onset affecting speech.\0".as_bytes();
//! let source = Source { contributor: Address([7; 20]), block: 10, ordinal: 0, text_root: text_root(text), text };
//! let version = AssetVersion { asset: AssetId(3), version: 1 };
//! let datanet = DatanetIndex::new(version, vec![Segment::build(&[source], 0)?])?;
//! let index = Index::new(vec![datanet.into()])?;
//!
//! let parameters = Parameters::builtin(1).expect("set 1 is built in");
//! let answer = "It is a sensorineural hearing impairment of congenital onset affecting speech.";
//! let found = attribute(&index, parameters, b"\x02What is it?\0", answer)?;
//! assert_eq!(found.spans[0].payee, Address([7; 20]));
//! assert_eq!(&answer[found.spans[0].start as usize..][..found.spans[0].length.into()], "sensorineural hearing impairment of congenital onset affecting speech");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod answer;
pub mod bundle;
pub mod check;
#[cfg(feature = "disk")]
pub mod disk;
pub mod epoch;
pub mod fault;
pub mod index;
pub mod measure;
pub mod message;
pub mod parameters;
pub mod prompt;
pub mod proof;
pub mod ratio;
pub mod shares;
pub mod span;
pub mod transcript;
pub mod watch;

#[cfg(test)]
pub(crate) mod sample;
