//! Logs of the suite's contracts as [`Event`]s.

use alloy::{primitives::B256, rpc::types::Log, sol_types::SolEventInterface};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{AssetId, AssetVersion, NodeId},
    manifest::AssetKind,
    split::SplitTable,
    time::BlockRef,
    voucher::Lane,
};

use super::error::ChainError;
use crate::{
    bindings::{
        AnswerVerifier::AnswerVerifierEvents as Answers,
        AssetRegistry::{self, AssetRegistryEvents as Registry},
        AuditCase::AuditCaseEvents as Cases,
        AuditRent::AuditRentEvents as Audits,
        BillingVerifier::BillingVerifierEvents as Billing,
        CheckBoard::CheckBoardEvents as Checks,
        DatanetRent::DatanetRentEvents as Rent,
        Erasures::ErasuresEvents as Erasing,
        FraudVerifier::FraudVerifierEvents as Fraud,
        IndexVerifier::IndexVerifierEvents as Indexes,
        InferenceEscrow::InferenceEscrowEvents as Escrow,
        InsurancePool::InsurancePoolEvents as Insurance,
        MaskVerifier::MaskVerifierEvents as Masks,
        PayoutVerifier::PayoutVerifierEvents as PayoutFaults,
        ReceiptChallenge::ReceiptChallengeEvents as Challenge,
        RewardsVault::RewardsVaultEvents as Rewards,
        Settlement::SettlementEvents as Settlement,
        SpanVerifier::SpanVerifierEvents as Spans,
        StakeManager::StakeManagerEvents as Stake,
    },
    case::Asked,
    convert::{account, amount, blob, hash, small},
    deploy::Deployment,
    registry::{
        Event, Logged,
        event::{Custody, Fault},
    },
};

/// The event of a log of a block of `time`; nothing for events no view needs.
///
/// # Errors
/// [`ChainError::Unreadable`] if it is one of ours and not as its contract writes it, or not part of a block.
pub fn log(deployment: &Deployment, log: &Log, time: u64) -> Result<Option<Logged>, ChainError> {
    let unreadable = |why: String| ChainError::Unreadable { what: "a log", why };
    let (Some(number), Some(block_hash), Some(index), Some(transaction)) =
        (log.block_number, log.block_hash, log.log_index, log.transaction_hash)
    else {
        return Err(unreadable("it names no block".into()));
    };
    let Some(event) = event(deployment, log).map_err(unreadable)? else { return Ok(None) };
    let index = u32::try_from(index).map_err(|_| unreadable("its index is no 32-bit number".into()))?;
    let block = BlockRef { number, hash: hash(block_hash) };
    Ok(Some(Logged { block, log: index, transaction: hash(transaction), time, event }))
}

fn event(deployment: &Deployment, log: &Log) -> Result<Option<Event>, String> {
    let (from, topics, data) = (account(log.address()), log.topics(), log.data().data.as_ref());
    let read = [
        (deployment.registry, registry as Decoder),
        (deployment.stake, stake),
        (deployment.escrow, escrow),
        (deployment.settlement, settlement),
        (deployment.insurance, insurance),
        (deployment.rewards, rewards),
        (deployment.rent, rent),
        (deployment.audits, audits),
        (deployment.fraud, fraud),
        (deployment.billing, billing),
        (deployment.spans, spans),
        (deployment.answers, answers),
        (deployment.masks, masks),
        (deployment.indexes, indexes),
        (deployment.challenge, challenge),
        (deployment.payout, payout),
        (deployment.erasures, erasures),
        (deployment.cases, cases),
        (deployment.checks, checks),
    ];
    read.into_iter().find(|(address, _)| *address == from).map_or(Ok(None), |(_, decode)| decode(topics, data))
}

type Decoder = fn(&[B256], &[u8]) -> Result<Option<Event>, String>;

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
        Registry::Redirected(e) => Event::Redirected { asset: AssetId(e.asset), from: e.from, to: e.to },
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
        Stake::RolesChanged(e) => Event::RolesChanged { account: account(e.account), roles: e.roles },
        Stake::Slashed(e) => Event::Slashed {
            fault: hash(e.faultHash),
            account: account(e.account),
            amount: amount(e.amount),
            victim: account(e.victim),
            victim_amount: amount(e.victimAmount),
            lane: hash(e.lane),
            reporter: account(e.reporter),
            release_at: e.releaseAt,
            number: e.number,
        },
        Stake::SlashReleased(e) => Event::SlashReleased {
            fault: hash(e.faultHash),
            to_victim: amount(e.toVictim),
            covered: amount(e.covered),
            to_reporter: amount(e.toReporter),
            burned: amount(e.burned),
            insured: amount(e.insured),
        },
        Stake::Debited(e) => Event::Debited { account: account(e.account), payer: account(e.payer), amount: amount(e.amount) },
        Stake::PledgeChanged(e) => Event::Pledged { account: account(e.account), pledged: amount(e.pledged) },
        Stake::Credited(e) => Event::Credited { by: Custody::Stake, payee: account(e.payee), amount: wide(e.amount)? },
        Stake::OwedWithdrawn(e) => Event::OwedWithdrawn { by: Custody::Stake, payee: account(e.payee), amount: wide(e.amount)? },
        Stake::Withdrawn(_) | Stake::VerifiersSet(_) | Stake::PeersSet(_) => return Ok(None),
    }))
}

