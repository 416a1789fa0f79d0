use std::collections::BTreeSet;

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use types::id::{AssetId, Hash32, NodeId};

use super::{
    key::{BadMember, DataKey, MemberSecret, WRAPPED_BYTES, Wrapped, unwrap, wrap},
    log::{Entry, Event, Head, Log, LogError, MustRekey, Purpose, Purposes, Signed},
    segment::{HEADER_BYTES, Header, Name, OpenError, PIECE_BYTES, PLAIN_BYTES_MAX, SealError, TAG_BYTES, open, open_piece, seal},
};

const DATANET: AssetId = AssetId(42);
const NAME: Name = Name { datanet: DATANET, version: 3, segment: 5 };

fn key(epoch: u32) -> DataKey {
    DataKey::new(DATANET, epoch, [u8::try_from(epoch).unwrap() + 1; 32])
}

fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 256).unwrap()).collect()
}

fn member(index: u8) -> MemberSecret {
    MemberSecret::of_seed(&[index; 32])
}

mod vectors {
    use serde_json::Value;

    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let text = value.as_str().unwrap();
        hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap()
    }

    fn fixed<const N: usize>(value: &Value) -> [u8; N] {
        bytes(value).try_into().unwrap()
    }

    fn number(value: &Value) -> u32 {
        u32::try_from(value.as_u64().unwrap()).unwrap()
    }

    fn vectors() -> Value {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/storage_vectors.json")).unwrap();
        all["seal"].clone()
    }

    fn keys(vectors: &Value) -> Vec<DataKey> {
        let datanet = AssetId(vectors["datanet"].as_u64().unwrap());
        (0..).zip(vectors["keys"].as_array().unwrap()).map(|(epoch, key)| DataKey::new(datanet, epoch, fixed(key))).collect()
    }

    #[test]
    fn wraps_are_those_of_the_vectors_and_open_for_their_member_alone() {
        let vectors = vectors();
        let keys = keys(&vectors);
        let members: Vec<_> = vectors["seeds"].as_array().unwrap().iter().map(|seed| MemberSecret::of_seed(&fixed(seed))).collect();
        for (member, id) in members.iter().zip(vectors["members"].as_array().unwrap()) {
            assert_eq!(member.id().to_string(), id.as_str().unwrap());
        }
        for (key, commitment) in keys.iter().zip(vectors["commitments"].as_array().unwrap()) {
            assert_eq!(key.commitment(), fixed::<32>(commitment));
        }
        let wraps = vectors["wraps"].as_array().unwrap();
        assert_eq!(wraps.len(), 6);
        for case in wraps {
            let key = &keys[usize::try_from(number(&case["epoch"])).unwrap()];
            let at = usize::try_from(number(&case["member"])).unwrap();
            let wrapped = Wrapped(fixed(&case["wrapped"]));
            assert_eq!(wrap(key, members[at].id()), Ok(wrapped));
            for (other, member) in members.iter().enumerate() {
                let opened = unwrap(&wrapped, member, key.datanet(), key.epoch());
                assert_eq!(opened.is_ok(), other == at);
                assert!(opened.is_err() || opened.unwrap().commitment() == key.commitment());
            }
        }
    }

    #[test]
    fn segments_are_those_of_the_vectors() {
        let vectors = vectors();
        let keys = keys(&vectors);
        for case in vectors["segments"].as_array().unwrap() {
            let key = &keys[usize::try_from(number(&case["epoch"])).unwrap()];
            let name = Name { datanet: key.datanet(), version: number(&case["version"]), segment: number(&case["segment"]) };
            let text = plain(usize::try_from(number(&case["length"])).unwrap());
            let sealed = seal(key, name, &text).unwrap();
            assert_eq!(sealed[..sealed.len().min(85)], bytes(&case["head"]));
            assert_eq!(sealed.len(), usize::try_from(number(&case["bytes"])).unwrap());
            assert_eq!(types::id::BlobId::of(&sealed).to_string(), case["blake3"].as_str().unwrap());
            assert_eq!(open(key, name, &sealed), Ok(text));
        }
    }

    #[test]
    fn the_log_of_the_vectors_replays_to_the_head_its_owner_signed() {
        let vectors = vectors();
        let owner = MemberSecret::of_seed(&fixed(&vectors["seeds"][0])).id();
        let reader = MemberSecret::of_seed(&fixed(&vectors["seeds"][1])).id();
        let mut log = Log::new(DATANET, owner);
        for (number, case) in vectors["log"].as_array().unwrap().iter().enumerate() {
            let body = bytes(&case["body"]);
            let entry = Entry::decode(&body).unwrap();
            assert_eq!(entry.encode(), body);
            let signed = Signed { entry, signature: fixed(&case["signature"]) };
            assert_eq!(signed.hash(), Hash32(fixed(&case["hash"])));
            log.append(&signed).unwrap();
            let expected = [None, Some(()), Some(()), None, None][number];
            assert_eq!(log.grant(reader, 200).map(|_| ()), expected, "after entry {number}");
        }
        assert!(log.head().is_signed_by(owner, &fixed(&vectors["headSignature"])));
        assert!(!log.head().is_signed_by(reader, &fixed(&vectors["headSignature"])));
        assert_eq!(log.commitment(1), Some(fixed(&vectors["commitments"][1])));
        assert_eq!(log.sealing_epoch(200), Ok(1));
    }
}

