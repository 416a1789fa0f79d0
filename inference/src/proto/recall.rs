//! What became of an attempt: the question that a client asks whose process was killed, or whose connection broke, before the receipt came.
//!
//! Signed by who signed the attempt's lane, because an answer is nobody else's business; for one node, so that no node can ask another. The node
//! answers with the bundle it keeps, or with its receipt of fee 0: it keeps either before it sends it, so that every time it says the same, and two
//! different words of it on one attempt would convict it (F3). Asking changes nothing else and may be repeated.
//!
//! Size: 54 bytes and a signature there; a bundle of about 10 KB, or a receipt of about 700 bytes back.

use serde::{Deserialize, Serialize};
use types::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
};

/// Asks for the receipt of an attempt. No contract reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recall {
    /// Who is asked.
    pub node: Address,
    /// The request.
    pub request: Hash32,
    /// The attempt's number in it.
    pub attempt: u16,
}

impl Document for Recall {
    const NAME: &'static str = "Recall";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.node).hash(self.request).u16(self.attempt).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let recall = Self { node: r.address("node")?, request: r.hash("request")?, attempt: r.u16("attempt")? };
        r.finish().map(|()| recall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_bytes_that_the_protocol_names() {
        let recall = Recall { node: Address([0xaa; 20]), request: Hash32([0xbb; 32]), attempt: 0x0102 };
        let body = recall.encode();
        assert_eq!(hex::encode(&body), format!("{}{}0102", "aa".repeat(20), "bb".repeat(32)));
        assert_eq!(Recall::decode(&body), Ok(recall));
        assert!(Recall::decode(&body[1..]).is_err());
        assert!(Recall::decode(&[&body[..], &[0]].concat()).is_err());
    }
}
