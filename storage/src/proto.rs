//! Fragments between nodes: where they belong, how they are served, how an object is fetched.
//!
//! Goals: any `data` honest holders give an object back; a wrong byte names its holder; every message, table and retry is bounded.
//! Non-goals: finding peers, opening connections (`p2p`), payment.
//!
//! Flow. A contributor encodes a shard, asks [`placement`] for the holders and runs a [`spread::Spread`], which sends each its [`message::Request::Put`]; a holder
//! runs [`provide::plan_put`], stores, answers [`message::Reply::Stored`]. Whoever wants the object runs a [`fetch::Fetch`]: it asks holders to
//! [`message::Request::Locate`] the object (manifest and indices come back, the manifest is checked against the object's id), reads as many fragments
//! as the code needs, one holder each, in [`range`]s of which each 16 KiB is checked on arrival, goes on elsewhere where a holder fails or is late, and
//! ends with the object or with an error that counts what was found. A lost or late holder costs what it still owed; a lying one leaves
//! [`fetch::Evidence`].
//!
//! Cost of a 64 MiB shard at 3 of 5: three fragments of 21.3 MiB, 84 KiB of hashes with each, and five replies of about 450 bytes.
//! Beside the fragments: [`gate`], how a contribution is shown to the gate of a Datanet, and [`files`], how adapters travel.
//! Who holds what is written in records that holders keep and tell each other ([`keeping`]). What is lost is noticed by [`audit`] and brought back by [`repair`].
//! Placement is rendezvous hashing (Thaler and Ravishankar, 1998).

pub mod audit;
pub mod fetch;
pub mod files;
pub mod gate;
pub mod keeping;
pub mod message;
pub mod placement;
pub mod provide;
pub mod range;
pub mod repair;
pub mod spread;