#[test]
fn segments_of_all_sizes_come_back_whole_and_piece_by_piece() {
    for length in [1, 15, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 77] {
        let text = plain(length);
        let sealed = seal(&key(0), NAME, &text).unwrap();
        let header = Header::decode(&sealed).unwrap();
        assert_eq!((sealed.len(), header.sealed_len(), header.length), (header.sealed_len(), sealed.len(), length));
        assert_eq!(open(&key(0), NAME, &sealed).unwrap(), text);
        let mut pieces = Vec::new();
        for piece in 0..header.pieces() {
            pieces.extend(open_piece(&key(0), NAME, &header, piece, &sealed[header.piece(piece).unwrap()]).unwrap());
        }
        assert_eq!(pieces, text);
        assert_eq!(header.piece(header.pieces()), None);
    }
    assert_eq!(seal(&key(0), NAME, &[]), Err(SealError::Length { got: 0 }));
    let largest = seal(&key(0), NAME, &vec![7; PLAIN_BYTES_MAX]).unwrap();
    assert!(largest.len() <= crate::erasure::OBJECT_BYTES_MAX && crate::erasure::OBJECT_BYTES_MAX - largest.len() < 2 * TAG_BYTES);
    assert_eq!(seal(&key(0), NAME, &vec![7; PLAIN_BYTES_MAX + 1]), Err(SealError::Length { got: PLAIN_BYTES_MAX + 1 }));
    let other = SealError::Datanet { expected: DATANET, got: AssetId(1) };
    assert_eq!(seal(&DataKey::new(AssetId(1), 0, [1; 32]), NAME, b"x"), Err(other));
}

