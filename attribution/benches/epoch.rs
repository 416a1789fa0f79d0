//! What a node does per receipt, and an epoch of a million of them.
//!
//! `cargo bench -p attribution --bench epoch -- [RECEIPTS] [signed]`: 1,000,000 unless told, 1.3 kB of memory each. Prints rows as JSON lines:
//! receipts a second on one core (a receipt is signed, its voucher's signature verified, its fee split); seconds of an epoch from its receipts
//! to the payout root on two threads, signatures verified before; the same by a third party that compares every root; wei lost to rounding.
//! With `signed`, only the replay by a stranger who verifies every signature as well: receipts are signed first, which takes another minute.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    hint::black_box,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use attribution::{
    epoch::{
        Payout, divide,
        replay::{Accounts, EpochFacts, Facts, Posted, Replay, RootFacts, Signatures},
    },
    message::ReceiptItem,
    shares,
};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::{Account, Domains, Signed, Signed65},
    manifest::{AssetKind, Manifest, ManifestAsset, ManifestDatanet, treasury},
    merkle::{keccak, sum_root},
    operator::receipt_leaf,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt, Span},
    split::{SplitTable, fee},
    time::BlockRef,
    voucher::Voucher,
};

const NODES: u32 = 500;
const PAYERS: u32 = 1_000;
/// Contributors; with nodes, roles and treasuries they are all payees.
const CONTRIBUTORS: u32 = 9_494;
const THREADS: usize = 2;
/// Receipts that are signed for the rate.
const SIGNED: u32 = 20_000;
/// Where the runs of one figure are cut, so that a median can be given.
const BATCHES: u32 = 10;
const EPOCH: u64 = 1;
/// The quotes' constant.
const PROTOCOL_FEE: Amount = Amount(1_000_000_007);

fn account(what: &str, number: u32) -> Address {
    let hash = keccak(&[what.as_bytes(), &number.to_be_bytes()]);
    Address(*hash.0.first_chunk().expect("32 bytes hold 20"))
}

fn two_threads(count: usize, work: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    if piece >= count {
                        break;
                    }
                    work(piece);
                }
            });
        }
    });
}

fn manifest() -> Manifest {
    let version = |asset| AssetVersion { asset: AssetId(asset), version: 1 };
    let asset = |kind, number| ManifestAsset { kind, version: version(number), content: BlobId([7; 32]) };
    let datanet = |asset, weight| ManifestDatanet { version: version(asset), treasury: treasury(AssetId(asset)), weight };
    Manifest {
        assets: vec![asset(AssetKind::Base, 1), asset(AssetKind::Adapter, 2)],
        split: SplitTable { node: 5_500, agent: 0, base: 1_500, adapter: 1_500, data: 1_000, stakers: 500 },
        index: Hash32([8; 32]),
        parameters: 1,
        datanets: vec![datanet(3, 1_234_567), datanet(4, 7_654_321)],
    }
}

/// The key of a node.
fn key(number: u32) -> Account {
    Account::from_bytes(&keccak(&[b"key", &number.to_be_bytes()]).0).expect("a hash is below the curve's order, nearly always")
}

/// Receipt `number`: three spans of other contributors each time, a fee that never divides evenly.
fn item(number: u32, node: Address, manifest: &Manifest, manifest_root: Hash32) -> ReceiptItem {
    let block = BlockRef { number: u64::from(number / 10), hash: Hash32([9; 32]) };
    let quote = Quote {
        node,
        manifest: manifest_root,
        profile: Profile::Exact,
        class: Class::Open,
        rate_in: Amount(1_500_000_000_007),
        rate_out: Amount(4_000_000_000_003),
        protocol_fee: PROTOCOL_FEE,
        tokens_max: 256,
        block,
        expiry: block.number + 60,
    };
    let (tokens_in, tokens_out) = (100 + number % 97, 60 + number % 151);
    let fee = fee(tokens_in, tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).expect("a small fee");
    let request = keccak(&[b"request", &number.to_be_bytes()]);
    let payer = number / NODES % PAYERS;
    let span = |place: u32| Span {
        start: 300 * place,
        length: 200,
        datanet: u8::from(place == 2),
        position: u64::from(number) * 512,
        weight: 700 + number % 333 + place,
        payee: account("contributor", number.wrapping_mul(2_654_435_761).wrapping_add(place * 7_919) % CONTRIBUTORS),
    };
    let document = Receipt {
        request,
        attempt: 0,
        client: account("payer", payer),
        node,
        lane: keccak(&[b"lane", &payer.to_be_bytes(), &node.0]),
        cumulative_after: fee,
        manifest: manifest_root,
        index: manifest.index,
        parameters: 1,
        profile: Profile::Exact,
        class: Class::Open,
        block,
        prompt_root: Hash32([1; 32]),
        answer_root: request,
        token_ids: Hash32([2; 32]),
        tokens_in,
        first_token: 0,
        tokens_out,
        quote: quote.hash(),
        fee,
        reason: Reason::Stop,
        weight_total: 4_001,
        fingerprint_root: Hash32::ZERO,
        assets: manifest.assets.iter().map(|asset| asset.version).collect(),
        spans: (0..3).map(span).collect(),
        masks: vec![],
    };
    ReceiptItem::new(Signed { document, signature: Signed65([0; 65]) }, &quote, manifest)
}

