//! The board of checks (`CheckBoard`): beacons announced and stored, what this account found sealed and shown.

use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::{ChainClient, Sent};
use crate::{
    bindings::{CheckBoard, L1BlockDev},
    chain::error::ChainError,
    convert,
    devnet::l1::L1_BLOCK,
    registry::check::Said,
};

/// L1 blocks between the announcement of a beacon and the block that gives it, as `CheckBoard` has it.
pub const ORIGIN_BLOCKS: u64 = 6;

fn said(hash: alloy::primitives::B256) -> Option<Hash32> {
    Some(Hash32(hash.0)).filter(|hash| *hash != Hash32::ZERO)
}

impl ChainClient {
    /// The L1 block that the chain stands on.
    ///
    /// # Errors
    /// [`ChainError`]; a chain that is none of the OP Stack does not say it.
    pub async fn l1_number(&self) -> Result<u64, ChainError> {
        self.read(L1_BLOCK, &L1BlockDev::numberCall {}).await
    }

    /// Announces the beacon of an epoch that takes no more node roots; anybody may, once.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn announce_check_beacon(&self, epoch: u64) -> Result<Sent, ChainError> {
        let call = CheckBoard::announceBeaconCall { epoch };
        self.write("announce check beacon", None, self.deployment().checks, &call, Amount::ZERO).await
    }

    /// Stores the beacon of an epoch, [`ORIGIN_BLOCKS`] after it was announced or later; anybody may, once.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn store_check_beacon(&self, epoch: u64) -> Result<Sent, ChainError> {
        self.write("store check beacon", None, self.deployment().checks, &CheckBoard::storeBeaconCall { epoch }, Amount::ZERO).await
    }

    /// Seals what this account, a bonded node, found in an epoch: a root over `count` checks. Asked for again it is the same transaction.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn commit_checks(&self, epoch: u64, root: Hash32, count: u64) -> Result<Sent, ChainError> {
        let call = CheckBoard::commitChecksCall { epoch, root: convert::word(root), count };
        self.write("commit checks", super::key("commit-checks", &[root]), self.deployment().checks, &call, Amount::ZERO).await
    }

    /// Shows what this account sealed. Asked for again it is the same transaction.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn reveal_checks(&self, epoch: u64, root: Hash32) -> Result<Sent, ChainError> {
        let call = CheckBoard::revealChecksCall { epoch, root: convert::word(root) };
        self.write("reveal checks", super::key("reveal-checks", &[root]), self.deployment().checks, &call, Amount::ZERO).await
    }

    /// The L1 block that an epoch's beacon was announced at, and the beacon; each nothing until then.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn check_beacon(&self, epoch: u64) -> Result<(Option<u64>, Option<Hash32>), ChainError> {
        let beacon = self.read(self.deployment().checks, &CheckBoard::beaconOfCall { epoch }).await?;
        Ok((Some(beacon.origin).filter(|_| beacon.announcedAt != 0), said(beacon.stored)))
    }

    /// What a checker said of an epoch; nothing if it sealed nothing.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn checks_of(&self, epoch: u64, checker: Address) -> Result<Option<Said>, ChainError> {
        let checks = self.read(self.deployment().checks, &CheckBoard::checksOfCall { epoch, checker: convert::address(checker) }).await?;
        Ok(said(checks.committed).map(|sealed| Said { sealed, count: checks.count, shown: said(checks.revealed) }))
    }
}
