//! Who holds an object's fragments, as those concerned signed it (P4).

use crate::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, BlobId},
};

/// Most holders of one object: one per fragment of the widest code.
pub const HOLDERS_MAX: usize = 48;

/// The first placement of an object, signed by its contributor and kept by every holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Who contributed the object.
    pub contributor: Address,
    /// The object.
    pub object: BlobId,
    /// The block whose hash placement is drawn from: that which accepted the contribution.
    pub block: u64,
    /// Fragments that suffice.
    pub data: u8,
    /// The holder of each fragment, by index; at most [`HOLDERS_MAX`].
    pub holders: Vec<Address>,
}

impl Document for Placement {
    const NAME: &'static str = "Placement";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        // A document of more holders cannot be read back, so its count may as well be the largest.
        let count = u8::try_from(self.holders.len()).unwrap_or(u8::MAX);
        let head = Writer::new().address(self.contributor).blob(self.object).u64(self.block).u8(self.data).u8(count);
        head.each(&self.holders, |w, holder| w.address(*holder)).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let (contributor, object) = (r.address("contributor")?, r.blob("object")?);
        let (block, data, count) = (r.u64("block")?, r.u8("data fragments")?, r.u8("holders")?);
        if usize::from(count) > HOLDERS_MAX {
            return Err(DecodeError::Value { field: "holders", got: count.into(), expected: "at most 48" });
        }
        let holders = r.each("holders", count.into(), 20, |r| r.address("holder"))?;
        r.finish().map(|()| Self { contributor, object, block, data, holders })
    }
}

/// A fragment changes hands. Signed by the coordinator that rebuilt it and by the operator that holds it from now on, who signs once the bytes are on
/// its disk: either alone means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// The coordinator.
    pub by: Address,
    /// The epoch in which it was one.
    pub epoch: u64,
    /// The object.
    pub object: BlobId,
    /// Which fragment.
    pub fragment: u8,
    /// How often it moved, this time counted: 1 for the first.
    pub generation: u32,
    /// Who holds it from now on.
    pub to: Address,
}

/// Bytes of a [`Handover`].
pub const HANDOVER_BYTES: usize = 85;

impl Document for Handover {
    const NAME: &'static str = "Handover";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        let head = Writer::new().address(self.by).u64(self.epoch).blob(self.object);
        head.u8(self.fragment).u32(self.generation).address(self.to).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let handover = Self {
            by: r.address("coordinator")?,
            epoch: r.u64("epoch")?,
            object: r.blob("object")?,
            fragment: r.u8("fragment")?,
            generation: r.u32("generation")?,
            to: r.address("new holder")?,
        };
        r.finish().map(|()| handover)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_and_a_handover_have_one_form() {
        let holders = (0..5).map(|byte| Address([byte; 20])).collect();
        let placement = Placement { contributor: Address([9; 20]), object: BlobId([1; 32]), block: 7, data: 3, holders };
        let body = placement.encode();
        assert_eq!((body.len(), Placement::decode(&body)), (162, Ok(placement)));
        assert!(Placement::decode(&body[..161]).is_err() && Placement::decode(&[&body[..], &[0]].concat()).is_err());
        let mut many = body;
        many[61] = 49;
        assert!(Placement::decode(&many).unwrap_err().to_string().contains("at most 48"));

        let handover =
            Handover { by: Address([1; 20]), epoch: 2, object: BlobId([3; 32]), fragment: 4, generation: 5, to: Address([6; 20]) };
        let body = handover.encode();
        assert_eq!((body.len(), Handover::decode(&body)), (HANDOVER_BYTES, Ok(handover)));
        assert!(Handover::decode(&body[1..]).is_err());
    }
}
