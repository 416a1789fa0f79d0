//! JSON-RPC to an execution client, as far as this crate needs it. Every request has a deadline; every failure names the endpoint.
//!
//! One block costs three requests for the follower (heads, header, logs). `from` is always given: with an L1 fee set, an OP execution client
//! charges calls too, and one without a funded sender fails.

use std::time::Duration;

use alloy::{
    consensus::{SignableTransaction, TxEip1559},
    eips::eip2718::Encodable2718,
    primitives::{B256, Signature, TxKind, U64, U128, U256},
    rpc::{client::RpcClient, types::Log},
    transports::{RpcError, TransportErrorKind},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Account,
    time::BlockRef,
};

use super::{Call, Header, Heads, error::ChainError, revert};
use crate::{
    convert,
    outbox::{Entry, Fees},
};

/// Longest wait for one answer: an execution client on the same machine answers in milliseconds, one across the world in a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most blocks of one log query; public endpoints refuse more.
pub const LOG_RANGE_MAX: u64 = 2_000;

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Rpc {
    client: RpcClient,
    url: String,
    chain_id: u64,
}

/// A transaction's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its block.
    pub block: BlockRef,
    /// Whether it was carried out.
    pub is_success: bool,
    /// Gas used on the L2.
    pub gas_used: u64,
    /// Wei per gas paid.
    pub gas_price: u128,
    /// Fee for L1 data, if the client tells.
    pub l1_fee: Option<Amount>,
    /// Created contract.
    pub contract: Option<Address>,
    /// Logs.
    pub logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReceipt {
    block_number: Option<U64>,
    block_hash: Option<B256>,
    status: U64,
    gas_used: U64,
    effective_gas_price: Option<U128>,
    l1_fee: Option<U128>,
    contract_address: Option<alloy::primitives::Address>,
    #[serde(default)]
    logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHeader {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    base_fee_per_gas: Option<U128>,
}

/// A transaction as it stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentCall {
    /// Whom it went to; nothing if it made a contract.
    pub to: Option<Address>,
    /// Its data.
    pub data: Vec<u8>,
}

#[derive(Deserialize)]
struct RawBody {
    transactions: Vec<RawTransaction>,
}

#[derive(Deserialize)]
struct RawTransaction {
    from: alloy::primitives::Address,
    to: Option<alloy::primitives::Address>,
    input: String,
}

impl RawHeader {
    fn block(&self) -> BlockRef {
        BlockRef { number: self.number.to(), hash: convert::hash(self.hash) }
    }
}

fn call_params(from: Address, to: Address, data: &[u8], head: &'static str) -> Value {
    let call = json!({ "from": from, "to": to, "input": format!("0x{}", hex::encode(data)) });
    // The account may have had nothing at that head, and a chain of the OP stack asks for its data fee even of who only reads.
    let overrides = json!({ from.to_string(): { "balance": U256::from(1_u128 << 100) } });
    json!([call, head, overrides])
}

impl Rpc {
    /// Connects and asks for the chain id.
    ///
    /// # Errors
    /// [`ChainError::Down`], [`ChainError::Argument`] if `url` is none.
    pub async fn connect(url: &str) -> Result<Self, ChainError> {
        let parsed =
            url.parse().map_err(|error| ChainError::Argument(format!("{url:?} is no endpoint ({error}): write http://host:port")))?;
        let mut rpc = Self { client: RpcClient::new_http(parsed), url: url.to_owned(), chain_id: 0 };
        rpc.chain_id = rpc.request::<U64>("eth_chainId", json!([])).await?.to();
        Ok(rpc)
    }

