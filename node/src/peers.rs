//! Where other nodes were last reached. A node that starts again joins through them as well as through its configuration, so it comes back even if
//! the addresses it was told of are gone, or if it is itself the one that everybody else was told of.
//!
//! Two addresses of at most 16 nodes: 32 dials of which one must answer. The file is a help and no authority: whoever answers there is believed
//! as little as anybody else, and a damaged file is passed over.

use std::{path::PathBuf, time::Duration};

use p2p::overlay::{Multiaddr, OverlayHandle, is_dialable};

use crate::data::{DataDir, read_bounded, write_atomic};

/// Most nodes remembered.
const NODES_MAX: usize = 16;
/// Most addresses of one node: QUIC and TCP.
const ADDRESSES_MAX: usize = 2;
/// Largest file read: 32 addresses of at most 128 bytes, and room.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Time between two looks at who is there.
const LOOK: Duration = Duration::from_secs(5);

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

#[cfg(test)]
mod tests {
    use super::*;

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