/// An amount that the contracts keep below 2^128.
fn wide(number: alloy::primitives::U256) -> Result<Amount, String> {
    number.try_into().map(Amount).map_err(|_| format!("an amount of {number} wei"))
}

fn escrow(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Escrow::Deposited(e) => Event::Deposited { payer: account(e.payer), amount: amount(e.amount) },
        Escrow::WithdrawRequested(e) => {
            Event::WithdrawRequested { payer: account(e.payer), amount: amount(e.amount), thawed_at: e.thawedAt }
        }
        Escrow::Withdrawn(e) => Event::Withdrawn { payer: account(e.payer), amount: amount(e.amount) },
        Escrow::LaneOpened(e) => {
            let lane = Lane::decode(&e.body).map_err(|error| format!("the body of lane {}: {error}", e.lane))?;
            Event::LaneOpened { lane }
        }
        Escrow::Collected(e) => Event::Collected {
            lane: hash(e.lane),
            payer: account(e.payer),
            node: account(e.node),
            amount: amount(e.amount),
            cumulative: amount(e.cumulative),
        },
        Escrow::SignerSet(e) => {
            Event::SignerSet { payer: account(e.payer), signer: account(e.signer), cap: amount(e.cap), expiry: e.expiryBlock }
        }
        Escrow::SignerRevoked(e) => Event::SignerRevoked { payer: account(e.payer), signer: account(e.signer), revoked_at: e.revokedAt },
        Escrow::CreditClaimed(e) => Event::CreditClaimed {
            lane: hash(e.lane),
            request: hash(e.request),
            node: account(e.node),
            payer: account(e.payer),
            amount: amount(e.amount),
            settle_from: e.settleFrom,
        },
        Escrow::CreditPaid(e) => Event::CreditPaid { lane: hash(e.lane), request: hash(e.request), amount: amount(e.amount) },
        Escrow::CreditSettled(e) => {
            Event::CreditSettled { lane: hash(e.lane), request: hash(e.request), paid: amount(e.paid), left: amount(e.left) }
        }
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
            block: e.blockNumber,
        },
        Settlement::ReceiptVoided(e) => Event::ReceiptVoided { receipt: hash(e.receiptHash), verifier: account(e.verifier) },
        Settlement::PayoutOverturned(e) => Event::PayoutOverturned {
            epoch: e.epoch,
            root: hash(e.root),
            poster: account(e.poster),
            reporter: account(e.reporter),
            fault: hash(e.faultHash),
        },
        Settlement::BondReturned(e) => Event::BondReturned { epoch: e.epoch, poster: account(e.poster), bond: bond(e.bond) },
        Settlement::BondTaken(e) => Event::BondTaken {
            epoch: e.epoch,
            poster: account(e.poster),
            reporter: account(e.reporter),
            to_reporter: bond(e.toReporter),
            burned: bond(e.burned),
        },
        Settlement::Credited(e) => Event::Credited { by: Custody::Settlement, payee: account(e.payee), amount: wide(e.amount)? },
        Settlement::OwedWithdrawn(e) => Event::OwedWithdrawn { by: Custody::Settlement, payee: account(e.payee), amount: wide(e.amount)? },
        Settlement::PayoutPosted(e) => Event::PayoutPosted {
            epoch: e.epoch,
            root: hash(e.root),
            total: amount(e.total),
            previous: hash(e.previousRoot),
            poster: account(e.poster),
            final_at: e.finalAt,
            bond: bond(e.bond),
        },
        Settlement::Claimed(e) => {
            Event::Claimed { account: account(e.account), epoch: e.epoch, amount: amount(e.amount), cumulative: amount(e.cumulative) }
        }
        Settlement::TreasurySealed(_) => return Ok(None),
    }))
}

fn bond(bond: alloy::primitives::aliases::U96) -> Amount {
    Amount(bond.to())
}

