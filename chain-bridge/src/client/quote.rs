//! What a transaction will cost, known before it is signed.
//!
//! Three fees on an OP chain: gas of the L2 (an estimate times a price), the fee for its bytes on the L1, and the operator's. The last two are asked of
//! the chain's own `GasPriceOracle` where it has one; elsewhere they follow from the attributes in `L1Block`, slot by slot as an execution client reads
//! them (Fjord, Isthmus). A chain without either charges neither. A small call of 200 bytes pays about 100 bytes of L1 data: the least that is charged.

use alloy::{primitives::U256, sol_types::SolCall};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Account,
};

use crate::{
    chain::{Call, error::ChainError, rpc::Rpc},
    outbox::{Entry, Fees, Intent},
};

/// What the L1's price can come to while a transaction is waited for, as a multiple: it rises by an eighth a block at most, six blocks double it.
const L1_RISE: u128 = 2;

/// Most calldata of one transaction: what execution clients take into their pool (128 KiB) less room for the rest of it.
pub const CALLDATA_MAX: usize = (128 << 10) - 1_024;
/// Predeploy that knows the fees.
const GAS_PRICE_ORACLE: Address = Address([0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f]);
/// Predeploy that holds the L1's attributes.
const L1_BLOCK: Address = Address([0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15]);

mod oracle {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
    alloy::sol! {
        function getL1Fee(bytes data) external view returns (uint256);
        function getOperatorFee(uint256 gas) external view returns (uint256);
    }
}

/// A transaction that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The operation.
    pub what: String,
    /// Who signs and pays.
    pub account: Address,
    /// What is called.
    pub call: Call,
    /// Gas that it would use now.
    pub estimate: u64,
    /// Most gas that it may use.
    pub gas: u64,
    /// Wei per gas that it would pay now.
    pub price: u128,
    /// Most per gas that it offers.
    pub fees: Fees,
    /// Fee for its bytes on the L1 at the L1's present prices.
    pub l1_fee: Amount,
    /// The operator's fee, for all of its gas.
    pub operator_fee: Amount,
    /// What the account holds.
    pub balance: Amount,
    /// Whether its gas is known; not where it depends on a transaction that was not sent.
    pub is_simulated: bool,
}

impl Quote {
    /// All fees if it uses what was estimated at the present price.
    pub const fn fee(&self) -> Amount {
        let gas = self.price.saturating_mul(self.estimate as u128);
        Amount(gas.saturating_add(self.l1_fee.0).saturating_add(self.operator_fee.0))
    }

    /// The most that leaves the account: the value sent, all gas at the highest fee that it may come to offer while it waits
    /// ([`Fees::highest`]), the operator's fee, and twice the L1's, whose price moves by itself.
    pub fn most(&self) -> Amount {
        self.with_fees(self.fees.highest().most, self.l1_fee.0.saturating_mul(L1_RISE))
    }

    /// The most that its first copy costs: what an account must hold for it to be taken.
    pub const fn first_most(&self) -> Amount {
        self.with_fees(self.fees.most, self.l1_fee.0)
    }

    const fn with_fees(&self, price: u128, l1_fee: u128) -> Amount {
        let gas = price.saturating_mul(self.gas as u128);
        Amount(self.call.value.0.saturating_add(gas).saturating_add(l1_fee).saturating_add(self.operator_fee.0))
    }

    /// Whether the account can pay the most that its first copy may cost. A raised one that it cannot pay is not taken, and the first stays.
    ///
    /// # Errors
    /// [`ChainError::TooDear`].
    pub fn affordable(&self) -> Result<(), ChainError> {
        let (most, balance) = (self.first_most(), self.balance);
        if most <= balance { Ok(()) } else { Err(ChainError::TooDear { what: self.what.clone(), account: self.account, most, balance }) }
    }

    /// What is left after the value sent and the expected fees.
    pub const fn balance_after(&self) -> Amount {
        Amount(self.balance.0.saturating_sub(self.call.value.0).saturating_sub(self.fee().0))
    }
}

