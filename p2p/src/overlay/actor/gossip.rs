//! What is said and heard: our own ad, snapshots for newcomers, ads and messages of others.
//!
//! A snapshot is our name, the time, and every ad we know as frames, as many as fit [`SNAPSHOT_LEN_MAX`]. It goes to neighbours
//! and no further (receivers take the ads and never forward it), at most once per [`SNAPSHOT_PAUSE`]: a newcomer need not wait
//! for everybody's next repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId, PublishError, TopicHash};
use tokio::sync::mpsc;
use tracing::{debug, warn};
use types::id::NodeId;
use types::time::Time;

use super::super::behaviour::topic_score;
use super::super::pending::Outcome;
use super::super::{Check, Message, OverlayError, OverlayEvent, TOPICS_MAX, Verdict};
use super::Actor;
use crate::frame::{self, Decoder};
use crate::identity::NodeSeed;
use crate::proto::ads::{AD_LEN_MAX, Ad, AdTable, ClaimedAd, OVERLAY_ADDRS_MAX, SignedAd};
use crate::proto::limits::{Bucket, Rate};

pub(super) const TOPIC_ADS: &str = "tributary/ads/v1";
pub(super) const TOPIC_SNAPSHOT: &str = "tributary/ads-snapshot/v1";

/// Shortest pause between two of our ads: newcomers in a crowd share one.
const AD_PAUSE: Duration = Duration::from_millis(500);
/// Wait before an ad that nobody took is said again.
const AD_RETRY: Duration = Duration::from_secs(1);
/// Shortest pause between two snapshots.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// Longest snapshot: some 150 ordinary ads.
const SNAPSHOT_LEN_MAX: usize = 48 << 10;
/// How often one peer may bring nodes nobody here has heard of: a snapshot or two at once, then what a large network's churn brings. Each costs a
/// signature check here and a message to every neighbour.
const NEWCOMER_RATE: Rate = Rate { burst: 512, pause: Duration::from_millis(100) };
/// The sender's id and time, which make each snapshot a message of its own.
const SNAPSHOT_HEAD_LEN: usize = 32 + 8;

pub(super) struct Gossip {
    seed: NodeSeed,
    me: NodeId,
    incarnation: u64,
    /// The number of our last ad.
    seq: u64,
    table: AdTable,
    own: Option<Own>,
    snapshot_due: Option<Time>,
    snapshot_last: Option<Time>,
    topics: BTreeMap<TopicHash, Subscription>,
    /// What connected peers may still bring of nodes unheard of.
    newcomers: BTreeMap<PeerId, Bucket>,
}

/// Our own ad and when to say it next.
struct Own {
    ad: Ad,
    last: Option<Time>,
    due: Time,
}

struct Subscription {
    check: Check,
    sender: mpsc::Sender<Message>,
}

impl Gossip {
    pub(super) fn new(seed: NodeSeed, incarnation: u64) -> Self {
        let me = seed.node_id();
        let (table, topics) = (AdTable::new(), BTreeMap::new());
        let newcomers = BTreeMap::new();
        Self { seed, me, incarnation, seq: 0, table, own: None, snapshot_due: None, snapshot_last: None, topics, newcomers }
    }

    pub(super) fn prefer(&mut self, nodes: Vec<NodeId>) {
        self.table.prefer(nodes);
    }

    pub(super) fn refuse(&mut self, nodes: BTreeSet<NodeId>) -> Vec<NodeId> {
        self.table.refuse(nodes)
    }

    pub(super) fn is_refused(&self, node: NodeId) -> bool {
        self.table.is_refused(node)
    }

