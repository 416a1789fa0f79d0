//! The seed as each transport wants it: libp2p key pair, iroh secret key, TLS 1.3 with raw public keys (RFC 7250).
//!
//! Raw public keys instead of certificates: 44 bytes on the wire, nothing to parse but one fixed prefix, nothing to expire.
//! Both sides prove possession of their key in the handshake; who may connect is decided above.

use std::sync::{Arc, OnceLock};

use ed25519_dalek::Signer as _;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey, public_key_to_spki};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureAlgorithm,
    SignatureScheme,
};
use types::id::NodeId;

use super::NodeSeed;

impl NodeSeed {
    /// A fresh seed from a cryptographic generator.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(iroh::SecretKey::generate().to_bytes())
    }

    /// The seed as libp2p's key pair.
    #[must_use]
    pub fn libp2p_keypair(&self) -> Keypair {
        Keypair::ed25519_from_bytes(*self.expose()).expect("every 32 bytes are an ed25519 seed")
    }

    /// The seed as iroh's secret key.
    #[must_use]
    pub fn iroh_secret(&self) -> iroh::SecretKey {
        iroh::SecretKey::from_bytes(self.expose())
    }

    /// The node's libp2p peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.libp2p_keypair().public().to_peer_id()
    }
}

/// A key or peer id of another kind than ed25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ed25519 public key")]
pub struct NotEd25519;

/// The peer id of a node; the two carry the same 32 bytes.
///
/// # Errors
/// [`NotEd25519`] when the bytes are not a point of the curve.
pub fn peer_of_node(node: NodeId) -> Result<PeerId, NotEd25519> {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).map_err(|_| NotEd25519)?;
    Ok(PublicKey::from(key).to_peer_id())
}

/// The node behind a peer id.
///
/// # Errors
/// [`NotEd25519`] when the peer id is a hash, or of a key of another kind.
pub fn node_of_peer(peer: PeerId) -> Result<NodeId, NotEd25519> {
    /// Identity multihash of 36 bytes; protobuf: key type 1 (ed25519), 32 bytes of key.
    const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PREFIX).ok_or(NotEd25519)?;
    Ok(NodeId(key.try_into().map_err(|_| NotEd25519)?))
}

/// TLS could not be set up; only a broken crypto provider causes it.
#[derive(Debug, thiserror::Error)]
#[error("tls set-up: {0}")]
pub(crate) struct TlsError(#[from] Error);

/// The server's side: demands a raw ed25519 key of the client.
pub(crate) fn tls_server(seed: &NodeSeed, alpn: &[u8]) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(RawKeyVerifier::new(None)))
        .with_cert_resolver(Arc::new(OwnKey::new(seed)));
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The client's side: presents its own key, and takes `expected` only when one is named.
/// The cell holds, after the handshake, who answered.
pub(crate) fn tls_client(
    seed: &NodeSeed,
    alpn: &[u8],
    expected: Option<NodeId>,
) -> Result<(ClientConfig, Arc<OnceLock<NodeId>>), TlsError> {
    let verifier = RawKeyVerifier::new(expected);
    let seen = Arc::clone(&verifier.seen);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(OwnKey::new(seed)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    // A resumed session skips the check of the key, and this configuration may name one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, seen))
}

/// The node whose raw public key (SubjectPublicKeyInfo, DER) this is.
pub(crate) fn node_of_spki(spki: &[u8]) -> Result<NodeId, NotEd25519> {
    let key = spki.len().checked_sub(32).and_then(|start| spki.get(start..)).ok_or(NotEd25519)?;
    let node = NodeId(key.try_into().map_err(|_| NotEd25519)?);
    if spki_of_node(node).as_ref() == spki { Ok(node) } else { Err(NotEd25519) }
}

fn spki_of_node(node: NodeId) -> SubjectPublicKeyInfoDer<'static> {
    public_key_to_spki(&alg_id::ED25519, node.0)
}

/// Named outright: another library in the process may have installed another provider as the default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Presents the node's own key, whoever asks.
#[derive(Debug)]
struct OwnKey(Arc<CertifiedKey>);

impl OwnKey {
    fn new(seed: &NodeSeed) -> Self {
        let spki = spki_of_node(seed.node_id());
        let key = CertifiedKey::new(vec![CertificateDer::from(spki.as_ref().to_vec())], Arc::new(TlsKey(seed.clone())));
        Self(Arc::new(key))
    }
}

impl rustls::client::ResolvesClientCert for OwnKey {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for OwnKey {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// Signs handshakes; TLS prefixes them with its own context, so none is ever chatter.
#[derive(Clone, Debug)]
struct TlsKey(NodeSeed);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(spki_of_node(self.0.node_id()))
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.signing_key().sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Takes any ed25519 raw public key, or only the one expected.
#[derive(Debug)]
struct RawKeyVerifier {
    expected: Option<NodeId>,
    /// The first key presented, also when it was refused: the error can then name it.
    seen: Arc<OnceLock<NodeId>>,
    provider: Arc<CryptoProvider>,
}

impl RawKeyVerifier {
    fn new(expected: Option<NodeId>) -> Self {
        Self { expected, seen: Arc::default(), provider: provider() }
    }

    fn check_key(&self, key: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let node = node_of_spki(key).map_err(|_| CertificateError::BadEncoding)?;
        if !chain.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        self.seen.get_or_init(|| node);
        match self.expected {
            Some(expected) if expected != node => Err(CertificateError::NotValidForName.into()),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.provider.signature_verification_algorithms)
    }
}

fn no_tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_one_name_in_all_three_stacks() {
        let seed = NodeSeed::new([3; 32]);
        let node = seed.node_id();
        assert_eq!(peer_of_node(node), Ok(seed.peer_id()));
        assert_eq!(node_of_peer(seed.peer_id()), Ok(node));
        assert_eq!(seed.iroh_secret().public().as_bytes(), &node.0);
        assert_eq!(node_of_spki(&spki_of_node(node)), Ok(node));
    }

    #[test]
    fn what_is_not_an_ed25519_key_is_refused() {
        assert_eq!(node_of_peer(PeerId::random()), Err(NotEd25519));
        assert_eq!(node_of_spki(&[0; 44]), Err(NotEd25519));
        assert_eq!(node_of_spki(&[0; 31]), Err(NotEd25519));
        assert_eq!(node_of_spki(&[]), Err(NotEd25519));
    }

    #[test]
    fn generated_seeds_differ() {
        assert_ne!(NodeSeed::generate().node_id(), NodeSeed::generate().node_id());
    }
}
