//! The services of a running node. Each carries bytes between a stream and a core; what is decided is decided there.

pub mod adapters;
pub mod auditing;
pub mod checking;
pub mod erasing;
pub mod gate;
pub mod index;
pub mod inference;
pub mod keeping;
pub mod receipt_log;
pub mod repair;
pub mod settlement;
pub mod storage;
pub mod upkeep;

/// First byte of a stream's first frame: an answer, its check, the node's status.
pub const INFERENCE_TAG: u8 = 1;
/// First byte of a stream's first frame: the gate of a Datanet.
pub const GATE_TAG: u8 = 2;
/// First byte of a stream's first frame: receipts and payouts of an epoch.
pub const SETTLEMENT_TAG: u8 = 3;
/// First byte of a stream's first frame: what the node holds, for its operator.
pub const KEEPING_TAG: u8 = 4;