fn fraud(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    let proven = |fault, receipt, node, reporter| Some(Event::FaultProven { fault, receipt, node, reporter });
    Ok(match read(topics, data)? {
        Fraud::FalseSpanProven(e) => {
            proven(Fault::FalseSpan { span: e.span, mode: e.mode }, hash(e.receiptHash), account(e.node), account(e.reporter))
        }
        Fraud::EquivocationProven(e) => proven(Fault::Equivocation, hash(e.first), account(e.node), account(e.reporter)),
        Fraud::RepeatProven(e) => proven(Fault::Repeat, hash(e.receiptHash), account(e.node), account(e.reporter)),
        Fraud::LaneRefuted(e) => proven(Fault::Lane, hash(e.receiptHash), account(e.node), account(e.reporter)),
        Fraud::BlockRefuted(e) => proven(Fault::Block, hash(e.receiptHash), account(e.node), account(e.reporter)),
        Fraud::ProofCommitted(_) => None,
    })
}

fn billing(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(match read(topics, data)? {
        Billing::RuleBroken(e) => Some(Event::FaultProven {
            fault: Fault::Rule(e.rule),
            receipt: hash(e.receiptHash),
            node: account(e.node),
            reporter: account(e.reporter),
        }),
        Billing::ProofCommitted(_) => None,
    })
}

fn spans(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    let proven = |fault, receipt, node, reporter| Some(Event::FaultProven { fault, receipt, node, reporter });
    Ok(match read(topics, data)? {
        Spans::OmissionProven(e) => {
            proven(Fault::Omission { start: e.start, length: e.length }, hash(e.receiptHash), account(e.node), account(e.reporter))
        }
        Spans::PayeeRefuted(e) => {
            proven(Fault::Payee { span: e.span, mode: e.mode }, hash(e.receiptHash), account(e.node), account(e.reporter))
        }
        Spans::ProofCommitted(_) => None,
    })
}

fn answers(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    let proven = |fault, receipt, node, reporter| Some(Event::FaultProven { fault, receipt, node, reporter });
    Ok(match read(topics, data)? {
        Answers::SpanRefuted(e) => {
            proven(Fault::Ineligible { span: e.span, mode: e.mode }, hash(e.receiptHash), account(e.node), account(e.reporter))
        }
        Answers::WeightRefuted(e) => proven(Fault::Weight { mode: e.mode }, hash(e.receiptHash), account(e.node), account(e.reporter)),
        Answers::ProofCommitted(_) => None,
    })
}

fn masks(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(match read(topics, data)? {
        Masks::MaskRefuted(e) => Some(Event::FaultProven {
            fault: Fault::Mask { mode: e.mode },
            receipt: hash(e.receiptHash),
            node: account(e.node),
            reporter: account(e.reporter),
        }),
        Masks::ProofCommitted(_) => None,
    })
}

fn indexes(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(match read(topics, data)? {
        Indexes::IndexRefuted(e) => Some(Event::IndexRefuted {
            version: AssetVersion { asset: AssetId(e.asset), version: e.version },
            root: hash(e.root),
            indexer: account(e.indexer),
            mode: e.mode,
            is_marked: e.isVoid,
            reporter: account(e.reporter),
        }),
        Indexes::ContributionsEntered(_) | Indexes::ProofCommitted(_) => None,
    })
}

fn challenge(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Challenge::ReceiptsChallenged(e) => Event::ReceiptsChallenged {
            id: hash(e.id),
            epoch: e.epoch,
            node: account(e.node),
            first: e.first,
            count: e.count,
            deadline: e.deadline,
        },
        Challenge::RequestChallenged(e) => Event::RequestChallenged {
            id: hash(e.id),
            receipt: hash(e.receiptHash),
            node: account(e.node),
            request: e.request.to_vec(),
            deadline: e.deadline,
        },
        Challenge::PayoutChallenged(e) => Event::PayoutChallenged {
            id: hash(e.id),
            epoch: e.epoch,
            account: e.ofParts.then(|| account(e.account)),
            index: e.index,
            challenger: account(e.challenger),
            deadline: e.deadline,
        },
        Challenge::ReceiptShown(e) => Event::ReceiptShown { id: hash(e.id), index: e.index },
        Challenge::RequestShown(e) => Event::ChallengeAnswered { id: hash(e.id) },
        Challenge::PayoutShown(e) => Event::ChallengeAnswered { id: hash(e.id) },
        Challenge::Unanswered(e) => Event::Unanswered { id: hash(e.id), accused: account(e.accused), challenger: account(e.challenger) },
        Challenge::Credited(e) => Event::Credited { by: Custody::Challenge, payee: account(e.payee), amount: wide(e.amount)? },
        Challenge::ProofCommitted(_) => return Ok(None),
    }))
}

fn payout(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(match read(topics, data)? {
        PayoutFaults::RefundRequested(e) => {
            let (lane, payer, node) = (hash(e.lane), account(e.payer), account(e.node));
            Some(Event::RefundRequested { lane, payer, node, epoch: e.epoch, given_back: Amount(e.givenBack) })
        }
        // Settlement's PayoutOverturned says the same.
        PayoutFaults::PayoutRefuted(_) | PayoutFaults::ProofCommitted(_) => None,
    })
}

