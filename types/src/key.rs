//! Settlement keys: secp256k1 signatures over EIP-712 for whatever a contract may read (P1).
//!
//! The ed25519 key that signs chatter belongs to `p2p`; here is only what contracts recover.

use std::fmt;

use k256::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    encoding::{Contract, Document},
    id::{Address, Hash32},
    merkle::keccak,
};

/// Chain and contract addresses that domains name; one deployment has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domains {
    /// Chain id.
    pub chain_id: u64,
    /// `InferenceEscrow`.
    pub escrow: Address,
    /// `AssetRegistry`.
    pub registry: Address,
    /// `Settlement`.
    pub settlement: Address,
    /// `StakeManager`.
    pub stake: Address,
}

impl Domains {
    const fn address(&self, contract: Contract) -> Address {
        match contract {
            Contract::Escrow => self.escrow,
            Contract::Registry => self.registry,
            Contract::Settlement => self.settlement,
            Contract::Stake => self.stake,
        }
    }

    /// EIP-712 digest of `document` in this deployment.
    pub fn digest<D: Document>(&self, document: &D) -> Hash32 {
        let domain_type = keccak(&[b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"]);
        let mut chain_id = [0; 32];
        chain_id[24..].copy_from_slice(&self.chain_id.to_be_bytes());
        let mut contract = [0; 32];
        contract[12..].copy_from_slice(&self.address(D::CONTRACT).0);
        let domain = keccak(&[&domain_type.0, &keccak(&[b"Tributary"]).0, &keccak(&[b"1"]).0, &chain_id, &contract]);
        let struct_hash = keccak(&[&keccak(&[D::NAME.as_bytes(), b"(bytes body)"]).0, &document.hash().0]);
        keccak(&[&[0x19, 0x01], &domain.0, &struct_hash.0])
    }
}

/// A recoverable signature: r, s, v with v 27 or 28 and s in the lower half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signed65(pub [u8; 65]);

impl fmt::Debug for Signed65 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl Serialize for Signed65 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&format_args!("{self:?}")) } else { self.0[..].serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Signed65 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let bytes = <&'de [u8]>::deserialize(deserializer)?;
            return Ok(Self(bytes.try_into().map_err(|_| D::Error::invalid_length(bytes.len(), &"65 bytes of signature"))?));
        }
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 65];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(&text), &mut bytes)
            .map_err(|_| D::Error::custom("a signature must be 130 hex digits"))?;
        Ok(Self(bytes))
    }
}

/// Why a signature does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a signature at all, or not in the one accepted form.
    #[error("the {document} carries a malformed signature (r, s in the lower half, v 27 or 28)")]
    Malformed {
        /// The document's name.
        document: &'static str,
    },
    /// Somebody else's.
    #[error("the {document} is signed by {got}, expected {expected}")]
    Foreign {
        /// The document's name.
        document: &'static str,
        /// Who signed.
        got: Address,
        /// Who should have.
        expected: Address,
    },
}

/// A settlement key in memory; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Account(SigningKey);

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.address())
    }
}

impl Account {
    /// The key with these secret bytes; nothing if they are zero or beyond the curve's order.
    pub fn from_bytes(secret: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(secret).ok().map(Self)
    }

    /// The secret bytes, for an encrypted keystore and nothing else.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes().into())
    }

    /// A secret that follows from this one, for one purpose that no other key has: BLAKE3's derivation under `purpose`. It tells nothing of the account's own.
    pub fn derived(&self, purpose: &'static str) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(blake3::derive_key(purpose, &*self.to_bytes()))
    }

    /// The account's address.
    pub fn address(&self) -> Address {
        address_of(&coordinates(self.0.verifying_key()))
    }

    /// Signs `document` for this deployment: RFC 6979, low s.
    pub fn sign<D: Document>(&self, domains: &Domains, document: &D) -> Signed65 {
        self.sign_digest(domains.digest(document))
    }

    /// Signs a digest as it is.
    pub fn sign_digest(&self, digest: Hash32) -> Signed65 {
        let (signature, recovery) = self.0.sign_prehash_recoverable(&digest.0).expect("a 32-byte digest can be signed by a valid key");
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        Signed65(bytes)
    }
}