/// What `call` will cost `account`, signed under the account's next nonce. `estimated` is its gas as estimated, and the most that it may use.
///
/// # Errors
/// [`ChainError`].
pub(crate) async fn quote(
    rpc: &Rpc,
    account: &Account,
    what: &str,
    call: &Call,
    estimated: Option<(u64, u64)>,
    fees: Fees,
) -> Result<Quote, ChainError> {
    let (estimate, gas) = estimated.unwrap_or_default();
    let nonce = rpc.nonce(account.address(), true).await?;
    let draft = Entry::new(Intent { what: what.to_owned(), origin: None, call: call.clone(), gas, fees, since: 0 }, nonce, 0);
    let (l1_fee, operator_fee) = extra_fees(rpc, account, &draft).await?;
    let balance = rpc.balance(account.address()).await?;
    // `fees.most` is twice the base fee and the tip.
    let price = fees.tip.saturating_add(fees.most.saturating_sub(fees.tip) / 2);
    Ok(Quote {
        what: what.to_owned(),
        account: account.address(),
        call: call.clone(),
        estimate,
        gas,
        price,
        fees,
        l1_fee,
        operator_fee,
        balance,
        is_simulated: estimated.is_some(),
    })
}

/// Fee for L1 data and operator's fee of a transaction.
async fn extra_fees(rpc: &Rpc, account: &Account, draft: &Entry) -> Result<(Amount, Amount), ChainError> {
    if rpc.has_code(GAS_PRICE_ORACLE).await? {
        let l1 = ask(rpc, account, &oracle::getL1FeeCall { data: rpc.unsigned(draft).into() }).await?;
        // Chains before Isthmus have no such function and no such fee.
        let operator = match ask(rpc, account, &oracle::getOperatorFeeCall { gas: U256::from(draft.gas) }).await {
            Err(ChainError::Reverted { .. }) => U256::ZERO,
            other => other?,
        };
        return Ok((wei(l1)?, wei(operator)?));
    }
    if !rpc.has_code(L1_BLOCK).await? {
        return Ok((Amount::ZERO, Amount::ZERO));
    }
    let attributes = Attributes::read(rpc).await?;
    let size = compressed_len(&rpc.signed(account, draft));
    Ok((attributes.l1_fee(size), attributes.operator_fee(draft.gas)))
}

async fn ask<C: SolCall<Return = U256>>(rpc: &Rpc, account: &Account, call: &C) -> Result<U256, ChainError> {
    let data = rpc.call(account.address(), GAS_PRICE_ORACLE, &call.abi_encode(), None).await?;
    C::abi_decode_returns(&data).map_err(|error| ChainError::Unreadable { what: C::SIGNATURE, why: error.to_string() })
}

fn wei(amount: U256) -> Result<Amount, ChainError> {
    amount.try_into().map(Amount).map_err(|_| ChainError::Unreadable { what: "a fee", why: "beyond 2^128 wei".into() })
}

/// The L1's attributes as far as fees need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attributes {
    base_fee: u128,
    blob_base_fee: u128,
    base_fee_scalar: u32,
    blob_base_fee_scalar: u32,
    operator_scalar: u32,
    operator_constant: u64,
}

impl Attributes {
    async fn read(rpc: &Rpc) -> Result<Self, ChainError> {
        let scalars = rpc.slot(L1_BLOCK, 3).await?;
        let operator = rpc.slot(L1_BLOCK, 8).await?;
        Ok(Self {
            base_fee: low(rpc.slot(L1_BLOCK, 1).await?),
            blob_base_fee: low(rpc.slot(L1_BLOCK, 7).await?),
            base_fee_scalar: word(&scalars, 16),
            blob_base_fee_scalar: word(&scalars, 20),
            operator_scalar: word(&operator, 20),
            operator_constant: u64::from_be_bytes(*operator.0.last_chunk().expect("32 bytes hold eight")),
        })
    }

    /// Fjord: bytes after compression, by a linear estimate with a floor of 100, in millionths.
    fn l1_fee(&self, compressed: u64) -> Amount {
        let size = (u128::from(compressed) * 836_500).saturating_sub(42_585_600).max(100_000_000);
        let calldata = u128::from(self.base_fee_scalar).saturating_mul(16).saturating_mul(self.base_fee);
        let blobs = u128::from(self.blob_base_fee_scalar).saturating_mul(self.blob_base_fee);
        Amount(size.saturating_mul(calldata.saturating_add(blobs)) / 1_000_000_000_000)
    }

    /// Isthmus.
    fn operator_fee(&self, gas: u64) -> Amount {
        Amount(u128::from(gas) * u128::from(self.operator_scalar) / 1_000_000 + u128::from(self.operator_constant))
    }
}