fn insurance(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Insurance::Received(e) => Event::Insured { amount: wide(e.amount)? },
        Insurance::Covered(e) => Event::Covered { paid: amount(e.paid) },
    }))
}

fn rewards(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Rewards::Received(e) => Event::RewardsReceived { amount: wide(e.amount)? },
        Rewards::Claimed(e) => Event::RewardsClaimed { account: account(e.account), amount: wide(e.amount)? },
        Rewards::Distributed(_) => return Ok(None),
    }))
}

fn rent(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Rent::Prepaid(e) => Event::RentPrepaid { datanet: AssetId(e.datanet), amount: amount(e.amount) },
        Rent::Accrued(e) => Event::RentAccrued { datanet: AssetId(e.datanet), amount: amount(e.amount) },
        Rent::WithdrawRequested(e) => {
            Event::RentWithdrawRequested { datanet: AssetId(e.datanet), amount: amount(e.amount), leaves_at: e.leavesAt }
        }
        Rent::Withdrawn(e) => Event::RentWithdrawn { datanet: AssetId(e.datanet), amount: amount(e.amount) },
        Rent::Paid(e) => Event::RentPaid { datanet: AssetId(e.datanet), amount: amount(e.amount) },
        Rent::PriceSet(e) => Event::RentPriceSet { price: bond(e.price), from: e.from },
        Rent::GivenBack(e) => Event::RentGivenBack { datanet: AssetId(e.datanet), amount: amount(e.amount) },
        Rent::Credited(e) => Event::Credited { by: Custody::Rent, payee: account(e.payee), amount: wide(e.amount)? },
        Rent::OwedWithdrawn(e) => Event::OwedWithdrawn { by: Custody::Rent, payee: account(e.payee), amount: wide(e.amount)? },
        Rent::Charged(_) | Rent::AuditorSet(_) | Rent::GovernorSet(_) => return Ok(None),
    }))
}

fn erasures(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    let Erasing::Erased(e) = read(topics, data)?;
    Ok(Some(Event::Erased {
        datanet: AssetId(e.datanet),
        number: small(e.contribution),
        by: account(e.by),
        object: blob(e.objectHash),
        reason: hash(e.reasonHash),
    }))
}

fn cases(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Cases::CaseOpened(e) => Event::CaseOpened {
            id: hash(e.id),
            opener: account(e.opener),
            asked: Asked {
                node: account(e.node),
                datanet: AssetId(e.datanet),
                contribution: e.contribution,
                root: hash(e.root),
                bytes: e.size,
                part: e.part,
            },
            object: blob(e.object),
            fragment: e.fragment,
            fragments: e.fragments,
            signed_at: e.signedAt,
            deadline: e.deadline,
        },
        Cases::CaseAnswered(e) => Event::CaseAnswered { id: hash(e.id), by: account(e.by) },
        Cases::CaseClosed(e) => Event::CaseClosed { id: hash(e.id), node: account(e.node), is_convicted: e.isConvicted },
        Cases::Credited(e) => Event::Credited { by: Custody::Cases, payee: account(e.payee), amount: wide(e.amount)? },
        Cases::OwedWithdrawn(e) => Event::OwedWithdrawn { by: Custody::Cases, payee: account(e.payee), amount: wide(e.amount)? },
    }))
}

fn checks(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Checks::BeaconAnnounced(e) => Event::BeaconAnnounced { epoch: e.epoch, origin: e.origin },
        Checks::BeaconStored(e) => Event::BeaconStored { epoch: e.epoch, beacon: hash(e.beacon) },
        Checks::ChecksCommitted(e) => {
            Event::ChecksCommitted { epoch: e.epoch, checker: account(e.checker), root: hash(e.root), count: e.count }
        }
        Checks::ChecksRevealed(e) => Event::ChecksRevealed { epoch: e.epoch, checker: account(e.checker), root: hash(e.root) },
    }))
}

fn audits(topics: &[B256], data: &[u8]) -> Result<Option<Event>, String> {
    Ok(Some(match read(topics, data)? {
        Audits::Credited(e) => Event::Credited { by: Custody::Audits, payee: account(e.payee), amount: wide(e.amount)? },
        Audits::OwedWithdrawn(e) => Event::OwedWithdrawn { by: Custody::Audits, payee: account(e.payee), amount: wide(e.amount)? },
        Audits::Seated(_) | Audits::Unseated(_) | Audits::BeaconAnnounced(_) | Audits::BeaconStored(_) | Audits::RentClaimed(_) => {
            return Ok(None);
        }
    }))
}
