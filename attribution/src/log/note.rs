//! Signed notes: a text, an empty line, and a line for each signature (signed-note); Ed25519 of a log, and a witness's with its time (tlog-cosignature).
//!
//! The keys are the nodes' own: a log's public key is the id of its node, which the registry binds to the account that signs receipts, so nobody has to be
//! told a key. What else a node signs with it begins otherwise (`tributary/` for chatter, spaces in TLS, `noise-libp2p-static-key:` in the overlay's
//! handshake), a checkpoint begins with its log's name and a cosigned one with `cosignature/v1`: no signature means anything in another place.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use types::id::NodeId;

use super::base64;

/// Longest note read: sixteen of the longest signatures that are known would fit.
pub const NOTE_BYTES_MAX: usize = 96 << 10;
/// Most signatures read in a note.
pub const SIGNATURES_MAX: usize = 64;
/// What a signature line begins with.
const DASH: &str = "\u{2014} ";

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A log: the text itself.
    Log,
    /// A witness: the text behind a header and a time.
    Witness,
}

impl Role {
    /// Signature type.
    const fn code(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Witness => 4,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Log => "tributary.receipts/",
            Self::Witness => "tributary.witness/",
        }
    }
}

/// A node's key as a log or as a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    role: Role,
    name: String,
    id: [u8; 4],
    node: NodeId,
}

impl Key {
    /// The key of `node` in `role`.
    pub fn new(role: Role, node: NodeId) -> Self {
        let name = format!("{}{node}", role.prefix());
        let hash: [u8; 32] = Sha256::new().chain_update(&name).chain_update([b'\n', role.code()]).chain_update(node.0).finalize().into();
        Self { role, name, id: [hash[0], hash[1], hash[2], hash[3]], node }
    }

    /// Its name: the origin line of a log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The node whose log has this origin line; nothing for another spelling.
    pub fn node_of_origin(origin: &str) -> Option<NodeId> {
        let node: NodeId = origin.strip_prefix(Role::Log.prefix())?.parse().ok()?;
        (Self::new(Role::Log, node).name == origin).then_some(node)
    }

    /// The node whose key as a witness this is, in the form that other tools are told it; nothing for another text.
    pub fn witness(verifier: &str) -> Option<NodeId> {
        let node: NodeId = verifier.strip_prefix(Role::Witness.prefix())?.split_once('+')?.0.parse().ok()?;
        (Self::new(Role::Witness, node).verifier() == verifier).then_some(node)
    }

    /// As other tools are told it: name, id and public key.
    pub fn verifier(&self) -> String {
        format!("{}+{}+{}", self.name, hex::encode(self.id), base64::encode(&[[self.role.code()].as_slice(), &self.node.0].concat()))
    }
}

/// One signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl SignatureLine {
    /// Whether it names this key.
    pub fn is_of(&self, key: &Key) -> bool {
        self.name == key.name && self.id == key.id
    }
}

impl fmt::Display for SignatureLine {
    /// The line with its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{DASH}{} {}", self.name, base64::encode(&[self.id.as_slice(), &self.signature].concat()))
    }
}

/// A text with signatures, none of them verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

/// Why bytes are no note, or not the one that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Too long.
    #[error("a note of {0} bytes, at most {NOTE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Another form.
    #[error("no signed note: {0}")]
    Form(&'static str),
    /// A signature line that is none.
    #[error("signature line {0} is not a dash, a name and base64 of an id with a signature")]
    Line(usize),
    /// Too many signatures.
    #[error("more than {SIGNATURES_MAX} signatures")]
    TooMany,
    /// A signature that names a known key and is not its.
    #[error("the signature of {0} does not hold for this text")]
    Signature(String),
    /// None of a known key.
    #[error("no signature of {0}")]
    Unsigned(String),
}