/// Cumulative-afters follow each other on a lane, as its vouchers do.
fn epoch(receipts: u32, nodes: &[Address]) -> BTreeMap<Address, Vec<ReceiptItem>> {
    let manifest = manifest();
    let root = manifest.root();
    let mut of_node: BTreeMap<Address, Vec<ReceiptItem>> = BTreeMap::new();
    let mut lanes: BTreeMap<Hash32, Amount> = BTreeMap::new();
    for (number, node) in (0..receipts).zip(nodes.iter().cycle()) {
        let mut item = item(number, *node, &manifest, root);
        let document = &mut item.receipt.document;
        let stands = lanes.entry(document.lane).or_default();
        *stands = stands.plus(document.fee).expect("far below 2^128");
        document.cumulative_after = *stands;
        of_node.entry(document.node).or_default().push(item);
    }
    of_node
}

/// What a chain says on which everything was collected.
struct Chain {
    lanes: BTreeMap<Hash32, Amount>,
    roots: BTreeMap<Address, RootFacts>,
    posted: Option<Posted>,
}

impl Facts for Chain {
    fn epoch(&self, _: u64) -> Option<EpochFacts> {
        Some(EpochFacts { roots: self.roots.clone(), posted: self.posted, refunds: vec![] })
    }

    fn is_out(&self, _: u64, _: Address, _: Hash32) -> bool {
        false
    }

    fn is_span_out(&self, _: u64, _: Hash32, _: u16) -> bool {
        false
    }

    fn is_collected(&self, _: u64, lane: Hash32, cumulative_after: Amount) -> bool {
        self.lanes.get(&lane).is_some_and(|collected| *collected >= cumulative_after)
    }

    fn owner_at(&self, asset: AssetId, _: u64) -> Option<Address> {
        Some(account("owner", u32::try_from(asset.0).ok()?))
    }

    fn payout_at(&self, node: Address, _: u64) -> Option<Address> {
        Some(node)
    }
}

/// Root of each node's receipts; nodes are shared among the threads.
fn roots(receipts: &BTreeMap<Address, Vec<ReceiptItem>>) -> BTreeMap<Address, RootFacts> {
    let nodes: Vec<_> = receipts.iter().collect();
    let found: Vec<std::sync::OnceLock<RootFacts>> = nodes.iter().map(|_| std::sync::OnceLock::new()).collect();
    two_threads(nodes.len(), &|place| {
        let leaf = |item: &ReceiptItem| receipt_leaf(item.receipt.document.hash(), item.receipt.document.fee);
        let leaves: Vec<_> = nodes[place].1.iter().map(leaf).collect();
        let count = leaves.len() as u64;
        let (receipts, fees) = sum_root(leaves).expect("far below 2^128");
        found[place].get_or_init(|| RootFacts { receipts, count, fees, block: u64::MAX });
    });
    nodes.into_iter().zip(found).map(|((node, _), root)| (*node, root.into_inner().expect("every piece was worked"))).collect()
}

fn row(figure: &str, ours: f64, unit: &str, n: u64, note: &str) {
    println!("{}", serde_json::json!({ "figure": figure, "ours": ours, "unit": unit, "n": n, "note": note }));
}

