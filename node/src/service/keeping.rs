//! Who holds what, as this node has written it down, and its part in keeping that agreed: the records of the objects it holds fragments of, told by
//! contributors and coordinators, merged, and shown to whoever asks (`storage::proto::keeping`).
//!
//! A record is on the disk before it is acknowledged. One that is told first is taken only if this node has the fragment that it names for it, and if its holders are those that
//! this node checked when it took that fragment, or others that are those of the rule as far as it hears; later ones add signed
//! handovers and nothing else. A fragment that repair hands over is taken from a coordinator of the epoch while the holder before is not heard here, or has lost it and has no room.

mod erased;
pub mod report;
mod taking;
mod voiding;

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{client::ChainClient, registry::State};
use p2p::{bulk::BulkEndpoint, identity::NodeSeed, overlay::OverlayHandle, proto::ads::AdSite, stream::FrameStream};
use storage::{
    erasure::Profile,
    proto::{
        keeping::{Ask, Record, Reply, message::ASK_BYTES_MAX},
        placement::{Misplaced, Rules},
        provide::Room,
    },
    store::{Item, Store, StoreError},
};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc};
use types::{
    id::{Address, BlobId, NodeId},
    key::Account,
};

use crate::{
    chain::Snapshots,
    datanet::{
        exchange::{recv_message, send_message},
        keeping::Registered,
        placing::{self, Storer, Storers},
        seeds::Seeds,
    },
};

/// Records, by object.
const TABLE: &str = "holders";
/// Holders that were checked when a fragment was taken and that no record names yet, by object: the BLAKE3 of their addresses. Weeks may pass before the record of an object comes
/// to a holder that was away, and then other operators store.
const CHECKED: &str = "holders-checked";
/// Notices that wait for repair; the newest are dropped beyond, and repair finds what they said at its next look at the table.
pub const NOTICES_MAX: usize = 256;

/// What repair should know at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The record of an object is new or has changed.
    Record(BlobId),
    /// Somebody mends an object.
    Announced {
        /// The object.
        object: BlobId,
        /// Who.
        by: Address,
    },
    /// A fragment that was thought damaged was read whole from its holder.
    Shown {
        /// The object.
        object: BlobId,
        /// Which fragment.
        fragment: u8,
        /// Its holder.
        by: Address,
    },
    /// A fragment is not where it should be, or not what it should be.
    Damaged {
        /// The object.
        object: BlobId,
        /// Which fragment.
        fragment: u8,
    },
    /// An object is void: its manifest was proved to be a lie.
    Void(BlobId),
    /// The operator asks to look now.
    Look,
}

/// By what a first record of an object is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vouched {
    /// Its holders are those of the rule.
    ByRule,
    /// Most of its other holders tell the same.
    ByHolders,
}

/// The service's parts.
#[derive(Debug)]
pub struct Keeping {
    /// Fragments, and the table of records.
    pub store: Store,
    /// The chain's books.
    pub snapshots: Snapshots,
    /// Who else stores.
    pub overlay: OverlayHandle,
    /// Hashes of blocks.
    pub chain: ChainClient,
    /// To ask others over the node's own socket.
    pub bulk: Arc<BulkEndpoint>,
    /// The account this node is registered under.
    pub account: Account,
    /// The node's key.
    pub seed: NodeSeed,
    /// What its ad says of where it stands.
    pub site: AdSite,
    /// Blocks of an epoch.
    pub epoch_blocks: u64,
    /// Seeds of epochs.
    pub seeds: Seeds,
    /// Whether it takes new fragments.
    pub room: RwLock<Room>,
    /// Whether the operator wants to be on the chain's roll of auditors, and pays for what that takes.
    pub audit_roll: bool,
    /// Whether the operator lets this node open slash cases by itself, each with a bond.
    pub open_cases: bool,
    /// Whether it offers to store.
    pub is_storing: bool,
    /// What repair should know.
    pub notices: mpsc::Sender<Notice>,
    /// Operators that take no new fragments by this node's books of audits.
    pub unfit: RwLock<BTreeSet<Address>>,
    /// One change of a record at a time.
    pub turn: Mutex<()>,
    /// Proofs against manifests that are taken in or checked at once: one may be as long as the largest object.
    pub proofs: Semaphore,
    /// An object was voided here: upkeep sees to its other holders.
    pub voided: Notify,
}

impl Keeping {
    /// The account this node is registered under.
    pub fn me(&self) -> Address {
        self.account.address()
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.seed.node_id()
    }

