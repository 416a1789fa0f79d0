//! Rent for who passed its audits (`AuditRent`): the roll, the beacon, claims.

use alloy::{primitives::aliases::U48, sol_types::SolEvent as _};
use types::{
    amount::Amount,
    audit::Seat,
    id::{Address, AssetId, Hash32},
};

use super::{ChainClient, Sent};
use crate::{
    bindings::{AuditRent, DatanetRent, Settlement},
    chain::error::ChainError,
    convert,
    rent::PassedAudit,
};

/// Most parts in one transaction: four of 64 fragments take 12 million gas where nobody was paid for their contributions in those epochs before.
const PARTS_MAX: usize = 4;
/// Seats read in one round trip.
const SEATS_PAGE: u64 = 64;
/// Left with whoever is on the roll.
const ROLL_DEPOSIT: Amount = Amount(10_000_000_000_000_000);

/// A charge of a Datanet's rent, for the epochs `from` to `until` - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// First epoch.
    pub from: u64,
    /// First epoch after.
    pub until: u64,
    /// Contributions that were counted: the first so many of the Datanet.
    pub contributions: u32,
    /// Charged.
    pub charged: Amount,
    /// Paid of it, or given back.
    pub paid: Amount,
}

impl ChainClient {
    /// Puts the account's node on the roll of those who audit and are audited, from the next epoch on; `subnet` as [`Seat::subnet`].
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Argument`] for a subnet beyond 48 bits.
    pub async fn enlist(&self, subnet: u64) -> Result<Sent, ChainError> {
        if subnet >> 48 != 0 {
            return Err(ChainError::Argument(format!("subnet {subnet:#x} has more than 48 bits: give a /24 or a /48")));
        }
        let call = AuditRent::enlistCall { subnet: U48::from(subnet) };
        self.write("enlist for audits", None, self.deployment().audits, &call, ROLL_DEPOSIT).await
    }

    /// Takes the account's node off the roll from the next epoch on; its deposit comes back.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn resign(&self) -> Result<Sent, ChainError> {
        self.write("resign from audits", None, self.deployment().audits, &AuditRent::resignCall {}, Amount::ZERO).await
    }

    /// Takes a node that is no longer bonded off the roll; its deposit is the account's.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn strike(&self, node: Address) -> Result<Sent, ChainError> {
        let call = AuditRent::strikeCall { node: convert::address(node) };
        self.write("strike off the roll", None, self.deployment().audits, &call, Amount::ZERO).await
    }

    /// Announces the block that draws the open epoch's auditors; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn announce_beacon(&self) -> Result<Sent, ChainError> {
        self.write("announce audit beacon", None, self.deployment().audits, &AuditRent::announceBeaconCall {}, Amount::ZERO).await
    }

    /// Stores the beacon of an epoch, within 256 blocks of the announced one; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn store_beacon(&self, epoch: u64) -> Result<Sent, ChainError> {
        self.write("store audit beacon", None, self.deployment().audits, &AuditRent::storeBeaconCall { epoch }, Amount::ZERO).await
    }

    /// The beacon of an epoch's audits, and the block announced for it (0: none); no beacon until it was stored.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn audit_beacon(&self, epoch: u64) -> Result<(Option<Hash32>, u64), ChainError> {
        let beacon = self.read(self.deployment().audits, &AuditRent::beaconOfCall(epoch)).await?;
        let block = self.read(self.deployment().audits, &AuditRent::beaconBlockOfCall(epoch)).await?;
        Ok((Some(Hash32(beacon.0)).filter(|beacon| *beacon != Hash32::ZERO), block))
    }

    /// The roll of an epoch, the coming one included, by place; 64 seats in a round trip.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn audit_roll(&self, epoch: u64) -> Result<Vec<Seat>, ChainError> {
        let at = self.deployment().audits;
        let size: u64 = convert::small(self.read(at, &AuditRent::sizeAtCall { epoch }).await?);
        let mut roll = Vec::new();
        for first in (0..size).step_by(usize::try_from(SEATS_PAGE).expect("a page is short")) {
            let places = first..size.min(first + SEATS_PAGE);
            let calls: Vec<_> = places.map(|place| AuditRent::seatAtCall { epoch, place: alloy::primitives::U256::from(place) }).collect();
            let seats = self.read_all(at, &calls).await?;
            roll.extend(seats.into_iter().map(|seat| Seat { node: convert::account(seat.node), subnet: seat.subnet.to::<u64>() }));
        }
        Ok(roll)
    }

    /// The charge of a Datanet's rent that an epoch is in, with its number; nothing if it was not charged (yet).
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn rent_charge(&self, datanet: AssetId, epoch: u64) -> Result<Option<(u32, Charge)>, ChainError> {
        let at = self.deployment().rent;
        let count: u64 = convert::small(self.read(at, &DatanetRent::periodCountCall { datanet: datanet.0 }).await?);
        // They stand in the order of epochs: the first that ends behind this one.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let charge = self.charge_at(datanet, middle).await?;
            if charge.until <= epoch {
                low = middle + 1;
            } else if charge.from > epoch {
                high = middle;
            } else {
                let number = u32::try_from(middle).map_err(|_| ChainError::Unreadable { what: "a charge", why: "2^32 of them".into() })?;
                return Ok(Some((number, charge)));
            }
        }
        Ok(None)
    }

    /// Whether a Datanet was charged up to the end of an epoch, if only nothing: its last charge was after it. True as well while the epoch is open.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn is_charged_to(&self, datanet: AssetId, epoch: u64) -> Result<bool, ChainError> {
        let account = self.read(self.deployment().rent, &DatanetRent::accountOfCall { datanet: datanet.0 }).await?;
        let open = self.read(self.deployment().settlement, &Settlement::currentEpochCall {}).await?;
        Ok(u64::from(account.seenEpoch) > epoch || open <= epoch)
    }

    async fn charge_at(&self, datanet: AssetId, number: u64) -> Result<Charge, ChainError> {
        let call = DatanetRent::periodOfCall { datanet: datanet.0, period: alloy::primitives::U256::from(number) };
        let found = self.read(self.deployment().rent, &call).await?;
        Ok(Charge {
            from: found.from.into(),
            until: found.until.into(),
            contributions: found.contributions,
            charged: Amount(found.charged.to::<u128>()),
            paid: Amount(found.paid.to::<u128>()),
        })
    }

    /// Makes prepaid again what nobody earned of a charge in time; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn give_rent_back(&self, datanet: AssetId, charge: u32) -> Result<Sent, ChainError> {
        let call = DatanetRent::giveBackCall { datanet: datanet.0, period: alloy::primitives::U256::from(charge) };
        self.write("give unearned rent back", None, self.deployment().rent, &call, Amount::ZERO).await
    }

    /// Has rent paid for audits that nodes passed, to their payout accounts; anybody may. As many transactions as their parts need; what was paid before is passed
    /// over. Returns what was paid or credited, and the transactions.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Argument`] for audits that no contract would pay.
    pub async fn claim_rent(&self, audits: &[PassedAudit]) -> Result<(Amount, Vec<Sent>), ChainError> {
        let mut calls = Vec::new();
        for audit in audits {
            let parts = audit.parts().map_err(|error| ChainError::Argument(error.to_string()))?;
            calls.extend(parts.into_iter().map(|part| shown(audit, part)));
        }
        let (mut paid, mut sends) = (Amount::ZERO, Vec::new());
        for batch in calls.chunks(PARTS_MAX) {
            let call = AuditRent::claimCall { audits: batch.to_vec() };
            let sent = match self.write("claim rent", None, self.deployment().audits, &call, Amount::ZERO).await {
                // All of it was paid before.
                Err(error) if error.contract_error() == Some("NothingDue") => continue,
                other => other?,
            };
            let logs = sent.logs.iter().filter(|log| convert::account(log.address()) == self.deployment().audits);
            for log in logs {
                let Ok(event) = AuditRent::RentClaimed::decode_raw_log(log.topics(), log.data().data.as_ref()) else { continue };
                let amount: u128 = event.amount.try_into().unwrap_or(u128::MAX);
                paid = Amount(paid.0.saturating_add(amount));
            }
            sends.push(sent);
        }
        Ok((paid, sends))
    }
}

/// A part as the contract is shown it.
pub fn shown(audit: &PassedAudit, part: crate::rent::Part) -> AuditRent::Audit {
    let [(first, first_signature), (second, second_signature)] = audit.evidence();
    AuditRent::Audit {
        first: first.into(),
        firstSignature: first_signature.into(),
        second: second.into(),
        secondSignature: second_signature.into(),
        place: audit.place,
        count: u64::try_from(audit.entries.len()).expect("a length is below 2^64"),
        part: part.number,
        siblings: part.siblings.iter().map(|sibling| sibling.0.into()).collect(),
        rows: part.rows.into(),
    }
}
