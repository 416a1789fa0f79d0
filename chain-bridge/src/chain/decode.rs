//! Logs of the suite's contracts as [`Event`]s.

use alloy::{primitives::B256, rpc::types::Log, sol_types::SolEventInterface};
use types::{
    id::{AssetId, AssetVersion, NodeId},
    manifest::AssetKind,
    split::SplitTable,
    time::BlockRef,
};

use super::error::ChainError;
use crate::{
    bindings::{
        AssetRegistry::{self, AssetRegistryEvents as Registry},
        FraudVerifier::FraudVerifierEvents as Fraud,
        InferenceEscrow::InferenceEscrowEvents as Escrow,
        Settlement::SettlementEvents as Settlement,
        StakeManager::StakeManagerEvents as Stake,
    },
    convert::{account, amount, blob, hash, small},
    deploy::Deployment,
    registry::{Event, Logged},
};

/// The event of a log; nothing for events no view needs.
///
/// # Errors
/// [`ChainError::Unreadable`] if it is one of ours and not as its contract writes it, or not part of a block.
pub fn log(deployment: &Deployment, log: &Log) -> Result<Option<Logged>, ChainError> {
    let unreadable = |why: String| ChainError::Unreadable { what: "a log", why };
    let (Some(number), Some(block_hash), Some(index), Some(transaction)) =
        (log.block_number, log.block_hash, log.log_index, log.transaction_hash)
    else {
        return Err(unreadable("it names no block".into()));
    };
    let Some(event) = event(deployment, log).map_err(unreadable)? else { return Ok(None) };
    let index = u32::try_from(index).map_err(|_| unreadable("its index is no 32-bit number".into()))?;
    let block = BlockRef { number, hash: hash(block_hash) };
    Ok(Some(Logged { block, log: index, transaction: hash(transaction), event }))
}

fn event(deployment: &Deployment, log: &Log) -> Result<Option<Event>, String> {
    let (from, topics, data) = (account(log.address()), log.topics(), log.data().data.as_ref());
    if from == deployment.registry {
        return registry(topics, data);
    }
    if from == deployment.stake {
        return stake(topics, data);
    }
    if from == deployment.escrow {
        return escrow(topics, data);
    }
    if from == deployment.settlement {
        return settlement(topics, data);
    }
    if from == deployment.fraud {
        return fraud(topics, data);
    }
    Ok(None)
}

fn read<E: SolEventInterface>(topics: &[B256], data: &[u8]) -> Result<E, String> {
    E::decode_raw_log(topics, data).map_err(|error| format!("{} event: {error}", E::NAME))
}

fn versions(list: &[AssetRegistry::Ref]) -> Vec<AssetVersion> {
    list.iter().map(|version| AssetVersion { asset: AssetId(version.asset), version: version.version }).collect()
}

fn registry(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Registry::Registered(e) => Event::Registered {
            asset: AssetId(e.asset),
            kind: AssetKind::from_code(e.kind).ok_or_else(|| format!("asset kind {}", e.kind))?,
            owner: account(e.owner),
            uri: e.uri,
        },
        Registry::Transfer(e) => Event::Transferred { asset: AssetId(small(e.tokenId)), to: account(e.to) },
        Registry::Published(e) => Event::Published {
            version: AssetVersion { asset: AssetId(e.asset), version: e.version },
            content: blob(e.contentHash),
            parents: versions(&e.parents),
            split: SplitTable::from_rows(e.split),
            datanets: versions(&e.datanets),
            licence: hash(e.licenceHash),
            parent_share_min: e.minParentShare,
        },
        Registry::Frozen(e) => Event::Frozen { version: AssetVersion { asset: AssetId(e.asset), version: e.version } },
        Registry::ReviewerSet(e) => Event::ReviewerSet {
            datanet: AssetId(e.datanet),
            owner: account(e.owner),
            reviewer: account(e.reviewer),
            is_allowed: e.allowed,
        },
        Registry::Committed(e) => Event::Committed {
            commitment: hash(e.commitment),
            contributor: account(e.contributor),
            block: e.blockNumber,
            ordinal: e.ordinal,
        },
        Registry::ContributionAccepted(e) => Event::Accepted {
            datanet: AssetId(e.datanet),
            number: small(e.number),
            contributor: account(e.contributor),
            text_root: hash(e.textRoot),
            text_bytes: e.textBytes,
            documents: e.documents,
            block: e.blockNumber,
            ordinal: e.ordinal,
            licence: hash(e.licenceHash),
            object: blob(e.objectHash),
            report: hash(e.reportDigest),
        },
        Registry::IndexRootPosted(e) => Event::IndexPosted {
            version: AssetVersion { asset: AssetId(e.asset), version: e.version },
            root: hash(e.root),
            parameters: e.paramId,
            indexer: account(e.indexer),
            window_ends: e.windowEnds,
        },
        Registry::ParametersApproved(e) => Event::ParametersApproved { parameters: e.paramId, hash: hash(e.paramHash) },
        Registry::MinDataBpsSet(e) => Event::DataRowMinSet { bps: e.minDataBps },
        Registry::GovernorSet(_) | Registry::Approval(_) | Registry::ApprovalForAll(_) => return Ok(None),
    }))
}

