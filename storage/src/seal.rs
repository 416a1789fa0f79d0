//! Private Datanets: sealed segments, keys wrapped for members, and a log of who was let in and who read what.
//!
//! Goals: holders, auditors and the wire see no plaintext; a member opens what was sealed while it had a grant; who was revoked, or whose grant ran out,
//! opens nothing that is sealed after; every member sees the same log of grants and reads. Non-goals: taking back what somebody could read already (no
//! cipher can), hiding sizes and times, proof that a reader logged its read (the log shows what members and owner said, not what they did with
//! bytes they hold).
//!
//! - [`key`]: a Datanet has one [`key::DataKey`] per key epoch, 32 random bytes of its owner. It is wrapped for a member's node key (X25519 on the
//!   curve of its ed25519 identity), so a grant needs nothing of the member but its id.
//! - [`segment`]: the file that takes a shard's place as an object: pieces of 64 KiB under XChaCha20-Poly1305, each bound to Datanet, version, segment
//!   and position.
//! - [`book`]: a log with its entries, and the keys in it that one member can open.
//! - [`log`]: grants, revocations, re-keyings and reads in a chain of hashes, replayed by every member before a key in it is used.
//!
//! *Nonces.* No counter is kept anywhere, and none may be: two machines of an owner would count alike. A segment's key follows from the data key and the segment's
//! name, its nonces from a keyed hash of name and plaintext (a synthetic IV, after Rogaway and Shrimpton 2006), and the piece's position. So
//! a nonce comes again only with the same key, plaintext and name, and gives the same bytes; sealing a changed segment under its old name is safe, and
//! shows no more than that it changed. A wrap's key is drawn from a secret that follows from what it wraps, and used once.
//!
//! *Cost.* Two passes over a segment, one of BLAKE3 and one of ChaCha20; 53 bytes and 16 per 64 KiB are added, 16.4 KB to 64 MiB, 0.024 %. A wrap is 80
//! bytes and two multiplications on the curve: re-keying for 1,000 members is an entry of 112 KB. Two synthetic IVs of one segment's key meet after some
//! 2^64 changes of that segment.

pub mod book;
pub mod key;
pub mod log;
pub mod segment;

#[cfg(test)]
mod tests;