/// Reads signature lines, each with its end.
///
/// # Errors
/// [`NoteError`].
pub fn signature_lines(text: &str) -> Result<Vec<SignatureLine>, NoteError> {
    let mut found = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if number == SIGNATURES_MAX {
            return Err(NoteError::TooMany);
        }
        let bad = NoteError::Line(number);
        let Some((name, digits)) = line.strip_suffix('\n').and_then(|line| line.strip_prefix(DASH)?.split_once(' ')) else {
            return Err(bad);
        };
        let is_name = !name.is_empty() && !name.contains(|letter: char| letter == '+' || letter.is_whitespace());
        match base64::decode(digits).as_deref().and_then(<[u8]>::split_first_chunk) {
            Some((id, signature)) if is_name && !signature.is_empty() => {
                found.push(SignatureLine { name: name.to_owned(), id: *id, signature: signature.to_vec() });
            }
            _ => return Err(bad),
        }
    }
    Ok(found)
}

impl Note {
    /// A text of lines without signatures.
    ///
    /// # Panics
    /// If the text does not end a line: ours all do.
    pub fn unsigned(text: String) -> Self {
        assert!(text.ends_with('\n'), "a note's text ends its last line");
        Self { text, signatures: Vec::new() }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        if whole.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Form("it holds a control character"));
        }
        let end = whole.rfind("\n\n").ok_or(NoteError::Form("no empty line stands between text and signatures"))?;
        let signatures = signature_lines(&whole[end + 2..])?;
        if signatures.is_empty() {
            return Err(NoteError::Form("it has no signature"));
        }
        Ok(Self { text: whole[..=end].to_owned(), signatures })
    }

    /// The text with its last line's end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds signatures; one that is there already is not repeated.
    pub fn add(&mut self, lines: impl IntoIterator<Item = SignatureLine>) {
        for line in lines {
            if self.signatures.len() < SIGNATURES_MAX && !self.signatures.contains(&line) {
                self.signatures.push(line);
            }
        }
    }

    /// Whether `key` has signed: the time of a witness's latest signature, zero for a log's.
    ///
    /// # Errors
    /// [`NoteError::Signature`] if a signature names the key and is not its, [`NoteError::Unsigned`] if none names it.
    pub fn signed_at(&self, key: &Key) -> Result<u64, NoteError> {
        let times = self.signatures.iter().filter(|line| line.is_of(key)).map(|line| {
            let bad = || NoteError::Signature(key.name.clone());
            let (time, signature) = match key.role {
                Role::Log => (0, line.signature.as_slice()),
                Role::Witness => {
                    line.signature.split_first_chunk().map(|(time, rest)| (u64::from_be_bytes(*time), rest)).ok_or_else(bad)?
                }
            };
            let message = message(key.role, &self.text, time);
            let verified = Signature::from_slice(signature)
                .and_then(|signature| VerifyingKey::from_bytes(&key.node.0)?.verify_strict(message.as_bytes(), &signature));
            verified.map(|()| time).map_err(|_| bad())
        });
        let times = times.collect::<Result<Vec<_>, _>>()?;
        times.into_iter().max().ok_or_else(|| NoteError::Unsigned(key.name.clone()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}

fn message(role: Role, text: &str, time: u64) -> String {
    match role {
        Role::Log => text.to_owned(),
        Role::Witness => format!("cosignature/v1\ntime {time}\n{text}"),
    }
}

/// A node's secret as a log or as a witness.
pub struct Signer {
    key: Key,
    secret: SigningKey,
}

impl Signer {
    /// Of the node with this seed.
    pub fn new(role: Role, seed: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(seed);
        Self { key: Key::new(role, NodeId(secret.verifying_key().to_bytes())), secret }
    }

    /// Its public part.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Signs a text; `time` in seconds since 1970 stands in a witness's signature and in no other.
    pub fn sign(&self, text: &str, time: u64) -> SignatureLine {
        let signature = self.secret.sign(message(self.key.role, text, time).as_bytes()).to_bytes();
        let signature = match self.key.role {
            Role::Log => signature.to_vec(),
            Role::Witness => [time.to_be_bytes().as_slice(), &signature].concat(),
        };
        SignatureLine { name: self.key.name.clone(), id: self.key.id, signature }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer(of {})", self.key.name)
    }
}