    /// The endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The chain's id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Any request.
    ///
    /// # Errors
    /// [`ChainError::Down`], [`ChainError::Reverted`], [`ChainError::Rpc`], [`ChainError::Unreadable`].
    pub async fn request<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, ChainError> {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request::<Value, Value>(method, params)).await;
        self.answered(method, answer.map_err(|_| self.late(method))?)
    }

    /// Several calls on the state of a head, in one round trip; their data in order. The caller bounds their number.
    ///
    /// # Errors
    /// As [`Rpc::request`], of the first that failed.
    pub async fn calls_at(&self, from: Address, to: Address, data: &[Vec<u8>], head: &'static str) -> Result<Vec<Vec<u8>>, ChainError> {
        const METHOD: &str = "eth_call";
        let all = async {
            let mut batch = self.client.new_batch();
            let mut waiting = Vec::with_capacity(data.len());
            for data in data {
                let asked = batch.add_call::<Value, Value>(METHOD, &call_params(from, to, data, head));
                waiting.push(asked.map_err(|error| ChainError::Argument(error.to_string()))?);
            }
            if let Err(error) = batch.send().await {
                let nothing = ChainError::Unreadable { what: METHOD, why: "no answers to a batch".to_owned() };
                return self.answered::<Value>(METHOD, Err(error)).and(Err(nothing));
            }
            let mut answers = Vec::with_capacity(waiting.len());
            for answer in waiting {
                let bytes: alloy::primitives::Bytes = self.answered(METHOD, answer.await)?;
                answers.push(bytes.to_vec());
            }
            Ok(answers)
        };
        tokio::time::timeout(REQUEST_TIMEOUT, all).await.map_err(|_| self.late(METHOD))?
    }

    fn late(&self, method: &'static str) -> ChainError {
        ChainError::Down { url: self.url.clone(), why: format!("no answer to {method} within {} s", REQUEST_TIMEOUT.as_secs()) }
    }

    fn answered<T: DeserializeOwned>(
        &self,
        method: &'static str,
        answer: Result<Value, RpcError<TransportErrorKind>>,
    ) -> Result<T, ChainError> {
        let down = |why: String| ChainError::Down { url: self.url.clone(), why };
        let value = match answer {
            Ok(value) => value,
            Err(RpcError::NullResp) => Value::Null,
            Err(RpcError::ErrorResp(payload)) => {
                let data = payload.data.as_ref().and_then(|data| serde_json::from_str::<Value>(data.get()).ok());
                if let Some(data) = data.as_ref().and_then(revert_data) {
                    let revert = revert::words(&data);
                    return Err(ChainError::Reverted { what: method.into(), reason: revert.reason, error: revert.error });
                }
                return Err(ChainError::Rpc { method, message: payload.message.into_owned() });
            }
            Err(RpcError::Transport(error)) => return Err(down(error.to_string())),
            Err(error) => return Err(ChainError::Unreadable { what: method, why: error.to_string() }),
        };
        serde_json::from_value(value).map_err(|error| ChainError::Unreadable { what: method, why: error.to_string() })
    }

    /// Runs a call without a transaction and returns its data. `overrides` replaces storage for this call alone.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn call(&self, from: Address, to: Address, data: &[u8], overrides: Option<Value>) -> Result<Vec<u8>, ChainError> {
        let call = json!({ "from": from, "to": to, "input": format!("0x{}", hex::encode(data)) });
        let params = overrides.map_or_else(|| json!([call, "latest"]), |overrides| json!([call, "latest", overrides]));
        let bytes: alloy::primitives::Bytes = self.request("eth_call", params).await?;
        Ok(bytes.to_vec())
    }

    /// Runs a call on the state of a head: `latest`, `safe`, `finalized`.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn call_at(&self, from: Address, to: Address, data: &[u8], head: &'static str) -> Result<Vec<u8>, ChainError> {
        let bytes: alloy::primitives::Bytes = self.request("eth_call", call_params(from, to, data, head)).await?;
        Ok(bytes.to_vec())
    }

    /// Gas that a call would use.
    ///
    /// # Errors
    /// As [`Rpc::request`]; a call that would be refused is [`ChainError::Reverted`].
    pub async fn estimate(&self, from: Address, call: &Call) -> Result<u64, ChainError> {
        let mut fields = json!({ "from": from, "input": format!("0x{}", hex::encode(&call.data)), "value": U128::from(call.value.0) });
        if let Some(to) = call.to {
            fields["to"] = json!(to);
        }
        Ok(self.request::<U64>("eth_estimateGas", json!([fields])).await?.to())
    }

    /// Balance of an account.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn balance(&self, account: Address) -> Result<Amount, ChainError> {
        self.balance_at(account, "latest").await
    }

    /// Balance of an account at a head.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn balance_at(&self, account: Address, head: &'static str) -> Result<Amount, ChainError> {
        let balance: U256 = self.request("eth_getBalance", json!([account, head])).await?;
        balance.try_into().map(Amount).map_err(|_| ChainError::Unreadable { what: "a balance", why: "beyond 2^128 wei".into() })
    }

    /// Transactions an account has sent: included, or with those that wait in the pool.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn nonce(&self, account: Address, with_waiting: bool) -> Result<u64, ChainError> {
        let tag = if with_waiting { "pending" } else { "latest" };
        Ok(self.request::<U64>("eth_getTransactionCount", json!([account, tag])).await?.to())
    }

    /// Whether there is code at an address.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn has_code(&self, address: Address) -> Result<bool, ChainError> {
        Ok(!self.code(address).await?.is_empty())
    }

    /// The code at an address; empty if there is none.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn code(&self, address: Address) -> Result<Vec<u8>, ChainError> {
        let code: alloy::primitives::Bytes = self.request("eth_getCode", json!([address, "latest"])).await?;
        Ok(code.to_vec())
    }

    /// The code at several addresses, in one round trip; empty where there is none.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn codes(&self, addresses: &[Address]) -> Result<Vec<Vec<u8>>, ChainError> {
        const METHOD: &str = "eth_getCode";
        let failed = |error: RpcError<TransportErrorKind>| match error {
            RpcError::Transport(error) => ChainError::Down { url: self.url.clone(), why: error.to_string() },
            RpcError::ErrorResp(payload) => ChainError::Rpc { method: METHOD, message: payload.message.into_owned() },
            error => ChainError::Unreadable { what: METHOD, why: error.to_string() },
        };
        let asking = async {
            let mut batch = self.client.new_batch();
            let mut waiting = Vec::with_capacity(addresses.len());
            for address in addresses {
                waiting.push(batch.add_call::<_, alloy::primitives::Bytes>(METHOD, &json!([address, "latest"])).map_err(failed)?);
            }
            batch.send().await.map_err(failed)?;
            let mut codes = Vec::with_capacity(addresses.len());
            for code in waiting {
                codes.push(code.await.map_err(failed)?.to_vec());
            }
            Ok(codes)
        };
        let down = |_| ChainError::Down { url: self.url.clone(), why: format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()) };
        tokio::time::timeout(REQUEST_TIMEOUT, asking).await.map_err(down)?
    }

    /// The runtime code that creation code gives if `from` sends it, without sending it.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn run_creation(&self, from: Address, creation: &[u8]) -> Result<Vec<u8>, ChainError> {
        let call = json!({ "from": from, "input": format!("0x{}", hex::encode(creation)) });
        // The deployer's money may be gone by now; the call is free, but an OP execution client charges for it all the same.
        let overrides = json!({ from.to_string(): { "balance": U256::from(1_u128 << 100) } });
        let code: alloy::primitives::Bytes = self.request("eth_call", json!([call, "latest", overrides])).await?;
        Ok(code.to_vec())
    }

    async fn raw_header(&self, tag: Value) -> Result<Option<RawHeader>, ChainError> {
        self.request("eth_getBlockByNumber", json!([tag, false])).await
    }

    async fn tagged(&self, tag: &'static str) -> Result<RawHeader, ChainError> {
        self.raw_header(json!(tag))
            .await?
            .ok_or_else(|| ChainError::Unreadable { what: "eth_getBlockByNumber", why: format!("there is no {tag} block") })
    }

    /// The three heads.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn heads(&self) -> Result<Heads, ChainError> {
        // Certain heads first: asked in this order none is ahead of a later one.
        let (finalized, safe, latest) = (self.tagged("finalized").await?, self.tagged("safe").await?, self.tagged("latest").await?);
        Ok(Heads {
            latest: latest.block(),
            safe: safe.block(),
            finalized: finalized.block(),
            timestamp: latest.timestamp.to(),
            safe_timestamp: safe.timestamp.to(),
            finalized_timestamp: finalized.timestamp.to(),
        })
    }

    /// The latest block alone.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn latest(&self) -> Result<Header, ChainError> {
        let raw = self.tagged("latest").await?;
        Ok(Header { block: raw.block(), parent: convert::hash(raw.parent_hash), timestamp: raw.timestamp.to() })
    }

    /// The canonical block of a number; nothing past the head.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn header(&self, number: u64) -> Result<Option<Header>, ChainError> {
        let raw = self.raw_header(json!(U64::from(number))).await?;
        Ok(raw.map(|raw| Header { block: raw.block(), parent: convert::hash(raw.parent_hash), timestamp: raw.timestamp.to() }))
    }

    /// What an account sent in a block, in the block's order.
    ///
    /// # Errors
    /// As [`Rpc::request`]; [`ChainError::Unreadable`] if the block is not there.
    pub async fn sent_by(&self, account: Address, number: u64) -> Result<Vec<SentCall>, ChainError> {
        let unreadable = |why: String| ChainError::Unreadable { what: "the transactions of a block", why };
        let body: Option<RawBody> = self.request("eth_getBlockByNumber", json!([U64::from(number), true])).await?;
        let body = body.ok_or_else(|| unreadable(format!("block {number} is not there")))?;
        let own = body.transactions.into_iter().filter(|transaction| convert::account(transaction.from) == account);
        let call = |transaction: RawTransaction| {
            let data = hex::decode(transaction.input.trim_start_matches("0x")).map_err(|error| unreadable(error.to_string()))?;
            Ok(SentCall { to: transaction.to.map(convert::account), data })
        };
        own.map(call).collect()
    }

    /// Logs of some contracts in blocks `from..=to`, asked in pieces of [`LOG_RANGE_MAX`].
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn logs(&self, contracts: &[Address], from: u64, to: u64) -> Result<Vec<Log>, ChainError> {
        let mut logs = Vec::new();
        let mut start = from;
        while start <= to {
            let end = to.min(start.saturating_add(LOG_RANGE_MAX - 1));
            let filter = json!([{ "address": contracts, "fromBlock": U64::from(start), "toBlock": U64::from(end) }]);
            logs.extend(self.request::<Vec<Log>>("eth_getLogs", filter).await?);
            start = end.saturating_add(1);
        }
        Ok(logs)
    }

    /// Logs of some contracts in one block, known by its hash.
    ///
    /// # Errors
    /// As [`Rpc::request`]; also if the endpoint does not know the block.
    pub async fn logs_of(&self, contracts: &[Address], block: Hash32) -> Result<Vec<Log>, ChainError> {
        self.request("eth_getLogs", json!([{ "address": contracts, "blockHash": block }])).await
    }

    /// Fees that a transaction sent now should offer: twice the base fee, so that six full blocks cannot outrun it.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn fees(&self) -> Result<Fees, ChainError> {
        let base = self.tagged("latest").await?.base_fee_per_gas.map_or(0, |fee| fee.to::<u128>());
        let tip: u128 = self.request::<U128>("eth_maxPriorityFeePerGas", json!([])).await?.to();
        Ok(Fees { most: base.saturating_mul(2).saturating_add(tip), tip })
    }

    /// The hash that an entry's transaction has: signatures are deterministic, so it is known before anything is sent.
    pub fn hash_of(&self, account: &Account, entry: &Entry) -> Hash32 {
        sign(self.chain_id, account, entry).1
    }

    /// The signed bytes of an entry: what is paid for on the L1.
    pub(crate) fn signed(&self, account: &Account, entry: &Entry) -> Vec<u8> {
        sign(self.chain_id, account, entry).0
    }

    /// The bytes of an entry before it is signed.
    pub(crate) fn unsigned(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        transaction(self.chain_id, entry).encode_for_signing(&mut bytes);
        bytes
    }

    /// One word of a contract's storage.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn slot(&self, contract: Address, slot: u64) -> Result<Hash32, ChainError> {
        self.request("eth_getStorageAt", json!([contract, U64::from(slot), "latest"])).await
    }

    /// Signs an outbox entry and hands it over. A copy the pool holds already is no error.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn send(&self, account: &Account, entry: &Entry) -> Result<Hash32, ChainError> {
        let (raw, hash) = sign(self.chain_id, account, entry);
        let sent: Result<B256, _> = self.request("eth_sendRawTransaction", json!([format!("0x{}", hex::encode(raw))])).await;
        match sent {
            Ok(_) => Ok(hash),
            Err(ChainError::Rpc { message, .. }) if message.contains("already known") || message.contains("already imported") => Ok(hash),
            Err(error) => Err(error),
        }
    }

    /// The outcome of a transaction; nothing while it waits.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn outcome(&self, transaction: Hash32) -> Result<Option<Outcome>, ChainError> {
        let raw: Option<RawReceipt> = self.request("eth_getTransactionReceipt", json!([transaction])).await?;
        Ok(raw.and_then(|raw| {
            Some(Outcome {
                block: BlockRef { number: raw.block_number?.to(), hash: convert::hash(raw.block_hash?) },
                is_success: raw.status == U64::from(1),
                gas_used: raw.gas_used.to(),
                gas_price: raw.effective_gas_price.map_or(0, |price| price.to()),
                l1_fee: raw.l1_fee.map(|fee| Amount(fee.to())),
                contract: raw.contract_address.map(convert::account),
                logs: raw.logs,
            })
        }))
    }
}