/// Of a key's 64 bytes.
fn address_of(key: &[u8; 64]) -> Address {
    let digest = keccak(&[key]);
    Address(*digest.0.last_chunk().expect("32 bytes hold 20"))
}

/// The account that signed `document`.
///
/// # Errors
/// [`SignatureError::Malformed`].
pub fn recover<D: Document>(domains: &Domains, document: &D, signature: &Signed65) -> Result<Address, SignatureError> {
    let malformed = || SignatureError::Malformed { document: D::NAME };
    let parsed = Signature::from_slice(&signature.0[..64]).map_err(|_| malformed())?;
    if parsed.normalize_s().is_some() {
        return Err(malformed());
    }
    let is_y_odd = match signature.0[64] {
        27 => false,
        28 => true,
        _ => return Err(malformed()),
    };
    let digest = domains.digest(document);
    #[cfg(feature = "secp256k1")]
    let key = by_c::recovered(digest, &parsed, is_y_odd);
    #[cfg(not(feature = "secp256k1"))]
    let key = in_rust::recovered(digest, &parsed, is_y_odd);
    Ok(address_of(&key.ok_or_else(malformed)?))
}

/// Both coordinates of a key, big-endian.
fn coordinates(key: &VerifyingKey) -> [u8; 64] {
    *key.to_encoded_point(false).as_bytes().last_chunk().expect("a point is a byte and 64")
}

/// The signer's key as Bitcoin Core's library computes it.
#[cfg(feature = "secp256k1")]
mod by_c {
    use std::sync::LazyLock;

    use k256::ecdsa::Signature;
    use secp256k1::{
        Message, Secp256k1, VerifyOnly,
        ecdsa::{RecoverableSignature, RecoveryId},
    };

    use crate::id::Hash32;

    static LIBRARY: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

    pub(super) fn recovered(digest: Hash32, signature: &Signature, is_y_odd: bool) -> Option<[u8; 64]> {
        let id = if is_y_odd { RecoveryId::One } else { RecoveryId::Zero };
        let signature = RecoverableSignature::from_compact(&signature.to_bytes(), id).ok()?;
        let key = LIBRARY.recover_ecdsa(Message::from_digest(digest.0), &signature).ok()?;
        key.serialize_uncompressed().last_chunk().copied()
    }
}

/// The signer's key without a line of C: Q = (s R - z G) / r, for which the signature holds by construction, as a contract's `ecrecover` computes it
/// (SEC 1, 4.1.6). The crate's own function verifies the signature once more by Q, in as much time again.
#[cfg(any(test, not(feature = "secp256k1")))]
mod in_rust {
    use k256::{
        AffinePoint, ProjectivePoint, Scalar, U256,
        ecdsa::{Signature, VerifyingKey},
        elliptic_curve::{
            PrimeField as _,
            ops::{Invert as _, LinearCombinationExt as _, Reduce},
            point::DecompressPoint as _,
        },
    };

    use crate::id::Hash32;

    pub(super) fn recovered(digest: Hash32, signature: &Signature, is_y_odd: bool) -> Option<[u8; 64]> {
        let (r, s) = signature.split_scalars();
        let z = <Scalar as Reduce<U256>>::reduce_bytes(&digest.0.into());
        let point: Option<AffinePoint> = AffinePoint::decompress(&r.to_repr(), u8::from(is_y_odd).into()).into();
        let inverse = *r.invert();
        let (of_generator, of_point) = (-(inverse * z), inverse * *s);
        let key = ProjectivePoint::lincomb_ext(&[(ProjectivePoint::GENERATOR, of_generator), (ProjectivePoint::from(point?), of_point)]);
        VerifyingKey::from_affine(key.to_affine()).ok().map(|key| super::coordinates(&key))
    }
}

/// Checks that `expected` signed `document`.
///
/// # Errors
/// [`SignatureError`].
pub fn verify<D: Document>(domains: &Domains, document: &D, signature: &Signed65, expected: Address) -> Result<(), SignatureError> {
    let got = recover(domains, document, signature)?;
    if got == expected { Ok(()) } else { Err(SignatureError::Foreign { document: D::NAME, got, expected }) }
}

/// A document with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed<D> {
    /// What was signed.
    pub document: D,
    /// The signature over it.
    pub signature: Signed65,
}