/// Receipts a second on this thread alone, by the median batch.
fn rate(domains: &Domains, client: &Account, node: &Account) -> Result<f64, Box<dyn Error>> {
    let (manifest, size) = (manifest(), SIGNED / BATCHES);
    let root = manifest.root();
    let mut rates = Vec::new();
    for batch in 0..BATCHES {
        let vouched: Vec<_> = (batch * size..(batch + 1) * size)
            .map(|number| {
                let item = item(number, node.address(), &manifest, root);
                let document = Receipt { client: client.address(), ..item.receipt.document };
                let voucher = Voucher {
                    lane: document.lane,
                    request: document.request,
                    attempt: 0,
                    quote: document.quote,
                    first_token: 0,
                    tokens_in: document.tokens_in,
                    tokens_out: document.tokens_out,
                    token_ids: document.token_ids,
                    base: Amount::ZERO,
                    cumulative: document.fee,
                };
                (document, PROTOCOL_FEE, Signed::new(client, domains, voucher))
            })
            .collect();
        let start = Instant::now();
        for (document, protocol_fee, voucher) in vouched {
            voucher.verify(domains, client.address())?;
            black_box(shares::parts(&document, protocol_fee, &manifest)?);
            black_box(Signed::new(node, domains, document));
        }
        rates.push(f64::from(size) / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// Every receipt signed by its node.
fn sign(domains: &Domains, keys: &[Account], items: &mut BTreeMap<Address, Vec<ReceiptItem>>) {
    let by_address: BTreeMap<Address, &Account> = keys.iter().map(|key| (key.address(), key)).collect();
    let nodes: Vec<_> = items.iter_mut().map(Mutex::new).collect();
    two_threads(nodes.len(), &|place| {
        let (node, items) = &mut *nodes[place].lock().expect("signing does not panic");
        items.iter_mut().for_each(|item| item.receipt.signature = by_address[*node].sign(domains, &item.receipt.document));
    });
}

/// A third party's replay on a chain on which everything was collected, of receipts whose signatures it has verified, or verifies.
fn replay(
    chain: &Chain,
    accounts: Accounts,
    items: &BTreeMap<Address, Vec<ReceiptItem>>,
    signatures: Signatures,
) -> Result<(f64, Hash32), Box<dyn Error>> {
    let start = Instant::now();
    let rebuilt = Replay::new(chain, accounts).next_by(&two_threads, EPOCH, items, signatures)?;
    Ok((start.elapsed().as_secs_f64(), rebuilt.payout.root()))
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo hands `--bench` to a benchmark.
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_signed = words.iter().any(|word| word == "signed");
    let receipts: u32 = words.iter().find(|word| *word != "signed").map_or(Ok(1_000_000), |word| word.parse())?;
    let at = |byte: u8| Address([byte; 20]);
    let domains = Domains { chain_id: 901, escrow: at(1), registry: at(2), settlement: at(3), stake: at(4) };
    if !is_signed {
        row(
            "chain.receipts_per_s",
            rate(&domains, &key(NODES), &key(NODES + 1))?,
            "1/s",
            SIGNED.into(),
            "a voucher verified, a fee split, a receipt signed, on one core; median of ten batches",
        );
    }

    let accounts =
        Accounts { domains, protocol: account("protocol", 0), stakers: account("stakers", 0), insurance: account("insurance", 0) };
    let keys: Vec<Account> = (0..NODES).map(key).collect();
    let mut items = epoch(receipts, &keys.iter().map(Account::address).collect::<Vec<_>>());
    let mut lanes: BTreeMap<Hash32, Amount> = BTreeMap::new();
    for item in items.values().flatten() {
        let document = &item.receipt.document;
        let stands = lanes.entry(document.lane).or_default();
        *stands = document.cumulative_after.max(*stands);
    }
    let mut chain = Chain { lanes, roots: BTreeMap::new(), posted: None };

    let start = Instant::now();
    let roots = roots(&items);
    let rooted = start.elapsed().as_secs_f64();
    let mut standing = BTreeMap::new();
    let division = divide(&chain, &accounts, EPOCH, &items, &[], &mut standing, &two_threads);
    let divided = start.elapsed().as_secs_f64();
    let parts: usize = division.parts.values().map(Vec::len).sum();
    let payout = Payout::over(&BTreeMap::new(), division.parts, &two_threads)?;
    let seconds = start.elapsed().as_secs_f64();
    let (root, total, payees) = (payout.root(), payout.total(), payout.leaves().len());
    drop(payout);
    let note = format!(
        "{payees} payees, {parts} parts, {NODES} nodes, {THREADS} threads, signatures verified before: roots {rooted:.1} s, division {:.1} s, trees {:.1} s",
        divided - rooted,
        seconds - divided
    );
    if !is_signed {
        row("chain.epoch_1m_s", seconds, "s", receipts.into(), &note);
    }
    let fees = Amount::sum(roots.values().map(|root| root.fees))?;
    if fees != total || !division.unpaid.is_empty() {
        return Err(format!("fees of {fees} wei were divided into {total}, {} receipts have no parts", division.unpaid.len()).into());
    }
    (chain.roots, chain.posted) = (roots, Some(Posted { root, total, previous: Hash32::ZERO }));
    if is_signed {
        sign(&domains, &keys, &mut items);
        let (seconds, root) = replay(&chain, accounts, &items, Signatures::Verify)?;
        let note = format!(
            "{NODES} nodes, {THREADS} threads: every signature, quote, manifest, node root and fee anew, the same payout root {root}"
        );
        row("attribution.replay_1m_s", seconds, "s", receipts.into(), &note);
        return Ok(());
    }
    row("chain.rounding_loss", 0.0, "wei", receipts.into(), &format!("{fees} wei of fees are {total} wei of payouts, to the wei"));
    let (seconds, root) = replay(&chain, accounts, &items, Signatures::Verified)?;
    let note = format!("a third party's: every quote, manifest, node root and fee anew, the same payout root {root}");
    row("chain.epoch_1m_replay_s", seconds, "s", receipts.into(), &note);
    Ok(())
}