/// Revert data, wherever the endpoint put it: a hex string, or such a string under `data` of an object.
fn revert_data(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => hex::decode(text.strip_prefix("0x")?).ok(),
        Value::Object(fields) => fields.get("data").and_then(revert_data),
        _ => None,
    }
}

fn transaction(chain_id: u64, entry: &Entry) -> TxEip1559 {
    TxEip1559 {
        chain_id,
        nonce: entry.nonce,
        gas_limit: entry.gas,
        max_fee_per_gas: entry.fees.most,
        max_priority_fee_per_gas: entry.fees.tip.min(entry.fees.most),
        to: entry.call.to.map_or(TxKind::Create, |to| TxKind::Call(convert::address(to))),
        value: U256::from(entry.call.value.0),
        access_list: alloy::eips::eip2930::AccessList::default(),
        input: entry.call.data.clone().into(),
    }
}

/// The signed bytes of an entry, and their hash.
fn sign(chain_id: u64, account: &Account, entry: &Entry) -> (Vec<u8>, Hash32) {
    let transaction = transaction(chain_id, entry);
    let signature = account.sign_digest(convert::hash(transaction.signature_hash()));
    let signature = Signature::from_bytes_and_parity(&signature.0[..64], signature.0[64] == 28);
    let signed = transaction.into_signed(signature);
    (signed.encoded_2718(), convert::hash(*signed.hash()))
}

#[cfg(test)]
mod tests {
    use alloy::{consensus::TxEnvelope, eips::eip2718::Decodable2718};

    use super::*;
    use crate::outbox::Intent;

    #[test]
    fn a_signed_transaction_recovers_to_its_account() {
        let account = Account::from_bytes(&[7; 32]).unwrap();
        let call = Call { to: Some(Address([1; 20])), data: vec![1, 2], value: Amount(5) };
        let intent = Intent { what: "call".into(), origin: None, call, gas: 50_000, fees: Fees { most: 9, tip: 2 }, since: 0 };
        let entry = Entry::new(intent, 3, 0);
        let (raw, hash) = sign(31_337, &account, &entry);
        let envelope = TxEnvelope::decode_2718(&mut raw.as_slice()).unwrap();
        let signer = envelope.signature().recover_address_from_prehash(&envelope.signature_hash()).unwrap();
        assert_eq!(convert::account(signer), account.address());
        assert_eq!(convert::hash(*envelope.tx_hash()), hash);
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_named_with_what_to_do() {
        let error = Rpc::connect("http://127.0.0.1:9").await.unwrap_err().to_string();
        assert!(error.contains("http://127.0.0.1:9") && error.contains("start it"), "{error}");
    }
}
