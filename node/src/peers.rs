//! Where other nodes were last reached. A node that starts again joins through them as well as through its configuration, so it comes back even if
//! the addresses it was told of are gone, or if it is itself the one that everybody else was told of.
//!
//! Two addresses of at most 16 nodes: 32 dials of which one must answer. The file is a help and no authority: whoever answers there is believed
//! as little as anybody else, and a damaged file is passed over.
//!
//! And whom the operator wants nothing to do with: the file `refused` in the data folder names nodes, one a line, what follows a `#` left out. No
//! connection to them lasts and no ad of theirs is taken, so that they hold and read nothing here; a running node looks at the file every second.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use p2p::{
    bulk::BulkEndpoint,
    overlay::{Multiaddr, OverlayHandle, is_dialable},
};
use types::id::NodeId;

use crate::data::{DataDir, read_bounded, read_text, write_atomic};

/// Most nodes remembered.
const NODES_MAX: usize = 16;
/// Most addresses of one node: QUIC and TCP.
const ADDRESSES_MAX: usize = 2;
/// Largest file read: 32 addresses of at most 128 bytes, and room.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Time between two looks at who is there.
const LOOK: Duration = Duration::from_secs(5);
/// Largest file of refused nodes: some 15,000 of them.
const REFUSED_BYTES_MAX: u64 = 1 << 20;
/// Time between two looks at whom the operator refuses.
const REFUSED_LOOK: Duration = Duration::from_secs(1);

fn path(data: &DataDir) -> PathBuf {
    data.path().join("peers.json")
}

/// The addresses that an earlier run has kept; none if there was none.
pub fn remembered(data: &DataDir) -> Vec<Multiaddr> {
    let path = path(data);
    let texts: Vec<String> = match read_bounded(&path, FILE_BYTES_MAX).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(texts)) => texts,
        Ok(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "the remembered addresses are damaged and passed over");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    texts.iter().take(NODES_MAX * ADDRESSES_MAX).filter_map(|text| text.parse().ok()).filter(is_dialable).collect()
}

/// Keeps the addresses of the nodes that are heard of, for as long as the node runs. Hearing of nobody forgets nobody.
pub async fn remember(data: DataDir, overlay: OverlayHandle) {
    let mut last = Vec::new();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let Ok(ads) = overlay.ads().await else { return };
        let addresses = ads.iter().take(NODES_MAX).flat_map(|signed| signed.ad().overlay_addrs.iter().take(ADDRESSES_MAX).cloned());
        let addresses: Vec<String> = addresses.collect();
        if addresses.is_empty() || addresses == last {
            continue;
        }
        match keep(&data, &addresses) {
            Ok(()) => last = addresses,
            Err(error) => tracing::warn!(%error, "the addresses of other nodes are not kept"),
        }
    }
}

fn keep(data: &DataDir, addresses: &[String]) -> anyhow::Result<()> {
    Ok(write_atomic(&path(data), &serde_json::to_vec(addresses)?, 0o600)?)
}

/// The nodes that the operator refuses; none if there is no file.
///
/// # Errors
/// That the file cannot be read, or names something else than nodes.
pub fn refused(data: &DataDir) -> anyhow::Result<BTreeSet<NodeId>> {
    let path = data.refused();
    if !data.has(&path)? {
        return Ok(BTreeSet::new());
    }
    let text = read_text(&path, REFUSED_BYTES_MAX).with_context(|| format!("{}", path.display()))?;
    let names = (1..).zip(text.lines()).map(|(number, line)| (number, line.split('#').next().unwrap_or_default().trim()));
    let node = |(number, name): (usize, &str)| {
        let wrong =
            || format!("{}, line {number}: {name:?} is no node id: write one a line, as `tributary status` prints them", path.display());
        name.parse().with_context(wrong)
    };
    names.filter(|(_, name)| !name.is_empty()).map(node).collect()
}

/// Has nothing to do with the nodes that the file names, as it stands now.
///
/// # Errors
/// Those of [`refused`], or that the overlay has stopped.
pub async fn refuse(data: &DataDir, overlay: &OverlayHandle, bulk: &BulkEndpoint) -> anyhow::Result<()> {
    let nodes = refused(data)?;
    bulk.refuse(nodes.clone());
    Ok(overlay.refuse(nodes).await?)
}

/// Follows the file for as long as the node runs. One that cannot be read changes nothing.
pub async fn keep_refusing(data: DataDir, overlay: OverlayHandle, bulk: Arc<BulkEndpoint>) {
    let (mut known, mut complaint) = (BTreeSet::new(), String::new());
    let mut ticks = tokio::time::interval(REFUSED_LOOK);
    loop {
        ticks.tick().await;
        match refused(&data) {
            Ok(nodes) => {
                complaint.clear();
                if nodes == known {
                    continue;
                }
                tracing::info!(nodes = nodes.len(), "refusing the nodes that the operator names");
                bulk.refuse(nodes.clone());
                if overlay.refuse(nodes.clone()).await.is_err() {
                    return;
                }
                known = nodes;
            }
            Err(error) => {
                let error = format!("{error:#}");
                if error != complaint {
                    tracing::warn!(error, "the file of refused nodes is passed over until it is mended");
                    complaint = error;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_nodes_are_read_line_by_line_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        assert_eq!(refused(&data).unwrap(), BTreeSet::new());
        let (one, two) = (NodeId([1; 32]), NodeId([0xab; 32]));
        std::fs::write(data.refused(), format!("# whom I do not know\n\n  {one}  # asked too much\n{two}\n{one}\n")).unwrap();
        assert_eq!(refused(&data).unwrap(), BTreeSet::from([one, two]));
        std::fs::write(data.refused(), format!("{one}\nnobody\n")).unwrap();
        let error = format!("{:#}", refused(&data).unwrap_err());
        assert!(error.contains("line 2: \"nobody\" is no node id"), "{error}");
        std::fs::write(data.refused(), vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(refused(&data).is_err());
    }

    #[test]
    fn addresses_are_read_back_and_a_damaged_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        assert!(remembered(&data).is_empty());
        // What a stranger's ad may say and this node does not dial would keep it from starting.
        let texts = ["/ip4/127.0.0.1/tcp/7401", "nowhere", "/dns4/example.org/tcp/1", "/ip4/127.0.0.1/udp/7401/quic-v1"];
        keep(&data, &texts.map(str::to_owned)).unwrap();
        let read: Vec<String> = remembered(&data).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["/ip4/127.0.0.1/tcp/7401", "/ip4/127.0.0.1/udp/7401/quic-v1"]);
        keep(&data, &vec!["/ip4/127.0.0.1/tcp/7401".to_owned(); 100]).unwrap();
        assert_eq!(remembered(&data).len(), NODES_MAX * ADDRESSES_MAX);
        for bytes in [&b"["[..], b"{}", b"[1]", &[0xff; 20_000]] {
            std::fs::write(path(&data), bytes).unwrap();
            assert!(remembered(&data).is_empty());
        }
    }
}