fn word(slot: &Hash32, at: usize) -> u32 {
    slot.0[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The low half: no fee of any L1 comes near 2^128 wei.
fn low(slot: Hash32) -> u128 {
    u128::from_be_bytes(*slot.0.last_chunk().expect("32 bytes hold sixteen"))
}

/// Length that FastLZ at level 1 would compress `bytes` to, as execution clients count it: without making the compressed bytes.
fn compressed_len(bytes: &[u8]) -> u64 {
    const TABLE: usize = 8_192;
    let at = |place: usize| u32::from(bytes[place]) | u32::from(bytes[place + 1]) << 8 | u32::from(bytes[place + 2]) << 16;
    let hash = |value: u32| (value.wrapping_mul(2_654_435_769) >> 19) as usize & (TABLE - 1);
    let literals = |count: usize| (33 * (count / 32) + if count.is_multiple_of(32) { 0 } else { count % 32 + 1 }) as u64;
    let matched = |length: usize| (3 * ((length - 1) / 262) + if (length - 1) % 262 >= 6 { 3 } else { 2 }) as u64;
    let (mut table, mut total) = (vec![0_usize; TABLE], 0);
    let limit = bytes.len().saturating_sub(13);
    let (mut anchor, mut place) = (0, 2);
    while place < limit {
        let earlier = loop {
            let value = at(place);
            let earlier = std::mem::replace(&mut table[hash(value)], place);
            let distance = place - earlier;
            if place >= limit {
                break None;
            }
            place += 1;
            if distance < TABLE && value == at(earlier) {
                break Some(earlier);
            }
        };
        let Some(earlier) = earlier.filter(|_| place < limit) else { break };
        place -= 1;
        if place > anchor {
            total += literals(place - anchor);
        }
        // The first differing byte is counted with the match, as the original does.
        let (from, with, most) = (earlier + 3, place + 3, limit + 9 - (place + 3));
        let same = (0..most).take_while(|step| bytes[from + step] == bytes[with + step]).count();
        let length = if same < most { same + 1 } else { same };
        total += matched(length);
        place += length;
        for _ in 0..2 {
            table[hash(at(place))] = place;
            place += 1;
        }
        anchor = place;
    }
    total + literals(bytes.len() - anchor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_those_that_execution_clients_count() {
        assert_eq!(compressed_len(&[]), 0);
        assert_eq!(compressed_len(&[1; 1_000]), 21);
        assert_eq!(compressed_len(&[0; 1_000]), 21);
    }

    #[test]
    fn fees_follow_from_the_attributes() {
        let attributes = Attributes {
            base_fee: 10_000_000_000,
            blob_base_fee: 1_000_000_000,
            base_fee_scalar: 5_227,
            blob_base_fee_scalar: 1_014_213,
            operator_scalar: 1_000,
            operator_constant: 7,
        };
        // 100 bytes at least: 10^8 x (5227 x 16 x 10^10 + 1014213 x 10^9) / 10^12.
        assert_eq!(attributes.l1_fee(0), Amount(185_053_300_000));
        assert_eq!(attributes.l1_fee(170), attributes.l1_fee(0));
        assert!(attributes.l1_fee(1_000) > attributes.l1_fee(500));
        assert_eq!(attributes.operator_fee(2_000_000), Amount(2_007));
    }

    #[test]
    fn a_quote_adds_up_to_the_wei() {
        let call = Call { to: None, data: vec![], value: Amount(1_000) };
        let fees = Fees { most: 20, tip: 2 };
        let quote = Quote {
            what: "x".into(),
            account: Address([1; 20]),
            call,
            estimate: 10,
            gas: 12,
            price: 11,
            fees,
            l1_fee: Amount(5),
            operator_fee: Amount(3),
            balance: Amount(2_000),
            is_simulated: true,
        };
        assert_eq!((quote.fee(), quote.first_most(), quote.balance_after()), (Amount(118), Amount(1_248), Amount(882)));
        let highest = Fees { most: 20, tip: 2 }.highest().most;
        assert!(highest > 6 * 20, "a quarter more, eight times: {highest}");
        assert_eq!(quote.most(), Amount(1_000 + 12 * highest + 2 * 5 + 3), "every fee rise, the L1's price doubled");
        assert!(quote.affordable().is_ok());
        let error = Quote { balance: Amount(1_247), ..quote }.affordable().unwrap_err().to_string();
        assert!(error.contains("nothing was sent") && error.contains("0.000000000000000001 OPEN at least"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_length_that_is_at_most_a_little_longer(
            bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..2_000), proptest::collection::vec(0..3_u8, 0..20_000)]
        ) {
            prop_assert!(compressed_len(&bytes) <= (bytes.len() + bytes.len() / 32 + 1) as u64);
        }
    }
}