fn stake(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Stake::NodeRegistered(e) => Event::NodeRegistered {
            account: account(e.account),
            node: NodeId(e.nodeId.0),
            incarnation: e.incarnation,
            payout: account(e.payout),
            stake: amount(e.stake),
        },
        Stake::StakeChanged(e) => Event::StakeChanged {
            account: account(e.account),
            active: amount(e.active),
            unbonding: amount(e.unbonding),
            unbonded_at: e.unbondedAt,
        },
        Stake::Slashed(e) => Event::Slashed {
            account: account(e.account),
            amount: amount(e.amount),
            victim: account(e.victim),
            victim_amount: amount(e.victimAmount),
            reporter: account(e.reporter),
            reporter_amount: amount(e.reporterAmount),
            burned: amount(e.burned),
            insured: amount(e.insured),
            fault: hash(e.faultHash),
        },
        Stake::Withdrawn(_) | Stake::VerifierSet(_) => return Ok(None),
    }))
}

fn escrow(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Escrow::Deposited(e) => Event::Deposited { payer: account(e.payer), amount: amount(e.amount) },
        Escrow::WithdrawRequested(e) => {
            Event::WithdrawRequested { payer: account(e.payer), amount: amount(e.amount), thawed_at: e.thawedAt }
        }
        Escrow::Withdrawn(e) => Event::Withdrawn { payer: account(e.payer), amount: amount(e.amount) },
        Escrow::Collected(e) => Event::Collected {
            lane: hash(e.lane),
            payer: account(e.payer),
            node: account(e.node),
            amount: amount(e.amount),
            cumulative: amount(e.cumulative),
        },
        Escrow::SignerSet(_) | Escrow::SignerRevoked(_) => return Ok(None),
    }))
}

fn settlement(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Settlement::EpochOpened(e) => {
            Event::EpochOpened { epoch: e.epoch, opened_at: e.openedAt, accepts_until: e.acceptsUntil, payout_from: e.payoutFrom }
        }
        Settlement::NodeRootSubmitted(e) => Event::NodeRootSubmitted {
            epoch: e.epoch,
            node: account(e.node),
            receipts: hash(e.receiptsRoot),
            count: e.count,
            fees: amount(e.feeSum),
        },
        Settlement::PayoutPosted(e) => Event::PayoutPosted {
            epoch: e.epoch,
            root: hash(e.root),
            total: amount(e.total),
            previous: hash(e.previousRoot),
            poster: account(e.poster),
            final_at: e.finalAt,
        },
        Settlement::Claimed(e) => {
            Event::Claimed { account: account(e.account), epoch: e.epoch, amount: amount(e.amount), cumulative: amount(e.cumulative) }
        }
        Settlement::CollectedReceived(_) => return Ok(None),
    }))
}

fn fraud(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(match read(topics, data)? {
        Fraud::FalseSpanProven(e) => Some(Event::FalseSpanProven {
            receipt: hash(e.receiptHash),
            node: account(e.node),
            span: e.span,
            amount: amount(e.amount),
            fault: hash(e.faultHash),
            reporter: account(e.reporter),
        }),
        Fraud::ProofCommitted(_) => None,
    })
}
