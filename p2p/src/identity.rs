//! One ed25519 seed per node: the same 32 bytes of public key are the libp2p peer id, the iroh endpoint id and the TLS key.
//!
//! Chatter (capability ads, acknowledgements, gossip) is signed over `"tributary/<purpose>/v1" || blake3(body)`, so that a
//! signature made for one purpose, or by one of the transports' handshakes, means nothing elsewhere. What a contract may read
//! is signed with another key of another curve, and not here.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use types::id::NodeId;
use zeroize::Zeroizing;

#[cfg(feature = "net")]
mod keys;
#[cfg(feature = "net")]
pub use keys::{NotEd25519, node_of_peer, peer_of_node};
#[cfg(feature = "net")]
pub(crate) use keys::{node_of_spki, tls_client, tls_server};

/// Bytes of a signature over chatter.
pub const SIGNATURE_LEN: usize = 64;

/// The secret of a node: 32 random bytes. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct NodeSeed(Zeroizing<[u8; 32]>);

impl NodeSeed {
    /// Takes over a seed read from its file.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The seed's bytes, to write its file.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public name of the node: its ed25519 public key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.signing_key().verifying_key().to_bytes())
    }

    /// Signs `body` as chatter of `purpose` (a word such as `ad`).
    #[must_use]
    pub fn sign_chatter(&self, purpose: &str, body: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.signing_key().sign(&chatter_message(purpose, body)).to_bytes()
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.0)
    }
}

impl std::fmt::Debug for NodeSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeSeed(of {})", self.node_id())
    }
}

/// A signature over chatter does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature of {node} does not hold for this body and purpose")]
pub struct BadSignature {
    /// Who should have signed.
    pub node: NodeId,
}

/// Checks that `node` signed `body` as chatter of `purpose`. Strict: weak keys and malleable signatures are refused.
///
/// # Errors
/// [`BadSignature`].
pub fn verify_chatter(node: NodeId, purpose: &str, body: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), BadSignature> {
    VerifyingKey::from_bytes(&node.0)
        .and_then(|key| key.verify_strict(&chatter_message(purpose, body), &Signature::from_bytes(signature)))
        .map_err(|_| BadSignature { node })
}

fn chatter_message(purpose: &str, body: &[u8]) -> Vec<u8> {
    [b"tributary/", purpose.as_bytes(), b"/v1", blake3::hash(body).as_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_node_purpose_and_body_only() {
        let seed = NodeSeed::new([7; 32]);
        let other = NodeSeed::new([8; 32]);
        let signature = seed.sign_chatter("ad", b"body");
        assert_eq!(verify_chatter(seed.node_id(), "ad", b"body", &signature), Ok(()));
        assert!(verify_chatter(other.node_id(), "ad", b"body", &signature).is_err());
        assert!(verify_chatter(seed.node_id(), "add", b"body", &signature).is_err());
        assert!(verify_chatter(seed.node_id(), "ad", b"bodies", &signature).is_err());
        let mut bent = signature;
        bent[40] ^= 1;
        assert!(verify_chatter(seed.node_id(), "ad", b"body", &bent).is_err());
    }

    #[test]
    fn the_signed_bytes_are_the_domain_then_the_hash_of_the_body() {
        let message = chatter_message("ad", b"x");
        assert_eq!(&message[..15], b"tributary/ad/v1");
        assert_eq!(&message[15..], blake3::hash(b"x").as_bytes());
    }

    #[test]
    fn a_weak_public_key_is_refused() {
        // The identity point, of order one: a lax verifier accepts one signature under it for every message.
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(verify_chatter(NodeId(weak), "ad", b"anything", &signature).is_err());
    }

    #[test]
    fn printing_a_seed_shows_no_secret() {
        let seed = NodeSeed::new([0xab; 32]);
        assert!(!format!("{seed:?}").contains("abab"));
        assert!(!format!("{seed:?}").contains("171"));
    }
}