impl<D: Document> Signed<D> {
    /// Signs `document`.
    pub fn new(account: &Account, domains: &Domains, document: D) -> Self {
        let signature = account.sign(domains, &document);
        Self { document, signature }
    }

    /// Checks the signer.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, domains: &Domains, expected: Address) -> Result<(), SignatureError> {
        verify(domains, &self.document, &self.signature, expected)
    }
}

#[cfg(test)]
mod tests {
    use k256::ecdsa::RecoveryId;
    use proptest::prelude::*;

    use super::*;
    use crate::{amount::Amount, voucher::Lane};

    fn lane() -> Lane {
        Lane { payer: Address([1; 20]), node: Address([2; 20]), cap: Amount(9), expiry: 10, nonce: 1 }
    }

    fn domains() -> Domains {
        Domains {
            chain_id: 31_337,
            escrow: Address([3; 20]),
            registry: Address([4; 20]),
            settlement: Address([5; 20]),
            stake: Address([6; 20]),
        }
    }

    proptest! {
        /// Of right signatures, of bytes that only look like one, and of the least numbers that may be one.
        #[test]
        fn every_way_recovers_the_key_that_the_crate_recovers_and_verifies(
            secret: [u8; 32], digest: [u8; 32], other: [u8; 32], r: [u8; 32], s: [u8; 32], small in 1..9_u8,
        ) {
            let mut least = [0; 32];
            least[31] = small;
            // The crate refuses an upper s here, we before.
            let lower = |signature: Signature| signature.normalize_s().unwrap_or(signature);
            let mut pairs: Vec<Signature> = [(r, s), (least, s), (r, least), (least, least)]
                .into_iter().filter_map(|(r, s)| Signature::from_scalars(r, s).ok()).map(lower).collect();
            if let Some(account) = Account::from_bytes(&secret) {
                let own = Signature::from_slice(&account.sign_digest(Hash32(digest)).0[..64]).unwrap();
                let got = [false, true].map(|is_y_odd| in_rust::recovered(Hash32(digest), &own, is_y_odd).map(|key| address_of(&key)));
                prop_assert!(got.contains(&Some(account.address())));
                pairs.push(own);
            }
            for signature in pairs {
                for (digest, is_y_odd) in [digest, other, [0; 32], [255; 32]].into_iter().flat_map(|digest| [(digest, false), (digest, true)]) {
                    let own = VerifyingKey::recover_from_prehash(&digest, &signature, RecoveryId::new(is_y_odd, false)).ok();
                    let own = own.map(|key| coordinates(&key));
                    prop_assert_eq!(in_rust::recovered(Hash32(digest), &signature, is_y_odd), own);
                    #[cfg(feature = "secp256k1")]
                    prop_assert_eq!(by_c::recovered(Hash32(digest), &signature, is_y_odd), own);
                }
            }
        }
    }

    #[test]
    fn a_signature_stands_for_its_signer_document_and_deployment_only() {
        let account = Account::from_bytes(&[7; 32]).unwrap();
        let signed = Signed::new(&account, &domains(), lane());
        assert_eq!(signed.verify(&domains(), account.address()), Ok(()));
        assert!(signed.verify(&Domains { chain_id: 1, ..domains() }, account.address()).is_err());
        assert!(signed.verify(&domains(), Address([9; 20])).is_err());
        let other = Signed { document: Lane { nonce: 2, ..lane() }, ..signed };
        assert!(other.verify(&domains(), account.address()).is_err());
    }

    #[test]
    fn high_s_and_foreign_v_are_malformed() {
        let account = Account::from_bytes(&[7; 32]).unwrap();
        let good = account.sign(&domains(), &lane());
        for v in [0, 1, 26, 29, 35] {
            let mut bad = good;
            bad.0[64] = v;
            assert_eq!(recover(&domains(), &lane(), &bad), Err(SignatureError::Malformed { document: "Lane" }));
        }
        let mut high = good;
        let s = Signature::from_slice(&good.0[..64]).unwrap().s();
        high.0[32..64].copy_from_slice(&(-*s).to_bytes());
        high.0[64] ^= 27 ^ 28;
        assert_eq!(recover(&domains(), &lane(), &high), Err(SignatureError::Malformed { document: "Lane" }));
    }
}