    /// The peer is gone, and its allowance with it.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.newcomers.remove(peer);
    }

    fn may_bring(&mut self, forwarder: PeerId, now: Time) -> bool {
        self.newcomers.entry(forwarder).or_insert_with(|| Bucket::full(NEWCOMER_RATE, now)).take(NEWCOMER_RATE, now)
    }

    pub(super) fn live(&self) -> Vec<Arc<SignedAd>> {
        self.table.live().cloned().collect()
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Arc<SignedAd>> {
        self.table.get(node)
    }

    pub(super) fn nodes_where(&self, is_wanted: impl Fn(&Ad) -> bool) -> BTreeSet<NodeId> {
        self.table.live().map(|signed| signed.ad()).filter(|ad| is_wanted(ad)).map(|ad| ad.node).collect()
    }

    /// A newcomer hears our ad and what we know soon, but a crowd of them cannot make us shout.
    fn greet(&mut self, now: Time) {
        if let Some(own) = &mut self.own {
            own.due = own.due.min(own.last.map_or(now, |last| now.max(last.after(AD_PAUSE))));
        }
        let due = self.snapshot_last.map_or(now, |last| now.max(last.after(SNAPSHOT_PAUSE)));
        self.snapshot_due.get_or_insert(due);
    }

    /// The live ads from a place that moves with time, so that in a large network every ad is told sometimes.
    fn snapshot(&self, now: Time) -> Option<Vec<u8>> {
        let live: Vec<_> = self.table.live().collect();
        let start = usize::try_from(now.0).unwrap_or(0).checked_rem(live.len())?;
        let mut snapshot = [self.me.0.as_slice(), &now.0.to_be_bytes()].concat();
        for signed in live.iter().cycle().skip(start).take(live.len()) {
            let room = SNAPSHOT_LEN_MAX.saturating_sub(snapshot.len() + frame::HEADER_LEN_MAX);
            if signed.bytes().len() > room {
                break;
            }
            frame::encode(signed.bytes(), &mut snapshot).ok()?;
        }
        Some(snapshot)
    }
}

/// True for what the overlay itself speaks on.
pub(super) fn is_own_topic(topic: &str) -> bool {
    topic == TOPIC_ADS || topic == TOPIC_SNAPSHOT
}

/// One try to publish.
pub(super) fn publish(gossip: &mut gossipsub::Behaviour, topic: &str, data: &[u8]) -> Outcome {
    crate::tap::published(data);
    match gossip.publish(IdentTopic::new(topic), data) {
        // A duplicate is what others have received already.
        Ok(_) | Err(PublishError::Duplicate) => Outcome::Sent,
        Err(PublishError::NoPeersSubscribedToTopic) => Outcome::NobodyYet,
        Err(PublishError::MessageTooLarge) => Outcome::Refused(OverlayError::TooLong { got: data.len() }),
        Err(PublishError::AllQueuesFull(peers)) => {
            Outcome::Refused(OverlayError::Full { what: "send queue of every peer; peers", max: peers })
        }
        Err(error) => Outcome::Refused(OverlayError::SetUp(error.to_string())),
    }
}

/// What hearing an ad changed.
enum Heard {
    News,
    Nothing,
    Bad,
}

impl Actor {
    pub(super) fn set_ad(&mut self, now: Time, mut ad: Ad) -> Result<(), OverlayError> {
        if ad.overlay_addrs.is_empty() {
            let listen = self.listen.borrow();
            ad.overlay_addrs = listen.iter().take(OVERLAY_ADDRS_MAX).map(|addr| without_peer(addr).to_string()).collect();
        }
        ad.incarnation = self.gossip.incarnation;
        let last = self.gossip.own.as_ref().and_then(|own| own.last);
        SignedAd::sign(&self.gossip.seed, ad.clone())?;
        let due = last.map_or(now, |last| now.max(last.after(AD_PAUSE)));
        self.gossip.own = Some(Own { ad, last, due });
        self.say_due(now);
        Ok(())
    }