type Change = Box<dyn Fn(&mut Vec<u8>)>;
/// What was done to the bytes, and to whom they are shown.
type Tampering = (&'static str, Change, Name, DataKey);

#[test]
fn whatever_is_changed_nothing_opens() {
    let text = plain(2 * PIECE_BYTES + 100);
    let sealed = seal(&key(0), NAME, &text).unwrap();
    let header = Header::decode(&sealed).unwrap();
    let second = header.piece(1).unwrap();
    let sibling = seal(&key(0), Name { segment: 6, ..NAME }, &text).unwrap();
    let older = seal(&key(0), NAME, &plain(2 * PIECE_BYTES + 100).iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    let set = |at: usize, value: u8| -> Change { Box::new(move |bytes| bytes[at] = value) };
    let flip = |at: usize| -> Change { Box::new(move |bytes| bytes[at] ^= 1) };
    let splice = |from: Vec<u8>, range: std::ops::Range<usize>, to: usize| -> Change {
        Box::new(move |bytes| bytes[to..to + range.len()].copy_from_slice(&from[range.clone()]))
    };
    let table: Vec<Tampering> = vec![
        ("magic", flip(0), NAME, key(0)),
        ("format", set(8, 2), NAME, key(0)),
        ("Datanet in the header", flip(16), NAME, key(0)),
        ("version in the header", flip(20), NAME, key(0)),
        ("segment in the header", flip(24), NAME, key(0)),
        ("key epoch in the header", flip(28), NAME, key(0)),
        ("key epoch in the header, shown to that epoch's key", flip(28), NAME, key(1)),
        ("length one less", flip(36), NAME, key(0)),
        ("IV", flip(37), NAME, key(0)),
        ("first byte", flip(HEADER_BYTES), NAME, key(0)),
        ("a tag", flip(second.start - 1), NAME, key(0)),
        ("last byte", flip(sealed.len() - 1), NAME, key(0)),
        ("cut by one", Box::new(|bytes| bytes.truncate(bytes.len() - 1)), NAME, key(0)),
        (
            "last piece cut off",
            Box::new({
                let last = header.piece(2).unwrap().start;
                move |bytes| bytes.truncate(last)
            }),
            NAME,
            key(0),
        ),
        ("a byte more", Box::new(|bytes| bytes.push(0)), NAME, key(0)),
        ("empty", Box::new(Vec::clear), NAME, key(0)),
        ("second piece in the first's place", splice(sealed.clone(), second.clone(), header.piece(0).unwrap().start), NAME, key(0)),
        ("the same piece of another segment", splice(sibling.clone(), second.clone(), second.start), NAME, key(0)),
        ("the same piece of an older state", splice(older, second.clone(), second.start), NAME, key(0)),
        ("another segment under this one's header", splice(sibling, HEADER_BYTES..sealed.len(), HEADER_BYTES), NAME, key(0)),
        ("asked for another version", Box::new(|_| {}), Name { version: 4, ..NAME }, key(0)),
        ("asked for another segment", Box::new(|_| {}), Name { segment: 6, ..NAME }, key(0)),
        ("asked for another Datanet", Box::new(|_| {}), Name { datanet: AssetId(43), ..NAME }, key(0)),
        ("another key epoch's key", Box::new(|_| {}), NAME, key(1)),
        ("another key", Box::new(|_| {}), NAME, DataKey::new(DATANET, 0, [9; 32])),
        (
            "another Datanet's key of the same bytes and epoch",
            set(16, 43),
            Name { datanet: AssetId(43), ..NAME },
            DataKey::new(AssetId(43), 0, [1; 32]),
        ),
    ];
    assert_eq!(open(&key(0), NAME, &sealed).as_ref(), Ok(&text));
    for (what, change, name, key) in table {
        let mut bytes = sealed.clone();
        change(&mut bytes);
        assert!(open(&key, name, &bytes).is_err(), "{what}");
    }
    assert_eq!(open(&key(1), NAME, &sealed), Err(OpenError::Epoch { expected: 0, got: 1 }));
    let foreign = Name { segment: 6, ..NAME };
    assert_eq!(open(&key(0), foreign, &sealed), Err(OpenError::Name { expected: foreign, got: NAME }));
}

#[test]
fn no_sixteen_bytes_of_plaintext_appear_in_sealed_bytes_or_in_the_log() {
    let line = b"HP:0001251 Ataxia. A loss of the coordination of movements, most often of cerebellar origin.\n";
    let text: Vec<u8> = line.iter().copied().cycle().take(150_000).chain([0; 20_000]).chain(plain(30_000)).collect();
    let windows: BTreeSet<&[u8]> = text.windows(16).collect();
    let sealed = seal(&key(0), NAME, &text).unwrap();
    assert!(sealed.windows(16).all(|window| !windows.contains(window)));
    // The search finds what is there.
    assert!([b"--------".as_slice(), &text[70_000..70_016]].concat().windows(16).any(|window| windows.contains(window)));
    // Equal pieces of plaintext do not show as equal pieces.
    let zeros = seal(&key(0), NAME, &vec![0; 2 * PIECE_BYTES]).unwrap();
    let blocks: BTreeSet<_> = zeros[HEADER_BYTES..].chunks_exact(16).collect();
    assert_eq!(blocks.len(), (zeros.len() - HEADER_BYTES) / 16);
    let wrapped = wrap(&key(0), member(1).id()).unwrap().0;
    assert!(wrapped.windows(16).all(|window| window != [1; 16]), "nor does a key in its wrap");
}

#[test]
fn a_nonce_returns_only_with_the_same_bytes() {
    // Every way two segments can differ gives another key or another IV: what is drawn from is the whole of key, name and text.
    let iv = |key: &DataKey, name: Name, text: &[u8]| seal(key, name, text).unwrap()[HEADER_BYTES - 16..HEADER_BYTES].to_vec();
    let mut seen = BTreeSet::new();
    for epoch in 0..3 {
        for version in 0..3 {
            for segment in 0..3 {
                for text in [b"a".as_slice(), b"b", b"ab", b"ba"] {
                    assert!(seen.insert(iv(&key(epoch), Name { datanet: DATANET, version, segment }, text)));
                }
            }
        }
    }
    assert_eq!(iv(&key(0), NAME, b"a"), iv(&key(0), NAME, b"a"));
}

#[test]
fn a_changed_wrap_or_one_for_another_datanet_or_epoch_opens_for_nobody() {
    let wrapped = wrap(&key(0), member(1).id()).unwrap();
    assert!(unwrap(&wrapped, &member(1), DATANET, 0).is_ok());
    for at in 0..WRAPPED_BYTES {
        let mut changed = wrapped;
        changed.0[at] ^= 2;
        assert!(unwrap(&changed, &member(1), DATANET, 0).is_err(), "byte {at}");
    }
    assert!(unwrap(&wrapped, &member(1), DATANET, 1).is_err() && unwrap(&wrapped, &member(1), AssetId(43), 0).is_err());
    assert!(unwrap(&Wrapped([0; WRAPPED_BYTES]), &member(1), DATANET, 0).is_err(), "a point that gives no secret");
    // The neutral point, a point of order two, and bytes that are no point.
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    let neutral = std::array::from_fn(|i| u8::from(i == 0));
    for id in [neutral, order_two, [2; 32]] {
        assert_eq!(wrap(&key(0), NodeId(id)), Err(BadMember(NodeId(id))));
    }
}

/// A Datanet's owner with its log and keys.
struct Net {
    log: Log,
    keys: Vec<DataKey>,
}

fn signed(author: u8, entry: Entry) -> Signed {
    let signature = SigningKey::from_bytes(&[author; 32]).sign(&entry.message()).to_bytes();
    Signed { entry, signature }
}

impl Net {
    fn new() -> Self {
        let mut net = Self { log: Log::new(DATANET, member(0).id()), keys: Vec::new() };
        net.rekey(10).unwrap();
        net
    }

    fn enter(&mut self, author: u8, block: u64, event: Event) -> Result<Signed, LogError> {
        let entry = signed(author, self.log.draft(member(author).id(), block, event));
        self.log.append(&entry).map(|()| entry)
    }

    fn rekey(&mut self, block: u64) -> Result<Signed, LogError> {
        let epoch = u32::try_from(self.keys.len()).unwrap();
        let fresh = key(epoch);
        let keys = self.log.recipients(block).into_iter().map(|member| (member, wrap(&fresh, member).unwrap())).collect();
        let entered = self.enter(0, block, Event::Rekeyed { epoch, commitment: fresh.commitment(), keys })?;
        self.keys.push(fresh);
        Ok(entered)
    }

    fn grant(&mut self, to: u8, block: u64, expiry: u64, purposes: &[Purpose]) -> Result<Signed, LogError> {
        let id = member(to).id();
        let keys = (0..).zip(&self.keys).map(|(epoch, key)| (epoch, wrap(key, id).unwrap())).collect();
        self.enter(0, block, Event::Granted { member: id, purposes: Purposes::of(purposes), expiry, keys })
    }
}

fn read(purpose: Purpose) -> Event {
    Event::Read { version: 1, segment: 0, purpose }
}

#[test]
fn a_revoked_member_reads_what_it_could_and_nothing_that_comes_after() {
    let mut net = Net::new();
    net.grant(1, 11, 1_000, &[Purpose::Read]).unwrap();
    net.grant(2, 12, 1_000, &[Purpose::Read, Purpose::Train]).unwrap();
    assert_eq!(net.log.sealing_epoch(13), Ok(0));
    let first = seal(&net.keys[0], NAME, b"first version").unwrap();
    net.enter(0, 20, Event::Revoked { member: member(1).id() }).unwrap();
    assert_eq!(net.log.sealing_epoch(20), Err(MustRekey::Outsider { member: member(1).id(), epoch: 0 }));
    let Event::Rekeyed { keys, commitment, .. } = net.rekey(21).unwrap().entry.event else { panic!("a re-keying was entered") };
    assert_eq!(net.log.sealing_epoch(21), Ok(1));
    let next = Name { version: 4, ..NAME };
    let second = seal(&net.keys[1], next, b"second version").unwrap();

    let opened = |index: u8| keys.iter().find_map(|(_, wrapped)| unwrap(wrapped, &member(index), DATANET, 1).ok());
    assert!(opened(1).is_none(), "no wrap of the new key opens for who was revoked");
    assert!(open(&net.keys[0], next, &second).is_err(), "nor does the key it has");
    assert_eq!(open(&net.keys[0], NAME, &first).unwrap(), b"first version");
    let theirs = opened(2).unwrap();
    assert_eq!((open(&theirs, next, &second).unwrap().as_slice(), theirs.commitment()), (b"second version".as_slice(), commitment));
}

#[test]
fn a_grant_that_runs_out_makes_the_owner_rekey_too() {
    let mut net = Net::new();
    net.grant(1, 11, 50, &[Purpose::Read]).unwrap();
    assert_eq!((net.log.sealing_epoch(50), net.log.grant(member(1).id(), 51)), (Ok(0), None));
    assert_eq!(net.log.sealing_epoch(51), Err(MustRekey::Outsider { member: member(1).id(), epoch: 0 }));
    net.rekey(51).unwrap();
    assert_eq!((net.log.sealing_epoch(52), net.log.recipients(52)), (Ok(1), vec![member(0).id()]));
    assert_eq!(Log::new(DATANET, member(0).id()).sealing_epoch(0), Err(MustRekey::NoKey));
}

#[test]
fn entries_against_the_rules_are_refused_by_name_and_change_nothing() {
    let mut net = Net::new();
    net.grant(1, 11, 100, &[Purpose::Read]).unwrap();
    net.enter(1, 12, read(Purpose::Read)).unwrap();
    let before = net.log.head();
    let id = member(2).id();
    let granted = |expiry, keys| Event::Granted { member: id, purposes: Purposes::of(&[Purpose::Read]), expiry, keys };
    let wrapped = Wrapped([1; WRAPPED_BYTES]);
    let commitment = [0; 32];
    for (what, author, block, event) in [
        ("only the owner grants", 1, 20, granted(100, Vec::new())),
        ("only the owner grants", 1, 20, Event::Revoked { member: member(1).id() }),
        ("only members with a grant", 2, 20, read(Purpose::Read)),
        ("only members with a grant", 1, 20, read(Purpose::Train)),
        ("only members with a grant", 1, 101, read(Purpose::Read)),
        ("before that of the entry before", 1, 11, read(Purpose::Read)),
        ("at its own block at least", 0, 20, granted(19, Vec::new())),
        ("ascending epochs", 0, 20, granted(100, vec![(0, wrapped), (0, wrapped)])),
        ("has not begun", 0, 20, granted(100, vec![(1, wrapped)])),
        ("nobody is revoked", 0, 20, Event::Revoked { member: id }),
        ("follow each other", 0, 20, Event::Rekeyed { epoch: 0, commitment, keys: Vec::new() }),
        ("follow each other", 0, 20, Event::Rekeyed { epoch: 2, commitment, keys: Vec::new() }),
        ("exactly those with a grant", 0, 20, Event::Rekeyed { epoch: 1, commitment, keys: vec![(member(0).id(), wrapped)] }),
        (
            "exactly those with a grant",
            0,
            101,
            Event::Rekeyed { epoch: 1, commitment, keys: vec![(member(0).id(), wrapped), (id, wrapped)] },
        ),
    ] {
        let error = net.enter(author, block, event).unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(net.log.head(), before);
    }
    let good = net.log.draft(member(1).id(), 20, read(Purpose::Read));
    let forged = Signed { entry: good.clone(), ..signed(2, good.clone()) };
    assert_eq!(net.log.append(&forged), Err(LogError::Signature { number: 3, author: member(1).id() }));
    for changed in [
        Entry { number: 4, ..good.clone() },
        Entry { previous: Hash32::ZERO, ..good.clone() },
        Entry { datanet: AssetId(43), ..good.clone() },
    ] {
        assert!(matches!(net.log.append(&signed(1, changed)), Err(LogError::Order { expected: 3, .. })));
    }
    net.log.append(&signed(1, good)).unwrap();
}

#[test]
fn a_log_that_drops_or_changes_an_entry_does_not_pass_a_head_that_was_signed() {
    let mut net = Net::new();
    let mut entries = vec![net.grant(1, 11, 100, &[Purpose::Read]).unwrap()];
    entries.push(net.enter(1, 12, read(Purpose::Read)).unwrap());
    let seen = net.log.head();
    net.enter(1, 13, read(Purpose::Read)).unwrap();
    assert!(net.log.passes(&seen) && net.log.passes(&net.log.head()) && net.log.passes(&Head { length: 0, hash: Hash32::ZERO, ..seen }));

    let mut dropped = Net::new();
    dropped.log.append(&entries[0]).unwrap();
    dropped.enter(1, 13, read(Purpose::Read)).unwrap();
    assert!(!dropped.log.passes(&seen) && dropped.log.head().contradicts(&seen) && !seen.contradicts(&seen));
    assert!(!dropped.log.passes(&net.log.head()), "a log that is too short passes nothing beyond its end");
    let signature = SigningKey::from_bytes(&[0; 32]).sign(&seen.message()).to_bytes();
    assert!(seen.is_signed_by(member(0).id(), &signature) && !dropped.log.head().is_signed_by(member(0).id(), &signature));
}

proptest! {
    #[test]
    fn bytes_of_strangers_never_panic_and_have_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in any::<usize>(), flip in any::<u8>()) {
        let _ = open(&key(0), NAME, &bytes);
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(&entry.encode(), &bytes);
        }
        let mut net = Net::new();
        let granted = net.grant(1, 11, 100, &[Purpose::Read, Purpose::Review]).unwrap();
        let mut body = granted.entry.encode();
        prop_assert_eq!(Entry::decode(&body), Ok(granted.entry));
        let at = at % body.len();
        body[at] ^= flip;
        if let Ok(entry) = Entry::decode(&body) {
            prop_assert_eq!(entry.encode(), body);
        }
        let sealed = seal(&key(0), NAME, &bytes);
        if let Ok(mut sealed) = sealed {
            let at = at % sealed.len();
            sealed[at] ^= flip;
            prop_assert_eq!(open(&key(0), NAME, &sealed).is_ok(), flip == 0);
        }
    }
}