    /// The chain's books as they stand.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.snapshots.borrow().latest)
    }

    /// The epoch that the chain's latest block is of.
    pub fn epoch(&self) -> u64 {
        self.snapshots.borrow().tip.number / self.epoch_blocks
    }

    /// Operators that store, this one included if it does.
    ///
    /// # Errors
    /// That the overlay has stopped.
    pub async fn storers(&self) -> anyhow::Result<Storers> {
        let ads = self.overlay.ads().await?;
        let (state, chain_id) = (self.state(), self.chain.deployment().chain_id);
        let mut storers = placing::storers(&state, ads.iter().map(|signed| signed.ad()), chain_id);
        let is_staked = state.operator(self.me()).is_some_and(|operator| operator.active.0 > 0 && operator.node == self.node());
        if self.is_storing && is_staked {
            let addr = self.bulk.local_addr();
            let site = placing::site(addr.ip(), self.site, chain_id);
            storers.insert(self.me(), Storer { node: self.node(), addr, site, has_room: self.has_room() });
        }
        Ok(storers)
    }

    /// The operator behind a node's key.
    pub fn account_of(&self, node: NodeId) -> Option<Address> {
        self.state().operators().find(|operator| operator.node == node).map(|operator| operator.account)
    }

    /// The record of an object; nothing if there is none.
    ///
    /// # Errors
    /// What the disk says.
    pub fn record(&self, object: BlobId) -> anyhow::Result<Option<Record>> {
        read(&self.store, object)
    }

    /// Records of objects from `from` on, at most `limit`, in order of object; fewer only at the end of the table. A broken one is told and passed over: it says nothing of the other objects.
    ///
    /// # Errors
    /// What the disk says.
    pub fn records(&self, from: BlobId, limit: usize) -> anyhow::Result<Vec<Record>> {
        let (records, mut found) = (self.store.records(), Vec::new());
        let mut from = from.0.to_vec();
        while found.len() < limit {
            let read = records.scan(TABLE, &from, limit - found.len())?;
            let Some((last, _)) = read.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, bytes) in read {
                match Record::decode(&bytes) {
                    Ok(record) => found.push(record),
                    Err(error) => {
                        tracing::error!(object = hex::encode(key), %error, "the record of an object's holders is broken on this disk")
                    }
                }
            }
        }
        Ok(found)
    }

    /// Whether it takes new fragments, as its ad says.
    pub fn has_room(&self) -> bool {
        self.room.read().unwrap_or_else(PoisonError::into_inner).is_open()
    }

    /// Looks how much is free, by which it takes new fragments or not: none if nobody can say. Blocks.
    pub fn look_for_room(&self) {
        let free = self.store.free_bytes();
        let mut room = self.room.write().unwrap_or_else(PoisonError::into_inner);
        let was_open = room.is_open();
        match free {
            Ok(free_bytes) if room.see(free_bytes) != was_open => {
                tracing::warn!(free_bytes, has_room = room.is_open(), "whether this node takes new fragments has changed");
            }
            Ok(_) => {}
            Err(error) => {
                room.refuse(0);
                if was_open {
                    tracing::error!(%error, "the disk does not say what is free: no new fragments are taken");
                }
            }
        }
    }

    /// Notes that a fragment found no room: none are taken until there is more.
    pub fn no_room(&self, need_bytes: u64) {
        tracing::warn!(need_bytes, "a fragment found no room: none are taken until there is more");
        self.room.write().unwrap_or_else(PoisonError::into_inner).refuse(need_bytes);
    }

    /// What the chain has of an object.
    ///
    /// # Errors
    /// That it has nothing, or what the disk says.
    pub fn registered(&self, object: BlobId) -> anyhow::Result<Registered> {
        if let Some(refusal) = self.erased(object)? {
            bail!("{refusal}");
        }
        let found = Registered::find(&self.state(), object)?;
        found.with_context(|| format!("object {object} is not registered"))
    }

    /// The other holders of an object that are heard, each with its fragment; none if there is no record of it.
    ///
    /// # Errors
    /// What the disk says, or the chain.
    pub async fn others(&self, object: BlobId) -> anyhow::Result<Vec<(u8, Storer)>> {
        let Some(record) = self.record(object)? else { return Ok(Vec::new()) };
        let (assignment, storers) = (self.registered(object)?.assignment(&record)?, self.storers().await?);
        let heard = |(fragment, holder): (u8, Address)| Some((fragment, *storers.get(&holder)?));
        Ok(assignment.holders().filter(|(_, holder)| *holder != self.me()).filter_map(heard).collect())
    }

    /// Whether the record of an object is on its way here: this node checked its holders when it took a fragment, and its contributor has told it nothing since.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_expected(&self, object: BlobId) -> anyhow::Result<bool> {
        Ok(self.store.records().get(CHECKED, &object.0)?.is_some())
    }

    /// Marks what was found rotten, and gives it to repair: of a manifest, the fragments that it names.
    ///
    /// # Errors
    /// What the disk says.
    pub fn rotten(&self, item: Item) -> Result<(), StoreError> {
        self.store.mark_rotten(item)?;
        let (object, fragments) = match item {
            Item::Fragment { object, index } => (object, vec![index]),
            Item::Blob(object) => (object, self.store.fragments_of(object)?),
        };
        fragments.into_iter().for_each(|fragment| self.notice(Notice::Damaged { object, fragment }));
        Ok(())
    }

    /// Tells repair; a notice that finds no room is made up for by its next look.
    pub fn notice(&self, notice: Notice) {
        if let Err(error) = self.notices.try_send(notice) {
            tracing::debug!(%error, "repair is behind");
        }
    }

    async fn keep(&self, record: &Record) -> anyhow::Result<()> {
        let (records, object, bytes) = (self.store.records(), record.object(), record.encode());
        let kept = tokio::task::spawn_blocking(move || {
            records.put(TABLE, &object.0, &bytes)?;
            if records.get(CHECKED, &object.0)?.is_some() { records.remove(CHECKED, &object.0).map(drop) } else { Ok(()) }
        });
        kept.await??;
        self.notice(Notice::Record(object));
        Ok(())
    }

    /// Takes in what is new of a record that somebody told; true if anything was.
    ///
    /// # Errors
    /// Why it does not stand, or why it is none of this node's.
    pub async fn take_in(&self, told: &Record) -> anyhow::Result<bool> {
        self.take_in_by(told, Vouched::ByRule).await
    }

    /// Takes in the record of an object of which a fragment lies here and that this node has lost, since most of the other holders that it names tell the same: who stores changes in the years after a placement, so the
    /// rule asked now may give others.
    ///
    /// # Errors
    /// Why it does not stand, or why it is none of this node's.
    pub async fn take_back(&self, told: &Record) -> anyhow::Result<bool> {
        self.take_in_by(told, Vouched::ByHolders).await
    }

    async fn take_in_by(&self, told: &Record, vouched: Vouched) -> anyhow::Result<bool> {
        let object = told.object();
        ensure!(!self.store.is_void(object)?, "object {object} is void: its manifest was proved to be false");
        let registered = self.registered(object)?;
        let _turn = self.turn.lock().await;
        let own = self.record(object)?;
        registered.check(&self.seeds, told, own.as_ref()).await?;
        if let Some(mut own) = own {
            let is_changed = own.merge(told)?;
            if is_changed {
                self.keep(&own).await?;
            }
            return Ok(is_changed);
        }
        self.agrees(told, &registered, vouched).await?;
        self.keep(told).await?;
        tracing::info!(%object, "keeping who holds an object");
        Ok(true)
    }

    /// Whether this node may take down a first record.
    async fn agrees(&self, told: &Record, registered: &Registered, vouched: Vouched) -> anyhow::Result<()> {
        let object = told.object();
        let fragment = registered.assignment(told)?.held_by(self.me()).context("this node is none of its holders")?;
        ensure!(self.store.fragments_of(object)?.contains(&fragment), "fragment {fragment}, which is to be this node's, is not here");
        let (state, storers) = (self.state(), self.storers().await?);
        let stranger = told.placement().holders.iter().find(|holder| state.operator(**holder).is_none());
        if let Some(stranger) = stranger {
            bail!("{stranger} is no operator");
        }
        if vouched == Vouched::ByHolders {
            return Ok(());
        }
        let holders = &told.placement().holders;
        if self.store.records().get(CHECKED, &object.0)?.as_deref() == Some(digest(holders).as_slice()) {
            return Ok(placing::check_sites(holders, &storers, &registered.rules_of(told)?)?);
        }
        self.check_holders(registered, told.profile()?, holders).await?.context("its holders are not those of the rule")
    }

    /// Whether the holders that somebody names for an object are those of its placement, as far as this node hears. None of them may be suspended by its books of audits; who is and
    /// is not named was not passed over.
    ///
    /// # Errors
    /// That the overlay has stopped.
    pub async fn check_holders(
        &self,
        registered: &Registered,
        profile: Profile,
        holders: &[Address],
    ) -> anyhow::Result<Result<(), Misplaced>> {
        if let Some(suspended) = holders.iter().find(|holder| self.is_unfit(**holder)) {
            return Ok(Err(Misplaced::Suspended(*suspended)));
        }
        let mut storers = self.storers().await?;
        storers.iter_mut().for_each(|(operator, storer)| storer.has_room &= !self.is_unfit(*operator));
        let Registered { accepted, seed, rules } = registered;
        let rules = Rules::of(profile, rules.regions.clone());
        Ok(placing::check(*seed, accepted.object, profile, holders, &storers, &rules))
    }

    /// Writes down that these holders of an object are those of the rule, by what this node hears now. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn note_checked(&self, object: BlobId, holders: &[Address]) -> anyhow::Result<()> {
        let (records, digest) = (self.store.records(), digest(holders));
        if records.get(CHECKED, &object.0)?.as_deref() != Some(digest.as_slice()) {
            records.put(CHECKED, &object.0, &digest)?;
        }
        Ok(())
    }

    /// Adds a handover that both sides have signed, and returns the record with it.
    ///
    /// # Errors
    /// That there is no record, or what the disk says.
    pub async fn handed_over(&self, moved: storage::proto::keeping::HandedOver) -> anyhow::Result<Record> {
        let _turn = self.turn.lock().await;
        let mut record = self.record(moved.handover.object)?.context("the record of what was handed over is gone")?;
        record.add(moved)?;
        self.keep(&record).await?;
        Ok(record)
    }

    /// Answers one stream's question.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn serve(&self, remote: NodeId, stream: FrameStream, large: &Semaphore) -> anyhow::Result<()> {
        let (mut sender, mut receiver) = stream.split();
        let bytes = recv_message(&mut receiver, ASK_BYTES_MAX, Some(large)).await?;
        let reply = match Ask::decode(&bytes) {
            Ok(ask) => self.refused_or_reply(remote, ask).await.unwrap_or_else(|error| Reply::Refused(format!("{error:#}"))),
            Err(error) => Reply::Refused(error.to_string()),
        };
        send_message(&mut sender, &reply.encode()).await?;
        Ok(())
    }

    async fn refused_or_reply(&self, remote: NodeId, ask: Ask) -> anyhow::Result<Reply> {
        let (Ask::Record(object) | Ask::Announce(object)) = &ask else { return self.reply(remote, ask).await };
        let Some(refusal) = self.erased(*object)? else { return self.reply(remote, ask).await };
        // Who held it is told for as long as somebody may have to be asked whether it is gone there; that there is anything here is not.
        match (&ask, self.last_holders(*object)?) {
            (Ask::Record(_), Some(record)) => Ok(Reply::Record { record, indices: Vec::new() }),
            _ => Ok(Reply::Refused(refusal.to_string())),
        }
    }

    async fn reply(&self, remote: NodeId, ask: Ask) -> anyhow::Result<Reply> {
        match ask {
            Ask::Record(object) => {
                let record = self.record(object)?.map(|record| record.encode()).unwrap_or_default();
                // What of a void object is kept for a commitment's sake is offered to nobody.
                let indices = if self.is_void(object)? { Vec::new() } else { self.store.sound_fragments_of(object)? };
                Ok(Reply::Record { record, indices })
            }
            Ask::Tell(record) => {
                self.take_in(&Record::decode(&record)?).await?;
                Ok(Reply::Heard)
            }
            Ask::Announce(object) => {
                let by = self.account_of(remote).context("only operators mend")?;
                self.notice(Notice::Announced { object, by });
                Ok(Reply::Heard)
            }
            Ask::Take(take) => self.take(remote, *take).await,
            Ask::Suspended => Ok(Reply::Suspended(self.unfit.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect())),
        }
    }

    /// Whether an operator takes no new fragments, by this node's books of audits.
    pub fn is_unfit(&self, operator: Address) -> bool {
        self.unfit.read().unwrap_or_else(PoisonError::into_inner).contains(&operator)
    }
}

/// One number for a list of holders.
fn digest(holders: &[Address]) -> Vec<u8> {
    BlobId::of(&holders.iter().flat_map(|holder| holder.0).collect::<Vec<_>>()).0.to_vec()
}

/// The record of an object in a store; nothing if there is none.
///
/// # Errors
/// What the disk says, or that the record is damaged.
pub fn read(store: &Store, object: BlobId) -> anyhow::Result<Option<Record>> {
    let bytes = store.records().get(TABLE, &object.0)?;
    bytes.map(|bytes| Record::decode(&bytes).with_context(|| format!("the record of object {object} on this disk"))).transpose()
}