    pub(super) fn subscribe(&mut self, topic: String, check: Check, sender: mpsc::Sender<Message>) -> Result<(), OverlayError> {
        self.drop_unread_topics();
        let name = IdentTopic::new(&topic);
        if is_own_topic(&topic) || self.gossip.topics.contains_key(&name.hash()) {
            return Err(OverlayError::TopicTaken { topic });
        }
        if self.gossip.topics.len() >= TOPICS_MAX {
            return Err(OverlayError::Full { what: "table of topics", max: TOPICS_MAX });
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.subscribe(&name).map_err(|error| OverlayError::SetUp(error.to_string()))?;
        gossip.set_topic_params(name.clone(), topic_score()).map_err(|error| OverlayError::SetUp(error.to_owned()))?;
        self.gossip.topics.insert(name.hash(), Subscription { check, sender });
        Ok(())
    }

    fn drop_unread_topics(&mut self) {
        let unread: Vec<TopicHash> =
            self.gossip.topics.iter().filter(|(_, topic)| topic.sender.is_closed()).map(|(name, _)| name.clone()).collect();
        for name in unread {
            self.gossip.topics.remove(&name);
            self.swarm.behaviour_mut().gossip.unsubscribe(&IdentTopic::new(name.as_str()));
        }
    }

    pub(super) fn on_subscribed(&mut self, peer: PeerId, topic: &TopicHash) {
        if topic.as_str() == TOPIC_ADS {
            self.links.has_greeted(&peer);
            let now = self.now();
            self.gossip.greet(now);
        }
    }

    /// Says our ad and a snapshot when they are due.
    pub(super) fn say_due(&mut self, now: Time) {
        if !self.config.gossip {
            return;
        }
        if self.gossip.own.as_ref().is_some_and(|own| own.due <= now) {
            self.say_own_ad(now, false);
        }
        if self.gossip.snapshot_due.is_some_and(|due| due <= now) {
            self.gossip.snapshot_due = None;
            self.gossip.snapshot_last = Some(now);
            if let Some(snapshot) = self.gossip.snapshot(now) {
                let outcome = publish(&mut self.swarm.behaviour_mut().gossip, TOPIC_SNAPSHOT, &snapshot);
                debug!(bytes = snapshot.len(), ?outcome, "snapshot for a newcomer");
            }
        }
    }

    fn say_own_ad(&mut self, now: Time, is_leaving: bool) {
        let Some(own) = &mut self.gossip.own else { return };
        self.gossip.seq += 1;
        own.ad.seq = self.gossip.seq;
        own.ad.leaving |= is_leaving;
        let repeat = Duration::from_secs(u64::from(own.ad.ttl_s)) / 3;
        let signed = match SignedAd::sign(&self.gossip.seed, own.ad.clone()) {
            Ok(signed) => signed,
            Err(error) => return warn!(%error, "own ad cannot be signed"),
        };
        own.last = Some(now);
        own.due = match publish(&mut self.swarm.behaviour_mut().gossip, TOPIC_ADS, signed.bytes()) {
            Outcome::Sent => now.after(repeat),
            Outcome::NobodyYet => now.after(AD_RETRY.min(repeat)),
            Outcome::Refused(error) => {
                warn!(%error, "own ad was not sent");
                now.after(AD_RETRY.min(repeat))
            }
        };
    }

    /// Says that we leave; true when there was something to say.
    pub(super) fn leave(&mut self, now: Time) -> bool {
        let has_said = self.config.gossip && self.gossip.own.as_ref().is_some_and(|own| own.last.is_some());
        if has_said {
            self.say_own_ad(now, true);
        }
        has_said
    }

    pub(super) fn expire_ads(&mut self, now: Time) {
        for node in self.gossip.table.expire(now) {
            self.version.send_modify(|version| *version += 1);
            self.emit(OverlayEvent::AdLost(node));
        }
    }

    pub(super) fn on_message(&mut self, forwarder: PeerId, id: &MessageId, message: gossipsub::Message) {
        let acceptance = match message.topic.as_str() {
            TOPIC_ADS => match self.hear_ad(forwarder, &message.data) {
                Heard::News => MessageAcceptance::Accept,
                Heard::Nothing => MessageAcceptance::Ignore,
                Heard::Bad => MessageAcceptance::Reject,
            },
            TOPIC_SNAPSHOT => self.hear_snapshot(forwarder, &message.data),
            _ => self.hear_message(forwarder, message),
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &forwarder, acceptance);
    }

    fn hear_ad(&mut self, forwarder: PeerId, bytes: &[u8]) -> Heard {
        let now = self.now();
        let claimed = match ClaimedAd::decode(bytes) {
            Ok(claimed) => claimed,
            Err(error) => {
                debug!(%error, "bad ad");
                return Heard::Bad;
            }
        };
        let node = claimed.claim().node;
        if node == self.gossip.me {
            return self.hear_own_name(claimed);
        }
        self.expire_ads(now);
        if let Err(reason) = self.gossip.table.is_news(claimed.claim()) {
            debug!(%node, %reason, "ad ignored");
            return Heard::Nothing;
        }
        // A flood of names must not keep those out that the caller knows.
        let is_stranger = !self.gossip.table.is_known(node) && !self.gossip.table.is_preferred(node);
        if is_stranger && !self.gossip.may_bring(forwarder, now) {
            debug!(%node, %forwarder, "ad ignored: its forwarder brings too many nodes unheard of");
            return Heard::Nothing;
        }
        let Ok(signed) = claimed.verify() else { return Heard::Bad };
        let event = if signed.ad().leaving { OverlayEvent::AdLost(node) } else { OverlayEvent::AdHeard(node) };
        match self.gossip.table.handle(now, signed) {
            Ok(()) => {
                self.version.send_modify(|version| *version += 1);
                self.emit(event);
                Heard::News
            }
            Err(reason) => {
                debug!(%node, %reason, "ad ignored");
                Heard::Nothing
            }
        }
    }

    /// Has nothing to do with these nodes from now on: their ads go, and so do the connections to them.
    pub(super) fn refuse(&mut self, nodes: BTreeSet<NodeId>) {
        for node in self.gossip.refuse(nodes) {
            self.version.send_modify(|version| *version += 1);
            self.emit(OverlayEvent::AdLost(node));
        }
        for peer in self.links.peers_where(|node| self.gossip.is_refused(node)) {
            self.disconnect(peer, "is refused here");
        }
    }

    /// An ad under our own key: an echo, or a later start of this very node, to which this process yields.
    fn hear_own_name(&mut self, claimed: ClaimedAd) -> Heard {
        let incarnation = claimed.claim().incarnation;
        if self.gossip.own.is_none() || incarnation <= self.gossip.incarnation {
            return Heard::Nothing;
        }
        if claimed.verify().is_err() {
            return Heard::Bad;
        }
        warn!(incarnation, "a later incarnation of this node is running; own ads stop");
        self.gossip.own = None;
        self.emit(OverlayEvent::Fenced { incarnation });
        Heard::News
    }

    fn hear_snapshot(&mut self, forwarder: PeerId, bytes: &[u8]) -> MessageAcceptance {
        let mut ads = Decoder::new();
        ads.push(bytes.get(SNAPSHOT_HEAD_LEN..).unwrap_or(&[]));
        loop {
            match ads.take(AD_LEN_MAX) {
                Ok(Some(ad)) => {
                    if let Heard::Bad = self.hear_ad(forwarder, &ad) {
                        return MessageAcceptance::Reject;
                    }
                }
                Ok(None) if ads.held_bytes() == 0 => return MessageAcceptance::Ignore,
                Ok(None) | Err(_) => return MessageAcceptance::Reject,
            }
        }
    }

    fn hear_message(&mut self, forwarder: PeerId, message: gossipsub::Message) -> MessageAcceptance {
        let Some(topic) = self.gossip.topics.get_mut(&message.topic) else { return MessageAcceptance::Ignore };
        let Some(node) = self.links.node(&forwarder) else { return MessageAcceptance::Ignore };
        let verdict = (topic.check)(&message.data);
        if verdict == Verdict::Accept
            && let Err(mpsc::error::TrySendError::Full(_)) = topic.sender.try_send(Message { forwarder: node, data: message.data })
        {
            debug!(topic = %message.topic, "message dropped: its reader is behind");
        }
        if topic.sender.is_closed() {
            self.drop_unread_topics();
        }
        match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        }
    }
}

/// An ad names its node already; the address need not repeat it.
fn without_peer(addr: &libp2p::Multiaddr) -> libp2p::Multiaddr {
    addr.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect()
}
